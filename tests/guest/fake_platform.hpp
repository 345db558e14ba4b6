// A platform for tests: knows which pages were accepted, fails as told, and can be watched.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/guest/platform.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace accede::guest::test {

/// A set of 4 KiB pages, kept as disjoint runs, so that terabytes cost nothing. Thread-compatible.
class PageSet {
 public:
  /// The first page of `range` that is in the set.
  [[nodiscard]] std::optional<PhysAddr> first_in(PhysRange range) const {
    auto run = runs_.upper_bound(range.begin());
    if (run != runs_.begin() && std::prev(run)->second > range.begin()) {
      return range.empty() ? std::nullopt : std::optional{range.begin()};
    }
    if (run != runs_.end() && run->first < range.end()) {
      return run->first;
    }
    return std::nullopt;
  }
  /// True when every page of `range` is in the set.
  [[nodiscard]] bool covers(PhysRange range) const {
    const auto run = runs_.upper_bound(range.begin());
    return range.empty() || (run != runs_.begin() && std::prev(run)->second >= range.end());
  }
  [[nodiscard]] Bytes size() const {
    Bytes sum;
    for (const auto& [begin, end] : runs_) {
      sum += end - begin;
    }
    return sum;
  }
  /// The maximal runs, ascending.
  [[nodiscard]] std::vector<PhysRange> runs() const {
    std::vector<PhysRange> list;
    for (const auto& [begin, end] : runs_) {
      list.push_back(*PhysRange::make(begin, end));
    }
    return list;
  }
  void insert(PhysRange range) {
    if (range.empty()) {
      return;
    }
    PhysAddr begin = range.begin();
    PhysAddr end = range.end();
    auto run = runs_.upper_bound(begin);
    if (run != runs_.begin() && std::prev(run)->second >= begin) {
      --run;
    }
    while (run != runs_.end() && run->first <= end) {
      begin = std::min(begin, run->first);
      end = std::max(end, run->second);
      run = runs_.erase(run);
    }
    runs_.emplace(begin, end);
  }
  void erase(PhysRange range) {
    if (range.empty()) {
      return;
    }
    auto run = runs_.upper_bound(range.begin());
    if (run != runs_.begin()) {
      --run;
    }
    while (run != runs_.end() && run->first < range.end()) {
      const auto [begin, end] = *run;
      if (end <= range.begin()) {
        ++run;
        continue;
      }
      run = runs_.erase(run);
      if (begin < range.begin()) {
        runs_.emplace(begin, range.begin());
      }
      if (end > range.end()) {
        runs_.emplace(range.end(), end);
      }
    }
  }

 private:
  std::map<PhysAddr, PhysAddr> runs_;  ///< begin -> end
};

/// A model of AcceptPlatform. Every page starts out never accepted.
///
///   FakePlatform platform;                                  // TDX, 2 MiB steps
///   platform.fail_at(gpa, FailureKind::kRefused, 0xC0DE);   // once; pages before it are accepted
///   platform.on_entry([&](PhysRange range) { ... });        // runs without a lock held
///   EXPECT_TRUE(platform.accepted(range));
///   EXPECT_EQ(platform.double_accepts(), std::vector<PhysAddr>{});
///
/// Accepting a page twice is recorded and answered as a platform does: kAlreadyAccepted at that
/// page. Thread-safe, except that on_entry() and set_*() come before the first call.
class FakePlatform {
 public:
  using Entry = std::function<void(PhysRange)>;

  /// For the `times` of fail_at(): never stops failing.
  static constexpr unsigned kAlways = std::numeric_limits<unsigned>::max();
  /// Status words of TDG.MEM.PAGE.ACCEPT, for tests that want a real one.
  static constexpr std::uint64_t kAlreadyAcceptedStatus = 0x00000B0A00000000;
  static constexpr std::uint64_t kBusyStatus = 0x8000020000000001;

  enum class Operation : std::uint8_t { kAccept, kShare, kUnshare };
  struct Call {
    PhysRange range;
    Operation operation = Operation::kAccept;
    bool ok = true;

    friend bool operator==(const Call&, const Call&) = default;
  };

  explicit FakePlatform(Bytes preferred_step = 2_MiB, PlatformKind kind = PlatformKind::kTdx)
      : step_{preferred_step}, kind_{kind} {}
  FakePlatform(const FakePlatform&) = delete;
  FakePlatform& operator=(const FakePlatform&) = delete;

  // --- The platform ---

  [[nodiscard]] PlatformResult accept(PhysRange range) { return serve(range, Operation::kAccept); }
  [[nodiscard]] PlatformResult convert(PhysRange range, Visibility to) {
    return serve(range, to == Visibility::kShared ? Operation::kShare : Operation::kUnshare);
  }
  [[nodiscard]] PlatformKind kind() const { return kind_; }
  [[nodiscard]] Bytes preferred_step() const { return step_; }

  // --- The script ---

  /// The next `times` calls of any kind whose range holds the page of `page` do everything before
  /// it and fail there.
  void fail_at(PhysAddr page, FailureKind kind, std::uint64_t status, unsigned times = 1) {
    const std::lock_guard guard{lock_};
    scripts_.push_back(
        {.at = page.align_down(4_KiB), .pages = 0, .kind = kind, .status = status, .times = times});
  }
  /// The next `times` calls do at most `pages` pages of their range and then fail.
  void fail_after(std::uint64_t pages, FailureKind kind, std::uint64_t status, unsigned times = 1) {
    const std::lock_guard guard{lock_};
    scripts_.push_back(
        {.at = std::nullopt, .pages = pages, .kind = kind, .status = status, .times = times});
  }
  /// The page at `page` is busy for `times` calls, then comes.
  void busy_at(PhysAddr page, unsigned times) {
    fail_at(page, FailureKind::kBusyForever, kBusyStatus, times);
  }
  /// Forgets every failure that is still to come.
  void stop_failing() {
    const std::lock_guard guard{lock_};
    scripts_.clear();
  }
  /// Runs at the begin of every call, on the caller's thread, with no lock held.
  void on_entry(Entry entry) { entry_ = std::move(entry); }
  void set_preferred_step(Bytes step) { step_ = step; }
  void set_kind(PlatformKind kind) { kind_ = kind; }
  /// Memory that somebody accepted before the test begins.
  void assume_accepted(PhysRange range) {
    const std::lock_guard guard{lock_};
    accepted_.insert(range);
  }

  /// The guest gives accepted pages back: accepting them again is the first time again.
  void release(PhysRange range) {
    const std::lock_guard guard{lock_};
    accepted_.erase(range);
  }

  // --- What happened ---

  /// True when every page of `range` was accepted and is still private.
  [[nodiscard]] bool accepted(PhysRange range) const {
    const std::lock_guard guard{lock_};
    return accepted_.covers(range);
  }
  /// True when some page of `range` was accepted.
  [[nodiscard]] bool any_accepted(PhysRange range) const {
    const std::lock_guard guard{lock_};
    return accepted_.first_in(range).has_value();
  }
  [[nodiscard]] Bytes accepted_bytes() const {
    const std::lock_guard guard{lock_};
    return accepted_.size();
  }
  [[nodiscard]] std::vector<PhysRange> accepted_runs() const {
    const std::lock_guard guard{lock_};
    return accepted_.runs();
  }
  [[nodiscard]] bool shared(PhysRange range) const {
    const std::lock_guard guard{lock_};
    return shared_.covers(range);
  }
  /// The first page of every call that met a page which was accepted before.
  [[nodiscard]] std::vector<PhysAddr> double_accepts() const {
    const std::lock_guard guard{lock_};
    return double_accepts_;
  }
  [[nodiscard]] std::vector<Call> calls() const {
    const std::lock_guard guard{lock_};
    return calls_;
  }
  [[nodiscard]] std::size_t call_count() const {
    const std::lock_guard guard{lock_};
    return calls_.size();
  }
  /// Most calls that were inside the platform at one moment.
  [[nodiscard]] unsigned most_at_once() const {
    const std::lock_guard guard{lock_};
    return most_inside_;
  }

 private:
  struct Script {
    std::optional<PhysAddr> at;
    std::uint64_t pages;
    FailureKind kind;
    std::uint64_t status;
    unsigned times;
  };
  struct End {
    PhysAddr at;
    FailureKind kind;
    std::uint64_t status;
    Script* script;
  };

  PlatformResult serve(PhysRange range, Operation operation) {
    ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
    {
      const std::lock_guard guard{lock_};
      most_inside_ = std::max(most_inside_, ++inside_);
    }
    if (entry_) {
      entry_(range);
    }
    const std::lock_guard guard{lock_};
    --inside_;
    const std::optional<End> end = first_end(range, operation);
    const PhysRange done = *PhysRange::make(range.begin(), end ? end->at : range.end());
    apply(done, operation);
    calls_.push_back({.range = range, .operation = operation, .ok = !end});
    if (!end) {
      return {};
    }
    if (end->script != nullptr && end->script->times != kAlways) {
      --end->script->times;
    }
    return std::unexpected{PlatformFailure{.kind = end->kind,
                                           .status = end->status,
                                           .at = end->at,
                                           .size = PageSize::k4K,
                                           .done_end = end->at}};
  }

  /// Where the call ends early, if it does: of all reasons the one at the lowest address.
  std::optional<End> first_end(PhysRange range, Operation operation) {
    std::optional<End> end;
    const auto take = [&](const End& other) {
      if (!end || other.at < end->at) {
        end = other;
      }
    };
    for (Script& script : scripts_) {
      if (script.times == 0 || range.empty()) {
        continue;
      }
      const PhysAddr at = script.at.value_or(
          range.begin() + std::min(PageCount{script.pages}.bytes(), range.size() - 4_KiB));
      if (range.contains(at)) {
        take({.at = at, .kind = script.kind, .status = script.status, .script = &script});
      }
    }
    if (operation != Operation::kShare) {
      const auto twice = accepted_.first_in(range);
      if (twice && (!end || *twice < end->at)) {
        double_accepts_.push_back(*twice);
        take({.at = *twice,
              .kind = FailureKind::kAlreadyAccepted,
              .status = kAlreadyAcceptedStatus,
              .script = nullptr});
      }
    }
    return end;
  }

  void apply(PhysRange done, Operation operation) {
    if (operation == Operation::kShare) {
      accepted_.erase(done);
      shared_.insert(done);
    } else {
      shared_.erase(done);
      accepted_.insert(done);
    }
  }

  mutable std::mutex lock_;
  Bytes step_;
  PlatformKind kind_;
  Entry entry_;
  PageSet accepted_;
  PageSet shared_;
  std::vector<Script> scripts_;
  std::vector<Call> calls_;
  std::vector<PhysAddr> double_accepts_;
  unsigned inside_ = 0;
  unsigned most_inside_ = 0;
};
static_assert(AcceptPlatform<FakePlatform>);

}  // namespace accede::guest::test
