#include "accede/efi/loader/memory.hpp"

#include <algorithm>
#include <limits>
#include <new>

namespace accede::efi::loader {

using namespace std::string_view_literals;
namespace {

using abi::efi::AllocateType;
using abi::efi::MemoryType;
using abi::efi::Status;
using firmware::PlaceNeeds;

constexpr Bytes kUnit = 2_MiB;

Bytes round_up(Bytes size, Bytes unit) {
  return (size + unit - 1_B) - (size + unit - 1_B) % unit;
}

/// The firmware's service that accepts memory; null when it has none.
abi::efi::MemoryAccept* find_acceptor(const Firmware& firmware) {
  return firmware.locate<abi::efi::MemoryAccept>(abi::efi::kMemoryAcceptProtocol);
}

std::unexpected<Problem> no_room(std::string_view what, Bytes size, std::string_view where) {
  Problem result{.status = Status::kOutOfResources};
  result.line.text("no room for "sv).text(what).text(": "sv).number(size.value());
  result.line.text(" bytes in "sv).text(where);
  return std::unexpected{result};
}

}  // namespace

LoaderMemory::~LoaderMemory() {
  for (const PhysRange range : std::span{pages_}.first(pages_count_)) {
    firmware_.boot().free_pages(range.begin().value(), range.size().value() / 4096);
  }
  for (void* const pool : std::span{pools_}.first(pools_count_)) {
    firmware_.boot().free_pool(pool);
  }
}

Outcome<std::span<const std::byte>> LoaderMemory::read_file(std::string_view path) {
  const auto file = firmware_.read_file(path);
  if (!file) {
    return problem(Status::kLoadError, file.error(), path);
  }
  ACCEDE_ASSERT(pools_count_ < pools_.size());
  pools_[pools_count_++] = file->data();
  return *file;
}

bool LoaderMemory::allocate_at(PhysAddr address, Bytes size) {
  std::uint64_t where = address.value();
  return !is_error(firmware_.boot().allocate_pages(AllocateType::kAddress, MemoryType::kLoaderData,
                                                   size.value() / 4096, &where));
}

std::optional<PhysRange> LoaderMemory::allocate_below(PhysAddr limit, Bytes size) {
  std::uint64_t where = limit.value() - 1;
  const bool anywhere = limit.value() == std::numeric_limits<std::uint64_t>::max();
  const Status status = firmware_.boot().allocate_pages(
      anywhere ? AllocateType::kAnyPages : AllocateType::kMaxAddress, MemoryType::kLoaderData,
      size.value() / 4096, &where);
  return is_error(status) ? std::nullopt : PhysRange::make(PhysAddr{where}, size);
}

Outcome<PhysRange> LoaderMemory::allocate(const PlaceNeeds& needs, std::string_view what) {
  ACCEDE_ASSERT(pages_count_ < pages_.size());
  const Bytes size = round_up(needs.size, 4_KiB);
  if (needs.preferred && needs.preferred->is_aligned(4_KiB) &&
      allocate_at(*needs.preferred, size)) {
    pages_[pages_count_++] = *PhysRange::make(*needs.preferred, size);
    return *PhysRange::make(*needs.preferred, needs.size);
  }
  if (needs.only_preferred) {
    return no_room(what, needs.size, "the firmware's memory at its address"sv);
  }
  const auto pages = allocate_below(needs.limit, size + needs.alignment - 4_KiB);
  if (!pages) {
    return no_room(what, needs.size, "the firmware's memory"sv);
  }
  pages_[pages_count_++] = *pages;
  const auto place = PhysRange::make(pages->begin().align_up(needs.alignment), needs.size);
  if (!place || !pages->contains(*place) || !needs.met_by(*place)) {
    return no_room(what, needs.size, "the firmware's memory where it can be"sv);
  }
  return *place;
}

Outcome<PhysRange> LoaderMemory::choose_unaccepted(const PlaceNeeds& needs, std::string_view what) {
  ACCEDE_ASSERT(chosen_count_ < chosen_.size());
  const auto map_bytes = firmware_.memory_map();
  if (!map_bytes) {
    return problem(Status::kOutOfResources, map_bytes.error());
  }
  ACCEDE_ASSERT(pools_count_ + 2 <= pools_.size());
  pools_[pools_count_++] = map_bytes->bytes.data();
  const std::size_t count = map_bytes->bytes.size() / std::max<std::size_t>(map_bytes->stride, 1);
  const auto regions = firmware_.allocate_array<guest::MemoryRegion>(count);
  if (!regions) {
    return problem(Status::kOutOfResources, regions.error());
  }
  pools_[pools_count_++] = regions->data();
  const auto map = guest::MemoryMap::from_efi(map_bytes->bytes, map_bytes->stride, *regions);
  if (!map) {
    return problem(Status::kLoadError, guest::to_string(map.error().kind));
  }

  PlaceNeeds units = needs;
  if (!needs.only_preferred) {
    // The last page in use never ends a unit: Linux frees an initrd without accepting the guard
    // unit behind it, and may read past a page's end.
    units.size = round_up(needs.size + 4_KiB, kUnit);
    units.alignment = std::max(needs.alignment, kUnit);
    units.preferred = std::nullopt;
  } else {
    units.size = round_up(needs.size, 4_KiB);
  }
  const auto place = find_place(*map, guest::MemoryKind::kUnaccepted, units,
                                std::span{chosen_}.first(chosen_count_));
  if (!place) {
    return no_room(what, needs.size, "free or unaccepted memory"sv);
  }
  if (find_acceptor(firmware_) == nullptr) {
    return problem(Status::kUnsupported, "the firmware has no service that accepts memory"sv);
  }
  chosen_[chosen_count_++] = *place;
  return *PhysRange::make(place->begin(), needs.size);
}

Outcome<void> LoaderMemory::accept_chosen(Departure& departure) {
  if (!has_chosen()) {
    return {};
  }
  auto* const acceptor = find_acceptor(firmware_);
  if (acceptor == nullptr) {
    return problem(Status::kUnsupported, "the firmware's service that accepts memory is gone"sv);
  }
  for (const PhysRange range : std::span{chosen_}.first(chosen_count_)) {
    const Status status =
        acceptor->accept_memory(acceptor, range.begin().value(), range.size().value());
    if (is_error(status)) {
      Problem result{.status = Status::kLoadError};
      result.line.text("memory cannot be accepted: "sv).number(range.size().value());
      result.line.text(" bytes at "sv).hex(range.begin().value()).text(" (status "sv);
      result.line.hex(static_cast<std::uint64_t>(status)).text(")"sv);
      return std::unexpected{result};
    }
    departure.note_accepted(range);
  }
  return {};
}

}  // namespace accede::efi::loader
