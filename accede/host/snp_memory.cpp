#include "accede/host/snp_memory.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

using namespace std::string_view_literals;

namespace {

bool is_assigned(const RmpEntry& entry) {
  return RmpEntry::Assigned::get(entry.low) != 0;
}
bool is_large(const RmpEntry& entry) {
  return is_assigned(entry) && RmpEntry::Large::get(entry.low) != 0;
}

/// The first page of the next 2M region, or `end`.
PhysAddr region_end(PhysAddr gpa, PhysAddr end) {
  return std::min(end, gpa.align_down(2_MiB) + 2_MiB);
}

}  // namespace

std::string_view name(SnpTouchKind kind) {
  switch (kind) {
    case SnpTouchKind::kMapped:
      return "mapped"sv;
    case SnpTouchKind::kNotValidated:
      return "not validated"sv;
    case SnpTouchKind::kRefused:
      return "refused by the RMP"sv;
    case SnpTouchKind::kNotRam:
      return "not RAM"sv;
  }
  return "unknown"sv;
}

std::string_view name(SnpPvalidateKind kind) {
  switch (kind) {
    case SnpPvalidateKind::kCompleted:
      return "completed"sv;
    case SnpPvalidateKind::kRefused:
      return "refused by the RMP"sv;
    case SnpPvalidateKind::kNotRam:
      return "not RAM"sv;
  }
  return "unknown"sv;
}

SnpMemory::SnpMemory(Rmp& rmp, PageAttributes& attributes, std::span<const PhysRange> ram,
                     const SnpMemoryConfig& config)
    : rmp_{rmp},
      attributes_{attributes},
      ram_{ram},
      config_{config},
      assignment_{
          rmp,
          attributes,
          ram,
          {.asid = config.asid, .backing = config.backing, .hpa_offset = config.hpa_offset}} {
  ACCEDE_ASSERT(config.asid >= 1 && config.asid <= 1023);
  ACCEDE_ASSERT(config.hpa_offset % 2_MiB == Bytes{0});
  PhysAddr previous;
  for (const PhysRange range : ram) {
    ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
    ACCEDE_ASSERT(range.begin() >= previous && attributes.range().contains(range));
    ACCEDE_ASSERT(
        rmp.covered().contains(*PhysRange::make(hpa_of(range.begin()), hpa_of(range.end()))));
    previous = range.end();
  }
}

std::expected<Bytes, AdoptError> SnpMemory::adopt(PhysRange range, const HostDuties* duties) {
  if (!range.begin().is_aligned(4_KiB) || !range.end().is_aligned(4_KiB)) {
    return std::unexpected{AdoptError::kUnaligned};
  }
  if (!range.empty() && !is_ram(range)) {
    return std::unexpected{AdoptError::kNotRam};
  }
  for (PhysAddr page = range.begin(); page < range.end();) {
    const SpinGuard guard{region(page)};
    const AssignOutcome outcome =
        assignment_.first_use(page, range, RmpAssignment::Purpose::kLaunch, duties);
    if (outcome != AssignOutcome::kAssigned4K && outcome != AssignOutcome::kAssigned2M) {
      return std::unexpected{AdoptError::kNotFree};
    }
    page += outcome == AssignOutcome::kAssigned2M ? 2_MiB : 4_KiB;
  }
  return range.size();
}

/// True when the page was shared and is private now. Under the region's lock.
bool SnpMemory::make_private(PhysAddr page, const SnpMemoryHooks& hooks) {
  if (attributes_.get(page) == PageAttribute::kPrivate) {
    return false;
  }
  const PhysRange pages = PhysRange::page(page, PageSize::k4K);
  hooks.shared_gone(pages);
  attributes_.set(pages, PageAttribute::kPrivate);
  return true;
}

/// Makes one 2 MiB entry 512 of 4 KiB. Under the region's lock.
bool SnpMemory::smash(PhysRange whole, const SnpMemoryHooks& hooks) {
  if (rmp_.psmash(hpa_of(whole.begin())) != PsmashCode::kSuccess) {
    return false;
  }
  if (hooks.smashed != nullptr) {
    (*hooks.smashed)(whole);
  }
  return true;
}

SnpPvalidate SnpMemory::pvalidate(PhysAddr gpa, std::uint32_t ecx, bool validate,
                                  const SnpMemoryHooks& hooks) {
  const PhysAddr page = gpa.align_down(4_KiB);
  SnpPvalidate result;
  if (!is_ram(PhysRange::page(page, PageSize::k4K))) {
    return result;
  }
  const SpinGuard guard{region(page)};
  const PhysRange whole = PhysRange::page(page, PageSize::k2M);
  const auto attempt = [&] {
    return rmp_.pvalidate(hpa_of(page), gpa, config_.asid, ecx, validate);
  };
  PvalidateOutcome outcome = attempt();
  if (outcome.fault == RmpVerdict::kNotAssigned) {
    result.converted = make_private(page, hooks);
    (void)assignment_.first_use(page, whole, RmpAssignment::Purpose::kUse, hooks.duties);
    outcome = attempt();
  }
  if (outcome.fault == RmpVerdict::kSizeMismatch) {
    (void)smash(whole, hooks);
    outcome = attempt();
  }
  result.kind = outcome.fault == RmpVerdict::kAllowed ? SnpPvalidateKind::kCompleted
                                                      : SnpPvalidateKind::kRefused;
  result.verdict = outcome.fault;
  result.code = outcome.code;
  result.carry = outcome.carry;
  if (outcome == PvalidateOutcome{}) {
    const PageSize size = ecx == abi::rmp::kSize2M ? PageSize::k2M : PageSize::k4K;
    result.bytes = bytes(size);
    if (validate) {
      hooks.validated(page, hpa_of(page), size);
    } else {
      hooks.private_gone(PhysRange::page(page, size));
    }
  }
  return result;
}

/// Runs `attempt` and mends what a host can mend: a page without an entry, a 2 MiB entry.
template <class Attempt>
SnpRmpAdjust SnpMemory::adjust(PhysAddr gpa, const SnpMemoryHooks& hooks, Attempt attempt) {
  const PhysAddr page = gpa.align_down(4_KiB);
  if (!is_ram(PhysRange::page(page, PageSize::k4K))) {
    return {};
  }
  const SpinGuard guard{region(page)};
  const PhysRange whole = PhysRange::page(page, PageSize::k2M);
  const GuestPage target{.spa = hpa_of(page), .gpa = gpa, .asid = config_.asid, .vmpl = 0};
  RmpAdjustOutcome outcome = attempt(target);
  bool converted = false;
  if (outcome.fault == RmpVerdict::kNotAssigned) {
    converted = make_private(page, hooks);
    (void)assignment_.first_use(page, whole, RmpAssignment::Purpose::kUse, hooks.duties);
    outcome = attempt(target);
  }
  if (outcome.fault == RmpVerdict::kSizeMismatch) {
    (void)smash(whole, hooks);
    outcome = attempt(target);
  }
  const bool completed =
      outcome.fault == RmpVerdict::kAllowed || outcome.fault == RmpVerdict::kNotValidated;
  return {.kind = completed ? SnpPvalidateKind::kCompleted : SnpPvalidateKind::kRefused,
          .outcome = outcome,
          .converted = converted};
}

SnpRmpAdjust SnpMemory::rmpadjust(PhysAddr gpa, std::uint64_t rcx, std::uint64_t rdx,
                                  const SnpMemoryHooks& hooks) {
  return adjust(gpa, hooks, [&](const GuestPage& page) { return rmp_.rmpadjust(page, rcx, rdx); });
}

SnpRmpAdjust SnpMemory::rmpquery(PhysAddr gpa, std::uint64_t rdx, const SnpMemoryHooks& hooks) {
  return adjust(gpa, hooks, [&](const GuestPage& page) { return rmp_.rmpquery(page, rdx); });
}

SnpTouch SnpMemory::touch_private(PhysAddr gpa, const SnpMemoryHooks& hooks) {
  const PhysAddr page = gpa.align_down(4_KiB);
  SnpTouch touch;
  if (!is_ram(PhysRange::page(page, PageSize::k4K))) {
    return touch;
  }
  const SpinGuard guard{region(page)};
  touch.converted = make_private(page, hooks);
  (void)assignment_.first_use(page, PhysRange::page(page, PageSize::k2M),
                              RmpAssignment::Purpose::kUse, hooks.duties);
  const PageSize size = is_large(entry(page)) ? PageSize::k2M : PageSize::k4K;
  touch.verdict = rmp_.check_private(
      hpa_of(page),
      {.gpa = page, .asid = config_.asid, .nested_size = size, .write = false, .vmpl = 0});
  switch (touch.verdict) {
    case RmpVerdict::kAllowed: {
      touch.kind = SnpTouchKind::kMapped;
      const PhysAddr base = page.align_down(bytes(size));
      hooks.validated(base, hpa_of(base), size);
      break;
    }
    case RmpVerdict::kNotValidated:
      touch.kind = SnpTouchKind::kNotValidated;
      break;
    default:
      touch.kind = SnpTouchKind::kRefused;
  }
  return touch;
}

SnpTouch SnpMemory::touch_shared(PhysAddr gpa,
                                 FunctionRef<void(PhysAddr gpa, PhysAddr hpa)> mapped_shared,
                                 const SnpMemoryHooks& hooks) {
  const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
  SnpTouch touch;
  if (!is_ram(page)) {
    return touch;
  }
  const SpinGuard guard{region(gpa)};
  touch.converted = attributes_.get(gpa) == PageAttribute::kPrivate;
  if (!convert_chunk(page, PageAttribute::kShared, hooks)) {
    touch.kind = SnpTouchKind::kRefused;
    const bool immutable = RmpEntry::Immutable::get(entry(page.begin()).low) != 0;
    touch.verdict = immutable ? RmpVerdict::kImmutable : RmpVerdict::kNotHypervisor;
    touch.converted = false;
    return touch;
  }
  touch.kind = SnpTouchKind::kMapped;
  mapped_shared(page.begin(), hpa_of(page.begin()));
  return touch;
}

/// Makes the RMP entries of `pages`, in one 2M region, the hypervisor's. False: one is immutable or
/// in use (a vCPU runs on its VMSA there); nothing changed, unless it came into use meanwhile.
/// Under the region's lock.
bool SnpMemory::take_back(PhysRange pages, const SnpMemoryHooks& hooks) {
  for (PhysAddr page = pages.begin(); page < pages.end(); page += 4_KiB) {
    if (RmpEntry::Immutable::get(entry(page).low) != 0 ||
        rmp_.in_use(hpa_of(page), PageSize::k4K)) {
      return false;
    }
  }
  const PhysRange whole = PhysRange::page(pages.begin(), PageSize::k2M);
  const bool large = is_large(entry(pages.begin()));
  if (large && rmp_.in_use(hpa_of(whole.begin()), PageSize::k2M)) {
    return false;
  }
  hooks.private_gone(pages);
  if (large) {
    if (pages == whole) {
      return return_page(rmp_, hpa_of(whole.begin()), PageSize::k2M, hooks.duties) ==
             RmpUpdateCode::kSuccess;
    }
    if (!smash(whole, hooks)) {
      return false;
    }
  }
  for (PhysAddr page = pages.begin(); page < pages.end(); page += 4_KiB) {
    if (is_assigned(entry(page)) &&
        return_page(rmp_, hpa_of(page), PageSize::k4K, hooks.duties) != RmpUpdateCode::kSuccess) {
      return false;
    }
  }
  return true;
}

/// Converts `pages`, RAM in one 2M region, run by run. Under the region's lock.
bool SnpMemory::convert_chunk(PhysRange pages, PageAttribute to, const SnpMemoryHooks& hooks) {
  while (!pages.empty()) {
    const PhysRange run = attributes_.run(pages);
    if (attributes_.get(run.begin()) != to) {
      if (to == PageAttribute::kPrivate) {
        hooks.shared_gone(run);
      } else if (!take_back(run, hooks)) {
        return false;
      }
      attributes_.set(run, to);
    }
    pages = *PhysRange::make(run.end(), pages.end());
  }
  return true;
}

bool SnpMemory::convert(PhysRange pages, PageAttribute to, const SnpMemoryHooks& hooks) {
  for (const PhysRange range : ram_) {
    const PhysRange part = pages.intersect(range);
    for (PhysAddr gpa = part.begin(); gpa < part.end(); gpa = region_end(gpa, part.end())) {
      const SpinGuard guard{region(gpa)};
      if (!convert_chunk(*PhysRange::make(gpa, region_end(gpa, part.end())), to, hooks)) {
        return false;
      }
    }
  }
  return true;
}

bool SnpMemory::invariants() const {
  bool sound = rmp_.invariants();
  for (const PhysRange range : ram_) {
    for (PhysAddr page = range.begin(); page < range.end(); page += 4_KiB) {
      sound =
          sound && (attributes_.get(page) == PageAttribute::kPrivate || !is_assigned(entry(page)));
    }
  }
  return sound;
}

}  // namespace accede::host
