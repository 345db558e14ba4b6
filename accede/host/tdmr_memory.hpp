// What the planner of TDMRs is told: the memory of the machine, and what the operator wants of it.
#pragma once

#include "accede/abi/tdmr.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/tdmr_check.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::host {

/// A NUMA node as the firmware numbers it (ACPI proximity domain).
enum class NodeId : std::uint32_t {};

enum class MemoryKind : std::uint8_t {
  kRam,
  kPmem,      ///< legacy persistent memory; as system RAM when the policy includes it
  kCxl,       ///< memory of a CXL device
  kFirmware,  ///< RAM that the firmware keeps: no operating system hands it out
};

/// A range of the memory map.
struct MemoryRange {
  PhysRange range;
  NodeId node{};
  MemoryKind kind = MemoryKind::kRam;
  /// False for an address range where memory can be added later (SRAT: hot-pluggable).
  bool present = true;

  friend bool operator==(const MemoryRange&, const MemoryRange&) = default;
};

/// May a kind of memory become TD memory?
enum class MemoryUse : std::uint8_t { kInclude, kExclude };

/// What is promised of memory that the host's page allocator hands out.
enum class TdmrPromise : std::uint8_t {
  /// All of it is TD memory, so that no allocation for a TD can fail in the module; where that
  /// cannot be, there is no plan. Linux promises this.
  kEveryPage,
  /// As much as can be; whoever allocates for a TD checks the page afterwards.
  kBestEffort,
};

/// Which memory inside CMRs is kept out of the TDMRs by a reserved area.
enum class TdmrHoles : std::uint8_t {
  /// Only what is not convertible or is excluded. What the firmware keeps gets a PAMT entry and is
  /// never given to a TD, as nobody allocates it.
  kOfCmrs,
  /// What the memory map does not call RAM, too. Linux does this.
  kOfMemoryMap,
};

/// What a plan is to have the least of, first. The other comes second.
enum class TdmrGoal : std::uint8_t {
  /// Metadata costs memory, areas cost nothing while there are enough.
  kPamt,
  /// Covers gaps between RAM, however large, when that saves an area.
  kReservedAreas,
};

struct TdmrPolicy {
  TdmrPromise promise = TdmrPromise::kEveryPage;
  TdmrHoles holes = TdmrHoles::kOfCmrs;
  TdmrGoal goal = TdmrGoal::kPamt;
  MemoryUse pmem = MemoryUse::kExclude;
  MemoryUse cxl = MemoryUse::kInclude;
  /// Include: address ranges for memory that is added later become TD memory where a CMR has them.
  MemoryUse hot_plug_room = MemoryUse::kExclude;
  /// Never TD memory and never metadata: ascending, disjoint, of any alignment.
  std::span<const PhysRange> excluded;
  /// Limits below the module's are for questions; larger ones are not allowed.
  std::size_t most_tdmrs = abi::tdx::kMostTdmrs;
  std::size_t most_areas = abi::tdx::kMostReservedAreas;
};

enum class TdmrInputErrorKind : std::uint8_t {
  kMachine,            ///< address bits that leave less than 1 GiB, or too many for dynamic PAMT
  kCmrs,               ///< check_cmrs() refuses them
  kMemoryEmpty,        ///< a range of the memory map is empty
  kMemoryUnordered,    ///< a range of the memory map begins below the end of the one before it
  kMemoryBeyondWidth,  ///< a range ends above the machine's physical addresses
  kExcludedUnordered,  ///< as kMemoryUnordered, of the excluded ranges
  kExcludedBeyondWidth,
  kLimits,         ///< a limit is zero or larger than the module's
  kTooManyRanges,  ///< more than kMostMemoryRanges
};
[[nodiscard]] std::string_view to_string(TdmrInputErrorKind kind);

struct TdmrInputError {
  TdmrInputErrorKind kind{};
  std::size_t index = 0;  ///< of the range

  friend bool operator==(const TdmrInputError&, const TdmrInputError&) = default;
};

/// Of the memory map, and of the excluded ranges.
inline constexpr std::size_t kMostMemoryRanges = 8192;

/// Refuses what plan_tdmrs() does not take.
[[nodiscard]] std::expected<void, TdmrInputError> check_input(const TdmrMachine& machine,
                                                              std::span<const MemoryRange> memory,
                                                              const TdmrPolicy& policy);

}  // namespace accede::host
