#include "accede/efi/departure.hpp"

#include "accede/abi/linux_unaccepted.hpp"

#include <algorithm>
#include <new>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::MemoryType;
using abi::efi::Status;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using guest::UnacceptedTable;

/// Storage for a table of a map that grows by this much at either end.
constexpr Bytes kTableSlack{4096};

bool has_table(const abi::efi::SystemTable& system) {
  const std::span entries{system.configuration_table, system.number_of_table_entries};
  return std::ranges::any_of(entries, [](const abi::efi::ConfigurationTable& entry) {
    return entry.guid == abi::efi::kLinuxUnacceptedTable && entry.table != nullptr;
  });
}

/// What accept_all() asks of a platform, over a function that accepts.
struct AcceptOnly {
  Departure::Accept function;

  [[nodiscard]] guest::PlatformResult accept(PhysRange range) { return function(range); }
  [[nodiscard]] guest::PlatformResult convert(PhysRange range, guest::Visibility) {
    return std::unexpected{guest::PlatformFailure{
        .kind = guest::FailureKind::kUnsupported, .at = range.begin(), .done_end = range.begin()}};
  }
  [[nodiscard]] guest::PlatformKind kind() const { return guest::PlatformKind::kNone; }
  [[nodiscard]] Bytes preferred_step() const { return 2_MiB; }
};

/// A table that covers nothing: right for a kernel until the real one stands there, and for good
/// when everything was accepted.
void write_empty_table(std::span<std::byte> memory) {
  std::ranges::fill(memory, std::byte{});
  new (memory.data()) abi::linux_unaccepted::TableHeader{
      .version = abi::linux_unaccepted::kVersion,
      .unit_size = static_cast<std::uint32_t>(abi::linux_unaccepted::kLinuxX86UnitSize.value()),
      .phys_base = 0,
      .bitmap_bytes = 0};
}

}  // namespace

bool promise_to_accept(const Firmware& firmware) {
  auto* const handshake = firmware.locate<abi::efi::MemoryAcceptanceHandshake>(
      abi::efi::kMemoryAcceptanceHandshakeProtocol);
  return handshake == nullptr || !is_error(handshake->allow_unaccepted_memory(handshake));
}

Result<void> Departure::read_map() {
  const auto read = firmware_.memory_map(2 * Firmware::kSpareDescriptors);
  if (!read) {
    return std::unexpected{read.error()};
  }
  efi_map_ = *read;
  if (efi_map_.stride < sizeof(abi::efi::MemoryDescriptor)) {
    return std::unexpected{Failure{"the memory map's descriptors are too small"sv}};
  }
  const auto regions = firmware_.allocate_array<MemoryRegion>(
      efi_map_.buffer.size() / efi_map_.stride + 2 * kMostAccepted);
  if (!regions) {
    return std::unexpected{regions.error()};
  }
  regions_ = *regions;
  const auto map = MemoryMap::from_efi(efi_map_.bytes, efi_map_.stride, regions_);
  if (!map) {
    return std::unexpected{Failure{guest::to_string(map.error().kind)}};
  }
  map_ = *map;
  return {};
}

Result<void> Departure::reserve_table() {
  const auto layout = UnacceptedTable::plan(map_);
  if (!layout) {
    return std::unexpected{Failure{guest::to_string(layout.error().kind)}};
  }
  if (!*layout) {
    return {};
  }
  const std::uint64_t pages = ((*layout)->table + kTableSlack * 2).value() / 4096;
  std::uint64_t address = 0;
  // Without an index the table is only slower; without memory for the table settle() accepts
  // everything.
  const auto index = firmware_.allocate_array<std::uint64_t>(
      (*layout)->index + UnacceptedTable::index_words(kTableSlack));
  index_ = index.value_or(std::span<std::uint64_t>{});
  const Status status = firmware_.boot().allocate_pages(abi::efi::AllocateType::kAnyPages,
                                                        MemoryType::kAcpiReclaim, pages, &address);
  if (is_error(status)) {
    return {};
  }
  table_memory_ = {reinterpret_cast<std::byte*>(address), pages * 4096};
  write_empty_table(table_memory_);
  const Status installed = firmware_.boot().install_configuration_table(
      &abi::efi::kLinuxUnacceptedTable, table_memory_.data());
  if (is_error(installed)) {
    firmware_.boot().free_pages(address, pages);
    table_memory_ = {};
  }
  return {};
}

Result<void> Departure::prepare(guest::PlatformKind platform) {
  if (auto read = read_map(); !read) {
    return read;
  }
  if (guest::unusable_without_platform(map_, platform) != Bytes{0}) {
    return std::unexpected{
        Failure{"memory is unaccepted and this is no platform that can accept it"sv}};
  }
  // Its bits would be wrong as soon as we accept.
  if (map_.bytes_of(MemoryKind::kUnaccepted) != Bytes{0} && has_table(firmware_.system())) {
    return std::unexpected{Failure{"the firmware has an unaccepted-memory table already"sv}};
  }
  return wish_ == AcceptanceWish::kTable ? reserve_table() : Result<void>{};
}

void Departure::cancel() {
  const auto& boot = firmware_.boot();
  if (!table_memory_.empty()) {
    boot.install_configuration_table(&abi::efi::kLinuxUnacceptedTable, nullptr);
    boot.free_pages(reinterpret_cast<std::uint64_t>(table_memory_.data()),
                    table_memory_.size() / 4096);
    table_memory_ = {};
  }
  for (void* const pool :
       {static_cast<void*>(efi_map_.buffer.data()), static_cast<void*>(regions_.data()),
        static_cast<void*>(index_.data())}) {
    if (pool != nullptr) {
      boot.free_pool(pool);
    }
  }
  efi_map_ = {};
  regions_ = {};
  index_ = {};
  map_ = {};
}

void Departure::note_accepted(PhysRange range) {
  ACCEDE_ASSERT(own_count_ < own_.size());
  own_[own_count_++] = range;
}

Result<void> Departure::exit() {
  const auto& boot = firmware_.boot();
  // A first call with the right key fails all the same when the firmware changes the map in its
  // before-exit event (accept-all does). From then on only these two services may be called.
  for (int tries = 0; tries < 2; ++tries) {
    if (const Status read = firmware_.refresh(efi_map_); is_error(read)) {
      return std::unexpected{Failure{"the memory map grew beyond its buffer"sv, read}};
    }
    exit_called_ = true;
    const Status status = boot.exit_boot_services(firmware_.image(), efi_map_.key);
    if (!is_error(status)) {
      return {};
    }
    if (status != Status::kInvalidParameter) {
      return std::unexpected{Failure{"the firmware does not let go of boot services"sv, status}};
    }
  }
  return std::unexpected{Failure{"the memory map changed twice on the way out"sv}};
}

std::expected<void, std::string_view> Departure::parse_final_map() {
  const auto map = MemoryMap::from_efi(efi_map_.bytes, efi_map_.stride, regions_);
  if (!map) {
    return std::unexpected{guest::to_string(map.error().kind)};
  }
  std::size_t count = map->regions().size();
  for (const PhysRange own : std::span{own_}.first(own_count_)) {
    const auto found = std::ranges::find_if(regions_.first(count), [&](const MemoryRegion& region) {
      return region.kind == MemoryKind::kUnaccepted && region.range.contains(own);
    });
    if (found == regions_.begin() + static_cast<std::ptrdiff_t>(count) ||
        count + 2 > regions_.size()) {
      return std::unexpected{"memory that was accepted is not unaccepted in the final map"sv};
    }
    const PhysRange whole = found->range;
    *found = {.range = own, .kind = MemoryKind::kUsable};
    regions_[count++] = {.range = *PhysRange::make(whole.begin(), own.begin()),
                         .kind = MemoryKind::kUnaccepted};
    regions_[count++] = {.range = *PhysRange::make(own.end(), whole.end()),
                         .kind = MemoryKind::kUnaccepted};
  }
  const auto checked = MemoryMap::from_regions(regions_.first(count));
  if (!checked) {
    return std::unexpected{guest::to_string(checked.error().kind)};
  }
  map_ = *checked;
  return {};
}

std::expected<bool, std::string_view> Departure::build_table(Accept accept) {
  const auto layout = UnacceptedTable::plan(map_);
  if (!layout) {
    return std::unexpected{guest::to_string(layout.error().kind)};
  }
  if (!*layout) {
    return true;
  }
  if ((*layout)->table.value() > table_memory_.size()) {
    return false;
  }
  const std::span index = index_.size() < (*layout)->index ? std::span<std::uint64_t>{} : index_;
  const auto built =
      table_.build(map_, **layout, table_memory_, PhysAddr{std::uint64_t(table_memory_.data())},
                   index, [&](PhysRange range) {
                     accepted_ += range.size();
                     return accept(range);
                   });
  if (!built) {
    return std::unexpected{built.error().kind == guest::TableErrorKind::kAcceptFailed
                               ? guest::to_string(built.error().failure.kind)
                               : guest::to_string(built.error().kind)};
  }
  return true;
}

std::expected<void, std::string_view> Departure::settle(Accept accept) {
  if (auto parsed = parse_final_map(); !parsed) {
    return parsed;
  }
  if (!table_memory_.empty()) {
    const auto built = build_table(accept);
    if (!built) {
      return std::unexpected{built.error()};
    }
    if (*built) {
      return {};
    }
  }
  AcceptOnly platform{accept};
  const auto accepted = guest::accept_all(map_, platform);
  if (!accepted) {
    return std::unexpected{guest::to_string(accepted.error().kind)};
  }
  accepted_ += *accepted;
  return {};
}

}  // namespace accede::efi
