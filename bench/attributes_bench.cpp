#include "bench/attributes_bench.hpp"

#include "accede/host/page_attributes.hpp"
#include "bench/arena.hpp"
#include "bench/clock.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace accede::bench {

namespace {

using host::PageAttribute;
using host::PageAttributes;

/// Steele, Lea and Flood's SplitMix64: cheaper than what is measured.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_{seed} {}
  std::uint64_t operator()() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

constexpr std::uint64_t kPages = (1ULL << 40) / 4096;

PhysRange pages(std::uint64_t first, std::uint64_t end) {
  return *PhysRange::make(PhysAddr{first * 4096}, PhysAddr{end * 4096});
}

/// Attributes of 1 TiB and a plain bitmap that is told the same.
class Both {
 public:
  explicit Both(std::uint64_t slots)
      : slot_pages_{kPages / slots},
        memory_{PageAttributes::storage_bound(pages(0, kPages))},
        naive_(kPages),
        attributes_{pages(0, kPages),
                    {memory_.window().pointer<std::byte>(memory_.range().begin()),
                     memory_.range().size().value()}} {}

  /// Gives slot `slot` another shared range inside; what was there is private again.
  void change(std::uint64_t slot, Random& random) {
    const std::uint64_t begin = slot * slot_pages_;
    const std::uint64_t first = begin + random() % (slot_pages_ / 2);
    const std::uint64_t end = first + 1 + random() % (slot_pages_ / 2 - 1);
    attributes_.set(pages(begin, begin + slot_pages_), PageAttribute::kPrivate);
    attributes_.set(pages(first, end), PageAttribute::kShared);
    last_ = {.begin = begin, .first = first, .end = end};
  }
  /// Tells the bitmap what change() did.
  void note() {
    const auto at = [&](std::uint64_t page) {
      return naive_.begin() + static_cast<std::ptrdiff_t>(page);
    };
    std::fill(at(last_.begin), at(last_.begin + slot_pages_), false);
    std::fill(at(last_.first), at(last_.end), true);
  }

  [[nodiscard]] bool is_right(std::uint64_t page) const {
    return naive_[page] ==
           (attributes_.get(pages(page, page + 1).begin()) == PageAttribute::kShared);
  }
  [[nodiscard]] PageAttributes& attributes() { return attributes_; }

 private:
  struct Change {
    std::uint64_t begin = 0;
    std::uint64_t first = 0;
    std::uint64_t end = 0;
  };

  std::uint64_t slot_pages_;
  Arena memory_;  ///< in huge pages, as a kernel's direct map
  std::vector<bool> naive_;
  PageAttributes attributes_;
  Change last_;
};

}  // namespace

AttributesFigures attributes_random(std::uint64_t ranges, std::uint64_t operations) {
  Random random{20261121};
  const std::uint64_t slots = ranges / 2;  // each has a private and a shared range
  Both both{slots};
  PageAttributes& attributes = both.attributes();
  AttributesFigures figures;
  attributes.set(pages(0, kPages), PageAttribute::kShared);
  figures.uniform_bytes = attributes.in_use().value();
  attributes.set(pages(0, kPages), PageAttribute::kPrivate);
  for (std::uint64_t slot = 0; slot < slots; ++slot) {
    both.change(slot, random);
    both.note();
  }
  std::uint64_t lookups = 0;
  std::uint64_t lookup_ns = 0;
  std::uint64_t changes = 0;
  std::uint64_t change_ns = 0;
  std::uint64_t answer = 0;
  for (std::uint64_t i = 0; i < operations; i += 100) {
    const std::uint64_t begin = thread_cpu_ns();
    for (int j = 0; j < 99; ++j) {
      // The next address waits for this answer.
      const std::uint64_t page = (random() + answer) % kPages;
      answer = static_cast<std::uint64_t>(attributes.get(PhysAddr{page * 4096}));
    }
    const std::uint64_t middle = thread_cpu_ns();
    both.change(random() % slots, random);
    const std::uint64_t end = thread_cpu_ns();
    both.note();
    lookups += 99;
    lookup_ns += middle - begin;
    ++changes;
    change_ns += end - middle;
  }
  figures.lookup_ns = static_cast<double>(lookup_ns) / static_cast<double>(lookups);
  figures.change_ns = static_cast<double>(change_ns) / static_cast<double>(changes);
  attributes.visit(pages(0, kPages), [&](PhysRange, PageAttribute) { ++figures.runs; });
  figures.bytes_per_range =
      static_cast<double>(attributes.in_use().value()) / static_cast<double>(figures.runs);
  for (int i = 0; i < 200'000; ++i) {
    figures.wrong += both.is_right(random() % kPages) ? 0 : 1;
  }
  return figures;
}

void check_attributes(Verdicts& verdicts, bool quick) {
  constexpr std::uint64_t kRanges = 100'000;
  std::vector<double> lookups;
  AttributesFigures figures;
  for (int i = 0; i < (quick ? 1 : 5); ++i) {
    figures = attributes_random(kRanges, quick ? 10'000 : 2'000'000);
    lookups.push_back(figures.lookup_ns);
    verdicts.judge(figures.wrong == 0 && figures.runs >= kRanges,
                   text("Attributes/random: %.0f ranges, %.0f of 200000 answers wrong",
                        static_cast<double>(figures.runs), static_cast<double>(figures.wrong)));
  }
  verdicts.at_most("Attributes/random: ns a lookup while 1 % of the operations change a range",
                   median(lookups), 100);
  verdicts.note(text("Attributes/random: %.0f ns a change", figures.change_ns));
  const AttributesFigures twice = attributes_random(2 * kRanges, quick ? 10'000 : 2'000'000);
  verdicts.note(text("Attributes/random: %.1f ns a lookup among %.0f ranges", twice.lookup_ns,
                     static_cast<double>(twice.runs)));
  verdicts.at_most("Attributes/random: bytes a range", figures.bytes_per_range, 64);
  verdicts.at_most("Attributes/random: bytes for one attribute over 1 TiB",
                   static_cast<double>(figures.uniform_bytes), 4096);
}

}  // namespace accede::bench
