#include "tests/boot/probe/probe.hpp"

#include "tests/boot/probe/instructions.hpp"

#include <algorithm>
#include <array>

namespace probe {

using accede::abi::efi::MemoryMapView;
using accede::abi::efi::MemoryType;
using accede::efi::Failure;

void Probe::print_hex(std::uint64_t value) const {
  std::array<char, 18> digits{'0', 'x'};
  for (std::size_t i = 0; i < 16; ++i) {
    digits[2 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
  }
  firmware_.print({digits.data(), digits.size()});
}

bool Probe::expect(std::string_view what, std::uint64_t actual, std::uint64_t expected) {
  if (actual == expected) {
    return true;
  }
  good_ = false;
  firmware_.print("probe: ");
  firmware_.print(scenario_);
  firmware_.print(": ");
  firmware_.print(what);
  firmware_.print(": ");
  print_hex(actual);
  firmware_.print(" instead of ");
  print_hex(expected);
  firmware_.print("\n");
  return false;
}

bool Probe::expect(std::string_view what, bool holds) {
  if (holds) {
    return true;
  }
  good_ = false;
  firmware_.print("probe: ");
  firmware_.print(scenario_);
  firmware_.print(": it does not hold that ");
  firmware_.print(what);
  firmware_.print("\n");
  return false;
}

void Probe::note(std::string_view text, std::uint64_t value) const {
  firmware_.print("probe: ");
  firmware_.print(scenario_);
  firmware_.print(": ");
  firmware_.print(text);
  firmware_.print(" ");
  print_hex(value);
  firmware_.print("\n");
}

namespace {

/// Calls `use` with every range of `type` in the memory map.
template <class Use>
void for_each_range(const accede::efi::Firmware& firmware, MemoryType type, Use use) {
  const auto map = firmware.memory_map();
  if (!map) {
    firmware.give_up(map.error());
  }
  const auto view = MemoryMapView::make(map->bytes, map->stride);
  for (std::size_t i = 0; view && i < view->size(); ++i) {
    if (const auto range = view->range(i);
        range && (*view)[i].type == static_cast<std::uint32_t>(type)) {
      use(*range);
    }
  }
}

}  // namespace

PhysRange Probe::first_range(MemoryType type) const {
  PhysRange first;
  for_each_range(firmware_, type, [&](PhysRange range) {
    if (first.empty() || range.begin() < first.begin()) {
      first = range;
    }
  });
  return first;
}

PhysAddr Probe::emulator_unit() {
  constexpr PhysAddr k4GiB{1ULL << 32};
  PhysAddr free_end;
  for_each_range(firmware_, MemoryType::kConventional, [&](PhysRange range) {
    free_end = range.end() <= k4GiB ? std::max(free_end, range.end()) : free_end;
  });
  PhysRange largest;
  for_each_range(firmware_, MemoryType::kReserved, [&](PhysRange range) {
    if (range.end() <= free_end && range.size() > largest.size()) {
      largest = range;
    }
  });
  expect("the emulator's memory is in the map", largest.size() >= 32_MiB);
  // The allocation begins up to 2 MiB below what the emulator uses.
  return largest.begin().align_up(2_MiB) + 16_MiB;
}

PhysAddr Probe::take_unit(std::uint64_t behind) {
  if (!found_) {
    unaccepted_ = first_range(MemoryType::kUnaccepted);
    found_ = true;
  }
  const PhysAddr begin = unaccepted_.begin().align_up(2_MiB);
  const auto unit = PhysRange::make(begin, 2_MiB * (behind + 1));
  if (!unit || !unaccepted_.contains(*unit)) {
    firmware_.give_up(Failure{"probe: no unaccepted memory is left"});
  }
  unaccepted_ = *PhysRange::make(unit->end(), unaccepted_.end());
  return begin;
}

PhysAddr Probe::take_accepted_unit() {
  const PhysAddr unit = take_unit();
  expect("accept of a fresh unit", accept(unit, PageSize::k2M), 0);
  return unit;
}

}  // namespace probe
