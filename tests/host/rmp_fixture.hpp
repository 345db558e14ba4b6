// Shared by the tests of the RMP: a small table, pages in every state, and how they are printed.
#pragma once

#include "accede/host/rmp.hpp"

#include <gtest/gtest.h>

#include <array>
#include <ostream>
#include <string>
#include <vector>

namespace accede::abi::rmp {
inline void PrintTo(RmpState state, std::ostream* out) {
  *out << name_of(state);
}
inline void PrintTo(RmpUpdateCode code, std::ostream* out) {
  *out << name_of(code);
}
inline void PrintTo(RmpAdjustCode code, std::ostream* out) {
  *out << name_of(code);
}
inline void PrintTo(FirmwareCode code, std::ostream* out) {
  *out << name_of(code);
}
}  // namespace accede::abi::rmp

namespace accede::host {
inline void PrintTo(RmpVerdict verdict, std::ostream* out) {
  *out << name(verdict);
}
inline void PrintTo(const RmpFault& fault, std::ostream* out) {
  *out << "kind " << static_cast<int>(fault.kind) << " code 0x" << std::hex << fault.code
       << std::dec;
}
}  // namespace accede::host

namespace accede::host::test {

inline constexpr std::uint64_t kRmp4K = 4096;
inline constexpr std::uint64_t kRmp2M = 2ULL << 20;
inline constexpr std::uint64_t kRmpBase = 8 * kRmp2M;
inline constexpr std::uint64_t kRmpGpa = 1ULL << 33;  ///< a page's GPA is its SPA + this
inline constexpr std::uint32_t kRmpAsid = 5;
inline constexpr PhysAddr kMetadata{0x77000};

inline constexpr std::array kAllStates{
    RmpState::kHypervisor,   RmpState::kHvFixed,   RmpState::kFirmware, RmpState::kReclaim,
    RmpState::kContext,      RmpState::kMetadata,  RmpState::kPreGuest, RmpState::kPreSwap,
    RmpState::kGuestInvalid, RmpState::kGuestValid};

inline PhysAddr spa_at(std::uint64_t offset) {
  return PhysAddr{kRmpBase + offset};
}
inline PhysAddr gpa_at(std::uint64_t offset) {
  return PhysAddr{kRmpBase + kRmpGpa + offset};
}

/// A name that GoogleTest accepts.
inline std::string test_name(RmpState state) {
  std::string text{abi::rmp::name_of(state)};
  std::erase(text, '-');
  return text;
}

/// Brings a Hypervisor page of `rmp` (or of anything with its members) into `state` by the calls
/// that lead there. HV-Fixed pages are 4 KiB.
template <class Table>
void bring(Table& rmp, std::uint64_t offset, PageSize size, RmpState state) {
  const PhysAddr spa = spa_at(offset);
  const PhysAddr gpa = gpa_at(offset);
  const auto update = [&](const RmpUpdate& to) {
    ASSERT_EQ(rmp.update(spa, to), RmpUpdateCode::kSuccess);
  };
  const auto move = [&](RmpState to) {
    ASSERT_EQ(rmp.move(spa, size, to, kMetadata), FirmwareCode::kSuccess);
  };
  const auto validate = [&] {
    const std::uint32_t ecx = size == PageSize::k2M ? 1 : 0;
    ASSERT_EQ(rmp.pvalidate(spa, gpa, kRmpAsid, ecx, true), PvalidateOutcome{});
  };
  switch (state) {
    case RmpState::kHypervisor:
      return;
    case RmpState::kHvFixed:
      return move(state);
    case RmpState::kFirmware:
      return update(RmpUpdate::firmware(size));
    case RmpState::kReclaim:
    case RmpState::kContext:
    case RmpState::kMetadata:
      update(RmpUpdate::firmware(size));
      return move(state);
    case RmpState::kPreGuest:
      return update(RmpUpdate::pre_guest(gpa, size, kRmpAsid));
    case RmpState::kGuestInvalid:
      return update(RmpUpdate::guest(gpa, size, kRmpAsid));
    case RmpState::kGuestValid:
      update(RmpUpdate::guest(gpa, size, kRmpAsid));
      return validate();
    case RmpState::kPreSwap:
      update(RmpUpdate::guest(gpa, size, kRmpAsid));
      validate();
      return move(state);
  }
}

/// A table of four 2 MiB regions and three pages, all Hypervisor.
class RmpTable {
 public:
  [[nodiscard]] RmpState state(std::uint64_t offset) const {
    return abi::rmp::state_of(rmp.lookup(spa_at(offset)));
  }
  RmpUpdateCode assign(std::uint64_t offset, PageSize size) {
    return rmp.update(spa_at(offset), RmpUpdate::guest(gpa_at(offset), size, kRmpAsid));
  }
  RmpUpdateCode release(std::uint64_t offset, PageSize size) {
    return rmp.update(spa_at(offset), RmpUpdate::hypervisor(size));
  }
  PvalidateOutcome pvalidate(std::uint64_t offset, std::uint32_t ecx, bool validate = true) {
    return rmp.pvalidate(spa_at(offset), gpa_at(offset), kRmpAsid, ecx, validate);
  }
  [[nodiscard]] RmpVerdict access(std::uint64_t offset, PageSize nested, unsigned vmpl = 0,
                                  bool write = false) const {
    return rmp.check_private(spa_at(offset), {.gpa = gpa_at(offset),
                                              .asid = kRmpAsid,
                                              .nested_size = nested,
                                              .write = write,
                                              .vmpl = vmpl});
  }
  [[nodiscard]] GuestPage page(std::uint64_t offset, unsigned vmpl = 0) const {
    return {.spa = spa_at(offset), .gpa = gpa_at(offset), .asid = kRmpAsid, .vmpl = vmpl};
  }
  void bring(std::uint64_t offset, PageSize size, RmpState state) {
    test::bring(rmp, offset, size, state);
  }
  /// The entry as it lies in memory.
  [[nodiscard]] const RmpEntry& raw(std::uint64_t offset) const {
    return storage_[offset / kRmp4K];
  }

 private:
  PhysRange covered_ = *PhysRange::make(PhysAddr{kRmpBase}, Bytes{4 * kRmp2M + 3 * kRmp4K});
  std::vector<RmpEntry> storage_ = std::vector<RmpEntry>(
      Rmp::storage_bound(covered_).value() / sizeof(RmpEntry), {~0ULL, ~0ULL});

 public:
  Rmp rmp{covered_, std::as_writable_bytes(std::span{storage_})};
};

}  // namespace accede::host::test
