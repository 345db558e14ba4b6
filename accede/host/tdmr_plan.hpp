// Plans which memory the TDX module may use: CMRs and a memory map become TDMRs, their reserved
// areas and the places of their metadata arrays (PAMT).
// Source: reference: TDX fact sheet, section 6.
#pragma once

#include "accede/abi/tdmr.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_check.hpp"
#include "accede/host/tdmr_memory.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace accede::host {

/// Why a reserved area is there: what lies in it. Several may be true.
struct AreaReasons {
  bool not_convertible = false;  ///< no CMR has a part of it
  bool excluded = false;         ///< a range, or a kind of memory, that the policy excludes
  bool firmware = false;         ///< TdmrHoles::kOfMemoryMap: not RAM in the memory map
  bool pamt = false;
  bool given_up = false;  ///< RAM between two holes, so that they take one area

  friend bool operator==(const AreaReasons&, const AreaReasons&) = default;
};

struct PlannedArea {
  PhysRange range;
  AreaReasons reasons;

  friend bool operator==(const PlannedArea&, const PlannedArea&) = default;
};

/// One metadata array.
struct PlannedPamt {
  PhysRange range;
  NodeId node{};  ///< that the range lies on

  friend bool operator==(const PlannedPamt&, const PlannedPamt&) = default;
};

struct PlannedTdmr {
  PhysRange range;
  NodeId node{};  ///< that most of its RAM lies on; of equals the lowest
  Bytes td_memory;
  /// Indexed by PageSize.
  std::array<PlannedPamt, 3> pamt;
  std::array<PlannedArea, abi::tdx::kMostReservedAreas> area_list;
  std::size_t area_count = 0;

  [[nodiscard]] std::span<const PlannedArea> areas() const {
    return std::span{area_list}.first(area_count);
  }
};

/// RAM that a plan makes no TD memory, or would have to.
struct GivenUp {
  PhysRange range;
  NodeId node{};

  friend bool operator==(const GivenUp&, const GivenUp&) = default;
};

enum class TdmrProblemKind : std::uint8_t {
  /// RAM that has to be TD memory lies outside every CMR: `range`.
  kNotConvertible,
  /// In one GiB, `range`, there are `count` holes between RAM; one TDMR has `limit` areas.
  kTooManyAreas,
  /// Keeping all RAM takes `count` TDMRs at least; the module has `limit`.
  kTooManyTdmrs,
  /// No RAM has room for an array of `bytes` for the TDMR `range`.
  kNoRoomForPamt,
  /// No memory can become TD memory at all.
  kNoTdMemory,
};

struct TdmrProblem {
  TdmrProblemKind kind{};
  PhysRange range;
  std::size_t count = 0;
  std::size_t limit = 0;
  Bytes bytes;

  friend bool operator==(const TdmrProblem&, const TdmrProblem&) = default;
};

/// Is the plan as good as any in the order that plan_tdmrs() states? The proof is over all TDMRs
/// and areas, with metadata on its own node and in arrays of the least size that do not fill up all
/// RAM between two holes.
enum class TdmrOptimum : std::uint8_t {
  kProven,
  /// The metadata takes areas that another layout may spare; but none has less than
  /// TdmrPlan::areas_at_least.
  kNotProven,
};

/// What becomes of the RAM of one node.
struct NodeMemory {
  NodeId node{};
  Bytes present;          ///< of the kinds that the policy includes
  Bytes td_memory;        ///< in a TDMR, in no reserved area
  Bytes pamt;             ///< metadata that lies on the node
  Bytes foreign_pamt;     ///< metadata of the node's TDMRs that lies on other nodes
  Bytes given_up;         ///< convertible, but neither TD memory nor metadata
  Bytes not_convertible;  ///< outside every CMR, or excluded by range

  friend bool operator==(const NodeMemory&, const NodeMemory&) = default;
};

/// The answer. Its spans lie in the workspace.
///
/// `tdmrs` passes check_tdmrs() whenever it is not empty. With problems and
/// TdmrPromise::kEveryPage it is the plan after the smallest change: after `given_up` and the
/// not convertible ranges have left the page allocator.
struct TdmrPlan {
  bool feasible = false;  ///< as the policy asks; then `problems` says at most what was left out
  std::span<const PlannedTdmr> tdmrs;
  std::span<const TdmrProblem> problems;
  /// The smallest change that makes a plan (kEveryPage), or what was left out (kBestEffort).
  /// Ascending.
  std::span<const GivenUp> given_up;
  /// The same, where memory that has to be TD memory is in no CMR. Ascending.
  std::span<const GivenUp> not_convertible;
  std::span<const NodeMemory> nodes;  ///< ascending by node

  Bytes pamt;
  Bytes foreign_pamt;  ///< of it on another node than its TDMR
  Bytes given_up_bytes;
  std::size_t areas = 0;
  /// Without giving up RAM, by the limit on areas alone; more than most_tdmrs when that is why.
  /// 0 where even one GiB has too many holes.
  std::size_t least_tdmrs = 0;
  TdmrOptimum optimum = TdmrOptimum::kNotProven;
  /// No plan that gives up the same RAM has fewer areas; with TdmrGoal::kPamt, none of those that
  /// cover the same number of GiB.
  std::size_t areas_at_least = 0;
};

/// Bytes of workspace that suffice for `ranges` ranges in the memory map and `excluded` excluded
/// ranges. 8-byte aligned storage is needed.
[[nodiscard]] std::size_t tdmr_workspace_bound(std::size_t ranges, std::size_t excluded);

/// Plans the TDMRs for `memory` (ascending, disjoint; partial 4 KiB pages at its ends are not
/// used).
///
/// The plan has, in this order: the least RAM given up; the fewest places where one TDMR covers
/// two nodes; then least of the goal (reserved areas, or GiB covered, which the metadata is
/// proportional to), least of the other; the fewest TDMRs. Metadata lies on its TDMR's node where
/// it can, first where it costs no reserved area.
///
/// Time: O(n log n) for n ranges while the limit on TDMRs does not bind, else
/// O(n * most_tdmrs * most_areas). No recursion; a few KiB of stack. Errors: see check_input().
/// Precondition: the workspace is as large as tdmr_workspace_bound() says.
[[nodiscard]] std::expected<TdmrPlan, TdmrInputError> plan_tdmrs(
    const TdmrMachine& machine, std::span<const MemoryRange> memory, const TdmrPolicy& policy,
    std::span<std::byte> workspace);

/// The list as TDH.SYS.CONFIG reads it.
[[nodiscard]] abi::tdx::TdmrInfo tdmr_info(const PlannedTdmr& tdmr);

}  // namespace accede::host
