// Memory maps as tests write them down, and samples of every input.
#pragma once

#include "accede/abi/srat.hpp"
#include "accede/memory_map/region.hpp"
#include "accede/memory_map/region_list.hpp"
#include "accede/memory_map/text_scan.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::memory_map {

inline void PrintTo(const Region& region, std::ostream* out) {
  *out << text_of(region.range) << " kind " << static_cast<int>(region.kind);
  if (region.node) {
    *out << " node " << *region.node;
  }
}

inline void PrintTo(const NodeRange& range, std::ostream* out) {
  *out << text_of(range.range) << " node " << range.node << (range.hot_pluggable ? " hot" : "");
}

namespace test {

/// [begin, end)
inline PhysRange between(std::uint64_t begin, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{begin}, PhysAddr{end});
}

inline Region region(std::uint64_t begin, std::uint64_t end, RegionKind kind = RegionKind::kRam) {
  return {.range = between(begin, end), .kind = kind};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span{text});
}

/// The message, or nothing where there is an answer.
template <class Result>
std::string message_of(const Result& result) {
  return result ? std::string{} : result.error().message;
}

/// A SRAT as firmware composes it.
class SratBuilder {
 public:
  SratBuilder() {
    put(abi::srat::kSignature);
    put(std::uint32_t{0});  // length
    put(std::uint8_t{3});   // revision
    put(std::uint8_t{0});   // checksum
    text("ACCEDE");
    text("EXAMPLE ");
    put(std::uint32_t{1});
    text("ACDE");
    put(std::uint32_t{1});
    put(std::uint32_t{1});
    put(std::uint64_t{0});
  }

  SratBuilder& memory(PhysRange range, std::uint32_t node,
                      std::uint32_t flags = abi::srat::kEnabled) {
    put(abi::srat::MemoryAffinity{.type = abi::srat::kMemoryAffinity,
                                  .length = sizeof(abi::srat::MemoryAffinity),
                                  .proximity_domain = node,
                                  .reserved1 = 0,
                                  .base = range.begin().value(),
                                  .size = range.size().value(),
                                  .reserved2 = 0,
                                  .flags = flags,
                                  .reserved3 = 0});
    return *this;
  }

  /// A structure of any type: what it has behind its type and its length.
  SratBuilder& other(std::uint8_t type, std::size_t body) {
    put(type);
    put(static_cast<std::uint8_t>(body + 2));
    bytes_.resize(bytes_.size() + body);
    return *this;
  }

  SratBuilder& raw(std::initializer_list<std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) {
      put(byte);
    }
    return *this;
  }

  /// With its length and its checksum.
  [[nodiscard]] std::vector<std::byte> finish() const {
    std::vector<std::byte> table = bytes_;
    const auto length = static_cast<std::uint32_t>(table.size());
    std::memcpy(&table[abi::srat::kLengthOffset], &length, sizeof length);
    constexpr std::size_t kChecksumOffset = 9;
    unsigned sum = 0;
    for (const std::byte byte : table) {
      sum += std::to_integer<unsigned>(byte);
    }
    table[kChecksumOffset] = static_cast<std::byte>((0x100U - (sum & 0xFFU)) & 0xFFU);
    return table;
  }

 private:
  template <class T>
  void put(const T& value) {
    const auto raw = std::as_bytes(std::span{&value, 1});
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  void text(std::string_view characters) {
    const auto raw = bytes_of(characters);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }

  std::vector<std::byte> bytes_;
};

/// The table of the two-socket host of examples/tdmr.
inline std::vector<std::byte> example_srat() {
  using abi::srat::kEnabled;
  using abi::srat::kHotPluggable;
  return SratBuilder{}
      .raw({0, 16, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})  // a processor of node 0
      .memory(between(0x0, 0x80000000), 0)
      .memory(between(0x100000000, 0x4080000000), 0)
      .memory(between(0x4080000000, 0x8080000000), 1)
      .memory(between(0x8080000000, 0xa000000000), 2)
      .memory(between(0xc080000000, 0x10080000000), 1, kEnabled | kHotPluggable)
      .finish();
}

inline constexpr std::string_view kIomem =
    "00000000-00000fff : Reserved\n"
    "00001000-0009ffff : System RAM\n"
    "000a0000-000fffff : Reserved\n"
    "  000a0000-000bffff : PCI Bus 0000:00\n"
    "00100000-7fffffff : System RAM\n"
    "  01000000-01ffffff : Kernel code\n"
    "  30000000-4fffffff : Crash kernel\n"
    "80000000-8fffffff : PCI Bus 0000:00\n"
    "fec00000-fec003ff : IOAPIC 0\n"
    "100000000-1ffffffff : System RAM\n"
    "200000000-2ffffffff : Persistent Memory (legacy)\n"
    "  200000000-2ffffffff : namespace0.0\n"
    "300000000-3ffffffff : Soft Reserved\n"
    "  300000000-3ffffffff : CXL Window 0\n"
    "    300000000-3ffffffff : region0\n"
    "      300000000-3ffffffff : dax0.0\n"
    "        300000000-37fffffff : System RAM (kmem)\n";

inline constexpr std::string_view kDmesg =
    "[    0.000000] Linux version 6.8.0-1004-intel\n"
    "[    0.000000] BIOS-provided physical RAM map:\n"
    "[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009efff] usable\n"
    "[    0.000000] BIOS-e820: [mem 0x000000000009f000-0x00000000000fffff] reserved\n"
    "[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000006fffffff] usable\n"
    "[    0.000000] BIOS-e820: [mem 0x0000000070000000-0x0000000077ffffff] ACPI NVS\n"
    "[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff] usable\n"
    "[    0.000000] NX (Execute Disable) protection: active\n"
    "[    0.000010] e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n"
    "[    0.000012] e820: remove [mem 0x000a0000-0x000fffff] usable\n"
    "[    0.400000] pnp 00:01: [mem 0xfed00000-0xfed003ff] has been reserved\n";

inline constexpr std::string_view kJson =
    R"([{"base":4294967296,"size":"0x1000000000","node":1},
        {"base":"0x2000000000","size":4096,"kind":"pmem-ram"}])";

inline constexpr std::string_view kCmrLines =
    "[   10.444055] virt/tdx: TDX module: attributes 0x0, vendor_id 0x8086\n"
    "[   10.444059] virt/tdx: CMR: [0x100000, 0x6f800000)\n"
    "[   10.444061] virt/tdx: CMR: [0x100000000, 0x107a000000)\n";

}  // namespace test
}  // namespace accede::memory_map
