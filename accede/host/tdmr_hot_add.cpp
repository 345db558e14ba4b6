#include "accede/host/tdmr_hot_add.hpp"

#include "accede/abi/tdx_status.hpp"
#include "accede/base/assert.hpp"

#include <algorithm>
#include <array>

namespace accede::host {

namespace {

using abi::tdx::Operand;
using abi::tdx::status;
using abi::tdx::Status;

/// Collects what becomes of the parts of the range, ascending.
class Judge {
 public:
  void usable(PhysRange part) { answer_.usable += part.size(); }
  void outside(PhysRange part) {
    refuse(part, Status::kOperandAddrRangeError);
    answer_.outside += part.size();
  }
  void reserved(PhysRange part) {
    refuse(part, Status::kPageMetadataIncorrect);
    answer_.reserved += part.size();
  }
  [[nodiscard]] HotAddAnswer answer(TdmrPromise promise) const {
    HotAddAnswer answer = answer_;
    answer.outcome = answer.aug_status == 0               ? HotAddOutcome::kUsable
                     : promise == TdmrPromise::kEveryPage ? HotAddOutcome::kRefused
                                                          : HotAddOutcome::kKillsTd;
    return answer;
  }

 private:
  void refuse(PhysRange part, Status code) {
    if (!part.empty() && answer_.aug_status == 0) {
      answer_.first_bad = part.begin();
      answer_.aug_status = status(code, static_cast<std::uint32_t>(Operand::kR8));
    }
  }

  HotAddAnswer answer_{};
};

void judge_inside(const PlannedTdmr& tdmr, PhysRange part, Judge& judge) {
  PhysAddr at = part.begin();
  const auto keep_to = [&](PhysAddr end) {
    if (at < end) {
      judge.usable(*PhysRange::make(at, end));
    }
    at = std::max(at, end);
  };
  for (const PlannedArea& area : tdmr.areas()) {
    const PhysRange cut = area.range.intersect(part);
    if (!cut.empty()) {
      keep_to(cut.begin());
      judge.reserved(cut);
      at = cut.end();
    }
  }
  keep_to(part.end());
}

}  // namespace

HotAddAnswer judge_hot_add(std::span<const PlannedTdmr> tdmrs, TdmrPromise promise,
                           PhysRange range) {
  Judge judge;
  const PhysAddr end = range.end().align_down(4_KiB);
  PhysAddr at = std::min(range.begin().align_down(4_KiB) == range.begin()
                             ? range.begin()
                             : range.begin().align_down(4_KiB) + 4_KiB,
                         end);
  for (const PlannedTdmr& tdmr : tdmrs) {
    const PhysRange inside = tdmr.range.intersect(*PhysRange::make(at, end));
    if (inside.empty()) {
      continue;
    }
    judge.outside(*PhysRange::make(at, inside.begin()));
    judge_inside(tdmr, inside, judge);
    at = inside.end();
  }
  judge.outside(*PhysRange::make(at, end));
  return judge.answer(promise);
}

}  // namespace accede::host
