// Internal to accede/host. Bits of a PAMT entry.
#pragma once

#include "accede/base/bit_field.hpp"
#include "accede/host/pamt.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace accede::host::internal {

using ExclusiveBit = BitField<std::uint64_t, 0>;
using SharedCount = BitField<std::uint64_t, 15, 2>;
using LockField = BitField<std::uint64_t, 15, 0>;
using TypeField = BitField<std::uint64_t, 23, 16>;
using OwnerField = BitField<std::uint64_t, 63, 24>;
/// Of the link of an entry above the 4K level.
using TableField = BitField<std::uint64_t, 27, 0>;
using SecondPageField = BitField<std::uint64_t, 63, 28>;

inline constexpr std::size_t kPamtEntries = 512;
static_assert(kPamtEntries * sizeof(PamtEntry) == Pamt::kTableBytes.value());

inline std::atomic_ref<std::uint64_t> word_of(PamtEntry& entry) {
  return std::atomic_ref{entry.word};
}
inline PamtType type_of(PamtEntry& entry) {
  return static_cast<PamtType>(TypeField::get(word_of(entry).load(std::memory_order_relaxed)));
}

}  // namespace accede::host::internal
