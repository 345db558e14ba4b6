// Random page state change lists answered in bulk, checked against KVM's way of answering them on a
// naive map. The model test feeds it a random generator, the fuzz target the fuzzer's bytes.
#pragma once

#include "accede/host/bulk_conversion.hpp"
#include "tests/host/sept_actions.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace accede::host::test {

/// Two memory objects that know which pages are there.
class PresenceBacking {
 public:
  explicit PresenceBacking(std::size_t pages)
      : present_{std::vector<bool>(pages), std::vector<bool>(pages)} {}

  [[nodiscard]] Bytes size(PageAttribute side) const {
    return PageCount{present_[static_cast<std::size_t>(side)].size()}.bytes();
  }
  [[nodiscard]] bool in_place() const { return false; }
  [[nodiscard]] Requirements guarantees() const { return {}; }
  BackingResult allocate(PageAttribute side, OffsetRange range) {
    ++calls_.allocate;
    return put(side, range, true);
  }
  BackingResult discard(PageAttribute side, OffsetRange range) {
    ++calls_.discard;
    return put(side, range, false);
  }
  BackingResult set_host_access(PageAttribute, OffsetRange, bool) {
    ++calls_.host_access;
    return {};
  }
  BackingResult write(PageAttribute, Bytes, std::span<const std::byte>) {
    ++calls_.write;
    return {};
  }
  [[nodiscard]] BackingCalls calls() const { return calls_; }
  [[nodiscard]] std::vector<bool>& present(PageAttribute side) {
    return present_[static_cast<std::size_t>(side)];
  }

 private:
  BackingResult put(PageAttribute side, OffsetRange range, bool there) {
    const auto at = [&](Bytes offset) {
      return present(side).begin() + static_cast<std::ptrdiff_t>(offset / 4_KiB);
    };
    std::fill(at(range.begin()), at(range.end()), there);
    return {};
  }

  std::array<std::vector<bool>, 2> present_;
  BackingCalls calls_;
};

/// Lists on a VM with two slots that touch, a hole, and a third slot.
class PscActions {
 public:
  static constexpr std::uint64_t kSlotPages = 2048;
  static constexpr std::uint64_t kPages = 3 * kSlotPages;  ///< of slots; page = offset / 4K
  static constexpr std::size_t kMostLists = 3;

  PscActions() {
    bool made = true;
    for (std::uint64_t slot = 0; slot < 3; ++slot) {
      const PhysRange gpas = *PhysRange::make(gpa_of(slot * kSlotPages), Bytes{kSlotPages * 4096});
      made = made && memory_.add_slot(gpas);
    }
    for (std::uint64_t slot = 0; slot < 3; ++slot) {
      const Bytes offset{slot * kSlotPages * 4096};
      made = made && memory_.bind(gpa_of(slot * kSlotPages), offset, offset);
    }
    made = made && memory_.initialise();
    for (std::uint64_t slot = 0; slot < 3; ++slot) {
      made = made && memory_.set_private(
                         *PhysRange::make(gpa_of(slot * kSlotPages), Bytes{kSlotPages * 4096}));
    }
    made = made && memory_.launch() && memory_.register_consumer(consumer_of(stubborn_));
    if (!made) {
      std::abort();
    }
  }

  /// Touches pages, writes one to three lists and has them answered. Text when something is wrong.
  std::string step(ByteSource& bytes) {
    touch(bytes);
    stubborn_.page = bytes.below(4) == 0 ? gpa_of(bytes.below(kPages)) : PhysAddr{~0ULL};
    const std::size_t count = 1 + bytes.below(kMostLists);
    std::vector<std::vector<std::uint64_t>> words;
    for (std::size_t i = 0; i < count; ++i) {
      words.push_back(random_list(bytes, i, count));
    }
    return bytes.below(4) == 0 && !is_refused(words) ? answer_with_pauses(words)
                                                     : answer_at_once(words);
  }

 private:
  /// Refuses to let go of, or to take, one page.
  struct Stubborn {
    bool prepare(PhysRange run, PageAttribute) const { return !run.contains(page); }
    PhysAddr page{~0ULL};
  };

  /// The gap is one 2 MiB page wide.
  static PhysAddr gpa_of(std::uint64_t page) {
    return PhysAddr{(512 + page + (page >= 2 * kSlotPages ? 512 : 0)) * 4096};
  }
  /// The page at a GFN, or kPages.
  static std::uint64_t page_of(std::uint64_t gfn) {
    if (gfn >= 512 && gfn < 512 + 2 * kSlotPages) {
      return gfn - 512;
    }
    return gfn >= 1024 + 2 * kSlotPages && gfn < 1024 + kPages ? gfn - 1024 : kPages;
  }

  void touch(ByteSource& bytes) {
    for (std::uint32_t i = bytes.below(8); i > 0; --i) {
      const std::uint64_t first = bytes.below(kPages);
      for (std::uint64_t page = first; page < std::min(kPages, first + 40); ++page) {
        backing_.present(shared_[page] ? PageAttribute::kShared : PageAttribute::kPrivate)[page] =
            true;
        there_[page] = true;
      }
    }
  }

  /// Entries of list `which` of `lists` touch blocks of their own: what several lists do is then
  /// the same in any order.
  static std::vector<std::uint64_t> random_list(ByteSource& bytes, std::uint64_t which,
                                                std::uint64_t lists) {
    std::vector<std::uint64_t> words(abi::ghcb::kPscWords);
    const std::uint64_t entries = 1 + bytes.below(bytes.below(8) == 0 ? 253 : 12);
    const std::uint64_t cur = bytes.below(16) == 0 ? bytes.below(300) : 0;
    const std::uint64_t end = bytes.below(64) == 0 ? bytes.below(65536) : entries - 1;
    words[0] = end << 16 | cur;
    std::uint64_t gfn = 0;
    std::uint64_t op = 1;
    bool large = false;
    for (std::uint64_t i = 0; i < entries; ++i) {
      const std::uint32_t kind = bytes.below(16);
      const std::uint64_t before = large ? 512 : 1;
      if (i == 0 || kind == 0) {
        gfn = bytes.below(7000);
        large = bytes.below(3) == 0;
        op = 1 + bytes.below(2);
      } else if (kind < 11) {
        gfn += before;
        large = kind == 1 ? !large : large;
      } else if (kind < 14) {
        gfn -= kind == 13 || gfn == 0 ? 0 : 1;
      } else if (kind == 14) {
        op = bytes.below(16);
      } else {
        gfn = bytes.below(2) == 0 ? (1ULL << 40) - bytes.below(700) : gfn + 3;
      }
      constexpr std::uint64_t kBlocks = (1ULL << 40) / 512;
      std::uint64_t block = gfn / 512 / lists * lists + which;
      block -= block >= kBlocks ? lists : 0;
      std::uint64_t own = block * 512 + gfn % 512;
      if (large && bytes.below(64) != 0) {
        own &= ~511ULL;
      }
      std::uint64_t done = bytes.below(16) == 0 ? bytes.below(large ? 512 : 2) : 0;
      done = bytes.below(128) == 0 ? bytes.below(4096) : done;
      words[1 + i] = std::uint64_t{large} << 56 | op << 52 | own << 12 | done;
    }
    return words;
  }

  struct Answered {
    std::vector<std::vector<std::uint64_t>> words;
    std::vector<abi::ghcb::PscResult> results;
  };
  Answered answer(const std::vector<std::vector<std::uint64_t>>& words, const BulkLimits& limits) {
    BulkConversion<PresenceBacking> bulk{memory_, limits};
    Answered answered{.words = words, .results = {}};
    const auto report = [](const GhcbMistake&) {};
    std::vector<PageStateList> lists;
    for (auto& each : answered.words) {
      lists.emplace_back(GhcbScratch{GhcbScratch::Buffer{each}}, report);
    }
    bulk.answer_lists(lists, [] { return false; }, report, [](PhysRange, abi::ghcb::PageOp) {});
    for (const PageStateList& list : lists) {
      answered.results.push_back(list.result());
    }
    return answered;
  }

  std::string answer_at_once(std::vector<std::vector<std::uint64_t>> words) {
    const std::uint64_t before = backing_.calls().total();
    // One step holds every slot, so that only refusals stop a change.
    const Answered answered = answer(words, {.step = 32_MiB, .most = 1_TiB});
    const std::uint64_t calls = backing_.calls().total() - before;
    const std::uint64_t naive_before = naive_calls_;
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::uint64_t result = play(words[i]);
      if (result != static_cast<std::uint64_t>(answered.results[i])) {
        return "a list has another result than KVM's";
      }
    }
    if (words != answered.words) {
      return "a list comes back with other words than KVM's";
    }
    if (calls > naive_calls_ - naive_before) {
      return "more backing calls than KVM's";
    }
    return compare();
  }

  /// Whether KVM's VMM refuses a part. With pauses that shows where the refused part is come to,
  /// and what lies before it in one change of KVM's is done by then.
  bool is_refused(std::vector<std::vector<std::uint64_t>> words) {
    stubborn_.page = PhysAddr{~0ULL};
    const auto shared = shared_;
    const auto there = there_;
    bool refused = false;
    for (auto& list : words) {
      refused = play(list) == static_cast<std::uint64_t>(abi::ghcb::PscResult::kGeneric) || refused;
    }
    shared_ = shared;
    there_ = there;
    return refused;
  }

  /// Every exit gets on, and all of them together do what one would have done.
  std::string answer_with_pauses(std::vector<std::vector<std::uint64_t>> words) {
    Answered answered{.words = words, .results = {}};
    for (unsigned exits = 0; unfinished(answered); ++exits) {
      if (exits > 3 * 253 + 1) {
        return "an exit does not get on";
      }
      answered = answer(answered.words, {.step = 2_MiB, .most = 2_MiB});
    }
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (play(words[i]) != static_cast<std::uint64_t>(answered.results[i])) {
        return "a list with pauses has another result";
      }
    }
    return words == answered.words ? compare() : "a list with pauses has other words";
  }
  static bool unfinished(const Answered& answered) {
    if (answered.results.empty()) {
      return true;
    }
    for (std::size_t i = 0; i < answered.results.size(); ++i) {
      const std::uint64_t header = answered.words[i][0];
      if (answered.results[i] == abi::ghcb::PscResult::kOk &&
          (header & 0xFFFF) <= (header >> 16 & 0xFFFF)) {
        return true;
      }
    }
    return false;
  }

  /// One list as KVM and its VMM play it (reference: SEV-SNP 3.5), page by page.
  std::uint64_t play(std::vector<std::uint64_t>& words) {
    const std::uint64_t end = words[0] >> 16 & 0xFFFF;
    std::uint64_t cur = words[0] & 0xFFFF;
    if (end >= 253) {
      return 1ULL << 32 | 1;
    }
    while (cur <= end) {
      const std::uint64_t first = words[1 + cur];
      const std::uint64_t pages = count(first);
      if ((first & 0xFFF) > pages || gfn(first) % pages != 0) {
        return 1ULL << 32 | 2;
      }
      const std::uint64_t begin = gfn(first) + (first & 0xFFF);
      std::uint64_t stop = gfn(first) + pages;
      const std::uint64_t size = (first & 0xFFF) == 0 ? pages : 1;
      std::uint64_t next = cur + 1;
      while (begin != stop && next <= end && (words[1 + next] & 0xFFF) == 0 &&
             op(words[1 + next]) == op(first) && gfn(words[1 + next]) == stop &&
             count(words[1 + next]) == size) {
        stop += size;
        ++next;
      }
      std::uint64_t done = stop - begin;
      const bool converts = op(first) == 1 || op(first) == 2;
      if (converts && begin != stop) {
        done = convert(begin, stop, op(first) == 2);
      }
      const bool refused = done != stop - begin;
      for (; cur < next; ++cur) {
        std::uint64_t& entry = words[1 + cur];
        const std::uint64_t more = std::min(done, count(entry) - (entry & 0xFFF));
        entry += more;
        done -= more;
        if ((entry & 0xFFF) != count(entry)) {
          break;
        }
      }
      words[0] = (words[0] & ~0xFFFFULL) | cur;
      if (refused) {
        return 0x100ULL << 32;
      }
    }
    return 0;
  }
  static std::uint64_t gfn(std::uint64_t entry) { return entry >> 12 & ((1ULL << 40) - 1); }
  static std::uint64_t op(std::uint64_t entry) { return entry >> 52 & 15; }
  static std::uint64_t count(std::uint64_t entry) { return (entry >> 56 & 1) != 0 ? 512 : 1; }

  /// Returns how many pages it converted: up to the slot with the stubborn one.
  std::uint64_t convert(std::uint64_t begin, std::uint64_t end, bool to_shared) {
    for (std::uint64_t at = begin; at < end && !to_shared; ++at) {
      if (page_of(at) == kPages) {
        return 0;
      }
    }
    for (std::uint64_t at = begin; at < end;) {
      std::uint64_t stop = at;
      const auto slot = [](std::uint64_t gfn) { return page_of(gfn) / kSlotPages; };
      while (stop < end && slot(stop) == slot(at)) {
        ++stop;
      }
      if (page_of(at) != kPages && !convert_in_slot(at, stop, to_shared)) {
        return at - begin;
      }
      at = stop;
    }
    return end - begin;
  }
  bool convert_in_slot(std::uint64_t begin, std::uint64_t end, bool to_shared) {
    std::uint64_t differing = 0;
    for (std::uint64_t at = begin; at < end; ++at) {
      if (shared_[page_of(at)] != to_shared) {
        ++differing;
        if (PhysAddr{at * 4096} == stubborn_.page) {
          return false;
        }
      }
    }
    for (std::uint64_t at = begin; at < end; ++at) {
      if (shared_[page_of(at)] != to_shared) {
        shared_[page_of(at)] = to_shared;
        there_[page_of(at)] = false;
      }
    }
    naive_calls_ += differing != 0 ? 1 : 0;
    return true;
  }

  std::string compare() {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      const PageAttribute side = shared_[page] ? PageAttribute::kShared : PageAttribute::kPrivate;
      const PageAttribute other = shared_[page] ? PageAttribute::kPrivate : PageAttribute::kShared;
      if (memory_.attribute(gpa_of(page)) != side) {
        return "page " + std::to_string(page) + " has the wrong attribute";
      }
      if (backing_.present(side)[page] != there_[page] || backing_.present(other)[page]) {
        return "page " + std::to_string(page) + " is there, or gone, where it must not be";
      }
    }
    return {};
  }

  static PhysRange all() { return *PhysRange::make(PhysAddr{0}, 64_MiB); }

  PresenceBacking backing_{kPages};
  std::vector<std::uint64_t> bits_ =
      std::vector<std::uint64_t>(PageAttributes::storage_bound(all()).value() / 8);
  PageAttributes attributes_{all(), std::as_writable_bytes(std::span{bits_})};
  std::array<MemorySlot, 3> slots_;
  std::array<PhysRange, 1> populated_;
  std::array<ConsumerEntry, 1> consumers_;
  std::array<MemoryHold, 1> holds_;
  std::array<MemoryClaim, 2> claims_;
  PrivateMemory<PresenceBacking> memory_{{.type = VmType::kSnp},
                                         backing_,
                                         attributes_,
                                         {.slots = slots_,
                                          .populated = populated_,
                                          .consumers = consumers_,
                                          .holds = holds_,
                                          .claims = claims_}};
  Stubborn stubborn_;
  std::vector<bool> shared_ = std::vector<bool>(kPages);
  std::vector<bool> there_ = std::vector<bool>(kPages);
  std::uint64_t naive_calls_ = 0;
};

}  // namespace accede::host::test
