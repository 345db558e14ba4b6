// Accepting memory on demand: one table, one platform, any number of CPUs.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"
#include "accede/guest/claims.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>

namespace accede::guest {

/// What an Acceptor did so far. Each value is exact; together they are a snapshot only when no call
/// runs.
struct AcceptorCounters {
  std::uint64_t accept_calls = 0;    ///< calls that found something to accept
  std::uint64_t platform_calls = 0;  ///< steps given to the platform
  std::uint64_t waits = 0;           ///< calls that had to wait for another CPU's step
  std::uint64_t failures = 0;
  Bytes accepted;
  Bytes longest_step;  ///< most bytes in one platform call
  Bytes longest_call;  ///< most bytes that one accept() accepted
};

/// How accept() ended early: which unit, and what the platform said.
struct AcceptError {
  PhysRange units;          ///< the step that failed; its unaccepted units stay unaccepted
  PlatformFailure failure;  ///< page and status word
  Bytes accepted;           ///< what this call accepted before
};

/// Where a budgeted accept stands.
struct AcceptProgress {
  Bytes accepted;  ///< by this call
  PhysRange rest;  ///< what is left to look at: empty when all of the request is accepted
};

/// Waiting for another CPU: a spin-wait hint. An embedder on threads may yield instead.
struct CpuRelax {
  void operator()() const { __builtin_ia32_pause(); }
};

/// Accepts what a caller is about to use, and the guard unit behind it.
///
/// Works in steps of whole units. A step is claimed, given to the platform with no lock held, and
/// its bits are cleared only after success; the claim goes last. So CPUs that need different units
/// run in parallel, of CPUs that need the same unit one accepts it and the others first do what
/// they can and then wait for it, and neighbours never wait.
///
/// Invariants: a unit is given to the platform at most once until its bits are set again, whoever
/// asks, except that a unit whose step failed part way goes on at the page where it failed (kept
/// for the last few such units).
///
/// Thread-safe. The claims' spin lock is held for a walk over the steps under way, never across a
/// platform call. An interrupt handler must not call accept() unless interrupts are off wherever it
/// can be called on the same CPU: it could wait for the step that it interrupted.
template <AcceptPlatform Platform, class Relax = CpuRelax>
class Acceptor {
 public:
  using Result = std::expected<Bytes, AcceptError>;
  using PartResult = std::expected<AcceptProgress, AcceptError>;

  /// Both outlive the object. Without a table, or without a confidential platform (kNone), every
  /// call is a no-op that succeeds, and the table is left alone.
  Acceptor(UnacceptedTable& table, Platform& platform, Relax relax = {})
      : table_{table},
        platform_{platform},
        relax_{relax},
        confidential_{platform.kind() != PlatformKind::kNone},
        preferred_{platform.preferred_step()} {}
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  /// Makes all of `range` and its guard unit usable; returns what this call accepted (0: nothing
  /// was left to do). On an error everything that was accepted stays accepted.
  [[nodiscard]] Result accept(PhysRange range) {
    const auto progress = work(guarded(range), std::nullopt);
    if (!progress) {
      return std::unexpected{progress.error()};
    }
    return progress->accepted;
  }

  /// Accepts at most `budget` bytes of `range` (at least one unit, else nothing would ever be
  /// done), ascending, and says what is left: call again with `rest` until it is empty. The guard
  /// unit is part of the first request; pass `rest` to accept_rest().
  [[nodiscard]] PartResult accept_some(PhysRange range, Bytes budget) {
    return work(guarded(range), budget);
  }
  /// Goes on with the rest of accept_some(), which names whole units with the guard included.
  [[nodiscard]] PartResult accept_rest(PhysRange rest, Bytes budget) {
    return work(confidential_ ? table_.units_of(rest) : PhysRange{}, budget);
  }

  /// True when accept(range) would have something to do: a unit of `range` or its guard is
  /// unaccepted.
  [[nodiscard]] bool contains_unaccepted(PhysRange range) const {
    const PhysRange units = guarded(range);
    return !units.empty() && table_.any_unaccepted(units);
  }

  [[nodiscard]] AcceptorCounters counters() const {
    constexpr auto kRelaxed = std::memory_order_relaxed;
    return {.accept_calls = accept_calls_.load(kRelaxed),
            .platform_calls = platform_calls_.load(kRelaxed),
            .waits = waits_.load(kRelaxed),
            .failures = failures_.load(kRelaxed),
            .accepted = Bytes{accepted_.load(kRelaxed)},
            .longest_step = Bytes{longest_step_.load(kRelaxed)},
            .longest_call = Bytes{longest_call_.load(kRelaxed)}};
  }

  [[nodiscard]] UnacceptedTable& table() { return table_; }
  [[nodiscard]] const UnacceptedTable& table() const { return table_; }
  [[nodiscard]] Platform& platform() { return platform_; }
  [[nodiscard]] Relax& relax() { return relax_; }
  /// Most bytes that one platform call is given.
  [[nodiscard]] Bytes step() const {
    return table_.unit() * std::max<std::uint64_t>(preferred_ / table_.unit(), 1);
  }

 private:
  /// One pass over what is still unaccepted.
  struct Pass {
    Bytes accepted;
    std::optional<PhysAddr> stopped;  ///< the budget ended here
    bool blocked = false;             ///< another CPU holds a step that we need
  };
  using PassResult = std::expected<Pass, AcceptError>;

  [[nodiscard]] PhysRange guarded(PhysRange range) const {
    return confidential_ ? table_.guarded(range) : PhysRange{};
  }

  PartResult work(PhysRange units, std::optional<Bytes> budget) {
    AcceptProgress done{.accepted = Bytes{0}, .rest = units};
    bool called = false;
    bool waited = false;
    while (!done.rest.empty() && table_.any_unaccepted(done.rest)) {
      called = true;
      auto pass = one_pass(done.rest, done.accepted, budget);
      if (!pass) {
        pass.error().accepted = done.accepted + pass.error().accepted;
        failures_.fetch_add(1, std::memory_order_relaxed);
        finish(called, waited, pass.error().accepted);
        return std::unexpected{pass.error()};
      }
      done.accepted += pass->accepted;
      if (pass->stopped) {
        done.rest = *PhysRange::make(*pass->stopped, done.rest.end());
        finish(called, waited, done.accepted);
        return done;
      }
      if (pass->blocked && pass->accepted == Bytes{0}) {
        waited = true;
        relax_();
      }
    }
    finish(called, waited, done.accepted);
    done.rest = *PhysRange::make(units.end(), units.end());
    return done;
  }

  /// `before`: what the call accepted in earlier passes.
  PassResult one_pass(PhysRange units, Bytes before, std::optional<Bytes> budget) {
    Pass pass;
    PhysRange rest = units;
    while (const auto run = table_.next_run(rest)) {
      const Bytes most = next_step(before + pass.accepted, budget);
      if (most == Bytes{0}) {
        pass.stopped = pass.blocked ? units.begin() : run->begin();
        return pass;
      }
      PhysRange step = *PhysRange::make(run->begin(), std::min(most, run->size()));
      auto accepted = one_step(step);
      if (accepted && !*accepted && step.size() > table_.unit()) {
        // Another CPU holds a part of it: the rest need not wait.
        step = *PhysRange::make(run->begin(), table_.unit());
        accepted = one_step(step);
      }
      if (!accepted) {
        AcceptError error = accepted.error();
        error.accepted += pass.accepted;
        return std::unexpected{error};
      }
      if (*accepted) {
        pass.accepted += **accepted;
      } else {
        pass.blocked = true;
      }
      rest = *PhysRange::make(step.end(), rest.end());
    }
    return pass;
  }

  /// Bytes of the next step of a call that accepted `done` so far; 0 when the budget does not
  /// suffice for a unit, except that every call may accept one.
  [[nodiscard]] Bytes next_step(Bytes done, std::optional<Bytes> budget) const {
    if (!budget) {
      return step();
    }
    const Bytes unit = table_.unit();
    const Bytes left = done < *budget ? *budget - done : Bytes{0};
    const Bytes most = unit * (left / unit);
    return done == Bytes{0} ? std::clamp(most, unit, step()) : std::min(most, step());
  }

  /// Accepts what is unaccepted in `step`. Nothing: another CPU is at work there.
  std::expected<std::optional<Bytes>, AcceptError> one_step(PhysRange step) {
    const Claim claim{claims_, step};
    if (!claim.granted()) {
      return std::nullopt;
    }
    // Between looking and claiming, others may have accepted some of it.
    Bytes accepted;
    PhysRange rest = step;
    while (const auto run = table_.next_run(rest)) {
      const Claims::Piece piece = claims_.first_piece(*run);
      if (auto error = give_to_platform(piece)) {
        error->accepted += accepted;
        return std::unexpected{*error};
      }
      accepted += piece.units.size();
      rest = *PhysRange::make(piece.units.end(), rest.end());
    }
    return accepted;
  }

  std::optional<AcceptError> give_to_platform(Claims::Piece piece) {
    const PhysRange units = piece.units;
    const PlatformResult result = platform_.accept(*PhysRange::make(piece.from, units.end()));
    platform_calls_.fetch_add(1, std::memory_order_relaxed);
    if (result) {
      settle(units);
      return std::nullopt;
    }
    PlatformFailure failure = result.error();
    failure.done_end = std::clamp(failure.done_end, piece.from, units.end());
    const PhysAddr whole = std::max(failure.done_end.align_down(table_.unit()), units.begin());
    if (whole > units.begin()) {
      settle(*PhysRange::make(units.begin(), whole));
    }
    claims_.remember(failure.done_end, table_.unit());
    return AcceptError{.units = *PhysRange::make(whole, units.end()),
                       .failure = failure,
                       .accepted = whole - units.begin()};
  }

  void settle(PhysRange units) {
    table_.mark_accepted(units);
    accepted_.fetch_add(units.size().value(), std::memory_order_relaxed);
    raise(longest_step_, units.size());
  }

  void finish(bool called, bool waited, Bytes accepted) {
    if (called) {
      accept_calls_.fetch_add(1, std::memory_order_relaxed);
      raise(longest_call_, accepted);
    }
    if (waited) {
      waits_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  static void raise(std::atomic<std::uint64_t>& most, Bytes value) {
    std::uint64_t seen = most.load(std::memory_order_relaxed);
    while (seen < value.value() &&
           !most.compare_exchange_weak(seen, value.value(), std::memory_order_relaxed)) {
    }
  }

  UnacceptedTable& table_;
  Platform& platform_;
  Relax relax_;
  bool confidential_;
  Bytes preferred_;
  Claims claims_;
  std::atomic<std::uint64_t> accept_calls_ = 0;
  std::atomic<std::uint64_t> platform_calls_ = 0;
  std::atomic<std::uint64_t> waits_ = 0;
  std::atomic<std::uint64_t> failures_ = 0;
  std::atomic<std::uint64_t> accepted_ = 0;
  std::atomic<std::uint64_t> longest_step_ = 0;
  std::atomic<std::uint64_t> longest_call_ = 0;
};

}  // namespace accede::guest
