// The exit loop: what the guest's processor could not do alone.
#pragma once

#include "accede/emulator/fault.hpp"
#include "accede/emulator/guest_view.hpp"
#include "accede/emulator/vcpu.hpp"

#include <concepts>
#include <expected>

namespace accede::emulator {

/// A confidential platform as the processor shows it to its guest.
///   view()                   the guest's memory
///   touch(vcpu, gpa, error)  a nested page fault at `gpa` (with the view bit)
///   after_exit(vcpu)         something to put in order after an exit, whatever it was
///   before_entry(vcpu)       the guest goes on, with the event that is to be injected
///   is_accept(vcpu, exit)    an exit that acceptance consists of
///   invalid_opcode(vcpu)     #UD: executes the platform's instruction there, or raises #UD
///   cpuid(vcpu)              answers CPUID and steps over it
///   msr(vcpu, index, write)  true: answered and stepped over; false: the platform has no such MSR
///   vmmcall(vcpu)            true: answered and stepped over; false: not the platform's
template <class T>
concept PlatformProcessor = requires(T& it, Vcpu& vcpu, std::uint64_t value, std::uint32_t index,
                                     bool flag, svm::Exit exit) {
  { it.view() } -> std::same_as<GuestView&>;
  { it.touch(vcpu, value, value) } -> std::same_as<Verdict>;
  { it.after_exit(vcpu) } -> std::same_as<void>;
  { it.before_entry(vcpu) } -> std::same_as<void>;
  { it.is_accept(vcpu, exit) } -> std::same_as<bool>;
  { it.invalid_opcode(vcpu) } -> std::same_as<Verdict>;
  { it.cpuid(vcpu) } -> std::same_as<void>;
  { it.msr(vcpu, index, flag) } -> std::same_as<bool>;
  { it.vmmcall(vcpu) } -> std::same_as<std::expected<bool, Fault>>;
};

/// Runs vCPUs until the guest breaks a rule that hardware would not let pass. Shared by all vCPUs,
/// holds no vCPU's state. Thread-safe as far as its parts are. Defined in monitor.cpp for the
/// personalities that exist.
template <PlatformProcessor Platform>
class Monitor {
 public:
  explicit Monitor(Platform& platform)
      : platform_{platform}, view_{platform.view()}, reporter_{view_.reporter()} {}

  /// Runs `vcpu` on this CPU for good. Precondition: the emulator's HostContext is current and GIF
  /// is clear.
  [[noreturn]] void run(Vcpu& vcpu);

 private:
  /// Says why the guest cannot go on, on the report port and the first serial port, and stops this
  /// CPU. The machine stands still, so that the host can read its memory.
  [[noreturn]] void stop(const Vcpu& vcpu, const Fault& fault);
  [[nodiscard]] Verdict handle_exit(Vcpu& vcpu);
  void enter(Vcpu& vcpu);
  void wait_for_interrupt(Vcpu& vcpu);
  void handle_msr(Vcpu& vcpu);
  void handle_efer(Vcpu& vcpu, bool is_write);
  void handle_io(Vcpu& vcpu);
  [[nodiscard]] Verdict handle_vmmcall(Vcpu& vcpu);
  void handle_hypercall(Vcpu& vcpu);
  void begin_phase(const Vcpu& vcpu, Phase phase);
  void log_phase(const Vcpu& vcpu, Phase phase);

  Platform& platform_;
  GuestView& view_;
  Reporter& reporter_;
};

}  // namespace accede::emulator
