// How the kernel stops when something is wrong.
#pragma once

#include "accede/efi/kernel/console.hpp"
#include "accede/efi/kernel/host_link.hpp"
#include "accede/efi/kernel/power.hpp"

#include <string_view>

namespace accede::efi::kernel {

/// Through what the last words go. Everything that is null is left out.
struct LastWords {
  const Console* console = nullptr;
  const Power* power = nullptr;  ///< to power off afterwards
  HostLink host{};               ///< to tell the host too: TDVMCALL<ReportFatalError>, termination
};

/// To be called once, early: before it, panic() only halts. What it points to must live for ever.
void set_last_words(const LastWords& last_words);

/// A fault or panic has begun; turns interrupts off. Returns how often, this one included: the
/// first may say everything, the second happened while the first was being reported; from the third
/// this does not return. `message` is kept for stop() when it is the first: what came first is the
/// cause.
[[nodiscard]] unsigned begin_fault(std::string_view message);
/// A better message for the fault that has begun. Ignored for the second.
void improve_fault_message(std::string_view message);

/// The end of a fault whose report is written: the line `ACCEDE-GUEST {"step":"fault",...}` with
/// the message of the first fault, a word to the host, power off, and at last CLI; HLT.
[[noreturn]] void stop();

/// The end for an error that the code found itself: says `message` (one line), then as stop().
[[noreturn]] void panic(std::string_view message);

}  // namespace accede::efi::kernel
