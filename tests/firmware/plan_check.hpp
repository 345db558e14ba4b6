// What must hold for every acceptance plan, for tests and the fuzzer.
#pragma once

#include "accede/firmware/acceptance_cost.hpp"
#include "accede/firmware/acceptance_plan.hpp"
#include "accede/firmware/efi_memory_map.hpp"
#include "tests/firmware/made_up_hobs.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace accede::firmware::test {

/// Nothing, or what does not hold.
using Complaint = const char*;

inline Complaint check_ranges(const AcceptancePlan& plan, const guest::MemoryMap& map) {
  PhysAddr end;
  for (const PhysRange range : plan.ranges()) {
    if (range.empty() || range.begin() < end || (range.begin() == end && end != PhysAddr{})) {
      return "ranges do not ascend, or touch";
    }
    if (!map.covers(range, guest::MemoryKind::kUnaccepted)) {
      return "a range lies where nothing is to be accepted";
    }
    end = range.end();
  }
  return nullptr;
}

inline Complaint check_runs(PhysRange chunk, PageSize largest) {
  PhysAddr at = chunk.begin();
  Complaint complaint = nullptr;
  for_each_page_run(chunk, largest, [&](const PageRun& run) {
    if (run.range.begin() != at || run.range.empty() || run.size > largest ||
        !run.range.begin().is_aligned(bytes(run.size)) ||
        run.range.size() % bytes(run.size) != Bytes{0}) {
      complaint = "a page run is misplaced";
    }
    at = run.range.end();
  });
  return complaint != nullptr || at != chunk.end() ? "the pages are not the chunk" : nullptr;
}

/// The chunks are the ranges, cut, and each once.
inline Complaint check_chunks(const AcceptancePlan& plan) {
  std::size_t index = 0;
  for (const PhysRange range : plan.ranges()) {
    for (PhysAddr at = range.begin(); at < range.end();) {
      if (index == plan.chunk_count()) {
        return "there are too few chunks";
      }
      const PhysRange chunk = plan.chunk(index++);
      if (chunk.begin() != at || chunk.empty() || range.end() < chunk.end()) {
        return "a chunk is misplaced";
      }
      if (chunk.size() > plan.rules().chunk ||
          (chunk.end() != range.end() && !chunk.end().is_aligned(plan.rules().chunk))) {
        return "a chunk is cut in the wrong place";
      }
      if (const Complaint complaint = check_runs(chunk, plan.rules().largest)) {
        return complaint;
      }
      at = chunk.end();
    }
  }
  return index == plan.chunk_count() ? nullptr : "there are too many chunks";
}

/// Plan and hand-over agree byte for byte, in our form and as an EFI memory map.
inline Complaint check_hand_over(const AcceptancePlan& plan, const guest::MemoryMap& map,
                                 std::size_t stride) {
  using enum guest::MemoryKind;
  std::vector<guest::MemoryRegion> storage(
      regions_with_accepted(map.regions().size(), plan.ranges().size()));
  const auto after = plan.hand_over(map, storage);
  if (!after) {
    return "there is no hand-over";
  }
  if (after->bytes_of(kUnaccepted) + plan.size() != map.bytes_of(kUnaccepted) ||
      after->bytes_of(kUsable) != map.bytes_of(kUsable) + plan.size()) {
    return "the hand-over has other bytes than the plan";
  }
  for (const PhysRange range : plan.ranges()) {
    if (!after->covers(range, kUsable)) {
      return "what was accepted is not usable";
    }
  }
  std::vector<std::byte> buffer(efi_map_size(*after, stride).value());
  const auto written = write_efi_map(*after, stride, buffer);
  if (!written) {
    return "there is no EFI map";
  }
  std::vector<guest::MemoryRegion> read(after->regions().size());
  const auto again = guest::MemoryMap::from_efi(*written, stride, read);
  return again && regions(*again) == regions(*after) ? nullptr : "the EFI map says something else";
}

inline Complaint check_prediction(const AcceptancePlan& plan, const guest::MemoryMap& map) {
  const Prediction one = predict(plan, map, kReportedTdx, 1);
  const Prediction more = predict(plan, map, kReportedTdx, 4);
  const Bytes pages = Bytes{4096} * (one.pages_4k + 512 * one.pages_2m + 262'144 * one.pages_1g);
  if (pages != plan.size() || one.accepted != plan.size()) {
    return "the prediction counts other pages than the plan has";
  }
  if (more.time > one.time || (one.accepted == Bytes{0}) != (one.time == Nanoseconds{0})) {
    return "the predicted time makes no sense";
  }
  return one.tables <= one.backed && one.accepted <= one.backed ? nullptr
                                                                : "too little memory is predicted";
}

inline Complaint check_plan(const AcceptancePlan& plan, const guest::MemoryMap& map,
                            std::size_t stride) {
  for (const Complaint complaint :
       {check_ranges(plan, map), check_chunks(plan), check_hand_over(plan, map, stride),
        check_prediction(plan, map)}) {
    if (complaint != nullptr) {
      return complaint;
    }
  }
  return nullptr;
}

}  // namespace accede::firmware::test
