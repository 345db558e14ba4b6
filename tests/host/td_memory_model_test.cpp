#include "tests/host/td_memory_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <sstream>

namespace accede::host {
namespace {

using abi::tdx::VmcallStatus;
using test::k2M;
using test::k4K;
using test::kSharedBit;
using test::range;
using test::Td;

enum class Page : std::uint8_t { kFree, kPending, kMapped };

/// What a TD's memory should do, as arrays of pages: no tables, no epochs, no locks.
class NaiveTd {
 public:
  static constexpr std::uint64_t kPages = 8 * 512;

  NaiveTd(const std::vector<PhysRange>& ram, Backing backing) : backing_{backing} {
    for (const PhysRange part : ram) {
      for (PhysAddr page = part.begin(); page < part.end(); page += 4_KiB) {
        ram_[page.value() / k4K] = true;
      }
    }
  }

  struct Answer {
    AcceptOutcomeKind kind = AcceptOutcomeKind::kCompleted;
    std::uint64_t rax = 0;
  };

  Answer accept(std::uint64_t page, bool large) {
    if (large) {
      return accept_large(page);
    }
    if (!has_table(page) && whole(page) == Page::kMapped) {
      return {AcceptOutcomeKind::kCompleted, 0x00000B0A00000001};
    }
    if (pages_[page] == Page::kMapped) {
      return {AcceptOutcomeKind::kCompleted, 0x00000B0A00000000};
    }
    if (pages_[page] == Page::kFree) {
      if (!ram_[page]) {
        return {AcceptOutcomeKind::kNotRam, 0};
      }
      if (shared_[page]) {
        return {AcceptOutcomeKind::kSharedPage, 0};
      }
    }
    table_[page / 512] = true;
    pages_[page] = Page::kMapped;
    return {};
  }

  TouchKind touch_private(std::uint64_t page) {
    if (!ram_[page]) {
      return TouchKind::kNotRam;
    }
    if (shared_[page]) {
      return TouchKind::kSharedPage;
    }
    if (pages_[page] == Page::kMapped) {
      return TouchKind::kMapped;
    }
    if (pages_[page] == Page::kFree) {
      augment(page, true);
    }
    return TouchKind::kPendingExit;
  }

  TouchKind touch_shared(std::uint64_t page) const {
    if (!ram_[page]) {
      return TouchKind::kNotRam;
    }
    return shared_[page] ? TouchKind::kShared : TouchKind::kPrivatePage;
  }

  /// Returns the pages that changed.
  std::uint64_t convert(std::uint64_t first, std::uint64_t count, bool share) {
    std::uint64_t changed = 0;
    for (std::uint64_t page = first; page < first + count; ++page) {
      if (!ram_[page] || shared_[page] == share) {
        continue;
      }
      const std::uint64_t region = page / 512 * 512;
      const bool covers = first <= region && region + 512 <= first + count;
      if (share && pages_[page] != Page::kFree && !covers) {
        table_[page / 512] = true;  // a 2M page was split
      }
      if (share) {
        pages_[page] = Page::kFree;
      }
      shared_[page] = share;
      ++changed;
    }
    return changed;
  }

  std::uint64_t release(std::uint64_t page, bool large) {
    const bool leaf = !has_table(page) && whole(page) != Page::kFree;
    if (large ? has_table(page) : leaf) {
      return 0xC0000B0B00000001;
    }
    const Page state = pages_[page];
    if (state == Page::kFree) {
      return 0xC0000B0100000001;
    }
    if (state == Page::kPending) {
      return 0xC0000B0D00000001;
    }
    for (std::uint64_t i = 0; i < (large ? 512 : 1); ++i) {
      pages_[page + i] = Page::kPending;
    }
    return 0;
  }

  [[nodiscard]] Page state(std::uint64_t page) const { return pages_[page]; }
  [[nodiscard]] bool shared(std::uint64_t page) const { return shared_[page]; }

 private:
  Answer accept_large(std::uint64_t page) {
    if (!has_table(page) && whole(page) == Page::kMapped) {
      return {AcceptOutcomeKind::kCompleted, 0x00000B0A00000001};
    }
    if (!has_table(page) && whole(page) == Page::kFree) {
      if (!ram_[page]) {
        return {AcceptOutcomeKind::kNotRam, 0};
      }
      if (shared_[page]) {
        return {AcceptOutcomeKind::kSharedPage, 0};
      }
      augment(page, true);
    }
    if (has_table(page)) {
      return {AcceptOutcomeKind::kCompleted, 0xC0000B0B00000001};
    }
    for (std::uint64_t i = 0; i < 512; ++i) {
      pages_[page + i] = Page::kMapped;
    }
    return {};
  }

  void augment(std::uint64_t page, bool large_allowed) {
    const std::uint64_t region = page / 512 * 512;
    bool large = large_allowed && backing_ == Backing::k2M && !has_table(page);
    for (std::uint64_t i = region; i < region + 512; ++i) {
      large = large && ram_[i] && !shared_[i];
    }
    if (!large) {
      table_[page / 512] = true;
      pages_[page] = Page::kPending;
      return;
    }
    for (std::uint64_t i = region; i < region + 512; ++i) {
      pages_[i] = Page::kPending;
    }
  }
  [[nodiscard]] bool has_table(std::uint64_t page) const { return table_[page / 512]; }
  /// State of a 2M leaf (all its pages are the same).
  [[nodiscard]] Page whole(std::uint64_t page) const { return pages_[page / 512 * 512]; }

  Backing backing_;
  std::array<bool, kPages> ram_{};
  std::array<bool, kPages> shared_{};
  std::array<Page, kPages> pages_{};
  std::array<bool, kPages / 512> table_{};
};

class TdMemoryModel : public testing::TestWithParam<std::tuple<Backing, std::uint64_t>> {
 protected:
  // Ends inside regions, two ranges in one region, a hole of its own.
  const std::vector<PhysRange> ram_{range(3 * k4K, 2 * k2M + 7 * k4K),
                                    range(2 * k2M + 9 * k4K, 2 * k2M + 100 * k4K),
                                    range(4 * k2M, 7 * k2M)};

  void compare(const Td& td, const NaiveTd& naive, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t page = first; page < first + count; ++page) {
      const PageReport report = td.memory.state_of(PhysAddr{page * k4K});
      const SeptState expected = naive.state(page) == Page::kFree      ? SeptState::kFree
                                 : naive.state(page) == Page::kPending ? SeptState::kPending
                                                                       : SeptState::kMapped;
      ASSERT_EQ(report.entry.state, expected) << "page " << page;
      ASSERT_EQ(report.attribute == PageAttribute::kShared, naive.shared(page)) << "page " << page;
    }
  }

  void act(Td& td, NaiveTd& naive, std::mt19937_64& random) {
    // Mostly a few pages, so that they meet.
    std::uint64_t page = random() % 8 * 512 + (random() % 2 != 0 ? random() % 8 : random() % 512);
    const bool large = random() % 2 != 0;
    if (large) {
      page = page / 512 * 512;
    }
    const std::uint64_t gpa = page * k4K;
    switch (random() % 6) {
      case 0: {
        const AcceptOutcome outcome = td.release(gpa | (large ? 1 : 0));
        ASSERT_EQ(outcome.rax, naive.release(page, large)) << "release of page " << page;
        break;
      }
      case 1:
        ASSERT_EQ(td.touch_private(gpa + random() % k4K).kind, naive.touch_private(page));
        break;
      case 2:
        ASSERT_EQ(td.touch_shared(gpa).kind, naive.touch_shared(page));
        break;
      case 3: {
        const bool share = random() % 2 != 0;
        const std::uint64_t most = NaiveTd::kPages - page;
        const std::uint64_t count =
            1 + (large ? random() % 1200 : random() % 20) % std::min<std::uint64_t>(most, 1200);
        const MapGpaOutcome outcome = td.map_gpa(gpa | (share ? kSharedBit : 0), count * k4K);
        const Bytes changed{naive.convert(page, count, share) * k4K};
        ASSERT_EQ(outcome.r10, VmcallStatus::kSuccess);
        ASSERT_EQ(share ? outcome.to_shared : outcome.to_private, changed)
            << count << " pages from " << page;
        compare(td, naive, page, count);
        break;
      }
      default: {
        const AcceptOutcome outcome = td.accept(gpa | (large ? 1 : 0));
        const NaiveTd::Answer expected = naive.accept(page, large);
        ASSERT_EQ(outcome.kind, expected.kind) << "accept of page " << page;
        ASSERT_EQ(outcome.rax, expected.rax) << "accept of page " << page;
      }
    }
    compare(td, naive, page, 1);
  }
};

TEST_P(TdMemoryModel, MatchesANaiveReferenceUnderRandomActions) {
  const auto [backing, parameter] = GetParam();
  const std::uint64_t seed = test::seed_from_environment(parameter);
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random{seed};
  const auto covered = range(0, NaiveTd::kPages * k4K);
  std::vector<PhysRange> ram = ram_;
  ram.push_back(range(covered.end().value(), covered.end().value()));  // covers all attributes
  Td td{ram, backing};
  NaiveTd naive{ram_, backing};
  for (int i = 0; i < 1500; ++i) {
    act(td, naive, random);
    if (HasFatalFailure()) {
      FAIL() << "step " << i;
    }
    if (i % 16 == 0) {
      ASSERT_EQ(td.check(), "") << "step " << i;
    }
  }
  compare(td, naive, 0, NaiveTd::kPages);
}

INSTANTIATE_TEST_SUITE_P(Seeds, TdMemoryModel,
                         testing::Combine(testing::Values(Backing::k2M, Backing::k4K),
                                          testing::Range<std::uint64_t>(1, 5)));

}  // namespace
}  // namespace accede::host
