#include "accede/cli/tdmr_options.hpp"

#include "accede/cli/boot_options.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/line_splitter.hpp"
#include "accede/cli/size_text.hpp"
#include "accede/memory_map/memmap_option.hpp"
#include "accede/memory_map/recognise.hpp"
#include "accede/memory_map/region_list.hpp"
#include "accede/memory_map/srat.hpp"
#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

namespace accede::cli {
namespace {

using host::MemoryKind;
using host::MemoryRange;
using host::MemoryUse;
using memory_map::NodeRange;
using memory_map::Region;
using memory_map::RegionKind;

/// A map of a machine with 8192 ranges takes less.
constexpr std::uintmax_t kMostFile = 16ULL << 20;

/// Two words about the same thing contradict each other.
enum class Choice : std::uint8_t { kPromise, kHoles, kGoal, kPmem, kCxl, kHotPlug, kPamt };

struct PolicyWord {
  std::string_view word;
  std::string_view purpose;
  Choice choice;
  void (*choose)(TdmrTask&);
};

constexpr std::array<PolicyWord, 12> kPolicyWords{{
    {"every-page", "all RAM is TD memory, or there is no plan (default; what Linux promises)",
     Choice::kPromise, [](TdmrTask& task) { task.policy.promise = host::TdmrPromise::kEveryPage; }},
    {"best-effort", "as much as can be; a page is checked after it is allocated", Choice::kPromise,
     [](TdmrTask& task) { task.policy.promise = host::TdmrPromise::kBestEffort; }},
    {"cmr-holes", "reserved areas for what is not convertible only (default)", Choice::kHoles,
     [](TdmrTask& task) { task.policy.holes = host::TdmrHoles::kOfCmrs; }},
    {"map-holes", "reserved areas for all that is no RAM, as Linux does", Choice::kHoles,
     [](TdmrTask& task) { task.policy.holes = host::TdmrHoles::kOfMemoryMap; }},
    {"least-pamt", "the least metadata first (default)", Choice::kGoal,
     [](TdmrTask& task) { task.policy.goal = host::TdmrGoal::kPamt; }},
    {"fewest-areas", "the fewest reserved areas first", Choice::kGoal,
     [](TdmrTask& task) { task.policy.goal = host::TdmrGoal::kReservedAreas; }},
    {"pmem", "persistent memory that is used as RAM is TD memory", Choice::kPmem,
     [](TdmrTask& task) { task.policy.pmem = MemoryUse::kInclude; }},
    {"no-pmem", "it is not (default)", Choice::kPmem,
     [](TdmrTask& task) { task.policy.pmem = MemoryUse::kExclude; }},
    {"cxl", "memory of CXL devices that is used as RAM is TD memory (default)", Choice::kCxl,
     [](TdmrTask& task) { task.policy.cxl = MemoryUse::kInclude; }},
    {"no-cxl", "it is not", Choice::kCxl,
     [](TdmrTask& task) { task.policy.cxl = MemoryUse::kExclude; }},
    {"hot-plug-room", "address ranges for memory that is added later become TD memory",
     Choice::kHotPlug, [](TdmrTask& task) { task.policy.hot_plug_room = MemoryUse::kInclude; }},
    {"dynamic-pamt", "metadata of 4 KiB pages is donated when it is needed", Choice::kPamt,
     [](TdmrTask& task) { task.dynamic_pamt = true; }},
}};

/// A range as people write it: `0x100000000-0x17fffffff` or `4G+512M`.
std::optional<PhysRange> parse_range(std::string_view text) {
  memory_map::TextScan scan{text};
  const auto begin = scan.size();
  if (!begin) {
    return std::nullopt;
  }
  if (scan.skip("-")) {
    const auto last = scan.number();
    return last && scan.at_end() ? memory_map::range_to_last(*begin, *last) : std::nullopt;
  }
  if (!scan.skip("+")) {
    return std::nullopt;
  }
  const auto bytes = scan.size();
  return bytes && scan.at_end() ? PhysRange::make(PhysAddr{*begin}, Bytes{*bytes}) : std::nullopt;
}

std::unexpected<Failure> wrong_range(std::string_view option, std::string_view text) {
  return std::unexpected{usage(std::string{option} + " '" + printable(text) +
                               "': a range is FIRST-LAST or START+SIZE, for example "
                               "0x100000000-0x17fffffff or 4G+2G")};
}

std::expected<void, Failure> exclude(std::string_view text, TdmrTask& task) {
  const auto range = parse_range(text);
  if (!range || range->empty()) {
    return wrong_range("--policy exclude=", text);
  }
  task.excluded.push_back(*range);
  return {};
}

/// The word that was chosen before about the same thing.
using Chosen = std::array<std::string_view, kPolicyWords.size()>;

std::expected<void, Failure> choose(std::string_view word, Chosen& chosen, TdmrTask& task) {
  const auto* const known = std::ranges::find(kPolicyWords, word, &PolicyWord::word);
  if (known == kPolicyWords.end()) {
    return std::unexpected{
        usage("--policy '" + printable(word) + "' is unknown (accede tdmr --help lists them)")};
  }
  std::string_view& before = chosen.at(static_cast<std::size_t>(known->choice));
  if (!before.empty() && before != known->word) {
    return std::unexpected{usage("--policy: " + std::string{before} + " and " +
                                 std::string{known->word} + " contradict each other")};
  }
  before = known->word;
  known->choose(task);
  return {};
}

/// Excluded ranges may be given in any order and may overlap.
std::vector<PhysRange> joined(std::vector<PhysRange> ranges) {
  std::ranges::sort(ranges, {}, &PhysRange::begin);
  std::vector<PhysRange> result;
  for (const PhysRange& range : ranges) {
    if (!result.empty() && range.begin() <= result.back().end()) {
      result.back() =
          *PhysRange::make(result.back().begin(), std::max(result.back().end(), range.end()));
    } else {
      result.push_back(range);
    }
  }
  return result;
}

std::expected<void, Failure> read_policies(const RawTdmrOptions& raw, TdmrTask& task) {
  constexpr std::string_view kExclude = "exclude=";
  Chosen chosen;
  for (const std::string& list : raw.policies) {
    for (const std::string& word : split_list(list)) {
      auto read = word.starts_with(kExclude)
                      ? exclude(std::string_view{word}.substr(kExclude.size()), task)
                      : choose(word, chosen, task);
      if (!read) {
        return read;
      }
    }
  }
  task.excluded = joined(std::move(task.excluded));
  return {};
}

std::expected<std::vector<std::byte>, Failure> read_file(std::string_view option,
                                                         const std::string& path) {
  auto bytes = read_bytes(path, kMostFile);
  if (!bytes) {
    return std::unexpected{
        usage(std::string{option} + " " + printable(path) + ": " + bytes.error())};
  }
  return *std::move(bytes);
}

Failure unreadable(std::string_view option, const std::string& path,
                   const memory_map::ReadError& error) {
  const std::string line = error.line == 0 ? "" : "line " + std::to_string(error.line) + ": ";
  return usage(std::string{option} + " " + printable(path) + ": " + line +
               printable(error.message));
}

std::expected<void, Failure> read_cmrs(const std::string& path, TdmrTask& task) {
  const auto bytes = read_file("--cmr", path);
  if (!bytes) {
    return std::unexpected{bytes.error()};
  }
  const auto ranges = memory_map::read_cmrs(*bytes);
  if (!ranges) {
    return std::unexpected{unreadable("--cmr", path, ranges.error())};
  }
  for (const PhysRange& range : *ranges) {
    task.cmrs.push_back({.base = range.begin().value(), .size = range.size().value()});
  }
  return {};
}

std::optional<MemoryKind> kind_of(RegionKind kind) {
  switch (kind) {
    case RegionKind::kRam:
      return MemoryKind::kRam;
    case RegionKind::kPersistent:
    case RegionKind::kPersistentRam:
      return MemoryKind::kPmem;
    case RegionKind::kSpecificPurpose:
    case RegionKind::kCxlRam:
      return MemoryKind::kCxl;
    case RegionKind::kReserved:
      return MemoryKind::kFirmware;
  }
  return std::nullopt;
}

/// Kept memory counts where it is RAM that the firmware keeps: inside a CMR. Elsewhere it is a
/// device's address space.
bool is_memory(const Region& region, std::span<const abi::tdx::CmrInfo> cmrs) {
  return region.kind != RegionKind::kReserved ||
         std::ranges::any_of(cmrs, [&](const abi::tdx::CmrInfo& cmr) {
           const auto range = PhysRange::make(PhysAddr{cmr.base}, Bytes{cmr.size});
           return range && range->overlaps(region.range);
         });
}

/// Persistent memory and memory set aside count only when the kernel uses it as RAM.
bool is_present(RegionKind kind) {
  return kind != RegionKind::kPersistent && kind != RegionKind::kSpecificPurpose;
}

std::vector<MemoryRange> memory_of(std::span<const Region> regions,
                                   std::span<const NodeRange> hot_plug,
                                   std::span<const abi::tdx::CmrInfo> cmrs, PhysAddr memory_end) {
  const PhysRange addressable = *PhysRange::make(PhysAddr{}, memory_end);
  std::vector<MemoryRange> memory;
  for (const Region& region : regions) {
    if (const auto kind = kind_of(region.kind); kind && is_memory(region, cmrs)) {
      memory.push_back({.range = region.range,
                        .node = host::NodeId{region.node.value_or(0)},
                        .kind = *kind,
                        .present = is_present(region.kind)});
    }
  }
  for (const NodeRange& room : hot_plug) {
    // Room that no address of the machine reaches is none.
    if (const PhysRange reached = room.range.intersect(addressable); !reached.empty()) {
      memory.push_back({.range = reached, .node = host::NodeId{room.node}, .present = false});
    }
  }
  std::ranges::sort(memory, {}, [](const MemoryRange& range) { return range.range.begin(); });
  return memory;
}

std::expected<void, Failure> read_memory(const RawTdmrOptions& raw, TdmrTask& task) {
  const auto bytes = read_file("--memory", *raw.memory);
  if (!bytes) {
    return std::unexpected{bytes.error()};
  }
  auto regions = memory_map::read_memory_map(*bytes);
  if (!regions) {
    return std::unexpected{unreadable("--memory", *raw.memory, regions.error())};
  }
  for (const std::string& options : raw.memmap) {
    if (const auto applied = memory_map::apply_memmap(options, *regions); !applied) {
      return std::unexpected{usage("--memmap: " + printable(applied.error().message))};
    }
  }
  std::vector<NodeRange> nodes;
  if (raw.srat) {
    const auto table = read_file("--srat", *raw.srat);
    if (!table) {
      return std::unexpected{table.error()};
    }
    auto read = memory_map::read_srat(*table);
    if (!read) {
      return std::unexpected{unreadable("--srat", *raw.srat, read.error())};
    }
    nodes = *std::move(read);
  }
  const auto parts = memory_map::with_nodes(*regions, nodes);
  task.nodes_known =
      std::ranges::any_of(parts, [](const Region& part) { return part.node.has_value(); });
  task.memory = memory_of(parts, memory_map::free_hot_plug_ranges(*regions, nodes), task.cmrs,
                          task.machine().memory_end());
  return {};
}

std::expected<unsigned, Failure> read_bits(std::string_view option,
                                           const std::optional<std::string>& text,
                                           unsigned otherwise, unsigned least, unsigned most) {
  if (!text) {
    return otherwise;
  }
  unsigned bits = 0;
  const char* const end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, bits);
  if (error != std::errc{} || rest != end || bits < least || bits > most) {
    return std::unexpected{usage(std::string{option} + " '" + printable(*text) +
                                 "': a number from " + std::to_string(least) + " to " +
                                 std::to_string(most))};
  }
  return bits;
}

std::expected<void, Failure> read_widths(const RawTdmrOptions& raw, TdmrTask& task) {
  constexpr unsigned kMostBits = 52;
  constexpr unsigned kLeastBits = 36;
  constexpr unsigned kMostKeyBits = 15;
  const auto physical =
      read_bits("--physical-bits", raw.physical_bits, task.physical_bits, kLeastBits, kMostBits);
  if (!physical) {
    return std::unexpected{physical.error()};
  }
  const auto key = read_bits("--key-bits", raw.key_bits, task.key_bits, 0, kMostKeyBits);
  if (!key) {
    return std::unexpected{key.error()};
  }
  // TDX module: at least 1 GiB must be addressable, the size of the smallest TDMR.
  if (*physical - *key <= 30) {
    return std::unexpected{usage("--key-bits " + std::to_string(*key) + " of " +
                                 std::to_string(*physical) +
                                 " address bits leave no memory to address")};
  }
  task.physical_bits = *physical;
  task.key_bits = *key;
  return {};
}

std::expected<void, Failure> read_hot_add(const RawTdmrOptions& raw, TdmrTask& task) {
  // TDX module: the key id takes the topmost address bits.
  const unsigned bits = task.physical_bits - task.key_bits;
  for (const std::string& text : raw.hot_add) {
    const auto range = parse_range(text);
    if (!range || range->empty()) {
      return wrong_range("--hot-add", text);
    }
    if (range->end() > PhysAddr{1ULL << bits}) {
      return std::unexpected{usage("--hot-add '" + printable(text) + "' ends beyond the " +
                                   std::to_string(bits) +
                                   " bits of an address without its key id")};
    }
    task.hot_add.push_back(*range);
  }
  return {};
}

}  // namespace

std::string policy_words() {
  std::string text;
  for (const PolicyWord& word : kPolicyWords) {
    std::string line = "  " + std::string{word.word};
    line.resize(std::max<std::size_t>(line.size() + 1, 20), ' ');
    text += line + std::string{word.purpose} + "\n";
  }
  return text + "  exclude=RANGE     never TD memory; may be given often\n";
}

std::expected<TdmrTask, Failure> read_tdmr_task(const RawTdmrOptions& raw) {
  if (!raw.cmr || !raw.memory) {
    return std::unexpected{usage("--cmr FILE and --memory FILE are needed (accede tdmr --help)")};
  }
  TdmrTask task;
  task.svg_file = raw.svg;
  task.json = raw.json;
  if (auto read = read_policies(raw, task); !read) {
    return std::unexpected{read.error()};
  }
  if (auto read = read_widths(raw, task); !read) {
    return std::unexpected{read.error()};
  }
  if (auto read = read_hot_add(raw, task); !read) {
    return std::unexpected{read.error()};
  }
  if (auto read = read_cmrs(*raw.cmr, task); !read) {
    return std::unexpected{read.error()};
  }
  if (auto read = read_memory(raw, task); !read) {
    return std::unexpected{read.error()};
  }
  return task;
}

}  // namespace accede::cli
