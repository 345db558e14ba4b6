// Included by bulk_conversion.hpp: page state change lists.
#pragma once

#include "accede/host/bulk_conversion.hpp"

#include <algorithm>

namespace accede::host {

namespace internal {

[[nodiscard]] constexpr PageAttribute attribute_of(const GhcbPageState& change) {
  return change.op == abi::ghcb::PageOp::kShared ? PageAttribute::kShared : PageAttribute::kPrivate;
}

}  // namespace internal

/// The next conversion of a list; null: it is answered.
template <PrivateMemoryBacking Memory>
const GhcbPageState* BulkConversion<Memory>::head(PageStateList& list, Report report,
                                                  Resize resize) {
  using abi::ghcb::PageOp;
  for (;;) {
    const GhcbPageState* next = list.next(PageStateJoin::kNeighbours, limits_.step, report);
    if (next == nullptr || next->op == PageOp::kPrivate || next->op == PageOp::kShared) {
      return next;
    }
    resize(next->range, next->op);
    list.answer(GhcbPageStateAnswer::all());
  }
}

/// The range that `seed` and the fronts of all lists make together, one step at most.
template <PrivateMemoryBacking Memory>
PhysRange BulkConversion<Memory>::hull(std::span<PageStateList> lists, const GhcbPageState& seed,
                                       Report report, Resize resize) {
  PhysRange all = seed.range;
  for (bool grown = true; grown;) {
    grown = false;
    for (PageStateList& list : lists) {
      const GhcbPageState* next = head(list, report, resize);
      if (next == nullptr || next->op != seed.op || all.contains(next->range) ||
          next->range.begin() > all.end() || all.begin() > next->range.end()) {
        continue;
      }
      const PhysRange both = *PhysRange::make(std::min(all.begin(), next->range.begin()),
                                              std::max(all.end(), next->range.end()));
      if (both.size() <= limits_.step) {
        all = both;
        grown = true;
      }
    }
  }
  return all;
}

/// Converts the fronts that make one range with `seed` by one call. False: that did not work, and
/// nothing is changed.
template <PrivateMemoryBacking Memory>
bool BulkConversion<Memory>::answer_together(std::span<PageStateList> lists,
                                             const GhcbPageState& seed, Exit& exit, Report report,
                                             Resize resize) {
  const GhcbPageState what = seed;
  const PhysRange all = hull(lists, what, report, resize);
  if (!convert_step(all, internal::attribute_of(what), exit)) {
    return false;
  }
  for (PageStateList& list : lists) {
    const GhcbPageState* next = head(list, report, resize);
    if (next != nullptr && next->op == what.op && all.contains(next->range)) {
      list.answer(GhcbPageStateAnswer::all());
    }
  }
  return true;
}

/// The front of a list as KVM would do it, one entry at least.
template <PrivateMemoryBacking Memory>
void BulkConversion<Memory>::answer_alone(PageStateList& list, Exit& exit, Report report) {
  const GhcbPageState change = *list.next(PageStateJoin::kSameSize, Bytes{~0ULL}, report);
  const BulkProgress progress = convert(change.range, internal::attribute_of(change), exit);
  const bool refused = progress.failure && progress.failure->error != PrivateMemoryError::kBusy;
  list.answer(
      progress.next == change.range.end()
          ? GhcbPageStateAnswer::all()
          : GhcbPageStateAnswer{.done = PageCount{(progress.next - change.range.begin()) / 4_KiB},
                                .refused = refused});
}

template <PrivateMemoryBacking Memory>
void BulkConversion<Memory>::answer_lists(std::span<PageStateList> lists, MustReturn must_return,
                                          Report report, Resize resize) {
  Exit exit{.must_return = must_return, .left = limits_.most};
  for (PageStateList& list : lists) {
    while (const GhcbPageState* next = head(list, report, resize)) {
      if (!exit.may_go_on()) {
        list.answer({.done = PageCount{0}});
      } else if (!answer_together(lists, *next, exit, report, resize)) {
        answer_alone(list, exit, report);
      }
    }
  }
}

}  // namespace accede::host
