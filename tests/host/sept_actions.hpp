// Random actions on a SecureEpt, checked against a naive reference after each. The model test feeds
// it a random generator, the fuzz target feeds it the fuzzer's bytes.
#pragma once

#include "accede/host/secure_ept.hpp"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

namespace accede::host::test {

/// Gives bytes of a test case, then zeros.
class ByteSource {
 public:
  explicit ByteSource(std::span<const std::uint8_t> bytes) : bytes_{bytes} {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  std::uint8_t next() {
    if (bytes_.empty()) {
      return 0;
    }
    const std::uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  /// A number below `bound` (at most 65536).
  std::uint32_t below(std::uint32_t bound) {
    const std::uint32_t high = next();
    return (high << 8 | next()) % bound;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

/// The secure EPT as slowly and plainly as possible: a map of entries per level, real 64-bit
/// epochs, the vCPUs inside as a list. Knows nothing of virtual tables or storage.
class NaiveSept {
 public:
  struct Entry {
    SeptState state = SeptState::kFree;
    std::uint64_t hpa = 0;
    std::uint64_t epoch = 0;
    unsigned counter = 0;
  };
  struct Stop {
    int level;
    Entry entry;
  };
  struct Answer {
    std::uint64_t status;
    Stop stop;
  };

  static constexpr std::uint64_t size(int level) { return 1ULL << (12 + 9 * level); }

  [[nodiscard]] Entry get(int level, std::uint64_t gpa) const {
    const auto& entries = entries_[static_cast<std::size_t>(level)];
    const auto found = entries.find(gpa & ~(size(level) - 1));
    return found == entries.end() ? Entry{} : found->second;
  }
  void put(int level, std::uint64_t gpa, const Entry& entry) {
    entries_[static_cast<std::size_t>(level)][gpa & ~(size(level) - 1)] = entry;
  }

  /// Where a walk to `level` ends.
  [[nodiscard]] Stop walk(std::uint64_t gpa, int level) const {
    for (int at = 3;; --at) {
      const Entry entry = get(at, gpa);
      if (at == level || entry.state != SeptState::kNonLeafMapped) {
        return {at, entry};
      }
    }
  }

  [[nodiscard]] bool tracked(const Entry& entry) const {
    // The documented weakness of the real one: epochs are compared modulo 1024.
    const std::uint64_t since = (epoch - entry.epoch) % 1024;
    if (since == 0) {
      return false;
    }
    for (const std::uint64_t inside : vcpus) {
      if (inside < epoch && since == 1) {
        return false;
      }
    }
    return true;
  }

  static bool blocked(SeptState state) {
    return state == SeptState::kBlocked || state == SeptState::kPendingBlocked ||
           state == SeptState::kNonLeafBlocked;
  }
  static bool leaf(SeptState state) {
    return state == SeptState::kMapped || state == SeptState::kPending ||
           state == SeptState::kBlocked || state == SeptState::kPendingBlocked;
  }
  static SeptState unblocked(SeptState state) {
    switch (state) {
      case SeptState::kBlocked:
        return SeptState::kMapped;
      case SeptState::kPendingBlocked:
        return SeptState::kPending;
      case SeptState::kNonLeafBlocked:
        return SeptState::kNonLeafMapped;
      default:
        return state;
    }
  }

  static constexpr std::uint64_t kInvalid = 0xC000010000000001;
  static constexpr std::uint64_t kWalk = 0xC0000B0000000001;
  static constexpr std::uint64_t kState = 0xC0000B0D00000001;
  static constexpr std::uint64_t kNotBlocked = 0xC0000B0600000001;
  static constexpr std::uint64_t kAlreadyBlocked = 0x00000B0700000001;
  static constexpr std::uint64_t kNotTracked = 0xC0000B0800000001;
  static constexpr std::uint64_t kPromote = 0xC0000B0900000001;
  static constexpr std::uint64_t kOpState = 0xC000060800000000;

  /// What a host call on a legal address would answer, before its own work.
  std::optional<std::uint64_t> refuse(const Stop& stop, int level, bool state_ok,
                                      bool needs_block) {
    if (stop.level != level) {
      return kWalk;
    }
    if (!state_ok) {
      return kState;
    }
    if (needs_block && finalized) {
      if (!blocked(stop.entry.state)) {
        return kNotBlocked;
      }
      if (!tracked(stop.entry)) {
        return kNotTracked;
      }
    }
    return std::nullopt;
  }

  void drop_children(int level, std::uint64_t gpa) {
    for (int below = 0; below < level; ++below) {
      auto& map = entries_[static_cast<std::size_t>(below)];
      map.erase(map.lower_bound(gpa), map.lower_bound(gpa + size(level)));
    }
  }

  std::uint64_t epoch = 1;
  bool finalized = false;
  std::vector<std::uint64_t> vcpus;  ///< epoch in which each vCPU inside entered

 private:
  std::array<std::map<std::uint64_t, Entry>, 4> entries_;
};

/// Plays actions from a ByteSource on both; step() returns what differed, or nothing.
class SeptActions {
 public:
  SeptActions(Bytes storage_bytes, bool ve_disable)
      : data_{std::aligned_alloc(4096, storage_bytes.value())},
        ept_{{.gpa_width = 48, .pending_ve_disable = ve_disable, .page_release = true},
             {static_cast<std::byte*>(data_.get()), storage_bytes.value()}} {}

  /// One action. The text describes the first difference; empty: all as it should be.
  std::string step(ByteSource& bytes) {
    problem_.clear();
    text_.str("");
    act(bytes);
    if (!ept_.invariants()) {
      fail("invariants() is false");
    }
    if (++steps_ % 32 == 0) {
      compare_all();
    }
    return problem_.empty() ? problem_ : text_.str() + ": " + problem_;
  }

  [[nodiscard]] SecureEpt& ept() { return ept_; }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };

  static constexpr std::uint64_t kHpa = 1ULL << 41;

  void fail(const std::string& what) {
    if (problem_.empty()) {
      problem_ = what;
    }
  }

  /// An address with interesting neighbours: few tables, so that they get full and empty again.
  static std::uint64_t pick(ByteSource& bytes, int level) {
    static constexpr std::array<std::uint64_t, 3> kGigs{0, 1, 511};
    static constexpr std::array<std::uint64_t, 4> kMegs{0, 1, 17, 511};
    static constexpr std::array<std::uint64_t, 5> kPages{0, 1, 2, 300, 511};
    std::uint64_t gpa = 0;
    if (level <= 2) {
      // The last one keeps to large pages, so that it can become a 1G page.
      gpa |= kGigs[bytes.below(static_cast<std::uint32_t>(kGigs.size() - (level == 0 ? 1 : 0)))]
             << 30;
    }
    if (level <= 1) {
      gpa |= kMegs[bytes.below(kMegs.size())] << 21;
    }
    if (level == 0) {
      gpa |= kPages[bytes.below(kPages.size())] << 12;
    }
    return gpa;
  }

  void act(ByteSource& bytes) {
    const std::uint32_t kind = bytes.below(100);
    if (kind < 4) {
      return track();
    }
    if (kind < 8) {
      return vcpu(bytes);
    }
    if (kind < 10) {
      return finalize(bytes);
    }
    if (kind < 11) {
      return bad_operand(bytes);
    }
    if (kind < 13) {
      return busy(bytes);
    }
    if (kind < 17) {
      return bulk(bytes, pick_table(bytes), bytes.below(12));
    }
    if (kind < 45) {
      return recipe(bytes);
    }
    const int level = static_cast<int>(bytes.below(8) < 5 ? 0 : 1 + bytes.below(3));
    one(bytes, bytes.below(12), pick(bytes, level), level);
  }

  struct Table {
    std::uint64_t gpa;
    int level;  ///< of its entries
  };
  static Table pick_table(ByteSource& bytes) {
    const int level = bytes.below(6) == 0 ? 1 : 0;
    return {pick(bytes, level) & ~(NaiveSept::size(level + 1) - 1), level};
  }

  /// The same call on all 512 entries of one table: makes tables uniform and 1G pages possible.
  void bulk(ByteSource& bytes, Table table, std::uint32_t call) {
    const bool backwards = bytes.below(2) != 0;
    for (std::uint64_t i = 0; i < 512 && problem_.empty(); ++i) {
      text_.str("bulk ");
      one(bytes, call, table.gpa + (backwards ? 511 - i : i) * NaiveSept::size(table.level),
          table.level);
    }
  }

  void add_tables(std::uint64_t gpa, int level) {
    for (int at = 3; at > level; --at) {
      sept_add(gpa & ~(NaiveSept::size(at) - 1), at);
    }
  }

  /// Sequences that lead somewhere; single random calls hardly ever do.
  void recipe(ByteSource& bytes) {
    const Table table = pick_table(bytes);
    switch (bytes.below(12)) {
      case 0:
        add_tables(table.gpa, table.level);
        return bulk(bytes, table, 1);
      case 8:
      case 9:
      case 10:
      case 11:
        return rebuild(bytes, {pick(bytes, 0) & ~(NaiveSept::size(1) - 1), 0});
      case 1:
      case 2:
        return bulk(bytes, table, 4);
      case 3:
        bulk(bytes, table, 7);
        track();
        return bulk(bytes, table, 8 + bytes.below(2));
      case 4:
      case 5: {
        const int level = static_cast<int>(bytes.below(3));
        const std::uint64_t gpa = pick(bytes, level);
        block(gpa, level);
        track();
        return one(bytes, 8 + bytes.below(4), gpa, level);
      }
      case 6: {
        return add_tables(pick(bytes, 0), 0);
      }
      default:
        return whole_gig(bytes, bytes.below(4) == 0 ? pick(bytes, 2) : 511ULL << 30);
    }
  }

  void all_vcpus_leave() {
    for (; !tokens_.empty(); tokens_.pop_back()) {
      ept_.vcpu_left(tokens_.back());
    }
    naive_.vcpus.clear();
  }

  /// Empties a table and fills it again, so that it is uniform at each stage; then spoils it.
  void rebuild(ByteSource& bytes, Table table) {
    all_vcpus_leave();
    add_tables(table.gpa, table.level);
    bulk(bytes, table, 7);
    track();
    bulk(bytes, table, 9);
    const std::uint32_t stages = bytes.below(4);
    if (stages > 0) {
      bulk(bytes, table, 1);
    }
    if (stages > 1) {
      bulk(bytes, table, 4);
    }
    if (stages > 2) {
      block(table.gpa, table.level + 1);
      track();
      return one(bytes, 8 + 3 * bytes.below(2), table.gpa, table.level + 1);
    }
    one(bytes, 4 + bytes.below(4), table.gpa + (bytes.below(512) << 12), table.level);
  }

  /// A 1G page, if nothing is in its way.
  void whole_gig(ByteSource& bytes, std::uint64_t gpa) {
    all_vcpus_leave();
    block(gpa, 2);
    track();
    one(bytes, 8 + bytes.below(3), gpa, 2);
    add_tables(gpa, 1);
    bulk(bytes, {gpa, 1}, 1);
    if (bytes.below(2) != 0) {
      bulk(bytes, {gpa, 1}, 4);
    }
    block(gpa, 2);
    track();
    promote(gpa, 2);
  }

  void one(ByteSource& bytes, std::uint32_t call, std::uint64_t gpa, int level) {
    text_ << "call " << call << " gpa 0x" << std::hex << gpa << std::dec << " level " << level;
    switch (call) {
      case 0:
        return page_add(gpa);
      case 1:
      case 2:
        return page_aug(gpa, level, bytes.below(1024) == 0);
      case 3:
        return sept_add(gpa, level);
      case 4:
      case 5:
        return accept(gpa, level, bytes.below(64) == 0 ? 1 + bytes.below(511) : 0);
      case 6:
        return release(gpa, level);
      case 7:
        return block(gpa, level);
      case 8:
        return unblock(gpa, level);
      case 9:
        return remove(gpa, level);
      case 10:
        return demote(gpa, level);
      default:
        return promote(gpa, level);
    }
  }

  // --- Calls on both ---

  void check(const HostCall& call, std::uint64_t status, std::uint64_t gpa) {
    if (!call.has_value()) {
      return fail("unexpected error");
    }
    if (call->status != status) {
      std::ostringstream what;
      what << "status 0x" << std::hex << call->status << ", expected 0x" << status;
      return fail(what.str());
    }
    compare(gpa);
  }
  /// Out of storage: nothing may have changed.
  bool exhausted(const HostCall& call, std::uint64_t gpa) {
    if (call.has_value()) {
      return false;
    }
    compare(gpa);
    return true;
  }

  void page_add(std::uint64_t gpa) {
    gpa &= ~4095ULL;
    const HostCall call = ept_.page_add(PhysAddr{gpa}, PhysAddr{gpa + kHpa});
    if (exhausted(call, gpa)) {
      return;
    }
    if (naive_.finalized) {
      return check(call, NaiveSept::kOpState, gpa);
    }
    const auto stop = naive_.walk(gpa, 0);
    const auto refused = naive_.refuse(stop, 0, stop.entry.state == SeptState::kFree, false);
    if (!refused) {
      naive_.put(0, gpa, {SeptState::kMapped, gpa + kHpa});
    }
    check(call, refused.value_or(0), gpa);
  }

  void page_aug(std::uint64_t gpa, int level, bool scattered) {
    const std::uint64_t hpa = gpa + kHpa + (scattered ? NaiveSept::size(level) << 9 : 0);
    const HostCall call =
        ept_.page_aug(PhysAddr{gpa}, static_cast<SeptLevel>(level), PhysAddr{hpa});
    if (exhausted(call, gpa)) {
      return;
    }
    if (!naive_.finalized) {
      return check(call, NaiveSept::kOpState, gpa);
    }
    if (level > 1) {
      return check(call, NaiveSept::kInvalid, gpa);
    }
    const auto stop = naive_.walk(gpa, level);
    const auto refused = naive_.refuse(stop, level, stop.entry.state == SeptState::kFree, false);
    if (!refused) {
      naive_.put(level, gpa, {SeptState::kPending, hpa});
    }
    check(call, refused.value_or(0), gpa);
  }

  void sept_add(std::uint64_t gpa, int level) {
    const HostCall call = ept_.sept_add(PhysAddr{gpa}, static_cast<SeptLevel>(level));
    if (exhausted(call, gpa)) {
      return;
    }
    if (level == 0) {
      return check(call, NaiveSept::kInvalid, gpa);
    }
    const auto stop = naive_.walk(gpa, level);
    const auto refused = naive_.refuse(stop, level, stop.entry.state == SeptState::kFree, false);
    if (!refused) {
      naive_.drop_children(level, gpa);
      naive_.put(level, gpa, {SeptState::kNonLeafMapped});
    }
    check(call, refused.value_or(0), gpa);
  }

  /// `interrupt` pages are zeroed before an interrupt comes; 0 = none.
  void accept(std::uint64_t gpa, int level, unsigned interrupt) {
    std::uint64_t zeroed = 0;
    const auto stop = naive_.walk(gpa, level);
    const std::uint64_t first = stop.entry.hpa + stop.entry.counter * 4096ULL;
    const GuestCallResult result = ept_.accept(
        gpa | static_cast<std::uint64_t>(level),
        [&](PhysAddr hpa) {
          if (hpa.value() != first + zeroed * 4096) {
            fail("zeroed the wrong page");
          }
          ++zeroed;
        },
        [&] { return zeroed == interrupt; });
    if (result.kind == GuestCallKind::kOutOfStorage) {
      return compare(gpa);
    }
    const auto completed = [&](std::uint64_t rax) {
      if (result.kind != GuestCallKind::kCompleted || result.rax != rax) {
        std::ostringstream what;
        what << "accept: " << name(result.kind) << " 0x" << std::hex << result.rax
             << ", expected 0x" << rax;
        fail(what.str());
      }
    };
    if (level > 1) {
      return completed(NaiveSept::kInvalid);
    }
    if (busy_ > 0 && stop.level == level) {
      --busy_;
      return completed(0x8000020000000001);
    }
    const SeptState state = stop.entry.state;
    if (state == SeptState::kMapped) {
      completed(0x00000B0A00000000 + static_cast<std::uint64_t>(stop.level));
    } else if (stop.level == level &&
               (state == SeptState::kNonLeafMapped || state == SeptState::kNonLeafBlocked)) {
      completed(0xC0000B0B00000001);
    } else if (stop.level == level && state == SeptState::kPending) {
      const std::uint64_t pages = (level == 0 ? 1 : 512) - stop.entry.counter;
      if (interrupt != 0 && interrupt < pages) {
        naive_.put(level, gpa,
                   {SeptState::kPending, stop.entry.hpa, 0, stop.entry.counter + interrupt});
        if (result.kind != GuestCallKind::kInterrupted || zeroed != interrupt) {
          fail("was not interrupted where it should");
        }
      } else {
        completed(0);
        naive_.put(level, gpa, {SeptState::kMapped, stop.entry.hpa});
        if (zeroed != pages) {
          fail("did not zero each page once");
        }
      }
    } else if (result.kind != GuestCallKind::kExit || result.exit.error_state != state ||
               static_cast<int>(result.exit.error_level) != stop.level) {
      fail("expected an exit");
    }
    compare(gpa);
  }

  void release(std::uint64_t gpa, int level) {
    const GuestCallResult result = ept_.release(gpa | static_cast<std::uint64_t>(level));
    if (result.kind == GuestCallKind::kOutOfStorage) {
      return compare(gpa);
    }
    const auto stop = naive_.walk(gpa, level);
    const SeptState state = stop.entry.state;
    const bool non_leaf = state == SeptState::kNonLeafMapped || state == SeptState::kNonLeafBlocked;
    std::uint64_t rax = 0;
    if (level > 1) {
      rax = NaiveSept::kInvalid;
    } else if (state == SeptState::kFree) {
      rax = 0xC0000B0100000001;
    } else if (stop.level == level ? non_leaf : NaiveSept::leaf(state)) {
      rax = 0xC0000B0B00000000 + static_cast<std::uint64_t>(stop.level);
    } else if (state != SeptState::kMapped) {
      rax = NaiveSept::kState;
    } else {
      naive_.put(level, gpa, {SeptState::kPending, stop.entry.hpa});
    }
    if (result.kind != GuestCallKind::kCompleted || result.rax != rax) {
      fail("release: other status");
    }
    compare(gpa);
  }

  void block(std::uint64_t gpa, int level) {
    const HostCall call = ept_.range_block(PhysAddr{gpa}, static_cast<SeptLevel>(level));
    if (exhausted(call, gpa)) {
      return;
    }
    const auto stop = naive_.walk(gpa, level);
    const SeptState state = stop.entry.state;
    if (stop.level == level && NaiveSept::blocked(state)) {
      return check(call, NaiveSept::kAlreadyBlocked, gpa);
    }
    const auto refused = naive_.refuse(stop, level, state != SeptState::kFree, false);
    if (!refused) {
      NaiveSept::Entry entry = stop.entry;
      entry.state = state == SeptState::kMapped    ? SeptState::kBlocked
                    : state == SeptState::kPending ? SeptState::kPendingBlocked
                                                   : SeptState::kNonLeafBlocked;
      entry.epoch = naive_.epoch;
      naive_.put(level, gpa, entry);
    }
    check(call, refused.value_or(0), gpa);
  }

  void unblock(std::uint64_t gpa, int level) {
    const HostCall call = ept_.range_unblock(PhysAddr{gpa}, static_cast<SeptLevel>(level));
    if (exhausted(call, gpa)) {
      return;
    }
    const auto stop = naive_.walk(gpa, level);
    const auto refused = naive_.refuse(stop, level, NaiveSept::blocked(stop.entry.state), true);
    if (!refused) {
      NaiveSept::Entry entry = stop.entry;
      entry.state = NaiveSept::unblocked(entry.state);
      naive_.put(level, gpa, entry);
    }
    check(call, refused.value_or(0), gpa);
  }

  void remove(std::uint64_t gpa, int level) {
    const HostCall call = ept_.page_remove(PhysAddr{gpa}, static_cast<SeptLevel>(level));
    if (exhausted(call, gpa)) {
      return;
    }
    if (level > 2) {
      return check(call, NaiveSept::kInvalid, gpa);
    }
    const auto stop = naive_.walk(gpa, level);
    const auto refused = naive_.refuse(stop, level, NaiveSept::leaf(stop.entry.state), true);
    if (!refused) {
      naive_.put(level, gpa, {});
      if (call.has_value() && call->hpa != PhysAddr{stop.entry.hpa}) {
        fail("removed another host page");
      }
    }
    check(call, refused.value_or(0), gpa);
  }

  void demote(std::uint64_t gpa, int level) {
    const HostCall call = ept_.page_demote(PhysAddr{gpa}, static_cast<SeptLevel>(level));
    if (exhausted(call, gpa)) {
      return;
    }
    if (level != 1 && level != 2) {
      return check(call, NaiveSept::kInvalid, gpa);
    }
    const auto stop = naive_.walk(gpa, level);
    const auto refused = naive_.refuse(stop, level, NaiveSept::leaf(stop.entry.state), true);
    if (!refused) {
      naive_.put(level, gpa, {SeptState::kNonLeafMapped});
      for (std::uint64_t i = 0; i < 512; ++i) {
        const std::uint64_t offset = i * NaiveSept::size(level - 1);
        naive_.put(level - 1, gpa + offset,
                   {NaiveSept::unblocked(stop.entry.state), stop.entry.hpa + offset});
      }
    }
    check(call, refused.value_or(0), gpa);
  }

  void promote(std::uint64_t gpa, int level) {
    const HostCall call = ept_.page_promote(PhysAddr{gpa}, static_cast<SeptLevel>(level));
    if (exhausted(call, gpa)) {
      return;
    }
    if (level != 1 && level != 2) {
      return check(call, NaiveSept::kInvalid, gpa);
    }
    const auto stop = naive_.walk(gpa, level);
    const bool table = stop.entry.state == SeptState::kNonLeafMapped ||
                       stop.entry.state == SeptState::kNonLeafBlocked;
    auto refused = naive_.refuse(stop, level, table, true);
    if (!refused) {
      const NaiveSept::Entry first = naive_.get(level - 1, gpa);
      bool uniform = (first.state == SeptState::kMapped || first.state == SeptState::kPending) &&
                     first.hpa % NaiveSept::size(level) == 0;
      for (std::uint64_t i = 0; i < 512 && uniform; ++i) {
        const std::uint64_t offset = i * NaiveSept::size(level - 1);
        const NaiveSept::Entry child = naive_.get(level - 1, gpa + offset);
        uniform = child.state == first.state && child.hpa == first.hpa + offset;
      }
      if (uniform) {
        naive_.drop_children(level, gpa);
        naive_.put(level, gpa, {first.state, first.hpa});
      } else {
        refused = NaiveSept::kPromote;
      }
    }
    check(call, refused.value_or(0), gpa);
  }

  void track() {
    text_ << "track";
    bool older = false;
    for (const std::uint64_t inside : naive_.vcpus) {
      older = older || inside < naive_.epoch;
    }
    const std::uint64_t expected = older ? 0x80000201000000A9 : 0;
    naive_.epoch += older ? 0 : 1;
    if (ept_.track() != expected) {
      fail("track: other status");
    }
  }

  void vcpu(ByteSource& bytes) {
    text_ << "vcpu";
    if (!tokens_.empty() && bytes.below(8) != 0) {
      const std::size_t which = bytes.below(static_cast<std::uint32_t>(tokens_.size()));
      ept_.vcpu_left(tokens_[which]);
      tokens_.erase(tokens_.begin() + static_cast<std::ptrdiff_t>(which));
      naive_.vcpus.erase(naive_.vcpus.begin() + static_cast<std::ptrdiff_t>(which));
    } else if (tokens_.size() < 3) {
      tokens_.push_back(ept_.vcpu_entered());
      naive_.vcpus.push_back(naive_.epoch);
    }
  }

  void finalize(ByteSource& bytes) {
    text_ << "finalize";
    // Little can be done before it.
    if (naive_.finalized && bytes.below(4) != 0) {
      return;
    }
    const bool ok = ept_.finalize() == 0;
    if (ok == naive_.finalized) {
      fail("finalize: other status");
    }
    naive_.finalized = true;
  }

  void bad_operand(ByteSource& bytes) {
    text_ << "bad operand";
    std::uint64_t rcx = pick(bytes, 1) | 1;
    rcx |= bytes.below(2) != 0 ? 1ULL << (47 + bytes.below(17)) : 8ULL << bytes.below(18);
    const GuestCallResult result = ept_.accept(rcx, [](PhysAddr) {}, [] { return false; });
    if (result.kind != GuestCallKind::kCompleted || result.rax != NaiveSept::kInvalid) {
      fail("a bad operand was not refused");
    }
  }

  void busy(ByteSource& bytes) {
    text_ << "inject busy";
    busy_ = bytes.below(3);
    ept_.inject_busy(busy_, bytes.below(2) != 0 ? BusyCause::kGuest : BusyCause::kHostPriority);
  }

  // --- Comparing ---

  void compare(std::uint64_t gpa) {
    const auto expected = naive_.walk(gpa, 0);
    const EntryView view = *ept_.lookup(PhysAddr{gpa});
    std::uint64_t hpa = 0;
    if (NaiveSept::leaf(expected.entry.state)) {
      hpa = expected.entry.hpa + (gpa & (NaiveSept::size(expected.level) - 1));
    }
    if (view.state != expected.entry.state || static_cast<int>(view.level) != expected.level ||
        view.hpa != PhysAddr{hpa}) {
      std::ostringstream what;
      what << "state " << abi::tdx::name_of(view.state) << " level " << static_cast<int>(view.level)
           << " hpa 0x" << std::hex << view.hpa.value() << ", expected "
           << abi::tdx::name_of(expected.entry.state) << " level " << expected.level << " hpa 0x"
           << hpa;
      fail(what.str());
    }
  }

  /// The runs of visit() against the naive entries, one by one.
  void compare_all() {
    std::uint64_t at = 0;
    ept_.visit(*PhysRange::make(PhysAddr{0}, PhysAddr{1ULL << 39}), [&](const StateRun& run) {
      if (run.range.begin().value() != at) {
        fail("visit() left a gap");
      }
      while (at < run.range.end().value() && problem_.empty()) {
        const auto expected = naive_.walk(at, 0);
        if (expected.entry.state != run.state || expected.level != static_cast<int>(run.level)) {
          std::ostringstream what;
          what << "visit() at 0x" << std::hex << at << " says " << abi::tdx::name_of(run.state)
               << ", expected " << abi::tdx::name_of(expected.entry.state);
          fail(what.str());
        }
        at = (at & ~(NaiveSept::size(expected.level) - 1)) + NaiveSept::size(expected.level);
      }
      at = run.range.end().value();
    });
  }

  std::unique_ptr<void, Free> data_;
  SecureEpt ept_;
  NaiveSept naive_;
  std::deque<VcpuEpoch> tokens_;
  std::uint32_t busy_ = 0;
  unsigned steps_ = 0;
  std::string problem_;
  std::ostringstream text_;
};

}  // namespace accede::host::test
