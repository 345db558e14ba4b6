#include "accede/host/tdmr_account.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

namespace {

enum class Fate : std::uint8_t { kHole, kAbandoned, kPamt, kKept, kOptional };

/// Calls `use` with every part of `window` that has one fate and lies in one piece, ascending.
/// Searches only the part of the lists that lies in the window.
template <class Use>
void for_each_part(const TdmrDecisions& decisions, PhysRange window, Use use) {
  const auto first_ending_after = [](auto list, PhysAddr begin, auto range_of) {
    return std::ranges::upper_bound(list, begin, {},
                                    [&](const auto& entry) { return range_of(entry).end(); });
  };
  const auto abandoned_range = [](const PhysRange& range) { return range; };
  const auto own_range = [](const auto& entry) { return entry.range; };
  auto abandoned = first_ending_after(decisions.abandoned, window.begin(), abandoned_range);
  auto pamt = first_ending_after(decisions.pamt, window.begin(), own_range);
  auto piece = first_ending_after(decisions.pieces, window.begin(), own_range);
  for (PhysAddr at = window.begin(); at < window.end() && piece != decisions.pieces.end();) {
    PhysAddr end = std::min(piece->range.end(), window.end());
    const bool left = abandoned != decisions.abandoned.end() && abandoned->contains(at);
    const bool metadata = pamt != decisions.pamt.end() && pamt->range.contains(at);
    if (abandoned != decisions.abandoned.end()) {
      end = std::min(end, left ? abandoned->end() : std::max(abandoned->begin(), at));
    }
    if (pamt != decisions.pamt.end()) {
      end = std::min(end, metadata ? pamt->range.end() : std::max(pamt->range.begin(), at));
    }
    const Fate fate = metadata                                 ? Fate::kPamt
                      : piece->hole                            ? Fate::kHole
                      : piece->demand != TdmrDemand::kRequired ? Fate::kOptional
                      : left                                   ? Fate::kAbandoned
                                                               : Fate::kKept;
    use(*PhysRange::make(at, end), fate, *piece);
    at = end;
    abandoned += abandoned != decisions.abandoned.end() && abandoned->end() <= at ? 1 : 0;
    pamt += pamt != decisions.pamt.end() && pamt->range.end() <= at ? 1 : 0;
    piece += piece->range.end() <= at ? 1 : 0;
  }
}

void find_slots_of(const TdmrDecisions& decisions, PhysRange tdmr, std::size_t index,
                   TdmrList<PamtSlot>& slots) {
  bool after_area = false;
  bool slot_was_last = false;
  for_each_part(decisions, tdmr, [&](PhysRange part, Fate fate, const MemoryPiece& piece) {
    if (fate == Fate::kOptional) {
      return;
    }
    if (fate == Fate::kKept) {
      slot_was_last = piece.holds_pamt;
      if (piece.holds_pamt) {
        slots.add({.free = part, .node = piece.node, .tdmr = index, .low_free = after_area});
      }
      after_area = false;
      return;
    }
    if (slot_was_last) {
      slots.last().high_free = true;
    }
    slot_was_last = false;
    after_area = true;
  });
}

void merge_reasons(AreaReasons& into, const AreaReasons& more) {
  into.not_convertible |= more.not_convertible;
  into.excluded |= more.excluded;
  into.firmware |= more.firmware;
  into.pamt |= more.pamt;
  into.given_up |= more.given_up;
}

/// Adds `size` of a node's RAM to what has become of it.
void count_part(NodeMemory& node, Fate fate, const MemoryPiece& piece, Bytes size, bool in_tdmr) {
  node.present += size;
  if (piece.demand == TdmrDemand::kForbidden) {
    node.not_convertible += size;
  } else if (fate == Fate::kKept && in_tdmr) {
    node.td_memory += size;
  } else if (fate != Fate::kPamt) {
    node.given_up += size;
  }
}

void add_part(TdmrList<GivenUp>& list, PhysRange part, NodeId node) {
  if (!list.empty() && list.last().node == node && list.last().range.end() == part.begin()) {
    list.last().range = *PhysRange::make(list.last().range.begin(), part.end());
  } else {
    list.add({.range = part, .node = node});
  }
}

NodeMemory& node_of(std::span<NodeMemory> nodes, NodeId node) {
  return *std::ranges::lower_bound(nodes, node, {}, &NodeMemory::node);
}

void list_nodes(std::span<const MemoryPiece> pieces, TdmrList<NodeMemory>& nodes) {
  // Neighbours are mostly alike; the rest is sorted out below.
  for (const MemoryPiece& piece : pieces) {
    if (piece.wanted && (nodes.empty() || nodes.last().node != piece.node)) {
      NodeMemory memory{};
      memory.node = piece.node;
      nodes.add(memory);
    }
  }
  std::ranges::sort(nodes.all(), {}, &NodeMemory::node);
  const auto repeated = std::ranges::unique(nodes.all(), {}, &NodeMemory::node);
  nodes.shrink(repeated.size());
}

void count_pamt(std::span<const PlannedTdmr> tdmrs, std::span<NodeMemory> nodes) {
  for (const PlannedTdmr& tdmr : tdmrs) {
    for (const PlannedPamt& pamt : tdmr.pamt) {
      node_of(nodes, pamt.node).pamt += pamt.range.size();
      const auto own = std::ranges::lower_bound(nodes, tdmr.node, {}, &NodeMemory::node);
      if (pamt.node != tdmr.node && own != nodes.end() && own->node == tdmr.node) {
        own->foreign_pamt += pamt.range.size();
      }
    }
  }
}

}  // namespace

void find_slots(const TdmrDecisions& decisions, std::span<const PlannedTdmr> tdmrs,
                bool use_abandoned, TdmrList<PamtSlot>& slots) {
  for (std::size_t i = 0; i < tdmrs.size(); ++i) {
    find_slots_of(decisions, tdmrs[i].range, i, slots);
  }
  if (!use_abandoned) {
    return;
  }
  for (const PhysRange& abandoned : decisions.abandoned) {
    for_each_part(decisions, abandoned, [&](PhysRange part, Fate fate, const MemoryPiece& piece) {
      if (fate == Fate::kAbandoned && piece.holds_pamt) {
        slots.add({.free = part, .node = piece.node});
      }
    });
  }
}

void reserve_areas(const TdmrDecisions& decisions, PlannedTdmr& tdmr) {
  bool open = false;
  tdmr.area_count = 0;
  tdmr.td_memory = Bytes{};
  for_each_part(decisions, tdmr.range, [&](PhysRange part, Fate fate, const MemoryPiece& piece) {
    if (fate == Fate::kOptional) {
      return;
    }
    if (fate == Fate::kKept) {
      tdmr.td_memory += part.size();
      open = false;
      return;
    }
    if (!open) {
      ACCEDE_ASSERT(tdmr.area_count < tdmr.area_list.size());
      tdmr.area_list[tdmr.area_count++] = {.range = part, .reasons = {}};
      open = true;
    }
    PlannedArea& area = tdmr.area_list[tdmr.area_count - 1];
    area.range = *PhysRange::make(area.range.begin(), part.end());
    AreaReasons reasons = piece.reasons;
    reasons.pamt = fate == Fate::kPamt;
    reasons.given_up = fate == Fate::kAbandoned;
    merge_reasons(area.reasons, reasons);
  });
}

void account(const TdmrDecisions& decisions, std::span<const PlannedTdmr> tdmrs,
             TdmrAccounts& accounts) {
  list_nodes(decisions.pieces, accounts.nodes);
  const auto count = [&](PhysRange window, bool in_tdmr) {
    for_each_part(decisions, window, [&](PhysRange part, Fate fate, const MemoryPiece& piece) {
      if (piece.wanted) {
        count_part(node_of(accounts.nodes.all(), piece.node), fate, piece, part.size(), in_tdmr);
      }
      if (piece.not_convertible) {
        add_part(accounts.not_convertible, part, piece.node);
      } else if (fate == Fate::kAbandoned) {
        add_part(accounts.given_up, part, piece.node);
      }
    });
  };
  PhysAddr at{};
  for (const PlannedTdmr& tdmr : tdmrs) {
    count(*PhysRange::make(at, tdmr.range.begin()), false);
    count(tdmr.range, true);
    at = tdmr.range.end();
  }
  if (!decisions.pieces.empty()) {
    count(*PhysRange::make(at, decisions.pieces.back().range.end()), false);
  }
  count_pamt(tdmrs, accounts.nodes.all());
}

}  // namespace accede::host
