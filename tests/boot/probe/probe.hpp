// A UEFI program that does what a guest may and may not do, one scenario after the other.
//
// Its command line holds `probe=NAME[,NAME...]`. A scenario that is meant to survive checks every
// word that it gets; when all are right the program returns EFI_SUCCESS, else it prints what was
// wrong and returns EFI_ABORTED. A scenario that is meant to end the guest and does not is wrong.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/efi/firmware.hpp"
#include "tests/boot/probe/exceptions.hpp"

#include <cstdint>
#include <span>
#include <string_view>

namespace probe {

using namespace accede::literals;  // NOLINT(google-build-using-namespace): units
using accede::Bytes;
using accede::PageSize;
using accede::PhysAddr;
using accede::PhysRange;

/// What a scenario works with. Everything it finds wrong is printed and kept in mind.
class Probe {
 public:
  explicit Probe(const accede::efi::Firmware& firmware) : firmware_{firmware} {}

  [[nodiscard]] const accede::efi::Firmware& firmware() const { return firmware_; }

  void begin(std::string_view scenario) { scenario_ = scenario; }
  [[nodiscard]] bool good() const { return good_; }

  /// Checks one word. True when it is right.
  bool expect(std::string_view what, std::uint64_t actual, std::uint64_t expected);
  bool expect(std::string_view what, bool holds);
  /// A scenario that should have ended the guest calls this right after the forbidden act.
  void survived() { expect("the guest was stopped", false); }
  void note(std::string_view text, std::uint64_t value) const;

  /// A 2 MiB unit of unaccepted memory (type 15) that nobody had yet, followed by `behind` more.
  /// Ends the program when there is none.
  [[nodiscard]] PhysAddr take_unit(std::uint64_t behind = 0);
  /// take_unit(), accepted as one page.
  [[nodiscard]] PhysAddr take_accepted_unit();

  /// The memory map's first range of `type`; empty when there is none.
  [[nodiscard]] PhysRange first_range(accede::abi::efi::MemoryType type) const;
  /// A 2 MiB unit that the emulator keeps for itself: it lies in the largest reserved range that
  /// has free memory above it below 4 GiB (reserved device memory has none).
  [[nodiscard]] PhysAddr emulator_unit();

 private:
  void print_hex(std::uint64_t value) const;

  accede::efi::Firmware firmware_;
  std::string_view scenario_;
  PhysRange unaccepted_;
  bool found_ = false;
  bool good_ = true;
};

/// A name of the command line and what it does.
struct Scenario {
  std::string_view name;
  void (*run)(Probe&);
};

// One list a family.
[[nodiscard]] std::span<const Scenario> accept_scenarios();
[[nodiscard]] std::span<const Scenario> conversion_scenarios();
[[nodiscard]] std::span<const Scenario> vmcall_scenarios();
[[nodiscard]] std::span<const Scenario> virtualization_exception_scenarios();
[[nodiscard]] std::span<const Scenario> machine_scenarios();
[[nodiscard]] std::span<const Scenario> snp_accept_scenarios();
[[nodiscard]] std::span<const Scenario> snp_access_scenarios();
[[nodiscard]] std::span<const Scenario> snp_ghcb_scenarios();
[[nodiscard]] std::span<const Scenario> snp_ghcb_calls_scenarios();
[[nodiscard]] std::span<const Scenario> snp_machine_scenarios();
[[nodiscard]] std::span<const Scenario> snp_page_state_scenarios();

/// Prints an exception that nobody expected and powers off.
[[noreturn]] void stop_on_exception(const ExceptionFrame& frame);

}  // namespace probe
