// The page state change list of the GHCB protocol (reference: SEV-SNP 3.5).
#pragma once

#include "accede/abi/ghcb_msr.hpp"
#include "accede/base/bit_field.hpp"
#include "accede/base/units.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::abi::ghcb {

/// The list in 64-bit words, as both sides read it: a header and up to 253 entries.
inline constexpr std::size_t kPscMaxEntries = 253;
inline constexpr std::size_t kPscWords = 1 + kPscMaxEntries;

/// Word 0. One word, so that one read gives header fields that belong together.
struct PscHeader {
  using Reserved = BitField<std::uint64_t, 63, 32>;  ///< must be 0, also when it comes back
  using EndEntry = BitField<std::uint64_t, 31, 16>;  ///< index of the last entry, inclusive
  using CurEntry = BitField<std::uint64_t, 15, 0>;   ///< next to be done; the host advances it

  [[nodiscard]] static constexpr std::uint64_t make(std::uint16_t cur, std::uint16_t end) {
    return EndEntry::set(CurEntry::set(0, cur), end);
  }
};

/// Words 1 and up.
struct PscEntry {
  using Reserved = BitField<std::uint64_t, 63, 57>;  ///< must be 0
  using Large = BitField<std::uint64_t, 56>;         ///< 1: a 2 MiB page
  using Op = BitField<std::uint64_t, 55, 52>;        ///< a PageOp
  using Gfn = BitField<std::uint64_t, 51, 12>;
  using CurPage = BitField<std::uint64_t, 11, 0>;  ///< 4 KiB pages done; the host advances it

  /// Preconditions: `gpa` is a multiple of `size` below 2^52; `size` is not 1 GiB.
  [[nodiscard]] static constexpr std::uint64_t make(PhysAddr gpa, PageSize size, PageOp op) {
    ACCEDE_ASSERT(size != PageSize::k1G && gpa.is_aligned(bytes(size)));
    std::uint64_t entry = Gfn::set(0, gpa.value() >> 12);
    entry = Op::set(entry, static_cast<std::uint64_t>(op));
    return Large::set(entry, size == PageSize::k2M ? 1 : 0);
  }
  [[nodiscard]] static constexpr PhysAddr gpa(std::uint64_t entry) {
    return PhysAddr{Gfn::get(entry) << 12};
  }
  [[nodiscard]] static constexpr PageSize size(std::uint64_t entry) {
    return Large::get(entry) != 0 ? PageSize::k2M : PageSize::k4K;
  }
  /// Whether or not it is one of ours.
  [[nodiscard]] static constexpr PageOp op(std::uint64_t entry) {
    return static_cast<PageOp>(Op::get(entry));
  }
  /// 4 KiB pages of the entry: what CurPage counts to.
  [[nodiscard]] static constexpr std::uint64_t pages(std::uint64_t entry) {
    return Large::get(entry) != 0 ? 512 : 1;
  }
};

/// sw_exit_info_2 of an answered list. 0 says that nothing went wrong, not that all is done: the
/// guest asks again while cur_entry <= end_entry.
enum class PscResult : std::uint64_t {
  kOk = 0,
  kBadHeader = (1ULL << 32) | 1,
  kBadEntry = (1ULL << 32) | 2,
  kGeneric = 0x100ULL << 32,
};

/// A name for reports; "unknown" for a word without one.
[[nodiscard]] constexpr std::string_view name_of(PscResult result) {
  switch (result) {
    case PscResult::kOk:
      return "no error"sv;
    case PscResult::kBadHeader:
      return "bad header"sv;
    case PscResult::kBadEntry:
      return "bad entry"sv;
    case PscResult::kGeneric:
      return "refused by the host"sv;
  }
  return "unknown"sv;
}

}  // namespace accede::abi::ghcb
