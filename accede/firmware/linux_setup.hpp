// The setup header of a Linux image, and what it asks of a loader that enters the kernel by the
// 64-bit boot protocol.
#pragma once

#include "accede/abi/linux_boot.hpp"
#include "accede/firmware/linux_boot_error.hpp"
#include "accede/firmware/place.hpp"

#include <array>
#include <cstddef>
#include <expected>
#include <span>
#include <string_view>

namespace accede::firmware {

/// A checked copy of a setup header. Invariants: protocol 2.12 or newer, a 64-bit entry point, an
/// alignment that is a power of two, and init_size covers the code. A value type.
class LinuxSetup {
 public:
  /// Where the zero page keeps other things again; a header ends there at the latest.
  static constexpr std::size_t kMostHeaderBytes =
      abi::linux_boot::kSetupHeaderLimit - abi::linux_boot::kSetupHeaderOffset;

  /// `header`: the file from offset 0x1F1 on; what the header does not declare as its own is
  /// ignored. `code`: size of the protected-mode code. Errors: those of the header.
  [[nodiscard]] static std::expected<LinuxSetup, LinuxBootError> parse(
      std::span<const std::byte> header, Bytes code);

  /// Fields that an older protocol does not have read 0.
  [[nodiscard]] const abi::linux_boot::SetupHeader& header() const { return header_; }
  /// What goes into the zero page.
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return std::span{bytes_}.first(declared_);
  }
  /// Kernel, initrd, command line and zero page may lie above 4 GiB.
  [[nodiscard]] bool reaches_above_4g() const {
    return (header_.xloadflags & abi::linux_boot::kXlfAbove4G) != 0;
  }

  /// For the kernel: init_size bytes. A relocatable kernel below pref_address would move itself
  /// there, over whatever lies there.
  [[nodiscard]] PlaceNeeds kernel_place() const;
  [[nodiscard]] PlaceNeeds initrd_place(Bytes size) const;
  /// For zero page, command line and setup_data.
  [[nodiscard]] PlaceNeeds data_place(Bytes size) const;

  /// Errors: kCommandLineTooLong, kCommandLineHasNul.
  [[nodiscard]] std::expected<void, LinuxBootError> check_command_line(std::string_view text) const;
  /// Errors: kInitrdTooHigh. An empty range is no initrd.
  [[nodiscard]] std::expected<void, LinuxBootError> check_initrd(PhysRange initrd) const;
  /// Errors: kAbove4G, kKernelMisplaced.
  [[nodiscard]] std::expected<void, LinuxBootError> check_kernel(PhysRange kernel) const;
  /// Of zero page, command line, setup_data. Errors: kAbove4G.
  [[nodiscard]] std::expected<void, LinuxBootError> check_reach(PhysRange data) const;

 private:
  LinuxSetup() = default;

  abi::linux_boot::SetupHeader header_{};
  std::array<std::byte, kMostHeaderBytes> bytes_{};
  std::size_t declared_ = 0;
};

}  // namespace accede::firmware
