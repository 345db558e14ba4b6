#include "accede/host/tdmr_abandon.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

namespace {

/// The stretches between holes of one TDMR, and how many holes there are.
class StretchWalk {
 public:
  explicit StretchWalk(std::span<TdmrStretch> storage) : between_{storage} {}

  void add(const TdmrRun& run) {
    if (run.hole) {
      if (!in_hole_) {
        ++holes_;
        if (holes_ > 1) {
          between_.add(stretch_);
        }
      }
      in_hole_ = true;
      return;
    }
    // Kept memory goes on where a block ends in the middle of it.
    const bool goes_on = !in_hole_ && !stretch_.range.empty();
    stretch_ = {.range = *PhysRange::make(goes_on ? stretch_.range.begin() : run.range.begin(),
                                          run.range.end()),
                .required = goes_on ? stretch_.required + run.required : run.required};
    in_hole_ = false;
  }

  [[nodiscard]] std::size_t holes() const { return holes_; }
  [[nodiscard]] std::span<TdmrStretch> between() const { return between_.all(); }

 private:
  TdmrList<TdmrStretch> between_;
  TdmrStretch stretch_;
  std::size_t holes_ = 0;
  bool in_hole_ = false;
};

void abandon_inside(std::span<const TdmrBlock> blocks, std::size_t most_areas,
                    std::span<TdmrStretch> scratch, TdmrList<PhysRange>& abandoned) {
  StretchWalk walk{scratch};
  for (const TdmrBlock& block : blocks) {
    for (const TdmrRun& run : block.runs) {
      walk.add(run);
    }
  }
  if (walk.holes() <= most_areas) {
    return;
  }
  const std::span<TdmrStretch> between = walk.between();
  std::ranges::sort(between, [](const TdmrStretch& a, const TdmrStretch& b) {
    return a.required != b.required ? a.required < b.required : a.range.begin() < b.range.begin();
  });
  const auto given = between.first(walk.holes() - most_areas);
  std::ranges::sort(given, {}, [](const TdmrStretch& stretch) { return stretch.range.begin(); });
  for (const TdmrStretch& stretch : given) {
    abandoned.add(stretch.range);
  }
}

}  // namespace

void abandon(std::span<const TdmrBlock> blocks, std::span<const TdmrSpan> tdmrs,
             std::size_t most_areas, std::span<TdmrStretch> scratch,
             TdmrList<PhysRange>& abandoned) {
  std::size_t at = 0;
  const auto skip_to = [&](std::size_t end) {
    for (; at < end; ++at) {
      if (blocks[at].needed()) {
        abandoned.add(blocks[at].range);
      }
    }
  };
  for (const TdmrSpan& tdmr : tdmrs) {
    skip_to(tdmr.first);
    abandon_inside(blocks.subspan(tdmr.first, tdmr.end - tdmr.first), most_areas, scratch,
                   abandoned);
    at = tdmr.end;
  }
  skip_to(blocks.size());
}

}  // namespace accede::host
