// The TDX module's checks of CMRs and TDMRs, in its order.
#include "accede/host/tdmr_check.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace accede::host {

namespace {

using abi::tdx::CmrInfo;
using abi::tdx::kMostReservedAreas;
using abi::tdx::Operand;
using abi::tdx::PamtArea;
using abi::tdx::ReservedArea;
using abi::tdx::Status;
using abi::tdx::status;
using abi::tdx::TdmrInfo;

constexpr std::uint64_t kPage = 4096;
/// Highest first key bit with which the module has room for addresses in dynamic PAMT entries.
constexpr unsigned kDynamicPamtAddressBits = 48;

bool wraps(std::uint64_t base, std::uint64_t size) {
  return size > std::numeric_limits<std::uint64_t>::max() - base;
}

/// Precondition, here and below: checked not to wrap.
PhysRange range_of(std::uint64_t base, std::uint64_t size) {
  return *PhysRange::make(PhysAddr{base}, Bytes{size});
}
PhysRange range_of(const PamtArea& area) {
  return range_of(area.base, area.size);
}

std::uint64_t blame(Status code, std::size_t tdmr, std::size_t part = 0, std::size_t other = 0) {
  return status(code, static_cast<std::uint32_t>(tdmr | part << 8 | other << 16));
}
std::uint64_t blame(Status code, std::size_t tdmr, PageSize page, std::size_t other = 0) {
  return blame(code, tdmr, static_cast<std::size_t>(page), other);
}

const PamtArea& pamt_of(const TdmrInfo& tdmr, PageSize page) {
  return page == PageSize::k1G ? tdmr.pamt_1g : page == PageSize::k2M ? tdmr.pamt_2m : tdmr.pamt_4k;
}

constexpr std::array kSmallFirst{PageSize::k4K, PageSize::k2M, PageSize::k1G};
constexpr std::array kLargeFirst{PageSize::k1G, PageSize::k2M, PageSize::k4K};

/// Calls `use` with each part of a checked TDMR outside its reserved areas, until it returns false.
template <class Use>
bool for_each_usable(const TdmrInfo& tdmr, Use use) {
  std::array<PhysRange, kMostReservedAreas> areas{};
  std::size_t count = 0;
  while (count < areas.size() && tdmr.reserved[count].size != 0) {
    const ReservedArea& area = tdmr.reserved[count];
    areas[count++] = range_of(tdmr.base + area.offset, area.size);
  }
  return for_each_gap(range_of(tdmr.base, tdmr.size), std::span{areas}.first(count), use);
}

bool overlaps_usable(const TdmrInfo& tdmr, const PamtArea& pamt) {
  return !for_each_usable(
      tdmr, [&](const PhysRange& usable) { return !usable.overlaps(range_of(pamt)); });
}

/// Adjacent CMRs count as one.
bool inside_cmrs(std::span<const CmrInfo> cmrs, PhysRange range) {
  PhysAddr begin{};
  PhysAddr end{};
  for (const CmrInfo& cmr : cmrs) {
    const PhysRange own = range_of(cmr.base, cmr.size);
    begin = own.begin() == end ? begin : own.begin();
    end = own.end();
    if (begin <= range.begin() && range.end() <= end) {
      return true;
    }
  }
  return false;
}

std::uint64_t check_place(const TdmrMachine& machine, std::span<const TdmrInfo> tdmrs,
                          std::size_t i) {
  const TdmrInfo& tdmr = tdmrs[i];
  if (wraps(tdmr.base, tdmr.size)) {
    return blame(Status::kInvalidTdmr, i);
  }
  if (i > 0 && tdmr.base < tdmrs[i - 1].base + tdmrs[i - 1].size) {
    return blame(Status::kNonOrderedTdmr, i);
  }
  const bool aligned = PhysAddr{tdmr.base | tdmr.size}.is_aligned(abi::tdx::kTdmrGranule);
  if (!aligned || tdmr.size == 0 || tdmr.base + tdmr.size > machine.memory_end().value()) {
    return blame(Status::kInvalidTdmr, i);
  }
  return 0;
}

std::uint64_t check_reserved(const TdmrInfo& tdmr, std::size_t i) {
  std::uint64_t last_end = 0;
  for (std::size_t j = 0; j < kMostReservedAreas; ++j) {
    const ReservedArea& area = tdmr.reserved[j];
    if (area.size == 0) {
      // The end of the list must be its end; the module blames the empty entry.
      if (j + 1 < kMostReservedAreas && tdmr.reserved[j + 1].size != 0) {
        return blame(Status::kNonOrderedReservedInTdmr, i, j);
      }
      continue;
    }
    if (wraps(area.offset, area.size)) {
      return blame(Status::kInvalidReservedInTdmr, i, j);
    }
    if (area.offset < last_end) {
      return blame(Status::kNonOrderedReservedInTdmr, i, j);
    }
    if (!PhysAddr{area.offset | area.size}.is_aligned(Bytes{kPage}) ||
        area.offset + area.size > tdmr.size) {
      return blame(Status::kInvalidReservedInTdmr, i, j);
    }
    last_end = area.offset + area.size;
  }
  return 0;
}

bool pamt_valid(const TdmrMachine& machine, const TdmrInfo& tdmr, PageSize page) {
  const PamtArea& pamt = pamt_of(tdmr, page);
  return !wraps(pamt.base, pamt.size) && PhysAddr{pamt.base | pamt.size}.is_aligned(Bytes{kPage}) &&
         pamt.base + pamt.size <= machine.memory_end().value() &&
         pamt.size >= least_pamt_size(Bytes{tdmr.size}, page, machine.dynamic_pamt).value();
}

/// PAMTs of the TDMR `i` against those of the TDMRs before it, then among themselves.
std::uint64_t check_pamt_apart(std::span<const TdmrInfo> tdmrs, std::size_t i) {
  for (std::size_t j = 0; j < i; ++j) {
    for (const PageSize page : kSmallFirst) {
      const PhysRange own = range_of(pamt_of(tdmrs[i], page));
      if (std::ranges::any_of(kSmallFirst, [&](PageSize other) {
            return own.overlaps(range_of(pamt_of(tdmrs[j], other)));
          })) {
        return blame(Status::kPamtOverlap, i, page, j);
      }
    }
  }
  for (const PageSize page : kSmallFirst) {
    for (const PageSize other : kSmallFirst) {
      if (page < other &&
          range_of(pamt_of(tdmrs[i], page)).overlaps(range_of(pamt_of(tdmrs[i], other)))) {
        return blame(Status::kPamtOverlap, i, page, i);
      }
    }
  }
  return 0;
}

/// The first PAMT of the TDMR `owner` that lies in usable memory of the TDMR `memory`.
std::uint64_t check_pamt_outside(std::span<const TdmrInfo> tdmrs, std::size_t owner,
                                 std::size_t memory) {
  for (const PageSize page : kSmallFirst) {
    if (overlaps_usable(tdmrs[memory], pamt_of(tdmrs[owner], page))) {
      return blame(Status::kPamtOverlap, owner, page, memory);
    }
  }
  return 0;
}

std::uint64_t check_pamt(const TdmrMachine& machine, std::span<const TdmrInfo> tdmrs,
                         std::size_t i) {
  for (const PageSize page : kLargeFirst) {
    if (!pamt_valid(machine, tdmrs[i], page)) {
      return blame(Status::kInvalidPamt, i, page);
    }
  }
  if (const std::uint64_t refused = check_pamt_apart(tdmrs, i); refused != 0) {
    return refused;
  }
  for (std::size_t j = 0; j <= i; ++j) {
    if (const std::uint64_t refused = check_pamt_outside(tdmrs, i, j); refused != 0) {
      return refused;
    }
    if (const std::uint64_t refused = check_pamt_outside(tdmrs, j, i); refused != 0) {
      return refused;
    }
  }
  for (const PageSize page : kLargeFirst) {
    if (!inside_cmrs(machine.cmrs, range_of(pamt_of(tdmrs[i], page)))) {
      return blame(Status::kPamtOutsideCmrs, i, page);
    }
  }
  return 0;
}

std::uint64_t check_tdmr(const TdmrMachine& machine, std::span<const TdmrInfo> tdmrs,
                         std::size_t i) {
  if (const std::uint64_t refused = check_place(machine, tdmrs, i); refused != 0) {
    return refused;
  }
  if (const std::uint64_t refused = check_reserved(tdmrs[i], i); refused != 0) {
    return refused;
  }
  if (const std::uint64_t refused = check_pamt(machine, tdmrs, i); refused != 0) {
    return refused;
  }
  const bool convertible = for_each_usable(
      tdmrs[i], [&](const PhysRange& usable) { return inside_cmrs(machine.cmrs, usable); });
  return convertible ? 0 : blame(Status::kTdmrOutsideCmrs, i);
}

}  // namespace

PhysAddr TdmrMachine::memory_end() const {
  ACCEDE_ASSERT(key_bits < physical_bits && physical_bits <= 52);
  return PhysAddr{1ULL << (physical_bits - key_bits)};
}

Bytes least_pamt_size(Bytes size, PageSize page, bool dynamic_pamt) {
  ACCEDE_ASSERT(size % abi::tdx::kTdmrGranule == Bytes{} && size.value() < 1ULL << 52);
  const std::uint64_t pages = size / bytes(page);
  const std::uint64_t least =
      dynamic_pamt && page == PageSize::k4K ? pages / 8 : pages * abi::tdx::kPamtEntryBytes.value();
  return Bytes{(least + kPage - 1) / kPage * kPage};
}

std::uint64_t check_cmrs(const TdmrMachine& machine) {
  const std::uint64_t invalid = status(Status::kCmrListInvalid);
  if (machine.cmrs.size() > abi::tdx::kMostCmrs) {
    return invalid;
  }
  std::uint64_t last_end = 0;
  for (const CmrInfo& cmr : machine.cmrs) {
    if (cmr.size == 0 || wraps(cmr.base, cmr.size) || cmr.base < last_end ||
        !PhysAddr{cmr.base | cmr.size}.is_aligned(Bytes{kPage}) ||
        cmr.base + cmr.size > machine.memory_end().value()) {
      return invalid;
    }
    last_end = cmr.base + cmr.size;
  }
  return 0;
}

std::uint64_t check_tdmrs(const TdmrMachine& machine, std::span<const TdmrInfo> tdmrs) {
  ACCEDE_ASSERT(check_cmrs(machine) == 0);
  if (tdmrs.empty() || tdmrs.size() > abi::tdx::kMostTdmrs) {
    return status(Status::kOperandInvalid, Operand::kRdx);
  }
  if (machine.dynamic_pamt && machine.physical_bits - machine.key_bits > kDynamicPamtAddressBits) {
    return status(Status::kOperandInvalid, Operand::kR8);
  }
  for (std::size_t i = 0; i < tdmrs.size(); ++i) {
    if (const std::uint64_t refused = check_tdmr(machine, tdmrs, i); refused != 0) {
      return refused;
    }
  }
  return 0;
}

}  // namespace accede::host
