// The setup_data chain of the Linux x86 boot protocol: nodes anywhere in memory, each with the
// physical address of the next; the first is named by the 64-bit field setup_data of the setup
// header.
// Source: Linux boot protocol, struct setup_data; reference: boot flow 3.2.
#pragma once

#include <cstddef>
#include <cstdint>

namespace accede::abi::setup_data {

/// A node; `bytes` bytes of data follow. The last node has `next` = 0.
struct Header {
  std::uint64_t next;   ///< physical address
  std::uint32_t type;   ///< a Type; bit 31: the data is only a pointer to the data
  std::uint32_t bytes;  ///< of the data
};
static_assert(sizeof(Header) == 16);
static_assert(offsetof(Header, next) == 0);
static_assert(offsetof(Header, type) == 8);
static_assert(offsetof(Header, bytes) == 12);

enum class Type : std::uint32_t {
  kE820Extension = 1,
  kDeviceTree = 2,
  kPci = 3,
  kEfi = 4,
  kApple = 5,
  kJailhouse = 6,
  kCcBlob = 7,
  kIma = 8,
  kRngSeed = 9,
  kKexecHandOver = 10,
  /// Ours: "ACCD" in memory. The data is a guest::HandOver. Linux counts its types from 1 and
  /// takes bit 31 for "indirect", so it will not meet this one; it reserves the memory of nodes
  /// whose type it does not know, and ignores them.
  kAccede = 0x44434341,
};

}  // namespace accede::abi::setup_data
