#include "accede/emulator/device_access.hpp"

#include "accede/base/assert.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/emulator/host_context.hpp"
#include "accede/emulator/report_layout.hpp"

#include <algorithm>
#include <array>

namespace accede::emulator {
namespace {

bool meets_report_port(std::uint16_t port, unsigned size) {
  return port <= kReportPort && kReportPort < port + size;
}

bool is_vmm_msr(std::uint64_t msr) {
  constexpr std::array<std::uint32_t, 10> kSingle{0x17, 0x1B, 0x34,  0x3A,  0x8B,
                                                  0xCE, 0xFE, 0x179, 0x17A, 0x1A0};
  const auto in = [msr](std::uint64_t first, std::uint64_t last) {
    return first <= msr && msr <= last;
  };
  return std::ranges::find(kSingle, msr) != kSingle.end() || in(0x200, 0x20F) || in(0x250, 0x26F) ||
         msr == 0x2FF || in(0x400, 0x47F);
}

template <class T>
void copy_from(const volatile T* device, std::span<std::uint8_t> to) {
  const T value = *device;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    to[i] = static_cast<std::uint8_t>(value >> (8 * i));
  }
}

template <class T>
void copy_to(volatile T* device, std::span<const std::uint8_t> from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | T{from[i]} << (8 * i));
  }
  *device = value;
}

/// Calls `access(address, part, T{})` for each part of `bytes` that is accessed at once, T being
/// the type of its size.
template <class Span, class Access>
void for_each_part(PhysAddr gpa, Span bytes, Access access) {
  while (!bytes.empty()) {
    const std::size_t size = DeviceAccess::first_access(gpa, bytes.size());
    switch (const auto part = bytes.first(size); size) {
      case 1:
        access(gpa, part, std::uint8_t{});
        break;
      case 2:
        access(gpa, part, std::uint16_t{});
        break;
      case 4:
        access(gpa, part, std::uint32_t{});
        break;
      default:
        access(gpa, part, std::uint64_t{});
        break;
    }
    gpa += Bytes{size};
    bytes = bytes.subspan(size);
  }
}

}  // namespace

std::uint32_t DeviceAccess::read_port(std::uint16_t port, unsigned size) {
  ACCEDE_ASSERT(size == 1 || size == 2 || size == 4);
  if (meets_report_port(port, size)) {
    return ~0U >> (32 - 8 * size);
  }
  return size == 1 ? cpu::in8(port) : size == 2 ? cpu::in16(port) : cpu::in32(port);
}

void DeviceAccess::write_port(std::uint16_t port, unsigned size, std::uint32_t value) {
  ACCEDE_ASSERT(size == 1 || size == 2 || size == 4);
  if (meets_report_port(port, size)) {
    return;
  }
  if (size == 1) {
    cpu::out8(port, static_cast<std::uint8_t>(value));
  } else if (size == 2) {
    cpu::out16(port, static_cast<std::uint16_t>(value));
  } else {
    cpu::out32(port, value);
  }
}

std::optional<std::uint64_t> DeviceAccess::read_msr(std::uint64_t msr) {
  if (!is_vmm_msr(msr)) {
    return std::nullopt;
  }
  return cpu::read_msr(static_cast<std::uint32_t>(msr));
}

bool DeviceAccess::write_msr(std::uint64_t msr, std::uint64_t value) {
  if (!is_vmm_msr(msr)) {
    return false;
  }
  cpu::write_msr(static_cast<std::uint32_t>(msr), value);
  return true;
}

bool DeviceAccess::is_reachable(PhysAddr gpa, std::size_t size) const {
  ACCEDE_ASSERT(1 <= size && size <= 8);
  const auto range = PhysRange::make(gpa, Bytes{size});
  return range && range->end() <= kHostMapEnd && machine_->is_device(*range);
}

bool DeviceAccess::read_mmio(PhysAddr gpa, std::span<std::uint8_t> to) const {
  if (!is_reachable(gpa, to.size())) {
    return false;
  }
  for_each_part(gpa, to, [this]<class T>(PhysAddr at, std::span<std::uint8_t> part, T) {
    copy_from(window_.pointer<const volatile T>(at), part);
  });
  return true;
}

bool DeviceAccess::write_mmio(PhysAddr gpa, std::span<const std::uint8_t> from) const {
  if (!is_reachable(gpa, from.size())) {
    return false;
  }
  for_each_part(gpa, from, [this]<class T>(PhysAddr at, std::span<const std::uint8_t> part, T) {
    copy_to(window_.pointer<volatile T>(at), part);
  });
  return true;
}

}  // namespace accede::emulator
