// Cutting a range into pages that are as large as they may be.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"

#include <algorithm>
#include <cstdint>

namespace accede::firmware {

/// Pages of one size, one behind the other.
struct PageRun {
  PhysRange range;
  PageSize size = PageSize::k4K;

  [[nodiscard]] constexpr std::uint64_t pages() const { return range.size() / bytes(size); }
  friend constexpr bool operator==(const PageRun&, const PageRun&) = default;
};

/// The run that begins where `range` begins: of the largest pages that fit there, up to where
/// larger ones fit.
/// Preconditions: `range` consists of whole 4 KiB pages and is not empty.
[[nodiscard]] constexpr PageRun first_run(PhysRange range, PageSize largest) {
  const auto fits = [&](PageSize size) {
    return range.begin().is_aligned(bytes(size)) && bytes(size) <= range.size();
  };
  ACCEDE_ASSERT(fits(PageSize::k4K));
  auto size = PageSize::k4K;
  auto next = PageSize::k4K;
  while (size < largest) {
    next = static_cast<PageSize>(static_cast<unsigned>(size) + 1);
    if (!fits(next)) {
      break;
    }
    size = next;
  }
  Bytes length = range.size() - range.size() % bytes(size);
  if (size < largest) {
    const Bytes into = range.begin() - range.begin().align_down(bytes(next));
    length = std::min(length, bytes(next) - into);
  }
  return {.range = *PhysRange::make(range.begin(), length), .size = size};
}

/// Calls `visit` with runs that cover exactly `range`, ascending: never more than two for each page
/// size below `largest`, and one of it. A platform's accept takes 4 KiB and 2 MiB on TDX (TDX
/// module: MEM.PAGE.ACCEPT) and on SEV-SNP (PVALIDATE). Precondition: `range` consists of whole 4
/// KiB pages.
template <class Visit>
constexpr void for_each_page_run(PhysRange range, PageSize largest, Visit visit) {
  while (!range.empty()) {
    const PageRun run = first_run(range, largest);
    visit(run);
    range = *PhysRange::make(run.range.end(), range.end());
  }
}

}  // namespace accede::firmware
