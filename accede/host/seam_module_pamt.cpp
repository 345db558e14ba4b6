// SEAMCALL model: dynamic PAMT (PHYMEM.PAMT.ADD, PHYMEM.PAMT.REMOVE).
#include "accede/host/seam_module.hpp"

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <utility>

namespace accede::host {

using abi::tdx::Operand;
using abi::tdx::PageOperand;
using abi::tdx::Status;

namespace {

bool same_region(PhysAddr a, PhysAddr b) {
  return a.align_down(2_MiB) == b.align_down(2_MiB);
}

}  // namespace

/// Success when RCX names a 2M region and there is dynamic PAMT.
SeamCall SeamModule::check_region(std::uint64_t rcx) const {
  if (!pamt_.dynamic()) {
    return answer(Status::kOperandInvalid, Operand::kRax);
  }
  const PhysAddr region = PageOperand::gpa(rcx);
  const bool named = PageOperand::Level::get(rcx) == static_cast<std::uint64_t>(PageSize::k2M) &&
                     PageOperand::ReservedLow::get(rcx) == 0 &&
                     PageOperand::ReservedHigh::get(rcx) == 0 && region.is_aligned(2_MiB) &&
                     region < memory_end();
  return named ? success() : answer(Status::kOperandInvalid, Operand::kRcx);
}

SeamCall SeamModule::phymem_pamt_add(std::uint64_t rcx, PhysAddr first, PhysAddr second) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  const PhysAddr hpa = PageOperand::gpa(rcx);
  const std::array pages{first, second};
  constexpr std::array kOperands{Operand::kRdx, Operand::kR8};
  if (const SeamCall refused = check_region(rcx); !refused->ok()) {
    return refused;
  }
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (!pages[i].is_aligned(4_KiB) || pages[i] >= memory_end()) {
      return answer(Status::kOperandInvalid, kOperands[i]);
    }
    if (!pamt_.covers(pages[i])) {
      return answer(Status::kOperandAddrRangeError, kOperands[i]);
    }
  }
  Got<PamtPage> region = walk(hpa, Operand::kRcx, PageSize::k2M, PamtLock::kExclusive);
  if (!region.has_value()) {
    return region.error();
  }
  if (region->level() != PageSize::k2M || region->type() != PamtType::kFree) {
    return answer(Status::kHpaRangeNotFree, Operand::kRcx);
  }
  // Held until they are lent, so that nobody takes them meanwhile.
  std::array<std::optional<PamtPage>, 2> held;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    // In the region itself there are no entries yet, and its entry is ours.
    if (same_region(pages[i], hpa)) {
      continue;
    }
    Got<PamtPage> found = walk(pages[i], kOperands[i], PageSize::k4K, PamtLock::kShared);
    if (!found.has_value()) {
      return found.error();
    }
    if (found->type() != PamtType::kFree) {
      return answer(Status::kPageNotFree, kOperands[i]);
    }
    held[i].emplace(*std::move(found));
  }
  if (!pamt_.lend(first)) {
    return answer(Status::kPageNotFree, Operand::kRdx);
  }
  if (!pamt_.lend(second)) {
    pamt_.give_back(first);
    return answer(Status::kPageNotFree, Operand::kR8);
  }
  if (!pamt_.add_pair(*region, hpa, pages)) {
    pamt_.give_back(first);
    pamt_.give_back(second);
    return std::unexpected{SeamError::kNoPageMetadata};
  }
  return success();
}

SeamCall SeamModule::phymem_pamt_remove(std::uint64_t rcx) {
  if (!ready()) {
    return answer(Status::kSysNotReady);
  }
  if (const SeamCall refused = check_region(rcx); !refused->ok()) {
    return refused;
  }
  Got<PamtPage> region =
      walk(PageOperand::gpa(rcx), Operand::kRcx, PageSize::k2M, PamtLock::kExclusive);
  if (!region.has_value()) {
    return region.error();
  }
  if (region->level() != PageSize::k2M || region->type() != PamtType::kPamt) {
    return answer(Status::kNoPamtPagePair, Operand::kRcx);
  }
  if (const std::optional<unsigned> used = pamt_.pair_in_use(*region)) {
    return answer(Status::kPamtPageNotEmpty, *used);
  }
  const std::array<PhysAddr, 2> pages = pamt_.remove_pair(*region);
  return SeamResult{.rdx = pages[0].value(), .r8 = pages[1].value()};
}

}  // namespace accede::host
