#include "accede/memory_map/srat.hpp"

#include "accede/abi/srat.hpp"
#include "accede/base/byte_reader.hpp"
#include "accede/memory_map/text_scan.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>

namespace accede::memory_map {
namespace {

using abi::srat::MemoryAffinity;

std::unexpected<ReadError> wrong(std::string message) {
  return std::unexpected{ReadError{.line = 0, .message = std::move(message)}};
}

std::string at(std::size_t offset) {
  return " at offset " + std::to_string(offset);
}

/// The whole table, without what lies behind it.
std::expected<std::span<const std::byte>, ReadError> whole_table(std::span<const std::byte> bytes) {
  const ByteReader reader{bytes};
  if (reader.read<std::uint32_t>(0) != abi::srat::kSignature) {
    return wrong("not a SRAT");
  }
  const auto length = reader.read<std::uint32_t>(abi::srat::kLengthOffset);
  if (!length || *length < abi::srat::kFirstStructure || *length > bytes.size()) {
    return wrong("the table is cut off, or its length is wrong");
  }
  const auto table = bytes.first(*length);
  const auto sum = std::accumulate(
      table.begin(), table.end(), 0U,
      [](unsigned total, std::byte byte) { return total + std::to_integer<unsigned>(byte); });
  if ((sum & 0xFF) != 0) {
    return wrong("the checksum of the table is wrong");
  }
  return table;
}

/// Ranges of one node may overlap, as Linux takes them.
std::expected<std::vector<NodeRange>, ReadError> sorted(std::vector<NodeRange> ranges) {
  std::ranges::sort(ranges, {}, [](const NodeRange& node) { return node.range.begin(); });
  std::vector<NodeRange> merged{ranges.begin(), ranges.empty() ? ranges.end() : ranges.begin() + 1};
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    NodeRange& last = merged.back();
    const NodeRange& next = ranges[i];
    if (!next.range.overlaps(last.range)) {
      merged.push_back(next);
    } else if (next.node == last.node) {
      last.range =
          *PhysRange::make(last.range.begin(), std::max(last.range.end(), next.range.end()));
      last.hot_pluggable = last.hot_pluggable && next.hot_pluggable;
    } else {
      return wrong(text_of(last.range) + " and " + text_of(next.range) +
                   " overlap and are of different nodes");
    }
  }
  return merged;
}

}  // namespace

std::expected<std::vector<NodeRange>, ReadError> read_srat(std::span<const std::byte> bytes) {
  const auto table = whole_table(bytes);
  if (!table) {
    return std::unexpected{table.error()};
  }
  const ByteReader reader{*table};
  std::vector<NodeRange> ranges;
  for (std::size_t offset = abi::srat::kFirstStructure; offset < table->size();) {
    const auto type = reader.read<std::uint8_t>(offset);
    const auto length = reader.read<std::uint8_t>(offset + 1);
    if (!length || *length < 2 || *length > table->size() - offset) {
      return wrong("a structure leaves the table" + at(offset));
    }
    if (*type == abi::srat::kMemoryAffinity) {
      const auto memory = reader.read_struct<MemoryAffinity>(offset);
      if (!memory || *length < sizeof(MemoryAffinity)) {
        return wrong("a memory range is too short" + at(offset));
      }
      const auto range = PhysRange::make(PhysAddr{memory->base}, Bytes{memory->size});
      if (!range) {
        return wrong("a memory range wraps" + at(offset));
      }
      if ((memory->flags & abi::srat::kEnabled) != 0 && !range->empty()) {
        ranges.push_back({.range = *range,
                          .node = memory->proximity_domain,
                          .hot_pluggable = (memory->flags & abi::srat::kHotPluggable) != 0});
      }
    }
    if (ranges.size() > kMostRanges) {
      return std::unexpected{too_many_ranges(0)};
    }
    offset += *length;
  }
  return sorted(std::move(ranges));
}

}  // namespace accede::memory_map
