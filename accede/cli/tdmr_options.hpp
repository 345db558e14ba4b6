// What `accede tdmr` was asked to plan.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/host/tdmr_memory.hpp"

#include <expected>
#include <optional>
#include <string>
#include <vector>

namespace accede::cli {

/// The options as typed; absent means not given.
struct RawTdmrOptions {
  using Text = std::optional<std::string>;
  Text cmr, memory, srat, svg, physical_bits, key_bits;
  std::vector<std::string> memmap, policies, hot_add;
  bool json = false;
};

/// What to plan for, read and checked.
struct TdmrTask {
  std::vector<abi::tdx::CmrInfo> cmrs;
  std::vector<host::MemoryRange> memory;  ///< ascending, disjoint
  std::vector<PhysRange> excluded;        ///< of the policy; ascending, disjoint
  std::vector<PhysRange> hot_add;         ///< in the order of the options
  host::TdmrPolicy policy;                ///< `excluded` is to be taken from above
  unsigned physical_bits = 52;
  unsigned key_bits = 6;
  bool dynamic_pamt = false;
  bool nodes_known = false;  ///< else all memory counts as node 0
  std::optional<std::string> svg_file;
  bool json = false;

  [[nodiscard]] host::TdmrMachine machine() const {
    return {.cmrs = cmrs,
            .physical_bits = physical_bits,
            .key_bits = key_bits,
            .dynamic_pamt = dynamic_pamt};
  }
  [[nodiscard]] host::TdmrPolicy checked_policy() const {
    host::TdmrPolicy whole = policy;
    whole.excluded = excluded;
    return whole;
  }
};

/// The words of --policy with what they choose, a line each, for the help text.
[[nodiscard]] std::string policy_words();

/// Reads the files and checks everything; every error is one line that names the option.
[[nodiscard]] std::expected<TdmrTask, Failure> read_tdmr_task(const RawTdmrOptions& raw);

}  // namespace accede::cli
