// What a VMM does at real devices for its guest, whichever call asked for it.
#pragma once

#include "accede/base/phys_window.hpp"
#include "accede/emulator/machine.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::emulator {

/// Ports, model-specific registers and memory-mapped registers of the machine below, without what
/// belongs to the emulator. Thread-safe: stateless. Ring 0, but for what is refused or not there.
class DeviceAccess {
 public:
  /// `machine` outlives the object; `window` reaches the devices.
  explicit DeviceAccess(const MachineMap& machine, PhysWindow window = PhysWindow{})
      : machine_{&machine}, window_{window} {}

  /// `size` bytes from `port` on: 1, 2 or 4. For a guest the report port is not there: an access
  /// that meets it reads all ones and writes nothing.
  [[nodiscard]] static std::uint32_t read_port(std::uint16_t port, unsigned size);
  static void write_port(std::uint16_t port, unsigned size, std::uint32_t value);

  /// The registers that a VMM has for its guest: feature control, microcode, platform information,
  /// MTRRs, machine checks (reference: TDX 5.4). Nothing or false for all others, as KVM answers.
  [[nodiscard]] static std::optional<std::uint64_t> read_msr(std::uint64_t msr);
  [[nodiscard]] static bool write_msr(std::uint64_t msr, std::uint64_t value);

  /// 1 to 8 bytes at any alignment, in accesses of first_access() bytes each. False, with nothing
  /// done, when a byte is RAM, the emulator's or beyond what the emulator can reach.
  [[nodiscard]] bool read_mmio(PhysAddr gpa, std::span<std::uint8_t> to) const;
  [[nodiscard]] bool write_mmio(PhysAddr gpa, std::span<const std::uint8_t> from) const;

  /// Bytes of the first access when `size` bytes at `gpa` are accessed in the order of their
  /// addresses: a device sees naturally aligned accesses of 1, 2, 4 or 8 bytes, as large as they
  /// can be. Precondition: `size` is not 0.
  [[nodiscard]] static constexpr std::size_t first_access(PhysAddr gpa, std::size_t size) {
    const std::size_t alignment = std::size_t{1} << std::countr_zero(gpa.value() | 8);
    return std::min(alignment, std::bit_floor(size));
  }

 private:
  [[nodiscard]] bool is_reachable(PhysAddr gpa, std::size_t size) const;

  const MachineMap* machine_;
  PhysWindow window_;
};

}  // namespace accede::emulator
