#include "accede/efi/unaccepted_map.hpp"

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::BootServices;
using abi::efi::MemoryDescriptor;
using abi::efi::MemoryType;
using abi::efi::Status;

// A UEFI service has no context argument: what the wrappers need must be a variable of the image.
BootServices::GetMemoryMapFn g_get_memory_map = nullptr;
decltype(BootServices::exit_boot_services) g_exit_boot_services = nullptr;
firmware::Negotiation* g_negotiation = nullptr;
void (*g_accept_everything)() = nullptr;
MapLie g_lie = MapLie::kNone;
std::uint64_t g_calls = 0;

MemoryDescriptor* descriptor_at(void* map, std::uint64_t offset) {
  return reinterpret_cast<MemoryDescriptor*>(static_cast<std::byte*>(map) + offset);
}

/// Makes one unaccepted descriptor wrong.
void lie_about(MemoryDescriptor& unaccepted) {
  switch (g_lie) {
    case MapLie::kOverlap:
      unaccepted.physical_start = 0;
      break;
    case MapLie::kWrap:
      unaccepted.number_of_pages = ~0ULL >> 12;
      break;
    case MapLie::kUnaligned:
      unaccepted.physical_start += 0x800;
      break;
    case MapLie::kNone:
    case MapLie::kRestless:
    case MapLie::kGrow:
    case MapLie::kNoTable:
      break;
  }
}

void show_claimed(MemoryDescriptor& claimed) {
  const bool unaccepted = g_negotiation->shows_unaccepted();
  claimed.type =
      static_cast<std::uint32_t>(unaccepted ? MemoryType::kUnaccepted : MemoryType::kConventional);
  if (unaccepted) {
    lie_about(claimed);
  }
}

Status ACCEDE_EFIAPI get_memory_map(std::uint64_t* bytes, void* map, std::uint64_t* key,
                                    std::uint64_t* stride, std::uint32_t* version) {
  const std::uint64_t room = *bytes;
  Status status = g_get_memory_map(bytes, map, key, stride, version);
  const std::uint64_t growth = g_lie == MapLie::kGrow ? 100 * *stride * ++g_calls : 0;
  if (growth != 0 && map != nullptr && *bytes + growth > room) {
    status = Status::kBufferTooSmall;
  }
  *bytes += status == Status::kSuccess ? 0 : growth;
  if (status != Status::kSuccess || map == nullptr) {
    return status;
  }
  for (std::uint64_t at = 0; at + *stride <= *bytes; at += *stride) {
    MemoryDescriptor& descriptor = *descriptor_at(map, at);
    if (descriptor.type == static_cast<std::uint32_t>(kClaimed)) {
      show_claimed(descriptor);
    }
  }
  *key = g_negotiation->translate_key(*key);
  *key ^= g_lie == MapLie::kRestless ? 1 : 0;
  return status;
}

/// What OVMF does in its before-exit event: the first call fails whatever its key, for the map that
/// the key belongs to is no more. The firmware below is asked all the same: its own handlers run in
/// the first call, and what they change must not spoil the second.
Status ACCEDE_EFIAPI exit_boot_services(abi::efi::Handle image, std::uint64_t key) {
  if (g_negotiation->exit_called() == firmware::ExitStep::kAcceptEverything) {
    g_accept_everything();
    g_negotiation->accepted_at_exit();
  }
  return g_exit_boot_services(image, g_negotiation->translate_key(key));
}

decltype(BootServices::allocate_pages) g_allocate_pages = nullptr;

/// A table that survives a kexec lies in ACPI reclaim memory.
Status ACCEDE_EFIAPI allocate_no_reclaim_pages(abi::efi::AllocateType how, MemoryType type,
                                               std::uint64_t pages, std::uint64_t* address) {
  return type == MemoryType::kAcpiReclaim ? Status::kOutOfResources
                                          : g_allocate_pages(how, type, pages, address);
}

}  // namespace

void show_as_unaccepted(const Firmware& firmware, MapLie lie, firmware::Negotiation& negotiation,
                        void (*accept_everything)()) {
  BootServices& boot = firmware.boot();
  g_lie = lie;
  g_get_memory_map = boot.get_memory_map;
  boot.get_memory_map = get_memory_map;
  g_negotiation = &negotiation;
  g_accept_everything = accept_everything;
  g_exit_boot_services = boot.exit_boot_services;
  boot.exit_boot_services = exit_boot_services;
  if (lie == MapLie::kNoTable) {
    g_allocate_pages = boot.allocate_pages;
    boot.allocate_pages = allocate_no_reclaim_pages;
  }
  boot.header.crc32 = 0;
  std::uint32_t crc = 0;
  boot.calculate_crc32(&boot, boot.header.header_size, &crc);
  boot.header.crc32 = crc;
}

Result<void> punch_holes(const Firmware& firmware, std::uint64_t count) {
  std::uint64_t next = (1_GiB).value();
  for (std::uint64_t holes = 0; holes < count; next += (1_MiB).value()) {
    if (next >= (4_GiB).value()) {
      return std::unexpected{Failure{"not enough free memory below 4 GiB for the holes"sv}};
    }
    std::uint64_t address = next;
    // Fails where the page is in use: the next one is as good.
    const Status status = firmware.boot().allocate_pages(abi::efi::AllocateType::kAddress,
                                                         MemoryType::kReserved, 1, &address);
    holes += is_error(status) ? 0 : 1;
  }
  return {};
}

}  // namespace accede::efi
