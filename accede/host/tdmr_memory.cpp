#include "accede/host/tdmr_memory.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

using namespace std::string_view_literals;

std::string_view to_string(TdmrInputErrorKind kind) {
  switch (kind) {
    case TdmrInputErrorKind::kMachine:
      return "the machine's address bits leave no GiB of memory, or too many for dynamic PAMT"sv;
    case TdmrInputErrorKind::kCmrs:
      return "the CMRs are not ascending, disjoint, 4 KiB aligned and below the address width, or too many"sv;
    case TdmrInputErrorKind::kMemoryEmpty:
      return "a range of the memory map is empty"sv;
    case TdmrInputErrorKind::kMemoryUnordered:
      return "a range of the memory map begins below the end of the one before it"sv;
    case TdmrInputErrorKind::kMemoryBeyondWidth:
      return "a range of the memory map ends above the machine's physical addresses"sv;
    case TdmrInputErrorKind::kExcludedUnordered:
      return "an excluded range begins below the end of the one before it"sv;
    case TdmrInputErrorKind::kExcludedBeyondWidth:
      return "an excluded range ends above the machine's physical addresses"sv;
    case TdmrInputErrorKind::kLimits:
      return "a limit is zero or larger than the module's"sv;
    case TdmrInputErrorKind::kTooManyRanges:
      return "there are more ranges than the planner takes"sv;
  }
  return "unknown error"sv;
}

namespace {

using Checked = std::expected<void, TdmrInputError>;

Checked refuse(TdmrInputErrorKind kind, std::size_t index = 0) {
  return std::unexpected{TdmrInputError{kind, index}};
}

Checked check_memory(PhysAddr end, std::span<const MemoryRange> memory) {
  for (std::size_t i = 0; i < memory.size(); ++i) {
    if (memory[i].range.empty()) {
      return refuse(TdmrInputErrorKind::kMemoryEmpty, i);
    }
    if (i > 0 && memory[i].range.begin() < memory[i - 1].range.end()) {
      return refuse(TdmrInputErrorKind::kMemoryUnordered, i);
    }
    if (memory[i].range.end() > end) {
      return refuse(TdmrInputErrorKind::kMemoryBeyondWidth, i);
    }
  }
  return {};
}

Checked check_excluded(PhysAddr end, std::span<const PhysRange> excluded) {
  for (std::size_t i = 0; i < excluded.size(); ++i) {
    if (i > 0 && excluded[i].begin() < excluded[i - 1].end()) {
      return refuse(TdmrInputErrorKind::kExcludedUnordered, i);
    }
    if (excluded[i].end() > end) {
      return refuse(TdmrInputErrorKind::kExcludedBeyondWidth, i);
    }
  }
  return {};
}

/// With dynamic PAMT an entry has room for this many bits of an address.
constexpr unsigned kDynamicPamtAddressBits = 48;

bool machine_sound(const TdmrMachine& machine) {
  return machine.physical_bits <= 52 && machine.key_bits < machine.physical_bits &&
         machine.memory_end().is_aligned(abi::tdx::kTdmrGranule) &&
         (!machine.dynamic_pamt ||
          machine.physical_bits - machine.key_bits <= kDynamicPamtAddressBits);
}

bool limits_sound(const TdmrPolicy& policy) {
  return policy.most_tdmrs > 0 && policy.most_tdmrs <= abi::tdx::kMostTdmrs &&
         policy.most_areas > 0 && policy.most_areas <= abi::tdx::kMostReservedAreas;
}

}  // namespace

Checked check_input(const TdmrMachine& machine, std::span<const MemoryRange> memory,
                    const TdmrPolicy& policy) {
  if (!machine_sound(machine)) {
    return refuse(TdmrInputErrorKind::kMachine);
  }
  if (check_cmrs(machine) != 0) {
    return refuse(TdmrInputErrorKind::kCmrs);
  }
  if (!limits_sound(policy)) {
    return refuse(TdmrInputErrorKind::kLimits);
  }
  if (memory.size() > kMostMemoryRanges || policy.excluded.size() > kMostMemoryRanges) {
    return refuse(TdmrInputErrorKind::kTooManyRanges);
  }
  const Checked sound = check_memory(machine.memory_end(), memory);
  return sound ? check_excluded(machine.memory_end(), policy.excluded) : sound;
}

}  // namespace accede::host
