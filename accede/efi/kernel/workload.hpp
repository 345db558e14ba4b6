// The workloads: memory is taken, written, checked and given back, and the time of each first touch
// is measured.
//
// They keep no lists beside the memory: pages that are taken are linked through themselves, so any
// amount can be held, and a page that two owners share shows as a broken link or a wrong word.
#pragma once

#include "accede/base/latency_histogram.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/base/units.hpp"
#include "accede/efi/kernel/options.hpp"
#include "accede/guest/alloc_result.hpp"
#include "accede/guest/page_info.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>
#include <utility>

namespace accede::efi::kernel {

using namespace std::string_view_literals;

struct WorkRequest {
  WorkKind kind = WorkKind::kTouch;
  bool all = false;  ///< until nothing is unaccepted; if nothing is to begin with, until memory is
                     ///< nearly gone. kFill: always until memory is gone
  Bytes amount{};    ///< otherwise: so much, rounded down to pages
  std::uint64_t seed = 0x5EED;  ///< kRandom
};

/// Large: keep it out of the stack.
struct WorkResult {
  WorkKind kind = WorkKind::kTouch;
  Bytes touched;                              ///< memory that was held at once, all of it written
  std::uint64_t wrong_pages = 0;              ///< pages that did not hold what was written
  std::uint64_t elapsed_ticks = 0;            ///< of the touching, without the check
  std::string_view stopped;                   ///< "done", "accepted", "memory", or an error
  std::optional<guest::AcceptError> failure;  ///< how the platform ended it
  LatencyHistogram latency;                   ///< ticks from a request to its first write

  [[nodiscard]] bool good() const {
    return wrong_pages == 0 &&
           (stopped == "done"sv || stopped == "accepted"sv || stopped == "memory"sv);
  }
};

// --- What is in the pages ---

inline constexpr std::size_t kWordsPerPage = 512;
using PageWords = volatile std::uint64_t*;

/// A list of single pages, each linked to the one taken before it. A value type.
class PageChain {
 public:
  explicit PageChain(PhysWindow window) : window_{window} {}

  /// Clears the page; the first word is written last. What a first touch is, as in Linux.
  [[nodiscard]] PageWords first_touch(PhysAddr page) const;
  /// Writes the rest and puts the page at the head.
  void push(PhysAddr page);
  struct Popped {
    PhysAddr page;
    bool right;       ///< holds what was written
    bool link_right;  ///< the rest of the list can be followed
  };
  /// Takes the head off and looks at it. Precondition: not empty.
  [[nodiscard]] Popped pop();

  [[nodiscard]] std::uint64_t pages() const { return pages_; }

 private:
  PhysWindow window_;
  PhysAddr head_;
  std::uint64_t pages_ = 0;
};

/// Blocks of any order in 64 lists, linked through their first pages. A value type.
class BlockChains {
 public:
  static constexpr std::size_t kChains = 64;

  explicit BlockChains(PhysWindow window) : window_{window} {}

  /// Writes every page of the block and puts it into a chain that `random` chooses, at either end.
  void push(PhysAddr block, unsigned order, std::uint64_t random);
  struct Popped {
    PhysAddr block;
    unsigned order;
    std::uint64_t wrong_pages;
    bool header_right;  ///< else order and link are not known: the rest of the chain is lost
  };
  /// Takes a block off the first chain that has one, from the one that `random` chooses on.
  /// Precondition: not empty.
  [[nodiscard]] Popped pop(std::uint64_t random);

  [[nodiscard]] Bytes held() const { return held_; }
  [[nodiscard]] bool empty() const { return blocks_ == 0; }

 private:
  struct Chain {
    PhysAddr first;
    PhysAddr last;
    std::uint64_t blocks = 0;
  };
  void link(PhysAddr from, PhysAddr to) const;

  PhysWindow window_;
  std::array<Chain, kChains> chains_{};
  Bytes held_;
  std::uint64_t blocks_ = 0;
};

/// SplitMix64. The same seed gives the same workload.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_{seed} {}
  [[nodiscard]] std::uint64_t next();

 private:
  std::uint64_t state_;
};

// --- The workloads ---

/// Works on a started KernelMemory. `Ticks` is called without arguments and returns the time stamp
/// counter. One use.
template <class Memory, class Ticks>
class Workload {
 public:
  Workload(Memory& memory, Ticks ticks) : memory_{memory}, ticks_{std::move(ticks)} {}

  /// Does it, checks every page, gives everything back, and checks that the allocator is as it was
  /// before. `result` must be new.
  void run(const WorkRequest& request, WorkResult& result) {
    request_ = request;
    result_ = &result;
    result.kind = request.kind;
    const guest::MemoryCounters before = memory_.pages().counters();
    plan(before);
    const std::uint64_t start = ticks_();
    if (request.kind == WorkKind::kRandom) {
      run_blocks(start);
    } else {
      run_pages(start);
    }
    check(before);
  }

 private:
  static constexpr Bytes kPage{4096};
  static constexpr std::uint64_t kPagesBetweenLooks = 1024;  ///< 4 MiB, as the Linux workload
  static constexpr unsigned kLargestOrder = 9;

  void plan(const guest::MemoryCounters& before) {
    const Bytes wanted = request_.all ? before.total : request_.amount;
    limit_ = kPage * (std::min(wanted, before.total) / kPage);
    cut_short_ = wanted > before.total;
    until_accepted_ = request_.all && before.unaccepted != Bytes{0};
    if (request_.kind == WorkKind::kFill) {
      limit_ = before.free;
      until_accepted_ = false;
      cut_short_ = false;
    } else if (request_.all && !until_accepted_) {
      keep_ = kPage * (before.total / (kPage * 64) + kPagesBetweenLooks);
    }
  }

  /// Sets `stopped` when there is a reason to.
  void look() {
    const guest::MemoryCounters now = memory_.pages().counters();
    if (until_accepted_ && now.unaccepted == Bytes{0}) {
      result_->stopped = "accepted"sv;
    } else if (now.free < keep_) {
      result_->stopped = "memory"sv;
    }
  }

  void stop(const guest::AllocError& error) {
    switch (error.kind) {
      case guest::AllocErrorKind::kOutOfMemory:
        result_->stopped = "memory"sv;
        break;
      case guest::AllocErrorKind::kAcceptFailed:
        stop(error.accept);
        break;
      case guest::AllocErrorKind::kWouldAccept:
        result_->stopped = guest::to_string(error.kind);
        break;
    }
  }
  void stop(const guest::AcceptError& error) {
    result_->stopped = guest::to_string(error.failure.kind);
    result_->failure = error;
  }
  /// An error that was found first is not replaced.
  void blame(std::string_view what) {
    if (result_->stopped.empty() || result_->good()) {
      result_->stopped = what;
    }
  }

  void poll() {
    if (const auto polled = memory_.background_poll(); !polled) {
      stop(polled.error());
    }
  }
  void finish(std::uint64_t start) {
    result_->elapsed_ticks = ticks_() - start;
    if (until_accepted_ && (result_->stopped.empty() || result_->stopped == "memory"sv)) {
      look();  // the last unit may be among the last pages
    }
    if (result_->stopped.empty()) {
      result_->stopped = cut_short_ ? "memory"sv : "done"sv;
    }
  }
  void give_back(PhysAddr at, unsigned order) {
    if (const auto freed = memory_.pages().free(at, guest::Order{order}); !freed) {
      blame(guest::to_string(freed.error()));
    }
  }

  void run_pages(std::uint64_t start) {
    PageChain chain{memory_.window()};
    // A fill goes on until it is refused: that the allocator's count is right is to be seen.
    const bool fill = request_.kind == WorkKind::kFill;
    const std::uint64_t limit = fill ? ~0ULL : limit_ / kPage;
    while (chain.pages() < limit && result_->stopped.empty()) {
      if (chain.pages() % kPagesBetweenLooks == 0) {
        look();
      }
      poll();
      if (result_->stopped.empty()) {
        take_page(chain);
      }
    }
    result_->touched = kPage * chain.pages();
    if (fill && result_->stopped == "memory"sv) {
      result_->stopped = result_->touched == limit_
                             ? "done"sv
                             : "the memory that could be taken is not what was counted as free"sv;
    }
    finish(start);
    while (chain.pages() != 0) {
      const PageChain::Popped popped = chain.pop();
      result_->wrong_pages += popped.right ? 0 : 1;
      if (!popped.link_right) {
        result_->wrong_pages += chain.pages();
        return blame("the list of pages was overwritten"sv);
      }
      give_back(popped.page, 0);
    }
  }

  void take_page(PageChain& chain) {
    const std::uint64_t begin = ticks_();
    const auto page = memory_.pages().allocate(guest::Order{0});
    if (!page) {
      return stop(page.error());
    }
    *chain.first_touch(*page) = begin;
    result_->latency.add(ticks_() - begin);
    chain.push(*page);
  }

  void run_blocks(std::uint64_t start) {
    BlockChains chains{memory_.window()};
    Random random{request_.seed};
    while (chains.held() < limit_ && result_->stopped.empty()) {
      look();
      poll();
      if (!result_->stopped.empty()) {
        break;
      }
      // Three blocks go for five that come: what is held grows, out of pieces.
      if (!chains.empty() && random.next() % 8 < 3) {
        release(chains, random.next());
      } else {
        take_block(chains, random);
      }
    }
    result_->touched = chains.held();
    finish(start);
    while (!chains.empty() && !lost_) {
      release(chains, random.next());
    }
  }

  void take_block(BlockChains& chains, Random& random) {
    auto order = static_cast<unsigned>(random.next() % (kLargestOrder + 1));
    while (order != 0 && limit_ - chains.held() < guest::Order{order}.bytes()) {
      --order;
    }
    const std::uint64_t begin = ticks_();
    auto block = memory_.pages().allocate(guest::Order{order});
    while (!block && order != 0 && block.error().kind == guest::AllocErrorKind::kOutOfMemory) {
      block = memory_.pages().allocate(guest::Order{--order});
    }
    if (!block) {
      return stop(block.error());
    }
    *memory_.window().template pointer<volatile std::uint64_t>(*block) = begin;
    result_->latency.add(ticks_() - begin);
    chains.push(*block, order, random.next());
  }

  void release(BlockChains& chains, std::uint64_t random) {
    const BlockChains::Popped popped = chains.pop(random);
    result_->wrong_pages += popped.wrong_pages;
    if (!popped.header_right) {
      lost_ = true;
      return blame("a list of blocks was overwritten"sv);
    }
    give_back(popped.block, popped.order);
  }

  void check(const guest::MemoryCounters& before) {
    const guest::MemoryCounters after = memory_.pages().counters();
    if (after.free != before.free || after.total != before.total ||
        after.unaccepted > before.unaccepted) {
      blame("not all memory came back"sv);
    }
    if (!memory_.sound()) {
      blame("the page allocator is not sound"sv);
    }
  }

  Memory& memory_;
  Ticks ticks_;
  WorkRequest request_;
  WorkResult* result_ = nullptr;
  Bytes limit_;  ///< to be held
  Bytes keep_;   ///< to be left free
  bool cut_short_ = false;
  bool until_accepted_ = false;
  bool lost_ = false;
};

}  // namespace accede::efi::kernel
