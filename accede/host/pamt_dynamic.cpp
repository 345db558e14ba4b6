// Dynamic PAMT: entries of 4 KiB pages in pairs of pages that the host lends.
#include "accede/base/assert.hpp"
#include "accede/host/pamt.hpp"
#include "accede/host/pamt_entry.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace accede::host {

using namespace internal;

namespace {

std::uint64_t bit_of(PhysAddr page) {
  return 1ULL << (page.value() >> 12) % 64;
}

}  // namespace

/// The word with the bits of the 64 pages around `page`: they follow the entries of its GiB.
std::atomic_ref<std::uint64_t> Pamt::lent_word(PhysAddr page) const {
  const Tdmr* tdmr = covering(page);
  ACCEDE_ASSERT(dynamic_ && tdmr != nullptr);
  const std::uint64_t link =
      std::atomic_ref{gib_entry(*tdmr, page).link}.load(std::memory_order_acquire);
  ACCEDE_ASSERT(TableField::get(link) != 0);
  auto* words = reinterpret_cast<std::uint64_t*>(table(TableField::get(link) + 1));
  return std::atomic_ref{words[(page.value() >> 12) % (1_GiB / 4_KiB) / 64]};
}

bool Pamt::lent(PhysAddr page) const {
  return (lent_word(page).load(std::memory_order_acquire) & bit_of(page)) != 0;
}

bool Pamt::lend(PhysAddr page) {
  return !reserved(*covering(page), page, 4_KiB) &&
         (lent_word(page).fetch_or(bit_of(page), std::memory_order_acq_rel) & bit_of(page)) == 0;
}

void Pamt::give_back(PhysAddr page) {
  lent_word(page).fetch_and(~bit_of(page), std::memory_order_acq_rel);
}

bool Pamt::add_pair(PamtPage& region, PhysAddr hpa, std::array<PhysAddr, 2> pages) {
  ACCEDE_ASSERT(dynamic_ && region.level() == PageSize::k2M && region.type() == PamtType::kFree);
  if (table_below(region.entry(), *covering(hpa), hpa, PageSize::k4K) == nullptr) {
    return false;
  }
  const std::atomic_ref link{region.entry().link};
  link.store(SecondPageField::set(link.load(std::memory_order_relaxed), pages[1].value() >> 12),
             std::memory_order_relaxed);
  region.assign(PamtType::kPamt, pages[0]);
  return true;
}

std::optional<unsigned> Pamt::pair_in_use(const PamtPage& region) const {
  const std::uint64_t link = std::atomic_ref{region.entry().link}.load(std::memory_order_acquire);
  if (TableField::get(link) == 0) {
    return std::nullopt;
  }
  PamtEntry* entries = table(TableField::get(link));
  const PamtEntry* used = std::find_if(entries, entries + kPamtEntries, [this](PamtEntry& entry) {
    const PamtType type = type_of(entry);
    return type != PamtType::kFree && !(dynamic_ && type == PamtType::kReserved);
  });
  const auto index = static_cast<std::size_t>(used - entries);
  return index == kPamtEntries ? std::nullopt
                               : std::optional{static_cast<unsigned>(index / (kPamtEntries / 2))};
}

std::array<PhysAddr, 2> Pamt::remove_pair(PamtPage& region) {
  ACCEDE_ASSERT(region.type() == PamtType::kPamt && !pair_in_use(region).has_value());
  const std::array pages{region.owner(), PhysAddr{SecondPageField::get(region.entry().link) << 12}};
  for (const PhysAddr page : pages) {
    give_back(page);
  }
  region.free();
  return pages;
}

}  // namespace accede::host
