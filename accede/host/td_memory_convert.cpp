// A TD's memory: conversion between private and shared, as MapGPA asks for it.
#include "accede/host/td_memory.hpp"

#include "accede/host/map_gpa_request.hpp"
#include "accede/host/region_lock.hpp"
#include "accede/host/sept_state.hpp"

#include <algorithm>

namespace accede::host {

using namespace internal;
using abi::tdx::code_of;
using abi::tdx::level_bytes;
using abi::tdx::Status;
using abi::tdx::VmcallStatus;

namespace {

/// An accept holds an entry for at most 2 MiB of zeroing. Past this count something is wrong and
/// the guest is asked to try again.
constexpr unsigned kBusyTries = 1U << 20;

/// The first page of the next 2M region, or `end`.
PhysAddr region_end(PhysAddr gpa, PhysAddr end) {
  return std::min(end, gpa.align_down(2_MiB) + 2_MiB);
}

}  // namespace

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
  const std::uint64_t shared_bit = abi::tdx::shared_bit(sept_.gpa_width());
  const auto request = map_gpa_request(start, size, shared_bit);
  if (!request) {
    outcome.r10 = request.error();
    outcome.r11 = start;
    return outcome;
  }
  const bool share = request->to == PageAttribute::kShared;
  for (const PhysRange range : ram_) {
    const PhysRange part = request->gpas.intersect(range);
    for (PhysAddr gpa = part.begin(); gpa < part.end(); gpa = region_end(gpa, part.end())) {
      const PhysRange chunk = *PhysRange::make(gpa, region_end(gpa, part.end()));
      const Step step =
          convert_chunk(chunk, request->to, hooks, share ? outcome.to_shared : outcome.to_private);
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

}  // namespace accede::host
