// E820 entries as Linux boot_params and the boot protocol carry them.
// Source: Linux boot protocol, struct boot_e820_entry; reference: boot flow 1.2, 3.2.
#pragma once

#include "accede/base/byte_reader.hpp"

#include <cstddef>
#include <cstdint>

namespace accede::abi::e820 {

enum class Type : std::uint32_t {
  kRam = 1,
  kReserved = 2,
  kAcpiReclaim = 3,
  kAcpiNvs = 4,
  kUnusable = 5,
  kPersistent = 7,
};

/// Entries lie 20 bytes apart, so half of them are not aligned: read them through ByteReader.
struct [[gnu::packed]] Entry {
  std::uint64_t address;
  std::uint64_t bytes;
  std::uint32_t type;
};
static_assert(sizeof(Entry) == 20);
static_assert(offsetof(Entry, bytes) == 8);
static_assert(offsetof(Entry, type) == 16);

}  // namespace accede::abi::e820
