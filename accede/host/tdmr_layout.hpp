// Chooses which GiB form TDMRs, so that the least RAM is given up, then the least of the goal.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/tdmr_blocks.hpp"
#include "accede/host/tdmr_memory.hpp"
#include "accede/host/tdmr_workspace.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host {

/// What a layout costs, packed so that an addition and two comparisons do. The fields do not
/// overflow into each other: addresses have at most 52 bits, and there are less than 2^18 blocks.
class TdmrCost {
 public:
  constexpr TdmrCost() = default;

  [[nodiscard]] static constexpr TdmrCost given_up(Bytes bytes) {
    return {(bytes.value() >> 12) << kMixedBits, 0};
  }
  /// One place where a TDMR goes from one node to another.
  [[nodiscard]] static constexpr TdmrCost mixed() { return {1, 0}; }
  [[nodiscard]] static constexpr TdmrCost areas(std::uint64_t count, TdmrGoal goal) {
    return {0, count << (goal == TdmrGoal::kReservedAreas ? kHighShift : kTdmrBits)};
  }
  [[nodiscard]] static constexpr TdmrCost granules(std::uint64_t count, TdmrGoal goal) {
    return {0, count << (goal == TdmrGoal::kReservedAreas ? kTdmrBits : kTdmrBits + kAreaBits)};
  }
  [[nodiscard]] static constexpr TdmrCost tdmr() { return {0, 1}; }
  /// More than any layout costs.
  [[nodiscard]] static constexpr TdmrCost impossible() { return {kImpossible, 0}; }

  [[nodiscard]] constexpr bool possible() const { return first_ < kImpossible; }
  [[nodiscard]] constexpr Bytes given_up() const { return Bytes{(first_ >> kMixedBits) << 12}; }
  [[nodiscard]] constexpr std::uint64_t mixed_places() const {
    return first_ & ((1ULL << kMixedBits) - 1);
  }
  [[nodiscard]] constexpr std::uint64_t tdmrs() const {
    return second_ & ((1ULL << kTdmrBits) - 1);
  }

  [[nodiscard]] constexpr std::uint64_t areas(TdmrGoal goal) const {
    return goal == TdmrGoal::kReservedAreas ? second_ >> kHighShift
                                            : second_ >> kTdmrBits & ((1ULL << kAreaBits) - 1);
  }
  [[nodiscard]] constexpr std::uint64_t granules(TdmrGoal goal) const {
    return goal == TdmrGoal::kReservedAreas ? second_ >> kTdmrBits & ((1ULL << kGranuleBits) - 1)
                                            : second_ >> (kTdmrBits + kAreaBits);
  }

  friend constexpr TdmrCost operator+(TdmrCost a, TdmrCost b) {
    return {a.first_ + b.first_, a.second_ + b.second_};
  }
  /// Without a branch: which of two ways is cheaper cannot be predicted.
  friend constexpr bool operator<(TdmrCost a, TdmrCost b) {
    const unsigned less = a.first_ < b.first_ ? 1 : 0;
    const unsigned equal = a.first_ == b.first_ ? 1 : 0;
    return (less | (equal & (a.second_ < b.second_ ? 1U : 0U))) != 0;
  }
  friend constexpr bool operator==(TdmrCost, TdmrCost) = default;

 private:
  // 40 bits of pages given up and 22 of mixed places; 20 bits of areas, 23 of GiB, 20 of TDMRs.
  static constexpr unsigned kMixedBits = 22;
  static constexpr unsigned kTdmrBits = 20;
  static constexpr unsigned kAreaBits = 20;
  static constexpr unsigned kGranuleBits = 23;
  static constexpr unsigned kHighShift = kTdmrBits + kGranuleBits;
  static constexpr std::uint64_t kImpossible = 1ULL << 63;

  constexpr TdmrCost(std::uint64_t first, std::uint64_t second) : first_{first}, second_{second} {}

  std::uint64_t first_ = 0;
  std::uint64_t second_ = 0;
};

/// One TDMR: blocks [first, end).
struct TdmrSpan {
  std::uint32_t first = 0;
  std::uint32_t end = 0;

  friend bool operator==(const TdmrSpan&, const TdmrSpan&) = default;
};

struct TdmrLayout {
  std::span<const TdmrSpan> tdmrs;  ///< ascending
  TdmrCost cost;                    ///< without areas that metadata takes
};

/// Bytes of workspace that lay_out() takes.
[[nodiscard]] std::size_t layout_workspace(std::size_t blocks, std::size_t runs);

/// The best layout of at most policy.most_tdmrs TDMRs with at most policy.most_areas areas each.
/// Where that keeps too many holes apart it gives up RAM between holes of one TDMR, or whole
/// blocks: the spans tell; the cheapest stretches between holes that bring a TDMR to the limit.
[[nodiscard]] TdmrLayout lay_out(std::span<const TdmrBlock> blocks, const TdmrPolicy& policy,
                                 TdmrWorkspace& workspace);

/// The fewest TDMRs that cover all needed blocks and give up nothing; 0 where one block alone has
/// more holes than `most_areas`.
[[nodiscard]] std::size_t least_tdmrs(std::span<const TdmrBlock> blocks, std::size_t most_areas);

}  // namespace accede::host
