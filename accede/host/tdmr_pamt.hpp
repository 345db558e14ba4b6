// Finds places for the metadata arrays of TDMRs.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_check.hpp"
#include "accede/host/tdmr_plan.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <limits>
#include <optional>
#include <span>

namespace accede::host {

/// RAM of one node without a gap that can hold metadata.
struct PamtSlot {
  static constexpr std::size_t kNoTdmr = std::numeric_limits<std::size_t>::max();

  PhysRange free;
  NodeId node{};
  std::size_t tdmr = kNoTdmr;  ///< that keeps the slot as TD memory; metadata takes an area there
  bool low_free = false;       ///< the area below reaches the slot: metadata there makes it larger
  bool high_free = false;      ///< the same above
};

/// Places the arrays of one TDMR after the other. Thread-compatible.
class PamtPlacer {
 public:
  /// `areas`: by TDMR, how many it needs without metadata; place() adds to it. Both spans outlive
  /// the object.
  PamtPlacer(std::span<PamtSlot> slots, std::span<std::size_t> areas, std::size_t most_areas)
      : slots_{slots}, areas_{areas}, most_areas_{most_areas} {}

  /// Places the three arrays of `tdmr` (whose range and node are set), all of them together where
  /// they fit: on its node rather than on another, where they cost no area rather than where they
  /// do, then in the largest slot, the highest of equals. Error: the size that fits nowhere.
  [[nodiscard]] std::expected<void, Bytes> place(PlannedTdmr& tdmr, bool dynamic_pamt);

  /// Areas that hold metadata alone.
  [[nodiscard]] std::size_t own_areas() const { return own_areas_; }

 private:
  /// From the best to the worst; a foreign node adds kForeign.
  enum Class : unsigned { kOutside, kJoinsArea, kOwnArea, kForeign };
  struct Place {
    std::size_t slot;
    unsigned rank;  ///< a Class, or one plus kForeign
  };

  [[nodiscard]] std::optional<unsigned> rank(const PamtSlot& slot, Bytes size, NodeId node) const;
  [[nodiscard]] std::optional<Place> find(Bytes size, NodeId node) const;
  [[nodiscard]] PhysRange take(Place place, Bytes size);

  std::span<PamtSlot> slots_;
  std::span<std::size_t> areas_;
  std::size_t most_areas_;
  std::size_t own_areas_ = 0;
};

}  // namespace accede::host
