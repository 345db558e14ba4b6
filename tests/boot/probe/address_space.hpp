// The probe's own view of memory: all of it, executable, through both aliases.
#pragma once

#include "accede/base/units.hpp"

#include <cstdint>

namespace probe {

/// Page tables that keep everything the firmware maps and add two windows of 512 GiB in the upper
/// half: guest physical addresses as private and as shared ones, that is without and with the
/// shared bit (TDX), or with and without the C-bit (SNP). Without a confidential platform both are
/// the same. Put the firmware's tables back when it goes. One at a time; its tables are static.
class AddressSpace {
 public:
  AddressSpace();
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  /// Replaces one gibibyte of the private window by a page table that lies at `table`.
  static void put_table(std::uint64_t gibibyte, accede::PhysAddr table);

 private:
  std::uint64_t firmware_cr3_;
};

inline constexpr std::uint64_t kPrivateWindow = 0xFFFF'8000'0000'0000;
inline constexpr std::uint64_t kSharedWindow = 0xFFFF'8080'0000'0000;
/// Where nothing is mapped.
inline constexpr std::uint64_t kNowhere = 0xFFFF'8100'0000'0000;

/// Where the private page at `gpa` is seen. Precondition: an AddressSpace lives; below 512 GiB.
[[nodiscard]] inline volatile void* at_private(accede::PhysAddr gpa) {
  return reinterpret_cast<volatile void*>(kPrivateWindow + gpa.value());
}
[[nodiscard]] inline volatile void* at_shared(accede::PhysAddr gpa) {
  return reinterpret_cast<volatile void*>(kSharedWindow + gpa.value());
}

/// True when the private memory at [begin, begin + size) reads as zero. Precondition: as above; a
/// multiple of 8 bytes.
[[nodiscard]] bool is_zero(accede::PhysAddr begin, accede::Bytes size);

}  // namespace probe
