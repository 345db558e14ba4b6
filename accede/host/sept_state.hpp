// Internal to accede/host. Page states as predicates and transitions, and their form in an entry.
#pragma once

#include "accede/abi/tdx_sept.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace accede::host::internal {

using abi::tdx::SeptEntry;
using abi::tdx::SeptLevel;
using abi::tdx::SeptState;

/// What state_of() answers for bits that encode no state.
inline constexpr std::uint8_t kNoState = 0xFF;

constexpr std::size_t state_index(std::uint64_t raw) {
  return static_cast<std::size_t>(SeptEntry::Dirty::get(raw) | (((raw >> 53) & 0xF) << 1) |
                                  (((raw >> 6) & 0x3) << 5));
}

inline constexpr auto kStateByIndex = [] {
  std::array<std::uint8_t, 128> table{};
  table.fill(kNoState);
  for (const auto& info : abi::tdx::kSeptStates) {
    table[state_index(info.mask)] = static_cast<std::uint8_t>(info.state);
  }
  // D is ignored for plain MAPPED (reference 2.4).
  table[state_index(SeptEntry::Leaf::kMask | SeptEntry::Ipat::kMask | SeptEntry::Dirty::kMask)] =
      static_cast<std::uint8_t>(SeptState::kMapped);
  return table;
}();

constexpr SeptState state_of(std::uint64_t raw) {
  return static_cast<SeptState>(kStateByIndex[state_index(raw)]);
}

inline constexpr auto kMaskByState = [] {
  std::array<std::uint64_t, 256> table{};
  for (const auto& info : abi::tdx::kSeptStates) {
    table[static_cast<std::uint8_t>(info.state)] = info.mask;
  }
  return table;
}();

constexpr std::uint64_t mask_of(SeptState state) {
  return kMaskByState[static_cast<std::uint8_t>(state)];
}

constexpr bool is_free(SeptState state) {
  return state == SeptState::kFree || state == SeptState::kRemoved;
}
constexpr bool is_non_leaf(SeptState state) {
  return state == SeptState::kNonLeafMapped || state == SeptState::kNonLeafBlocked;
}
constexpr bool is_leaf(SeptState state) {
  return !is_free(state) && !is_non_leaf(state);
}
constexpr bool is_blocked(SeptState state) {
  return state == SeptState::kBlocked || state == SeptState::kPendingBlocked ||
         state == SeptState::kNonLeafBlocked;
}
constexpr bool is_write_blocked(SeptState state) {
  return state == SeptState::kBlockedW || state == SeptState::kExportedBlockedW ||
         state == SeptState::kExportedDirtyBlockedW;
}
/// Rows 1 and 5 of the decision table: a leaf that the guest can already use.
constexpr bool is_usable(SeptState state) {
  return state == SeptState::kMapped || state == SeptState::kExportedDirty ||
         is_write_blocked(state);
}
/// Leaves whose guest access meets "not accepted" rather than "not there".
constexpr bool is_pending(SeptState state) {
  return state == SeptState::kPending || state == SeptState::kPendingBlockedW ||
         state == SeptState::kPendingExportedBlockedW ||
         state == SeptState::kPendingExportedDirty ||
         state == SeptState::kPendingExportedDirtyBlockedW;
}
/// Row 7: the state after an accept, or nothing when an accept does not apply.
constexpr std::optional<SeptState> accepted(SeptState state) {
  if (state == SeptState::kPending) {
    return SeptState::kMapped;
  }
  if (state == SeptState::kPendingExportedDirty) {
    return SeptState::kExportedDirty;
  }
  return std::nullopt;
}
/// The legal sources of RANGE.BLOCK and what they become.
constexpr std::optional<SeptState> blocked(SeptState state) {
  switch (state) {
    case SeptState::kMapped:
    case SeptState::kBlockedW:
      return SeptState::kBlocked;
    case SeptState::kPending:
    case SeptState::kPendingBlockedW:
      return SeptState::kPendingBlocked;
    case SeptState::kNonLeafMapped:
      return SeptState::kNonLeafBlocked;
    default:
      return std::nullopt;
  }
}
constexpr SeptState unblocked(SeptState state) {
  switch (state) {
    case SeptState::kBlocked:
      return SeptState::kMapped;
    case SeptState::kPendingBlocked:
      return SeptState::kPending;
    case SeptState::kNonLeafBlocked:
      return SeptState::kNonLeafMapped;
    default:
      return state;
  }
}

}  // namespace accede::host::internal
