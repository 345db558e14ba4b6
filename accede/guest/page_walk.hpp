// The one walk that accepts a range page by page, whatever the platform.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/platform.hpp"

#include <concepts>
#include <cstdint>
#include <expected>
#include <type_traits>

namespace accede::guest {

/// The largest page, 2 MiB at most and `cap` at most, that begins at `at` and ends at or before
/// `end`. 1 GiB is never tried: the TDX module refuses it and SNP has no such page.
/// Precondition: both are multiples of 4 KiB, at < end, `cap` is not 1 GiB.
[[nodiscard]] constexpr PageSize largest_page(PhysAddr at, PhysAddr end,
                                              PageSize cap = PageSize::k2M) {
  ACCEDE_ASSERT(at < end && cap != PageSize::k1G);
  return cap == PageSize::k2M && at.is_aligned(2_MiB) && end - at >= 2_MiB ? PageSize::k2M
                                                                           : PageSize::k4K;
}

/// An answer and the word of the platform that it stands for.
struct PageAnswer {
  Answer answer = Answer::kInvalid;
  std::uint64_t status = 0;
};

/// Calls `accept_page(PhysAddr, PageSize) -> PageAnswer` for the pages of `range` in ascending
/// order: each in the largest size that fits, and again in 4 KiB pages where the answer is a size
/// mismatch. Stops at the first page whose answer the policy does not get over. `accept_page` has
/// bounded its own retries: kBusy is an end.
/// Precondition: `range` is 4 KiB aligned.
template <class AcceptPage>
  requires std::same_as<std::invoke_result_t<AcceptPage&, PhysAddr, PageSize>, PageAnswer>
[[nodiscard]] PlatformResult accept_by_page(PhysRange range, PageSize cap,
                                            AcceptPage&& accept_page) {
  ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
  PhysAddr at = range.begin();
  PhysAddr small_end = at;  // below it the host backs with 4 KiB pages
  while (at < range.end()) {
    const PageSize size = at < small_end ? PageSize::k4K : largest_page(at, range.end(), cap);
    const PageAnswer answer = accept_page(at, size);
    switch (reaction(answer.answer, size)) {
      case Reaction::kProceed:
        at += bytes(size);
        break;
      case Reaction::kSmallerPages:
        small_end = at + bytes(size);
        break;
      case Reaction::kRetry:
      case Reaction::kStop:
        return std::unexpected{PlatformFailure{.kind = failure_of(answer.answer),
                                               .status = answer.status,
                                               .at = at,
                                               .size = size,
                                               .done_end = at}};
    }
  }
  return {};
}

}  // namespace accede::guest
