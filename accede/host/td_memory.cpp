#include "accede/host/td_memory.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

using namespace std::string_view_literals;

namespace {

using abi::tdx::code_of;
using abi::tdx::level_bytes;
using abi::tdx::PageOperand;
using abi::tdx::sept_level;
using abi::tdx::Status;
using abi::tdx::VmcallStatus;

constexpr std::uint32_t kConversion = 1U << 31;

/// An accept holds an entry for at most 2 MiB of zeroing; a vCPU leaves within an interrupt. Past
/// these counts something is wrong and the guest is asked to try again.
constexpr unsigned kBusyTries = 1U << 20;
constexpr unsigned kTrackTries = 1U << 12;
/// Exits that one TDCALL or access may need: tables, AUG, UNBLOCK, DEMOTE. More means that others
/// change the page at the same time; then the guest repeats the instruction.
constexpr unsigned kExitTries = 16;

bool is_free(SeptState state) {
  return state == SeptState::kFree || state == SeptState::kRemoved;
}
bool is_blocked(SeptState state) {
  return state == SeptState::kBlocked || state == SeptState::kPendingBlocked ||
         state == SeptState::kNonLeafBlocked;
}
bool is_non_leaf(SeptState state) {
  return state == SeptState::kNonLeafBlocked || state == SeptState::kNonLeafMapped;
}

/// The first page of the next 2M region, or `end`.
PhysAddr region_end(PhysAddr gpa, PhysAddr end) {
  return std::min(end, gpa.align_down(2_MiB) + 2_MiB);
}

}  // namespace

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

/// One of any number of faults in a region. Never waits.
class TdMemory::FaultScope {
 public:
  explicit FaultScope(std::atomic<std::uint32_t>& region) : region_{region} {
    entered_ = (region_.fetch_add(1, std::memory_order_acquire) & kConversion) == 0;
  }
  ~FaultScope() { region_.fetch_sub(1, std::memory_order_release); }
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;

  [[nodiscard]] bool entered() const { return entered_; }

 private:
  std::atomic<std::uint32_t>& region_;
  bool entered_;
};

/// The one conversion in a region. Waits for another one, then for the faults that are inside.
class TdMemory::ConversionScope {
 public:
  explicit ConversionScope(std::atomic<std::uint32_t>& region) : region_{region} {
    while ((region_.fetch_or(kConversion, std::memory_order_acquire) & kConversion) != 0) {
      __builtin_ia32_pause();
    }
    while (region_.load(std::memory_order_acquire) != kConversion) {
      __builtin_ia32_pause();
    }
  }
  ~ConversionScope() { region_.fetch_and(~kConversion, std::memory_order_release); }
  ConversionScope(const ConversionScope&) = delete;
  ConversionScope& operator=(const ConversionScope&) = delete;

 private:
  std::atomic<std::uint32_t>& region_;
};

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

std::atomic<std::uint32_t>& TdMemory::region(PhysAddr gpa) {
  return regions_[(gpa.value() >> page_shift(PageSize::k2M)) % regions_.size()];
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

// --- The host's answers to exits
// -------------------------------------------------------------------

PageSize TdMemory::backing_size(PhysAddr gpa, PageSize cap) const {
  const PhysRange large = PhysRange::page(gpa, PageSize::k2M);
  const bool fits = backing_ == Backing::k2M && cap != PageSize::k4K && is_ram(large) &&
                    attributes_.all(large, PageAttribute::kPrivate);
  return fits ? PageSize::k2M : PageSize::k4K;
}

/// SEPT.ADD of what is missing on the way to an entry of `down_to`.
TdMemory::Step TdMemory::add_tables(PhysAddr gpa, SeptLevel down_to) {
  for (;;) {
    const EntryView view = *sept_.lookup(gpa);
    if (!is_free(view.state) || view.level <= down_to) {
      return Step::kDone;
    }
    const HostCall call = sept_.sept_add(gpa.align_down(level_bytes(view.level)), view.level);
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
  }
}

/// AUG of the page that contains `gpa`, which is private RAM. kDone also when somebody was faster.
TdMemory::Step TdMemory::augment(PhysAddr gpa, PageSize cap, const TdMemoryHooks& hooks) {
  for (PageSize size = backing_size(gpa, cap);; size = PageSize::k4K) {
    if (const Step step = add_tables(gpa, sept_level(size)); step != Step::kDone) {
      return step;
    }
    const PhysAddr page = gpa.align_down(bytes(size));
    const HostCall call = sept_.page_aug(page, sept_level(size), hpa_of(page));
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
    if (call->status == 0) {
      hooks.augmented(page, size);
      return Step::kDone;
    }
    // A table of 4K entries is never taken away for a large page (mainline KVM: no merging).
    if (size == PageSize::k4K || !is_non_leaf(call->state)) {
      return Step::kDone;
    }
  }
}

TdMemory::Step TdMemory::track(const TdMemoryHooks& hooks) {
  for (unsigned tries = 0; tries < kTrackTries; ++tries) {
    const bool next_epoch = sept_.track() == 0;
    hooks.kick_vcpus();
    if (next_epoch) {
      return Step::kDone;
    }
    __builtin_ia32_pause();
  }
  return Step::kRetry;
}

/// Takes back a BLOCK that was not followed by its REMOVE. In a ConversionScope.
TdMemory::Step TdMemory::unblock(PhysAddr gpa, SeptLevel level, const TdMemoryHooks& hooks) {
  if (const Step step = track(hooks); step != Step::kDone) {
    return step;
  }
  const PhysAddr page = gpa.align_down(level_bytes(level));
  for (unsigned tries = 0; tries < kTrackTries; ++tries) {
    const HostCall call = sept_.range_unblock(page, level);
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
    if (code_of(call->status) != Status::kTlbTrackingNotDone) {
      return Step::kDone;
    }
    hooks.kick_vcpus();
  }
  return Step::kRetry;
}

/// BLOCK, TRACK, DEMOTE of the leaf of `level` around `gpa`. In a ConversionScope.
TdMemory::Step TdMemory::split(PhysAddr gpa, SeptLevel level, const TdMemoryHooks& hooks) {
  const PhysAddr page = gpa.align_down(level_bytes(level));
  const HostCall block = sept_.range_block(page, level);
  if (!block.has_value()) {
    return Step::kOutOfStorage;
  }
  if (code_of(block->status) == Status::kOperandBusy) {
    return Step::kBusy;
  }
  if (const Step step = track(hooks); step != Step::kDone) {
    return step;
  }
  for (unsigned tries = 0; tries < kTrackTries; ++tries) {
    const HostCall call = sept_.page_demote(page, level);
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
    if (code_of(call->status) != Status::kTlbTrackingNotDone) {
      return Step::kDone;
    }
    hooks.kick_vcpus();
  }
  return Step::kRetry;
}

/// Acts on an EPT violation of `gpa`, private RAM, met in `entry`; `cap` is the size that the guest
/// asked for. kDone: the guest may try again at once.
TdMemory::Step TdMemory::resolve(PhysAddr gpa, PageSize cap, const EntryView& entry,
                                 const TdMemoryHooks& hooks) {
  if (is_free(entry.state)) {
    const FaultScope scope{region(gpa)};
    if (!scope.entered()) {
      return Step::kRetry;
    }
    // Only now nobody can make the page shared.
    return attributes_.get(gpa) == PageAttribute::kPrivate ? augment(gpa, cap, hooks) : Step::kDone;
  }
  const ConversionScope scope{region(gpa)};
  const EntryView now = *sept_.lookup(gpa);
  if (is_blocked(now.state)) {
    return unblock(gpa, now.level, hooks);
  }
  if (now.state == SeptState::kPending && now.level > sept_level(cap)) {
    // Busy: the guest itself is accepting that page; better to let it finish than to wait.
    const Step step = split(gpa, now.level, hooks);
    return step == Step::kBusy ? Step::kRetry : step;
  }
  return Step::kDone;
}

/// Tells the embedder about the page around `gpa`. False when it has been converted since, or is
/// being converted: then the guest's next touch decides.
bool TdMemory::report_mapped(PhysAddr gpa, const TdMemoryHooks& hooks) {
  const FaultScope scope{region(gpa)};
  const Access access = sept_.access(gpa);
  if (!scope.entered() || access.kind != AccessKind::kMapped) {
    return false;
  }
  // A 1G page lies in many regions; only the 2M around the GPA is held.
  const auto size = static_cast<PageSize>(std::min(access.entry.level, SeptLevel::k2M));
  hooks.mapped(gpa.align_down(bytes(size)), access.entry.hpa.align_down(bytes(size)), size);
  return true;
}

// --- Guest calls and accesses
// ----------------------------------------------------------------------

namespace {

AcceptOutcome outcome_for(std::uint64_t rcx) {
  AcceptOutcome outcome;
  outcome.gpa = PageOperand::gpa(rcx);
  outcome.size = static_cast<PageSize>(std::min<std::uint64_t>(PageOperand::Level::get(rcx), 2));
  return outcome;
}

}  // namespace

AcceptOutcome TdMemory::accept(std::uint64_t rcx, SecureEpt::ZeroPage zero_page,
                               SecureEpt::InterruptPending interrupt_pending,
                               const TdMemoryHooks& hooks) {
  AcceptOutcome outcome = outcome_for(rcx);
  const auto end_with = [&](AcceptOutcomeKind kind) {
    outcome.kind = kind;
    return outcome;
  };
  for (unsigned tries = 0; tries < kExitTries; ++tries) {
    const GuestCallResult call = sept_.accept(rcx, zero_page, interrupt_pending);
    switch (call.kind) {
      case GuestCallKind::kCompleted:
        outcome.rax = call.rax;
        if (call.rax == 0) {
          outcome.bytes = bytes(outcome.size);
          (void)report_mapped(outcome.gpa, hooks);
        }
        return end_with(AcceptOutcomeKind::kCompleted);
      case GuestCallKind::kInterrupted:
        return end_with(AcceptOutcomeKind::kInterrupted);
      case GuestCallKind::kOutOfStorage:
        return end_with(AcceptOutcomeKind::kOutOfStorage);
      case GuestCallKind::kExit:
        break;
    }
    if (code_of(call.exit.rax) == Status::kHostPriorityBusyTimeout) {
      return end_with(AcceptOutcomeKind::kInterrupted);  // The host enters the TD again.
    }
    if (!is_ram(PhysRange::page(outcome.gpa, PageSize::k4K))) {
      return end_with(AcceptOutcomeKind::kNotRam);
    }
    if (attributes_.get(outcome.gpa) == PageAttribute::kShared) {
      return end_with(AcceptOutcomeKind::kSharedPage);
    }
    const EntryView entry{
        .state = call.exit.error_state, .level = call.exit.error_level, .hpa = {}};
    switch (resolve(outcome.gpa, outcome.size, entry, hooks)) {
      case Step::kDone:
        break;
      case Step::kBusy:
      case Step::kRetry:
        return end_with(AcceptOutcomeKind::kInterrupted);
      case Step::kOutOfStorage:
        return end_with(AcceptOutcomeKind::kOutOfStorage);
    }
  }
  return end_with(AcceptOutcomeKind::kInterrupted);
}

AcceptOutcome TdMemory::release(std::uint64_t rcx, const TdMemoryHooks& hooks) {
  AcceptOutcome outcome = outcome_for(rcx);
  const ConversionScope scope{region(outcome.gpa)};
  const GuestCallResult call = sept_.release(rcx);
  outcome.kind = call.kind == GuestCallKind::kCompleted ? AcceptOutcomeKind::kCompleted
                                                        : AcceptOutcomeKind::kOutOfStorage;
  outcome.rax = call.rax;
  outcome.rcx = call.rcx;
  if (outcome.kind == AcceptOutcomeKind::kCompleted && call.rax == 0) {
    outcome.bytes = bytes(outcome.size);
    hooks.private_gone(PhysRange::page(outcome.gpa, outcome.size));
  }
  return outcome;
}

Touch TdMemory::touch_private(PhysAddr gpa, const TdMemoryHooks& hooks) {
  Touch touch;
  if (!is_ram(PhysRange::page(gpa, PageSize::k4K))) {
    return touch;
  }
  for (unsigned tries = 0; tries < kExitTries; ++tries) {
    const Access access = sept_.access(gpa);
    if (tries == 0) {
      touch.before = access.entry;
    }
    if (attributes_.get(gpa) == PageAttribute::kShared) {
      touch.kind = TouchKind::kSharedPage;
      return touch;
    }
    switch (access.kind) {
      case AccessKind::kMapped:
        touch.kind = report_mapped(gpa, hooks) ? TouchKind::kMapped : TouchKind::kRetry;
        return touch;
      case AccessKind::kPendingExit:
        touch.kind = TouchKind::kPendingExit;
        return touch;
      case AccessKind::kPendingVe:
        touch.kind = TouchKind::kPendingVe;
        return touch;
      case AccessKind::kNotPrivate:
        return touch;
      case AccessKind::kViolationExit:
        break;
    }
    const Step step = resolve(gpa, PageSize::k2M, access.entry, hooks);
    if (step != Step::kDone) {
      touch.kind = step == Step::kOutOfStorage ? TouchKind::kOutOfStorage : TouchKind::kRetry;
      return touch;
    }
  }
  touch.kind = TouchKind::kRetry;
  return touch;
}

Touch TdMemory::touch_shared(PhysAddr gpa,
                             FunctionRef<void(PhysAddr gpa, PhysAddr hpa)> mapped_shared) {
  Touch touch;
  if (!is_ram(PhysRange::page(gpa, PageSize::k4K))) {
    return touch;
  }
  touch.before = sept_.lookup(gpa).value_or(EntryView{});
  const FaultScope scope{region(gpa)};
  if (!scope.entered()) {
    touch.kind = TouchKind::kRetry;
  } else if (attributes_.get(gpa) == PageAttribute::kPrivate) {
    touch.kind = TouchKind::kPrivatePage;
  } else {
    const PhysAddr page = gpa.align_down(4_KiB);
    mapped_shared(page, hpa_of(page));
    touch.kind = TouchKind::kShared;
  }
  return touch;
}

// --- Conversions
// -----------------------------------------------------------------------------------

/// BLOCK of every page of `level` in `pages` that is there. Waits for accepts that hold one.
TdMemory::Step TdMemory::block_pages(PhysRange pages, SeptLevel level) {
  for (PhysAddr page = pages.begin(); page < pages.end(); page += level_bytes(level)) {
    for (unsigned tries = 0;; ++tries) {
      const HostCall call = sept_.range_block(page, level);
      if (!call.has_value()) {
        return Step::kOutOfStorage;
      }
      if (code_of(call->status) != Status::kOperandBusy) {
        break;
      }
      if (tries == kBusyTries) {
        return Step::kRetry;
      }
      __builtin_ia32_pause();
    }
  }
  return Step::kDone;
}

/// REMOVE of every blocked page of `level` in `pages`.
TdMemory::Step TdMemory::remove_pages(PhysRange pages, SeptLevel level,
                                      const TdMemoryHooks& hooks) {
  unsigned tries = 0;
  for (PhysAddr page = pages.begin(); page < pages.end();) {
    const HostCall call = sept_.page_remove(page, level);
    if (!call.has_value()) {
      return Step::kOutOfStorage;
    }
    if (code_of(call->status) != Status::kTlbTrackingNotDone) {
      page += level_bytes(level);
    } else if (++tries < kTrackTries) {
      hooks.kick_vcpus();
    } else {
      return Step::kRetry;
    }
  }
  return Step::kDone;
}

bool TdMemory::holds_pages(PhysRange pages) const {
  bool any = false;
  sept_.visit(pages, [&](const StateRun& run) { any = any || !is_free(run.state); });
  return any;
}

/// Takes `pages`, private and inside one 2M region, out of the SEPT. In a ConversionScope.
TdMemory::Step TdMemory::drop_private(PhysRange pages, const TdMemoryHooks& hooks) {
  const PhysRange whole = PhysRange::page(pages.begin(), PageSize::k2M);
  for (unsigned tries = 0; tries < kBusyTries; ++tries) {
    const EntryView view = *sept_.lookup(pages.begin());
    if (view.level >= SeptLevel::k2M && is_free(view.state)) {
      return Step::kDone;
    }
    Step step = Step::kDone;
    if (view.state == SeptState::kNonLeafBlocked) {
      step = unblock(pages.begin(), view.level, hooks);
    } else if (view.level > SeptLevel::k2M || (view.level == SeptLevel::k2M && pages != whole)) {
      step = split(pages.begin(), view.level, hooks);
    } else {
      if (!holds_pages(pages)) {
        return Step::kDone;
      }
      // BLOCK is the only call here that may need a table, and only the first one: after it the
      // region has its table, or is one page.
      step = block_pages(pages, view.level);
      if (step == Step::kDone) {
        hooks.private_gone(pages);
        step = track(hooks);
      }
      return step == Step::kDone ? remove_pages(pages, view.level, hooks) : step;
    }
    if (step == Step::kRetry || step == Step::kOutOfStorage) {
      return step;
    }
    __builtin_ia32_pause();
  }
  return Step::kRetry;
}

/// Converts `pages`, RAM inside one 2M region, run by run; adds what changed to `converted`.
TdMemory::Step TdMemory::convert_chunk(PhysRange pages, PageAttribute to,
                                       const TdMemoryHooks& hooks, Bytes& converted) {
  const ConversionScope scope{region(pages.begin())};
  while (!pages.empty()) {
    const PhysRange run = attributes_.run(pages);
    if (attributes_.get(run.begin()) != to) {
      if (to == PageAttribute::kPrivate) {
        hooks.shared_gone(run);
      } else if (const Step step = drop_private(run, hooks); step != Step::kDone) {
        return step;
      }
      attributes_.set(run, to);
      converted += run.size();
    }
    pages = *PhysRange::make(run.end(), pages.end());
  }
  return Step::kDone;
}

/// RETRY lets the guest go on at `at`; it helps when something was done or the cause passes.
MapGpaOutcome TdMemory::stop_map_gpa(MapGpaOutcome so_far, Step why, PhysAddr at,
                                     std::uint64_t shared_bit) {
  const bool progress = so_far.to_shared + so_far.to_private != Bytes{0};
  if (why == Step::kOutOfStorage && !progress) {
    so_far.kind = MapGpaKind::kOutOfStorage;
  }
  so_far.r10 = VmcallStatus::kRetry;
  so_far.r11 = at.value() | shared_bit;
  return so_far;
}

MapGpaOutcome TdMemory::map_gpa(std::uint64_t start, std::uint64_t size,
                                const TdMemoryHooks& hooks) {
  MapGpaOutcome outcome;
  const auto refuse = [&](VmcallStatus code) {
    outcome.r10 = code;
    outcome.r11 = start;
    return outcome;
  };
  const std::uint64_t shared_bit = abi::tdx::shared_bit(sept_.gpa_width());
  const std::uint64_t last = start + size - 1;
  if (size == 0 || last < start || last + 1 == 0 || last >= shared_bit * 2 ||
      ((start ^ last) & shared_bit) != 0) {
    return refuse(VmcallStatus::kInvalidOperand);
  }
  if (start % 4096 != 0 || size % 4096 != 0) {
    return refuse(VmcallStatus::kAlignError);
  }
  const bool share = (start & shared_bit) != 0;
  const PhysRange asked = *PhysRange::make(PhysAddr{start & ~shared_bit}, Bytes{size});
  for (const PhysRange range : ram_) {
    const PhysRange part = asked.intersect(range);
    for (PhysAddr gpa = part.begin(); gpa < part.end(); gpa = region_end(gpa, part.end())) {
      const PhysRange chunk = *PhysRange::make(gpa, region_end(gpa, part.end()));
      const Step step =
          convert_chunk(chunk, share ? PageAttribute::kShared : PageAttribute::kPrivate, hooks,
                        share ? outcome.to_shared : outcome.to_private);
      if (step != Step::kDone) {
        // What was converted is the front of the chunk.
        const PhysRange front = attributes_.run(chunk);
        const bool moved = (attributes_.get(gpa) == PageAttribute::kShared) == share;
        return stop_map_gpa(outcome, step, moved ? front.end() : gpa, start & shared_bit);
      }
    }
  }
  return outcome;
}

// --- Launch
// ----------------------------------------------------------------------------------------

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
