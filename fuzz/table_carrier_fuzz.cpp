// Any bytes as memory with an EFI configuration table, a setup_data chain and a HandOver object:
// what is found may be read, and nothing outside the memory is touched (AddressSanitizer).
#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"
#include "accede/guest/kexec.hpp"
#include "accede/guest/table_carrier.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <vector>

using namespace accede;
using namespace accede::guest;

namespace {

constexpr PhysAddr kBase{0x10000};

void check(const FindResult& found, const ReadableMemory& memory) {
  if (found && *found) {
    const auto range = PhysRange::make((*found)->table, (*found)->bound);
    ACCEDE_ASSERT(range && memory.read(*range));
    ACCEDE_ASSERT((*found)->table.is_aligned(8_B));
  }
}

/// The fuzzer does not guess a CRC: makes what begins with the magic whole.
void mend(std::span<std::byte> memory) {
  for (std::size_t at = 0; at + sizeof(HandOver) <= memory.size(); at += 8) {
    const ByteReader reader{memory.subspan(at)};
    if (reader.read<std::uint64_t>(0) == kHandOverMagic) {
      const TablePlace place{.table = PhysAddr{*reader.read<std::uint64_t>(16)},
                             .bound = Bytes{*reader.read<std::uint64_t>(24)}};
      static_cast<void>(publish_hand_over(memory.subspan(at), place));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 8) {
    return 0;
  }
  // The words of a table and of an object are aligned; the end is where the input ends.
  std::vector<std::uint64_t> words((size - 8 + 7) / 8 + 1);
  const auto memory_bytes = std::as_writable_bytes(std::span{words}).first(size - 8);
  std::ranges::copy(std::as_bytes(std::span{data + 8, size - 8}), memory_bytes.begin());
  if ((data[7] & 1) != 0) {
    mend(memory_bytes);
  }
  const PhysRange range = *PhysRange::make(kBase, Bytes{memory_bytes.size()});
  const ReadableMemory memory{
      .window = PhysWindow{reinterpret_cast<std::uintptr_t>(memory_bytes.data()) - kBase.value()},
      .ranges = {&range, 1}};
  const ByteReader head{std::as_bytes(std::span{data, size})};
  const TableSources sources{
      .efi_entries = memory_bytes.first(std::min<std::size_t>(memory_bytes.size(), data[6])),
      .setup_data = kBase + Bytes{*head.read<std::uint16_t>(0)},
      .hand_over = kBase + Bytes{*head.read<std::uint16_t>(2)}};
  check(find_in_efi(sources.efi_entries, memory), memory);
  check(find_in_setup_data(sources.setup_data, memory), memory);
  if (const auto place = find_in_hand_over(sources.hand_over, memory)) {
    check(*place, memory);
  }
  std::array<std::uint64_t, 16> index{};
  UnacceptedTable table;
  const auto route = start_from(sources, memory, table, index);
  ACCEDE_ASSERT(route || !table.present());
  if (table.present()) {
    ACCEDE_ASSERT(table.invariants());
  }
  return 0;
}
