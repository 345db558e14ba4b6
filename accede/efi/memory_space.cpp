#include "accede/efi/memory_space.hpp"

#include "accede/efi/dxe_services.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace accede::efi {

namespace {

using abi::efi::DxeServices;
using abi::efi::MemorySpaceDescriptor;
using abi::efi::MemorySpaceType;
using abi::efi::Status;

// A UEFI service has no context argument: what the wrappers need must be a variable of the image.
const Firmware* g_firmware = nullptr;
const MemoryPlan* g_plan = nullptr;
DxeServices g_original{};
/// What is claimed no more, or is about to be; sorted.
std::array<PhysRange, 64> g_removed{};
std::size_t g_removed_count = 0;
/// How much of g_removed was given back as system memory, one by one.
std::array<bool, 64> g_added{};

std::span<const PhysRange> removed() {
  return {g_removed.data(), g_removed_count};
}

/// Calls `use` with every part that is still claimed, until it returns false.
template <class Use>
void for_each_claimed(Use use) {
  for (const PhysRange& range : g_plan->left.view()) {
    if (!for_each_gap(range, removed(), use)) {
      return;
    }
  }
}

std::optional<PhysRange> checked(std::uint64_t base, std::uint64_t bytes) {
  const auto range = PhysRange::make(PhysAddr{base}, Bytes{bytes});
  return range && !range->empty() ? range : std::nullopt;
}

/// The firmware's own descriptor cut at the borders of claimed memory.
Status ACCEDE_EFIAPI get_memory_space_descriptor(std::uint64_t base,
                                                 MemorySpaceDescriptor* descriptor) {
  const Status status = g_original.get_memory_space_descriptor(base, descriptor);
  if (is_error(status)) {
    return status;
  }
  PhysAddr begin{descriptor->base};
  PhysAddr end = begin + Bytes{descriptor->length};
  for_each_claimed([&](PhysRange claimed) {
    if (claimed.contains(PhysAddr{base})) {
      begin = std::max(begin, claimed.begin());
      end = std::min(end, claimed.end());
      descriptor->type = MemorySpaceType::kUnaccepted;
    } else if (claimed.end() <= PhysAddr{base}) {
      begin = std::max(begin, claimed.end());
    } else {
      end = std::min(end, claimed.begin());
    }
    return true;
  });
  descriptor->base = begin.value();
  descriptor->length = (end - begin).value();
  return status;
}

Status ACCEDE_EFIAPI remove_memory_space(std::uint64_t base, std::uint64_t bytes) {
  const auto range = checked(base, bytes);
  bool whole = false;
  if (range) {
    for_each_claimed([&](PhysRange claimed) {
      whole = claimed.contains(*range);
      return !whole;
    });
  }
  if (!whole) {
    return g_original.remove_memory_space(base, bytes);
  }
  if (g_removed_count == g_removed.size()) {
    return Status::kOutOfResources;
  }
  const auto at = std::ranges::upper_bound(removed(), range->begin(), {}, &PhysRange::begin) -
                  removed().begin();
  const auto count = static_cast<std::ptrdiff_t>(g_removed_count);
  std::copy_backward(g_removed.begin() + at, g_removed.begin() + count,
                     g_removed.begin() + count + 1);
  std::copy_backward(g_added.begin() + at, g_added.begin() + count, g_added.begin() + count + 1);
  g_removed[static_cast<std::size_t>(at)] = *range;
  g_added[static_cast<std::size_t>(at)] = false;
  ++g_removed_count;
  return Status::kSuccess;
}

Status ACCEDE_EFIAPI add_memory_space(MemorySpaceType type, std::uint64_t base, std::uint64_t bytes,
                                      std::uint64_t capabilities) {
  const auto range = checked(base, bytes);
  const auto found = range ? std::ranges::find(removed(), *range) : removed().end();
  if (found == removed().end()) {
    return g_original.add_memory_space(type, base, bytes, capabilities);
  }
  bool& added = g_added[static_cast<std::size_t>(found - removed().begin())];
  if (added || type != MemorySpaceType::kSystemMemory) {
    return Status::kUnsupported;
  }
  const Status status = g_firmware->boot().free_pages(base, bytes / 4096);
  added = !is_error(status);
  return status;
}

}  // namespace

void show_in_memory_space(const Firmware& firmware, const MemoryPlan& plan) {
  DxeServices* const services = find_dxe_services(firmware);
  if (services == nullptr) {
    return;
  }
  g_firmware = &firmware;
  g_plan = &plan;
  g_removed_count = 0;
  g_original = *services;
  services->get_memory_space_descriptor = get_memory_space_descriptor;
  services->remove_memory_space = remove_memory_space;
  services->add_memory_space = add_memory_space;
  sum_up(firmware, services->header);
}

}  // namespace accede::efi
