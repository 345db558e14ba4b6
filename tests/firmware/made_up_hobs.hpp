// HOB lists for tests, in order or not.
#pragma once

#include "accede/abi/hob.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/guest/memory_map.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace accede::firmware::test {

inline PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

inline PhysRange range(Bytes begin, Bytes end) {
  return range(begin.value(), end.value());
}

struct Resource {
  abi::hob::Resource type;
  std::uint64_t start;
  std::uint64_t bytes;
  std::uint32_t attributes = abi::hob::kTestedMemory;
};

/// A HOB list as bytes; put() and append() can make it wrong.
class HobBytes {
 public:
  HobBytes() {
    append(abi::hob::Handoff{.header = {1, sizeof(abi::hob::Handoff), 0},
                             .version = abi::hob::kHandoffVersion,
                             .boot_mode = 0,
                             .memory_top = 0,
                             .memory_bottom = 0,
                             .free_memory_top = 0,
                             .free_memory_bottom = 0,
                             .end_of_hob_list = 0});
  }

  template <class Struct>
  HobBytes& append(const Struct& value) {
    const std::size_t offset = bytes_.size();
    bytes_.resize(offset + sizeof(Struct));
    return put(offset, value);
  }
  HobBytes& add(const Resource& resource) {
    return append(abi::hob::ResourceDescriptor{
        .header = {3, sizeof(abi::hob::ResourceDescriptor), 0},
        .owner = {0x12345678, 0x9ABC, 0xDEF0, {1, 2, 3, 4, 5, 6, 7, 8}},
        .resource = static_cast<std::uint32_t>(resource.type),
        .attributes = resource.attributes,
        .physical_start = resource.start,
        .bytes = resource.bytes});
  }
  /// A HOB of any type and length, filled with junk behind its header.
  HobBytes& add_other(std::uint16_t type, std::uint16_t length) {
    append(abi::hob::Header{type, length, 0});
    bytes_.resize(bytes_.size() + length - sizeof(abi::hob::Header), std::byte{0xA5});
    return *this;
  }
  HobBytes& end() { return append(abi::hob::Header{0xFFFF, sizeof(abi::hob::Header), 0}); }

  template <class Value>
  HobBytes& put(std::size_t offset, Value value) {
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(Value)>>(value);
    for (std::size_t i = 0; i < raw.size(); ++i) {
      bytes_.at(offset + i) = raw[i];
    }
    return *this;
  }

  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  operator std::span<const std::byte>() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

inline HobBytes hobs(const std::vector<Resource>& resources) {
  HobBytes list;
  for (const Resource& resource : resources) {
    list.add(resource);
  }
  return list.end();
}

/// Where resource `index` of such a list begins.
inline constexpr std::size_t offset_of(std::size_t index) {
  return sizeof(abi::hob::Handoff) + index * sizeof(abi::hob::ResourceDescriptor);
}

struct Region {
  PhysRange range;
  guest::MemoryKind kind;

  friend bool operator==(const Region&, const Region&) = default;
};

/// The regions of a map without the entries that they came from.
inline std::vector<Region> regions(const guest::MemoryMap& map) {
  std::vector<Region> list;
  for (const guest::MemoryRegion& region : map.regions()) {
    list.push_back({region.range, region.kind});
  }
  return list;
}

}  // namespace accede::firmware::test
