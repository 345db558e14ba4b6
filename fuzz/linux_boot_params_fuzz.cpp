// Any bytes as a setup header and as a memory map: the E820 map that comes out is sorted, merged,
// covers nothing that the memory map does not have, and calls nothing RAM that the kernel is not
// told to accept; the zero page says the same.
#include "accede/abi/efi.hpp"
#include "accede/base/assert.hpp"
#include "accede/firmware/linux_boot_params.hpp"
#include "accede/firmware/linux_e820.hpp"
#include "accede/firmware/linux_setup.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace {

using namespace accede;
using namespace accede::firmware;
using abi::e820::Entry;
using abi::linux_boot::BootParams;

constexpr auto kRam = static_cast<std::uint32_t>(abi::e820::Type::kRam);

void check(std::span<const Entry> entries, std::span<const std::byte> map, std::size_t stride,
           UnacceptedMemory unaccepted) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    ACCEDE_ASSERT(entries[i].bytes != 0);
    ACCEDE_ASSERT(PhysRange::make(PhysAddr{entries[i].address}, Bytes{entries[i].bytes}));
    if (i > 0) {
      const std::uint64_t end = entries[i - 1].address + entries[i - 1].bytes;
      ACCEDE_ASSERT(end <= entries[i].address);
      ACCEDE_ASSERT(end < entries[i].address || entries[i - 1].type != entries[i].type);
    }
  }
  const auto view = *abi::efi::MemoryMapView::make(map, stride);
  for (std::size_t i = 0; i < view.size(); ++i) {
    const PhysRange range = *view.range(i);
    const bool is_unaccepted =
        view[i].type == static_cast<std::uint32_t>(abi::efi::MemoryType::kUnaccepted);
    for (const Entry& entry : entries) {
      const auto here = *PhysRange::make(PhysAddr{entry.address}, Bytes{entry.bytes});
      if (is_unaccepted && here.overlaps(range)) {
        ACCEDE_ASSERT(unaccepted != UnacceptedMemory::kUntold && entry.type == kRam);
      }
    }
  }
}

void fill(const LinuxSetup& setup, std::span<const Entry> entries, std::uint64_t place,
          std::size_t room) {
  std::vector<std::byte> node(room);
  const auto range = [&](Bytes size) {
    return PhysRange::make(PhysAddr{place}, size).value_or(PhysRange{});
  };
  const auto params = std::make_unique<BootParams>();
  const auto filled = fill_boot_params(*params, setup,
                                       {.kernel = range(Bytes{setup.header().init_size}),
                                        .command_line = range(4_KiB),
                                        .initrd = range(1_MiB),
                                        .efi = {.system_table = PhysAddr{place},
                                                .memory_map = range(4_KiB),
                                                .stride = 48,
                                                .descriptor_version = 1},
                                        .acpi_rsdp = PhysAddr{place},
                                        .e820 = entries,
                                        .extension = {.memory = node, .where = PhysAddr{place}}});
  if (!filled) {
    return;
  }
  ACCEDE_ASSERT(params->sentinel == 0);
  ACCEDE_ASSERT(params->e820_entries == std::min<std::size_t>(entries.size(), 128));
  ACCEDE_ASSERT((params->hdr.setup_data != 0) <= (entries.size() > 128));
  ACCEDE_ASSERT(setup.check_kernel(range(Bytes{setup.header().init_size})).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kHead = 16;
  if (size < kHead) {
    return 0;
  }
  const auto bytes = std::as_bytes(std::span{data, size});
  const std::size_t stride = data[0];
  const auto unaccepted = static_cast<UnacceptedMemory>(data[1] % 3);
  const std::size_t header_bytes = std::min<std::size_t>(data[2], size - kHead);
  const std::uint64_t place = *ByteReader{bytes}.read<std::uint64_t>(8);
  const auto header = bytes.subspan(kHead, header_bytes);
  const auto map = bytes.subspan(kHead + header_bytes);

  std::vector<Entry> storage(256);
  const auto entries = build_e820(
      map, stride, {.unaccepted = unaccepted, .soft_reserve = data[3] % 2 == 0}, storage);
  if (entries) {
    check(*entries, map, stride, unaccepted);
  }
  const auto setup = LinuxSetup::parse(header, Bytes{data[4]} * 4096);
  if (setup) {
    fill(*setup, entries.value_or(std::span<Entry>{}), place, data[5] * std::size_t{16});
  }
  return 0;
}
