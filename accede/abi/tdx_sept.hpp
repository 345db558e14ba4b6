// Secure-EPT entries: levels, states, bits (reference 2.4).
#pragma once

#include "accede/base/bit_field.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::abi::tdx {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

/// Levels of secure-EPT entries. 0..2 are also leaf sizes (PageSize has the same numbers).
enum class SeptLevel : std::uint8_t { k4K = 0, k2M = 1, k1G = 2, k512G = 3, k256T = 4 };

[[nodiscard]] constexpr SeptLevel sept_level(PageSize size) {
  return static_cast<SeptLevel>(size);
}
/// Number of address bits below an entry of this level: 12, 21, 30, 39, 48.
[[nodiscard]] constexpr unsigned level_shift(SeptLevel level) {
  return 12U + 9U * static_cast<unsigned>(level);
}
/// Bytes that one entry of this level covers.
[[nodiscard]] constexpr Bytes level_bytes(SeptLevel level) {
  return Bytes{1ULL << level_shift(level)};
}

/// Short name of a level, e.g. "2M".
[[nodiscard]] constexpr std::string_view name_of(SeptLevel level) {
  constexpr std::array<std::string_view, 5> kNames{"4K", "2M", "1G", "512G", "256T"};
  const auto index = static_cast<std::size_t>(level);
  return index < kNames.size() ? kNames[index] : "unknown"sv;
}

/// Public state numbers, as TDH calls return them.
enum class SeptState : std::uint8_t {
  kFree = 0,
  kBlocked = 1,
  kPending = 2,
  kPendingBlocked = 3,
  kMapped = 4,
  kRemoved = 5,
  kBlockedW = 8,
  kExportedBlockedW = 9,
  kExportedDirty = 11,
  kExportedDirtyBlockedW = 12,
  kPendingBlockedW = 16,
  kPendingExportedBlockedW = 17,
  kPendingExportedDirty = 19,
  kPendingExportedDirtyBlockedW = 20,  ///< number INFERRED (reference 2.4)
  kNonLeafBlocked = 129,
  kNonLeafMapped = 132,
};

/// Bits of a secure-EPT entry.
struct SeptEntry {
  using SuppressVe = BitField<std::uint64_t, 63>;
  using Tdup = BitField<std::uint64_t, 61>;
  using Pw = BitField<std::uint64_t, 58>;
  using Vpw = BitField<std::uint64_t, 57>;
  using Tdp = BitField<std::uint64_t, 56>;
  using Tdb = BitField<std::uint64_t, 55>;
  using Tdbw = BitField<std::uint64_t, 54>;
  using Tdex = BitField<std::uint64_t, 53>;
  using Tdhp = BitField<std::uint64_t, 52>;               ///< host priority
  using Hpa = BitField<std::uint64_t, 51, 12>;            ///< in 4 KiB pages
  using AcceptCounter = BitField<std::uint64_t, 20, 12>;  ///< of a 2M PENDING leaf: pages zeroed
  using Tdel = BitField<std::uint64_t, 11>;               ///< entry lock
  using ExecuteUser = BitField<std::uint64_t, 10>;        ///< L2 tables only
  using Dirty = BitField<std::uint64_t, 9>;
  using Accessed = BitField<std::uint64_t, 8>;
  using Leaf = BitField<std::uint64_t, 7>;  ///< 1 for 4K leaves too
  using Ipat = BitField<std::uint64_t, 6>;
  using MemoryType = BitField<std::uint64_t, 5, 3>;  ///< 6 = write back
  using Execute = BitField<std::uint64_t, 2>;
  using Write = BitField<std::uint64_t, 1>;
  using Read = BitField<std::uint64_t, 0>;

  static constexpr std::uint64_t kMemoryTypeWriteBack = 6;
  static constexpr std::uint64_t kPermissionMask = 0b111;
  /// The bits {7,6,56,55,54,53,9} that encode the state.
  static constexpr std::uint64_t kStateMask = Leaf::kMask | Ipat::kMask | Tdp::kMask | Tdb::kMask |
                                              Tdbw::kMask | Tdex::kMask | Dirty::kMask;
  /// What every entry of a fresh table holds: FREE, #VE suppressed.
  static constexpr std::uint64_t kFresh = 0x80E0'0000'0000'0000;
};

/// A state, the mask that encodes it, and its name in reports.
struct SeptStateInfo {
  SeptState state;
  std::uint64_t mask;  ///< value of SeptEntry::kStateMask's bits
  std::string_view name;
};

/// Every state. Masks of the BLOCKEDW family are INFERRED from "BLOCKEDW adds bit 54, the pending
/// form adds bit 56" (reference 2.4) and from EXPORTED = TDEX, DIRTY = D.
inline constexpr auto kSeptStates = std::to_array<SeptStateInfo>({
    {SeptState::kFree, 0x00E0'0000'0000'0000, "FREE"},
    {SeptState::kBlocked, 0x0080'0000'0000'00C0, "BLOCKED"},
    {SeptState::kPending, 0x0100'0000'0000'00C0, "PENDING"},
    {SeptState::kPendingBlocked, 0x0180'0000'0000'00C0, "PENDING_BLOCKED"},
    {SeptState::kMapped, 0x0000'0000'0000'00C0, "MAPPED"},
    {SeptState::kRemoved, 0x00C0'0000'0000'0000, "REMOVED"},
    {SeptState::kBlockedW, 0x0040'0000'0000'00C0, "BLOCKEDW"},
    {SeptState::kExportedBlockedW, 0x0060'0000'0000'00C0, "EXPORTED_BLOCKEDW"},
    {SeptState::kExportedDirty, 0x0020'0000'0000'02C0, "EXPORTED_DIRTY"},
    {SeptState::kExportedDirtyBlockedW, 0x0060'0000'0000'02C0, "EXPORTED_DIRTY_BLOCKEDW"},
    {SeptState::kPendingBlockedW, 0x0140'0000'0000'00C0, "PENDING_BLOCKEDW"},
    {SeptState::kPendingExportedBlockedW, 0x0160'0000'0000'00C0, "PENDING_EXPORTED_BLOCKEDW"},
    {SeptState::kPendingExportedDirty, 0x0120'0000'0000'02C0, "PENDING_EXPORTED_DIRTY"},
    {SeptState::kPendingExportedDirtyBlockedW, 0x0160'0000'0000'02C0,
     "PENDING_EXPORTED_DIRTY_BLOCKEDW"},
    {SeptState::kNonLeafBlocked, 0x0080'0000'0000'0000, "NL_BLOCKED"},
    {SeptState::kNonLeafMapped, 0x0000'0000'0000'0000, "NL_MAPPED"},
});

/// The vendor's name of a state; "unknown" for a number without one.
[[nodiscard]] constexpr std::string_view name_of(SeptState state) {
  for (const SeptStateInfo& info : kSeptStates) {
    if (info.state == state) {
      return info.name;
    }
  }
  return "unknown"sv;
}

}  // namespace accede::abi::tdx
