// A TD's memory: names, construction, what the host knows of a page, and the pages of the launch.
#include "accede/host/td_memory.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/region_lock.hpp"
#include "accede/host/sept_state.hpp"

#include <algorithm>

namespace accede::host {

using namespace internal;
using namespace std::string_view_literals;

using abi::tdx::PageOperand;
using abi::tdx::sept_level;

std::string_view name(Backing backing) {
  return backing == Backing::k2M ? "2M"sv : "4K"sv;
}

std::string_view name(AcceptOutcomeKind kind) {
  switch (kind) {
    case AcceptOutcomeKind::kCompleted:
      return "completed"sv;
    case AcceptOutcomeKind::kInterrupted:
      return "interrupted"sv;
    case AcceptOutcomeKind::kSharedPage:
      return "private access to a shared page"sv;
    case AcceptOutcomeKind::kNotRam:
      return "no RAM there"sv;
    case AcceptOutcomeKind::kOutOfStorage:
      return "page-state storage exhausted"sv;
  }
  return "unknown"sv;
}

std::string_view name(TouchKind kind) {
  switch (kind) {
    case TouchKind::kMapped:
      return "mapped"sv;
    case TouchKind::kShared:
      return "shared"sv;
    case TouchKind::kRetry:
      return "conversion under way"sv;
    case TouchKind::kPendingExit:
      return "not accepted, TD exit"sv;
    case TouchKind::kPendingVe:
      return "not accepted, #VE"sv;
    case TouchKind::kSharedPage:
      return "private access to a shared page"sv;
    case TouchKind::kPrivatePage:
      return "shared access to a private page"sv;
    case TouchKind::kNotRam:
      return "no RAM there"sv;
    case TouchKind::kOutOfStorage:
      return "page-state storage exhausted"sv;
  }
  return "unknown"sv;
}

std::string_view name(AdoptError error) {
  switch (error) {
    case AdoptError::kUnaligned:
      return "not a multiple of 4 KiB"sv;
    case AdoptError::kNotRam:
      return "not all RAM"sv;
    case AdoptError::kNotFree:
      return "in use already"sv;
    case AdoptError::kOutOfStorage:
      return "page-state storage exhausted"sv;
  }
  return "unknown"sv;
}

std::string_view name(MapGpaKind kind) {
  return kind == MapGpaKind::kAnswered ? "answered"sv : "page-state storage exhausted"sv;
}

TdMemory::TdMemory(SecureEpt& sept, PageAttributes& attributes, std::span<const PhysRange> ram,
                   Backing backing, Bytes hpa_offset)
    : sept_{sept}, attributes_{attributes}, ram_{ram}, backing_{backing}, hpa_offset_{hpa_offset} {
  ACCEDE_ASSERT(hpa_offset % 2_MiB == Bytes{0});
  PhysAddr last{};
  for (const PhysRange range : ram) {
    ACCEDE_ASSERT(last <= range.begin() && attributes.range().contains(range) &&
                  range.end() <= sept.private_end());
    ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
    last = range.end();
  }
}

bool TdMemory::is_ram(PhysRange pages) const {
  PhysAddr covered = pages.begin();
  // Ranges may touch each other: the pages may lie in several.
  for (auto range = std::partition_point(ram_.begin(), ram_.end(),
                                         [&](PhysRange r) { return r.end() <= covered; });
       range != ram_.end() && range->contains(covered); ++range) {
    covered = range->end();
    if (covered >= pages.end()) {
      return true;
    }
  }
  return covered >= pages.end();
}

PageReport TdMemory::state_of(PhysAddr gpa) const {
  PageReport report;
  report.ram = is_ram(PhysRange::page(gpa, PageSize::k4K));
  if (attributes_.range().contains(gpa)) {
    report.attribute = attributes_.get(gpa);
  }
  report.entry = sept_.lookup(gpa).value_or(EntryView{});
  return report;
}

bool TdMemory::invariants() const {
  bool sound = sept_.invariants();
  sept_.visit(*PhysRange::make(PhysAddr{}, sept_.private_end()), [&](const StateRun& run) {
    if (is_free(run.state) || run.state == SeptState::kNonLeafBlocked) {
      return;
    }
    sound = sound && is_ram(run.range) && attributes_.all(run.range, PageAttribute::kPrivate);
  });
  return sound;
}

// --- Launch ---

/// Adopts the largest page at `gpa` that ends by `end`; returns its size.
std::expected<Bytes, AdoptError> TdMemory::adopt_page(PhysAddr gpa, PhysAddr end) {
  const ConversionScope scope{region(gpa)};
  PageSize size = gpa.is_aligned(2_MiB) && end - gpa >= 2_MiB ? PageSize::k2M : PageSize::k4K;
  if (!attributes_.all(*PhysRange::make(gpa, bytes(size)), PageAttribute::kPrivate)) {
    return std::unexpected{AdoptError::kNotFree};
  }
  if (add_tables(gpa, sept_level(size)) == Step::kOutOfStorage) {
    return std::unexpected{AdoptError::kOutOfStorage};
  }
  HostCall call = sept_.page_aug(gpa, sept_level(size), hpa_of(gpa));
  if (call.has_value() && size == PageSize::k2M && is_non_leaf(call->state)) {
    size = PageSize::k4K;
    call = sept_.page_aug(gpa, sept_level(size), hpa_of(gpa));
  }
  if (!call.has_value()) {
    return std::unexpected{AdoptError::kOutOfStorage};
  }
  if (call->status != 0) {
    return std::unexpected{AdoptError::kNotFree};
  }
  const GuestCallResult accepted = sept_.accept_keeping_content(PageOperand::make(gpa, size));
  if (accepted.kind == GuestCallKind::kOutOfStorage) {
    return std::unexpected{AdoptError::kOutOfStorage};
  }
  ACCEDE_ASSERT(accepted.kind == GuestCallKind::kCompleted && accepted.rax == 0);
  if (size == PageSize::k2M && backing_ == Backing::k4K) {
    demote_adopted(gpa);
  }
  return bytes(size);
}

/// 512 small pages, as if each had been adopted, but in three calls and without a table.
void TdMemory::demote_adopted(PhysAddr gpa) {
  const HostCall block = sept_.range_block(gpa, SeptLevel::k2M);
  const bool tracked = sept_.track() == 0;
  const HostCall demote = sept_.page_demote(gpa, SeptLevel::k2M);
  ACCEDE_ASSERT(block.has_value() && block->status == 0 && tracked && demote.has_value() &&
                demote->status == 0);
}

std::expected<Bytes, AdoptError> TdMemory::adopt(PhysRange range) {
  if (!range.begin().is_aligned(4_KiB) || !range.end().is_aligned(4_KiB)) {
    return std::unexpected{AdoptError::kUnaligned};
  }
  if (!is_ram(range)) {
    return std::unexpected{AdoptError::kNotRam};
  }
  for (PhysAddr gpa = range.begin(); gpa < range.end();) {
    const std::expected<Bytes, AdoptError> page = adopt_page(gpa, range.end());
    if (!page.has_value()) {
      return page;
    }
    gpa += *page;
  }
  return range.size();
}

}  // namespace accede::host
