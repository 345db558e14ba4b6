#include "accede/efi/shim/acceptance.hpp"

#include "accede/efi/dxe_services.hpp"

#include <algorithm>
#include <optional>

namespace accede::efi::shim {

using namespace std::string_view_literals;
namespace {

using abi::efi::MemoryMapView;
using abi::efi::MemorySpaceDescriptor;
using abi::efi::MemorySpaceType;
using abi::efi::MemoryType;
using abi::efi::Status;

/// Calls `use` with every unaccepted range of `map` that is one.
template <class Use>
void for_each_unaccepted(const MemoryMapView& map, Use use) {
  for (std::size_t i = 0; i < map.size(); ++i) {
    const auto range = map.range(i);
    if (range && !range->empty() &&
        static_cast<MemoryType>(map[i].type) == MemoryType::kUnaccepted) {
      use(*range);
    }
  }
}

/// The firmware's two views of one place must agree, whatever number it has for unaccepted memory.
bool is_unaccepted(const MemorySpaceDescriptor& space) {
  return space.type == MemorySpaceType::kUnaccepted ||
         space.type == MemorySpaceType::kUnaccepted202211;
}

void note(Accepted& result, std::string_view why, Status status) {
  if (result.why.what.empty()) {
    result.why = {why, status};
  }
}

/// The lowest unaccepted range that does not begin below `from`.
std::optional<PhysRange> next_unaccepted(const MemoryMapView& map, PhysAddr from) {
  std::optional<PhysRange> lowest;
  for_each_unaccepted(map, [&](PhysRange range) {
    if (range.begin() >= from && (!lowest || range.begin() < lowest->begin())) {
      lowest = range;
    }
  });
  return lowest;
}

}  // namespace

Result<UnacceptedMemory> UnacceptedMemory::find(const Firmware& firmware) {
  UnacceptedMemory memory{firmware};
  const auto map = firmware.memory_map(2 * Firmware::kSpareDescriptors);
  if (!map) {
    return std::unexpected{map.error()};
  }
  memory.map_ = *map;
  memory.acceptor_ = firmware.locate<abi::efi::MemoryAccept>(abi::efi::kMemoryAcceptProtocol);
  memory.services_ = find_dxe_services(firmware);
  return memory;
}

Result<MemoryMapView> UnacceptedMemory::read_map() {
  Status status = firmware_->refresh(map_);
  if (status == Status::kBufferTooSmall) {
    release();
    auto larger = firmware_->memory_map(2 * Firmware::kSpareDescriptors);
    if (!larger) {
      return std::unexpected{larger.error()};
    }
    map_ = *larger;
    status = Status::kSuccess;
  }
  if (is_error(status)) {
    return std::unexpected{Failure{"the memory map cannot be read"sv, status}};
  }
  const auto view = MemoryMapView::make(map_.bytes, map_.stride);
  if (!view) {
    return std::unexpected{Failure{"the memory map's descriptors are too small"sv}};
  }
  return *view;
}

Bytes UnacceptedMemory::total() {
  Bytes sum{};
  if (const auto map = read_map()) {
    for_each_unaccepted(*map, [&](PhysRange range) { sum += range.size(); });
  }
  return sum;
}

Accepted UnacceptedMemory::accept_all() {
  Accepted result;
  for (PhysAddr from{0};;) {
    // The map changes with every range.
    const auto map = read_map();
    if (!map) {
      note(result, map.error().what, map.error().status);
      return result;
    }
    const auto range = next_unaccepted(*map, from);
    if (!range) {
      return result;
    }
    accept_range(*range, result);
    from = range->end();
  }
}

void UnacceptedMemory::accept_range(PhysRange range, Accepted& result) {
  if (acceptor_ == nullptr || services_ == nullptr) {
    note(result,
         acceptor_ == nullptr ? "the firmware offers nothing that accepts memory"sv
                              : "the firmware has no DXE services to be told by"sv,
         Status::kSuccess);
    result.left += range.size();
    return;
  }
  for (PhysAddr at = range.begin(); at < range.end();) {
    const PhysRange rest = *PhysRange::make(at, range.end());
    MemorySpaceDescriptor space{};
    const Status status = services_->get_memory_space_descriptor(at.value(), &space);
    const auto whole = PhysRange::make(PhysAddr{space.base}, Bytes{space.length});
    if (is_error(status) || !whole || !whole->contains(at) || !is_unaccepted(space)) {
      note(result, "the firmware's drivers know nothing of unaccepted memory there"sv, status);
      result.left += rest.size();
      return;
    }
    const PhysRange part = whole->intersect(rest);
    accept_part(space, part, result);
    at = part.end();
  }
}

void UnacceptedMemory::accept_part(const MemorySpaceDescriptor& space, PhysRange part,
                                   Accepted& result) {
  const std::uint64_t base = part.begin().value();
  const std::uint64_t bytes = part.size().value();
  if (const Status removed = services_->remove_memory_space(base, bytes); is_error(removed)) {
    note(result, "the firmware does not let go of unaccepted memory"sv, removed);
    result.left += part.size();
    return;
  }
  if (const Status status = acceptor_->accept_memory(acceptor_, base, bytes); is_error(status)) {
    note(result, "accepting memory failed"sv, status);
    result.lost += part.size();
    return;
  }
  const Status added =
      services_->add_memory_space(MemorySpaceType::kSystemMemory, base, bytes,
                                  space.capabilities & ~abi::efi::kInternalCapabilities);
  if (is_error(added)) {
    note(result, "the firmware does not take accepted memory back"sv, added);
    result.lost += part.size();
    return;
  }
  result.now += part.size();
}

void UnacceptedMemory::release() {
  if (!map_.buffer.empty()) {
    firmware_->boot().free_pool(map_.buffer.data());
    map_ = {};
  }
}

}  // namespace accede::efi::shim
