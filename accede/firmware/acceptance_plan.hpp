// How much memory firmware accepts before it hands over, and which.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/firmware/accepted_ranges.hpp"
#include "accede/firmware/page_runs.hpp"
#include "accede/guest/memory_map.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::firmware {

enum class AcceptanceScope : std::uint8_t {
  kEverything,
  kBelow4G,
  /// From the lowest address on, until AcceptanceGoal::at_least bytes are usable.
  kAtLeast,
};

struct AcceptanceGoal {
  AcceptanceScope scope = AcceptanceScope::kEverything;
  /// For kAtLeast: what was usable from the start counts, `needed` does not. Less than 2 MiB more
  /// is accepted, so that the cut falls between large pages; everything when there is less.
  Bytes at_least{};
  /// What is touched before the kernel can accept: kernel, initrd, page tables. Every unaccepted
  /// page of a 2 MiB page that one of them touches is accepted, whatever the scope. Any order; they
  /// may overlap; empty ones are ignored.
  std::span<const PhysRange> needed{};
};

/// In what pieces CPUs take a plan.
struct ChunkRules {
  /// At most so much, a power of two. A chunk ends on a multiple of it, or where its range ends.
  Bytes chunk = 32_MiB;
  /// Of the platform's accept; divides `chunk`.
  PageSize largest = PageSize::k2M;
};

enum class PlanErrorKind : std::uint8_t {
  kNeededIsNotRam,  ///< index in `needed` of a range of which a part is no RAM
  kTooManyRanges,   ///< ranges that there is room for
};
[[nodiscard]] std::string_view to_string(PlanErrorKind kind);

struct PlanError {
  PlanErrorKind kind;
  std::size_t value;  ///< what the comment of the kind names

  friend bool operator==(const PlanError&, const PlanError&) = default;
};

/// The unaccepted memory that firmware accepts. Invariants: the ranges ascend, do not touch, are
/// not empty, consist of whole pages, and lie in memory that the map calls unaccepted; the chunks
/// cover them exactly, each byte once. Equal maps and goals give equal plans, whatever order their
/// parts came in. Holds no ownership: the ranges lie in the storage that make() was given.
/// Thread-compatible, so any number of CPUs may read it.
class AcceptancePlan {
 public:
  /// Ranges that make() needs storage for at most.
  [[nodiscard]] static std::size_t ranges_for(const guest::MemoryMap& map,
                                              const AcceptanceGoal& goal);

  /// Precondition: unaccepted regions of `map` consist of whole pages (every factory of MemoryMap
  /// sees to that). Errors: kNeededIsNotRam, kTooManyRanges.
  [[nodiscard, gnu::cold]] static std::expected<AcceptancePlan, PlanError> make(
      const guest::MemoryMap& map, const AcceptanceGoal& goal, ChunkRules rules,
      std::span<PhysRange> storage);

  [[nodiscard]] std::span<const PhysRange> ranges() const { return ranges_; }
  /// All that is accepted.
  [[nodiscard]] Bytes size() const;
  [[nodiscard]] ChunkRules rules() const { return rules_; }

  [[nodiscard]] std::uint64_t chunk_count() const;
  /// CPUs that draw numbers from one counter share the work as evenly as it goes; when CPU i of n
  /// takes chunks i, i + n, ..., none has to talk to another. Time grows with the number of ranges.
  /// Precondition: index < chunk_count().
  [[nodiscard]] PhysRange chunk(std::uint64_t index) const;

  /// Calls `visit` with the PageRuns of all ranges, ascending. What one chunk asks of the platform:
  /// firmware::for_each_page_run(chunk(index), rules().largest, visit).
  template <class Visit>
  void for_each_page_run(Visit visit) const {
    for (const PhysRange range : ranges_) {
      firmware::for_each_page_run(range, rules_.largest, visit);
    }
  }

  /// The map of the operating system once the plan was carried out: what it accepts is usable,
  /// everything else as it was in `map`, which must be make()'s. `storage`: as with_accepted's.
  [[nodiscard, gnu::cold]] guest::MemoryMap::Result hand_over(
      const guest::MemoryMap& map, std::span<guest::MemoryRegion> storage) const;

 private:
  AcceptancePlan(std::span<const PhysRange> ranges, ChunkRules rules)
      : ranges_{ranges}, rules_{rules} {}

  std::span<const PhysRange> ranges_;
  ChunkRules rules_;
};

}  // namespace accede::firmware
