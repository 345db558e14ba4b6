// Random HOB lists against a page-by-page reference: the map, the plan, the hand-over; and the same
// list shuffled gives the same plan.
#include "accede/firmware/acceptance_plan.hpp"

#include "accede/firmware/hob_composer.hpp"
#include "accede/firmware/hob_memory_map.hpp"
#include "tests/firmware/plan_check.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <random>
#include <vector>

namespace accede::firmware {
namespace {

using abi::hob::Resource;
using guest::MemoryKind;
using guest::MemoryMap;
using guest::MemoryRegion;
using Random = std::mt19937_64;

/// Eight large pages around 4 GiB.
constexpr std::size_t kPages = 4096;
constexpr std::size_t kLarge = 512;
constexpr std::uint64_t kBase = (4_GiB).value() - kPages / 2 * 4096;
constexpr std::size_t kPageAt4G = kPages / 2;

std::uint64_t address(std::size_t page) {
  return kBase + page * 4096;
}

/// One resource of a list: memory, or a device.
struct Piece {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::optional<MemoryKind> kind;

  [[nodiscard]] PhysRange range() const { return test::range(address(begin), address(end)); }
};

/// What the reference knows about each page.
struct Pages {
  std::array<std::optional<MemoryKind>, kPages> kind{};
  std::array<bool, kPages> device{};
  bool contradicts = false;

  [[nodiscard]] bool free(std::size_t page) const { return !kind[page] && !device[page]; }
  [[nodiscard]] bool is_ram(std::size_t page) const {
    return kind[page] == MemoryKind::kUsable || kind[page] == MemoryKind::kUnaccepted;
  }
  void add(const Piece& piece) {
    for (std::size_t page = piece.begin; page < piece.end; ++page) {
      contradicts |= piece.kind && kind[page] && kind[page] != piece.kind;
      kind[page] = piece.kind ? piece.kind : kind[page];
      device[page] = device[page] || !piece.kind;
    }
    for (std::size_t page = piece.begin; page < piece.end; ++page) {
      contradicts |= device[page] && kind[page] && kind[page] != MemoryKind::kReserved;
    }
  }
};

std::optional<MemoryKind> random_kind(Random& random) {
  const std::uint64_t dice = random() % 20;
  return dice < 11   ? std::optional{MemoryKind::kUnaccepted}
         : dice < 15 ? std::optional{MemoryKind::kUsable}
         : dice < 17 ? std::optional{MemoryKind::kReserved}
         : dice < 18 ? std::optional{MemoryKind::kPersistent}
                     : std::nullopt;
}

Piece random_piece(Random& random) {
  const std::size_t grain = random() % 2 == 0 ? kLarge : 1;
  const std::size_t begin = random() % kPages / grain * grain;
  const std::size_t length = (1 + random() % (3 * kLarge)) / grain * grain;
  return {begin, std::min(begin + length, kPages), random_kind(random)};
}

struct Case {
  std::vector<Piece> pieces;
  Pages pages;
};

Case random_case(Random& random, bool disjoint) {
  Case made;
  const std::size_t count = random() % 16;
  for (std::size_t i = 0; i < count; ++i) {
    Piece piece = random_piece(random);
    if (disjoint) {
      while (piece.begin < piece.end && !made.pages.free(piece.begin)) {
        ++piece.begin;
      }
      std::size_t end = piece.begin;
      while (end < piece.end && made.pages.free(end)) {
        ++end;
      }
      piece.end = end;
    }
    made.pages.add(piece);
    made.pieces.push_back(piece);
  }
  return made;
}

struct Goal {
  AcceptanceGoal goal;
  std::vector<PhysRange> needed;
  bool possible = true;
};

Goal random_goal(Random& random, const Pages& pages) {
  Goal made{.goal = {.scope = static_cast<AcceptanceScope>(random() % 3),
                     .at_least = Bytes{random() % (kPages * 4096)}},
            .needed = {}};
  const std::size_t count = random() % 4;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t page = random() % kPages;
    std::size_t end = page;
    while (end < kPages && pages.is_ram(end) && end - page < random() % 2048) {
      ++end;
    }
    end += random() % 64 == 0 ? 1 : 0;
    const std::uint64_t first = address(page) + random() % 4096;
    const std::uint64_t last = address(std::min(end, kPages));
    if (first >= last) {
      continue;
    }
    made.needed.push_back(
        test::range(first, last - random() % std::min<std::uint64_t>(last - first, 4096)));
    for (std::size_t at = page; at < std::min(end, kPages); ++at) {
      made.possible &= pages.is_ram(at);
    }
  }
  made.goal.needed = made.needed;
  return made;
}

/// Which pages are accepted, found one by one.
std::array<bool, kPages> reference_plan(const Pages& pages, const AcceptanceGoal& goal) {
  std::array<bool, kPages> accepted{};
  const auto pending = [&](std::size_t page) {
    return pages.kind[page] == MemoryKind::kUnaccepted;
  };
  auto missing = static_cast<std::int64_t>(goal.at_least.value()) -
                 4096 * std::ranges::count(pages.kind, std::optional{MemoryKind::kUsable});
  bool finishing_large_page = false;
  for (std::size_t page = 0; page < kPages; ++page) {
    finishing_large_page = finishing_large_page && pending(page) && page % kLarge != 0;
    if (!pending(page)) {
      continue;
    }
    switch (goal.scope) {
      case AcceptanceScope::kEverything:
        accepted[page] = true;
        break;
      case AcceptanceScope::kBelow4G:
        accepted[page] = page < kPageAt4G;
        break;
      case AcceptanceScope::kAtLeast:
        accepted[page] = missing > 0 || finishing_large_page;
        missing -= 4096;
        finishing_large_page = accepted[page];
        break;
    }
    for (const PhysRange needed : goal.needed) {
      const auto large = PhysRange::page(PhysAddr{address(page)}, PageSize::k2M);
      accepted[page] = accepted[page] || needed.overlaps(large);
    }
  }
  return accepted;
}

std::vector<std::byte> compose(const std::vector<Piece>& pieces, HobDialect dialect) {
  std::vector<std::byte> memory(HobComposer::size_of(pieces.size()).value());
  HobComposer composer{memory, PhysAddr{0}, dialect};
  for (const Piece& piece : pieces) {
    const auto added =
        piece.kind ? composer.add({piece.range(), *piece.kind})
                   : composer.add(Resource::kMemoryMappedIo, abi::hob::kPresent, piece.range());
    EXPECT_TRUE(added.has_value());
  }
  memory.resize(composer.finish().value().size());
  return memory;
}

void expect_pages(const MemoryMap& map, const Pages& pages,
                  const std::array<bool, kPages>& accepted) {
  std::array<std::optional<MemoryKind>, kPages> seen{};
  for (const MemoryRegion& region : map.regions()) {
    for (PhysAddr at = region.range.begin(); at < region.range.end(); at += 4_KiB) {
      seen[(at.value() - kBase) / 4096] = region.kind;
    }
  }
  for (std::size_t page = 0; page < kPages; ++page) {
    const auto expected = accepted[page] ? std::optional{MemoryKind::kUsable} : pages.kind[page];
    ASSERT_EQ(seen[page], expected) << "page " << page;
  }
}

ChunkRules random_rules(Random& random) {
  const Bytes chunk{4096ULL << random() % 14};
  return {.chunk = chunk,
          .largest = chunk >= 2_MiB && random() % 4 != 0 ? PageSize::k2M : PageSize::k4K};
}

/// The plan of a list, and what it says about pages. Empty where the plan is refused.
struct Outcome {
  std::expected<void, HobError> map;
  std::expected<std::vector<PhysRange>, PlanError> ranges = std::vector<PhysRange>{};
};

Outcome carry_out(const std::vector<std::byte>& list, HobDialect dialect, const Goal& goal,
                  ChunkRules rules, const Pages& pages) {
  std::vector<MemoryRegion> storage(list.size() / 48);
  const auto map = map_from_hobs(HobList::parse(list).value(), dialect, storage);
  if (!map) {
    return {.map = std::unexpected{map.error()}};
  }
  expect_pages(*map, pages, {});
  std::vector<PhysRange> room(AcceptancePlan::ranges_for(*map, goal.goal));
  const auto plan = AcceptancePlan::make(*map, goal.goal, rules, room);
  if (!plan) {
    return {.map = {}, .ranges = std::unexpected{plan.error()}};
  }
  const test::Complaint complaint = test::check_plan(*plan, *map, 48);
  EXPECT_EQ(complaint, nullptr) << complaint;
  std::vector<MemoryRegion> after(
      regions_with_accepted(map->regions().size(), plan->ranges().size()));
  const auto hand_over = plan->hand_over(*map, after);
  EXPECT_TRUE(hand_over.has_value());
  expect_pages(*hand_over, pages, reference_plan(pages, goal.goal));
  return {.map = {},
          .ranges = std::vector<PhysRange>(plan->ranges().begin(), plan->ranges().end())};
}

TEST(AcceptancePlanModel, Regression_E01_E04_RandomListsInAnyOrderAgreeWithAPageByPageReference) {
  const char* const given = std::getenv("ACCEDE_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 20'261'121;
  Random random{seed};
  int planned = 0;
  int refused = 0;
  int contradicting = 0;
  for (int run = 0; run < 4'000; ++run) {
    SCOPED_TRACE(testing::Message() << "ACCEDE_SEED=" << seed << " run " << run);
    Case made = random_case(random, run % 4 != 0);
    const auto dialect = static_cast<HobDialect>(random() % 3);
    const Goal goal = random_goal(random, made.pages);
    const ChunkRules rules = random_rules(random);
    std::optional<Outcome> first;
    for (int turn = 0; turn < 3; ++turn) {
      const Outcome outcome =
          carry_out(compose(made.pieces, dialect), dialect, goal, rules, made.pages);
      ASSERT_EQ(outcome.map.has_value(), !made.pages.contradicts);
      if (!outcome.map) {
        ASSERT_EQ(outcome.map.error().kind, HobErrorKind::kOverlap);
      } else {
        ASSERT_EQ(outcome.ranges.has_value(), goal.possible);
      }
      ASSERT_TRUE(!first || first->ranges == outcome.ranges);
      ASSERT_FALSE(HasFailure());
      first = outcome;
      std::ranges::shuffle(made.pieces, random);
    }
    contradicting += made.pages.contradicts ? 1 : 0;
    refused += !made.pages.contradicts && !goal.possible ? 1 : 0;
    planned += !made.pages.contradicts && goal.possible ? 1 : 0;
  }
  EXPECT_GT(planned, 2'000);
  EXPECT_GT(contradicting, 400);
  EXPECT_GT(refused, 30);
}

}  // namespace
}  // namespace accede::firmware
