#include "accede/host/tdmr_pieces.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <limits>

namespace accede::host {

namespace {

using abi::tdx::CmrInfo;
using abi::tdx::kTdmrGranule;

constexpr Bytes kPage = 4_KiB;
constexpr PhysAddr kLowMemoryEnd{1ULL << 20};
constexpr PhysAddr kNoEdge{std::numeric_limits<std::uint64_t>::max()};

/// The whole pages of `range`; empty where it has none.
PhysRange whole_pages(PhysRange range) {
  const PhysAddr begin = range.begin().align_up(kPage);
  return *PhysRange::make(begin, std::max(begin, range.end().align_down(kPage)));
}
PhysRange touched_pages(PhysRange range) {
  return *PhysRange::make(range.begin().align_down(kPage), range.end().align_up(kPage));
}

/// Walks ascending ranges. `Pages` makes the range of the element with an index.
template <class Pages>
class Cursor {
 public:
  Cursor(std::size_t count, Pages pages) : count_{count}, pages_{pages} {}

  /// Goes on to `at`, which never falls.
  void move_to(PhysAddr at) {
    while (index_ < count_ && pages_(index_).end() <= at) {
      ++index_;
    }
    at_ = at;
  }
  [[nodiscard]] bool inside() const { return index_ < count_ && pages_(index_).contains(at_); }
  [[nodiscard]] std::size_t index() const { return index_; }
  /// Where inside() changes next.
  [[nodiscard]] PhysAddr next_edge() const {
    if (index_ == count_) {
      return kNoEdge;
    }
    const PhysRange range = pages_(index_);
    return at_ < range.begin() ? range.begin() : range.end();
  }

 private:
  std::size_t count_;
  Pages pages_;
  std::size_t index_ = 0;
  PhysAddr at_;
};

bool kind_included(MemoryKind kind, const TdmrPolicy& policy) {
  switch (kind) {
    case MemoryKind::kRam:
      return true;
    case MemoryKind::kPmem:
      return policy.pmem == MemoryUse::kInclude;
    case MemoryKind::kCxl:
      return policy.cxl == MemoryUse::kInclude;
    case MemoryKind::kFirmware:
      return false;
  }
  return false;
}

/// What the memory map says of a place; nothing where it says nothing.
MemoryPiece describe(const MemoryRange* memory, PhysRange range, bool convertible, bool excluded,
                     const TdmrPolicy& policy) {
  const bool low = range.end() <= kLowMemoryEnd;
  const bool included = memory != nullptr && !low && kind_included(memory->kind, policy);
  const bool room = included && !memory->present && policy.hot_plug_room == MemoryUse::kInclude;
  MemoryPiece piece{};
  piece.range = range;
  piece.node = memory != nullptr ? memory->node : NodeId{};
  piece.wanted = included && memory->present;
  const bool other_kind = memory != nullptr && memory->present && !included && !low &&
                          memory->kind != MemoryKind::kFirmware;
  if (!convertible || excluded || other_kind) {
    piece.demand = TdmrDemand::kForbidden;
    piece.reasons.not_convertible = !convertible;
    piece.reasons.excluded = excluded || other_kind;
    piece.not_convertible = piece.wanted && !excluded;
  } else if (piece.wanted || room) {
    piece.demand = TdmrDemand::kRequired;
    piece.holds_pamt = piece.wanted && memory->kind == MemoryKind::kRam;
  } else if (policy.holes == TdmrHoles::kOfMemoryMap) {
    piece.demand = TdmrDemand::kForbidden;
    piece.reasons.firmware = true;
  } else {
    piece.demand = TdmrDemand::kOptional;
  }
  return piece;
}

/// Optional memory is a hole where the nearest demands on both sides are holes.
void mark_holes(std::span<MemoryPiece> pieces) {
  bool after_hole = false;
  std::size_t first_optional = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    MemoryPiece& piece = pieces[i];
    if (piece.demand == TdmrDemand::kOptional) {
      continue;
    }
    piece.hole = piece.demand == TdmrDemand::kForbidden;
    for (MemoryPiece& optional : pieces.subspan(first_optional, i - first_optional)) {
      optional.hole = after_hole && piece.hole;
    }
    after_hole = piece.hole;
    first_optional = i + 1;
  }
}

}  // namespace

bool MemoryPiece::same_sort(const MemoryPiece& other) const {
  const bool node_matters = wanted || demand == TdmrDemand::kRequired;
  return demand == other.demand && reasons == other.reasons && wanted == other.wanted &&
         not_convertible == other.not_convertible && holds_pamt == other.holds_pamt &&
         (!node_matters || node == other.node);
}

void cut_memory(const TdmrMachine& machine, std::span<const MemoryRange> memory,
                const TdmrPolicy& policy, TdmrList<MemoryPiece>& pieces) {
  Cursor cmrs{machine.cmrs.size(), [&](std::size_t i) {
                const CmrInfo& cmr = machine.cmrs[i];
                return *PhysRange::make(PhysAddr{cmr.base}, Bytes{cmr.size});
              }};
  Cursor ranges{memory.size(), [&](std::size_t i) { return whole_pages(memory[i].range); }};
  Cursor excluded{policy.excluded.size(),
                  [&](std::size_t i) { return touched_pages(policy.excluded[i]); }};
  const PhysAddr end =
      memory.empty() ? PhysAddr{} : memory.back().range.end().align_up(kTdmrGranule);
  for (PhysAddr at{}; at < end;) {
    cmrs.move_to(at);
    ranges.move_to(at);
    excluded.move_to(at);
    const PhysAddr next = std::min({cmrs.next_edge(), ranges.next_edge(), excluded.next_edge(), end,
                                    at < kLowMemoryEnd ? kLowMemoryEnd : kNoEdge});
    const MemoryPiece piece =
        describe(ranges.inside() ? &memory[ranges.index()] : nullptr, *PhysRange::make(at, next),
                 cmrs.inside(), excluded.inside(), policy);
    if (!pieces.empty() && pieces.last().same_sort(piece)) {
      pieces.last().range = *PhysRange::make(pieces.last().range.begin(), next);
    } else {
      pieces.add(piece);
    }
    at = next;
  }
  mark_holes(pieces.all());
}

}  // namespace accede::host
