#include "accede/memory_map/memmap_option.hpp"

#include "accede/abi/e820.hpp"
#include "accede/memory_map/region_list.hpp"
#include "accede/memory_map/text_scan.hpp"

#include <limits>
#include <optional>
#include <string>

namespace accede::memory_map {
namespace {

constexpr std::string_view kSeparators = ", \t\n\r";

RegionKind kind_of(std::uint64_t e820_type) {
  using abi::e820::Type;
  constexpr std::uint64_t kSoftReserved = 0xEFFF'FFFF;
  constexpr std::uint64_t kOldPersistent = 12;
  switch (e820_type) {
    case static_cast<std::uint64_t>(Type::kRam):
      return RegionKind::kRam;
    case static_cast<std::uint64_t>(Type::kPersistent):
    case kOldPersistent:
      return RegionKind::kPersistent;
    case kSoftReserved:
      return RegionKind::kSpecificPurpose;
    default:
      return RegionKind::kReserved;
  }
}

/// The types behind `N%S`: `-OLD` and `+NEW`.
bool retype_option(TextScan& scan, std::vector<Region>& regions, PhysRange range) {
  std::optional<RegionKind> from;
  std::optional<RegionKind> to;
  if (scan.skip("-")) {
    const auto type = scan.number();
    if (!type) {
      return false;
    }
    from = kind_of(*type);
  }
  if (scan.skip("+")) {
    const auto type = scan.number();
    if (!type) {
      return false;
    }
    to = kind_of(*type);
  }
  if (!scan.at_end()) {
    return false;
  }
  if (to && !from) {
    add_kind(regions, range, *to);
  } else {
    retype(regions, range, from, to);
  }
  return true;
}

/// False: not of any form.
bool apply_one(std::string_view option, std::vector<Region>& regions) {
  TextScan scan{option};
  scan.skip("memmap=");
  if (scan.rest() == "exactmap") {
    regions.clear();
    return true;
  }
  const auto size = scan.size();
  if (!size) {
    return false;
  }
  if (scan.at_end()) {
    constexpr PhysAddr kTop{std::numeric_limits<std::uint64_t>::max()};
    retype(regions, *PhysRange::make(PhysAddr{*size}, kTop), RegionKind::kRam, std::nullopt);
    return true;
  }
  const char sign = scan.rest().front();
  scan.skip(scan.rest().substr(0, 1));
  const auto start = scan.size();
  const auto range =
      start ? PhysRange::make(PhysAddr{*start}, Bytes{*size}) : std::optional<PhysRange>{};
  if (!range || range->empty()) {
    return false;
  }
  if (sign == '%') {
    return retype_option(scan, regions, *range);
  }
  constexpr std::string_view kSigns = "@#$!";
  if (!scan.at_end() || kSigns.find(sign) == std::string_view::npos) {
    return false;
  }
  add_kind(regions, *range,
           sign == '@'   ? RegionKind::kRam
           : sign == '!' ? RegionKind::kPersistent
                         : RegionKind::kReserved);
  return true;
}

}  // namespace

std::expected<void, ReadError> apply_memmap(std::string_view options,
                                            std::vector<Region>& regions) {
  std::vector<Region> changed = regions;
  while (true) {
    const auto begin = options.find_first_not_of(kSeparators);
    if (begin == std::string_view::npos) {
      break;
    }
    options.remove_prefix(begin);
    const auto option = options.substr(0, options.find_first_of(kSeparators));
    options.remove_prefix(option.size());
    if (!apply_one(option, changed)) {
      return std::unexpected{
          ReadError{.line = 0,
                    .message = "'" + std::string{option} +
                               "' is no memmap option: SIZE@START, "
                               "SIZE$START, SIZE!START, SIZE#START, SIZE%START-OLD+NEW, SIZE or "
                               "exactmap"}};
    }
  }
  regions = std::move(changed);
  return {};
}

}  // namespace accede::memory_map
