// The testbed as an SNP guest: PVALIDATE is the real instruction, VMGEXIT goes through the seam.
#include "accede/guest/pvalidate.hpp"
#include "accede/guest/snp_platform.hpp"
#include "accede/testbed/testbed.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace accede::testbed {
namespace {

using abi::rmp::PvalidateCode;
using guest::FailureKind;
using guest::PvalidateResult;
using guest::SnpPlatform;
using guest::Visibility;
using host::HostileAct;
using host::HostileEvent;
using host::HostileRule;

constexpr PhysAddr kRam{4ULL << 30};

constexpr PhysAddr at(Bytes offset) {
  return kRam + offset;
}
PhysRange range(PhysAddr begin, Bytes size) {
  return *PhysRange::make(begin, size);
}
constexpr auto code(PvalidateCode value) {
  return static_cast<std::uint32_t>(value);
}

class SnpTestbedTest : public testing::TestWithParam<Isolation> {
 protected:
  void SetUp() override {
    const auto probe = Testbed::make({.isolation = GetParam()});
    if (!probe.has_value() && GetParam() == Isolation::kUserfaultfd) {
      GTEST_SKIP() << probe.error();
    }
  }

  /// A testbed with 64 MiB unless told otherwise. An exception is how a helper ends a test.
  void start(TestbedConfig config = {}) {
    config.isolation = GetParam();
    config.ram_begin = kRam;
    config.platform = guest::PlatformKind::kSnp;
    auto made = Testbed::make(config);
    if (!made.has_value()) {
      throw std::runtime_error{made.error()};
    }
    bed = std::move(*made);
  }

  PvalidateResult validate(PhysAddr gpa, PageSize size, bool to = true) const {
    return guest::pvalidate(bed->window().pointer<void>(gpa), size, to);
  }
  [[nodiscard]] volatile std::uint64_t& word(PhysAddr gpa) const {
    return *bed->window().pointer<volatile std::uint64_t>(gpa);
  }
  std::optional<StopReport> touch(PhysAddr gpa) const {
    return catch_stop([&] { [[maybe_unused]] const std::uint64_t value = word(gpa); });
  }

  std::unique_ptr<Testbed> bed;
};

INSTANTIATE_TEST_SUITE_P(Isolations, SnpTestbedTest,
                         testing::Values(Isolation::kUserfaultfd, Isolation::kMprotect),
                         [](const auto& isolation) { return std::string{name(isolation.param)}; });

TEST_P(SnpTestbedTest, ATouchOfAPageThatIsNotValidatedIsCaughtWithItsState) {
  start();
  const std::optional<StopReport> stop = touch(at(4_KiB));
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kTouch);
  EXPECT_EQ(stop->gpa, at(4_KiB));
  EXPECT_EQ(stop->address, bed->window().pointer<void>(at(4_KiB)));
  EXPECT_EQ(stop->state, "Guest-Invalid");
  EXPECT_EQ(bed->backed(), 0_B);
}

TEST_P(SnpTestbedTest, AValidatedPageIsUsableAndItsContentUndefined) {
  start();
  const PvalidateResult result = validate(at(2_MiB), PageSize::k2M);
  EXPECT_EQ(result.code, 0U);
  EXPECT_FALSE(result.carry);
  EXPECT_EQ(word(at(2_MiB)), SnpVm::kUndefined);
  EXPECT_EQ(word(at(4_MiB) - 4_KiB), SnpVm::kUndefined);
  EXPECT_EQ(bed->backed(), 2_MiB);
  EXPECT_EQ(bed->counters().accepts_2m, 1U);
  EXPECT_TRUE(touch(at(4_MiB)).has_value());
}

TEST_P(SnpTestbedTest, ValidatingTwiceSetsTheCarryFlagAndKeepsTheContent) {
  start();
  ASSERT_FALSE(validate(at(0_B), PageSize::k4K).carry);
  word(at(0_B)) = 42;
  const PvalidateResult again = validate(at(0_B), PageSize::k4K);
  EXPECT_EQ(again.code, 0U);
  EXPECT_TRUE(again.carry);
  EXPECT_EQ(word(at(0_B)), 42U);
}

TEST_P(SnpTestbedTest, ARescindedPageIsOutOfReach) {
  start();
  (void)validate(at(0_B), PageSize::k4K);
  EXPECT_FALSE(validate(at(0_B), PageSize::k4K, false).carry);
  EXPECT_EQ(touch(at(0_B))->state, "Guest-Invalid");
  EXPECT_EQ(bed->backed(), 0_B);
}

TEST_P(SnpTestbedTest, SmallBackingAnswersALargePvalidateWithSizeMismatch) {
  start({.backing = host::Backing::k4K});
  EXPECT_EQ(validate(at(0_B), PageSize::k2M).code, code(PvalidateCode::kFailSizeMismatch));
  EXPECT_EQ(validate(at(0_B), PageSize::k4K).code, 0U);
}

TEST_P(SnpTestbedTest, MemoryValidatedAtLaunchIsUsable) {
  start({.accepted_at_start = {range(at(2_MiB), 2_MiB)}});
  word(at(2_MiB)) = 7;
  EXPECT_EQ(word(at(2_MiB)), 7U);
  EXPECT_EQ(word(at(2_MiB) + 4_KiB), 0U);
  EXPECT_TRUE(validate(at(2_MiB), PageSize::k2M).carry);
}

TEST_P(SnpTestbedTest, TheLibrarysSnpPlatformRunsOnItByTheMsrProtocol) {
  start();
  SnpPlatform platform{bed->snp(), bed->window()};
  ASSERT_TRUE(platform.accept(range(at(0_B), 64_KiB)).has_value());
  ASSERT_TRUE(platform.convert(range(at(8_KiB), 8_KiB), Visibility::kShared).has_value());
  word(at(8_KiB)) = 1;
  EXPECT_EQ(touch(at(64_KiB))->cause, StopCause::kTouch);
  ASSERT_TRUE(platform.convert(range(at(8_KiB), 8_KiB), Visibility::kPrivate).has_value());
  EXPECT_EQ(word(at(8_KiB)), SnpVm::kUndefined);
  EXPECT_TRUE(bed->snp().memory().invariants());
}

/// A platform with GHCB pages, which live in the first 64 KiB.
struct Lists {
  explicit Lists(Testbed& bed)
      : pages{range(kRam, 64_KiB)},
        msr{bed.snp(), bed.window()},
        shared{msr.accept(pages).has_value() &&
               msr.convert(pages, Visibility::kShared).has_value()},
        pool{bed.snp(), bed.window(), pages},
        platform{pool, bed.window()} {
    if (!shared) {
      throw std::runtime_error{"no shared pages"};
    }
  }
  PhysRange pages;
  SnpPlatform<SnpVm> msr;
  bool shared;
  GhcbPool pool;
  SnpPlatform<GhcbPool> platform;
};

TEST_P(SnpTestbedTest, TheLibrarysSnpPlatformRunsOnItByLists) {
  start();
  Lists lists{*bed};
  const Counters before = bed->counters();
  ASSERT_TRUE(lists.platform.accept(range(at(2_MiB), 8_MiB)).has_value());
  const Counters after = bed->counters();
  EXPECT_EQ(after.accepts_2m - before.accepts_2m, 4U);
  EXPECT_EQ(after.conversions - before.conversions, 1U);
  ASSERT_TRUE(lists.platform.convert(range(at(2_MiB), 64_KiB), Visibility::kShared).has_value());
  word(at(2_MiB)) = 1;
  EXPECT_EQ(word(at(2_MiB) + 64_KiB), SnpVm::kUndefined);
  EXPECT_TRUE(bed->snp().memory().invariants());
}

TEST_P(SnpTestbedTest, AGhcbThatIsNotSharedStopsTheGuest) {
  start();
  const auto stop = catch_stop([&] { bed->snp().page_exchange(at(0_B)); });
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kBadGhcb);
}

TEST_P(SnpTestbedTest, ConcurrentAcceptsOfDifferentUnitsAllSucceed) {
  start();
  Lists lists{*bed};
  constexpr unsigned kThreads = 4;
  std::atomic<unsigned> failed = 0;
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (unsigned unit = 1 + thread; unit < 32; unit += kThreads) {
        failed += !lists.platform.accept(range(at(2_MiB * unit), 2_MiB)).has_value();
        word(at(2_MiB * unit)) = unit;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(failed, 0U);
  EXPECT_EQ(bed->counters().accepts_2m, 31U);
}

// --- Hostile hosts ---

TEST_P(SnpTestbedTest, AHostLiesAboutPvalidate) {
  start();
  using enum HostileAct;
  const std::array rules{
      HostileRule{.event = HostileEvent::kValidate, .act = kUnchanged, .first = 1},
      HostileRule{.event = HostileEvent::kValidate, .act = kStatus, .first = 2, .value = 77},
      HostileRule{.event = HostileEvent::kValidate, .act = kPretend, .first = 3}};
  bed->play(rules);
  const PvalidateResult aliased = validate(at(0_B), PageSize::k4K);
  EXPECT_EQ(aliased.code, 0U);
  EXPECT_TRUE(aliased.carry);
  EXPECT_EQ(validate(at(0_B), PageSize::k4K).code, 77U);
  EXPECT_FALSE(validate(at(0_B), PageSize::k4K).carry);
  EXPECT_TRUE(touch(at(0_B)).has_value());
}

TEST_P(SnpTestbedTest, AHostSmashesAPageBeforeItIsValidated) {
  start();
  const std::array rules{HostileRule{.event = HostileEvent::kValidate,
                                     .act = HostileAct::kBackSmall,
                                     .where = range(kRam, 2_MiB)}};
  bed->play(rules);
  EXPECT_EQ(validate(at(0_B), PageSize::k2M).code, code(PvalidateCode::kFailSizeMismatch));
  EXPECT_EQ(validate(at(0_B), PageSize::k4K).code, 0U);
  EXPECT_EQ(validate(at(2_MiB), PageSize::k2M).code, 0U);
}

TEST_P(SnpTestbedTest, AHostReplacesAPageBehindTheGuest) {
  start();
  const std::array rules{HostileRule{.event = HostileEvent::kValidate,
                                     .act = HostileAct::kReplace,
                                     .first = 2,
                                     .target = range(kRam, 4_KiB)}};
  bed->play(rules);
  (void)validate(at(0_B), PageSize::k2M);
  word(at(4_KiB)) = 43;
  (void)validate(at(2_MiB), PageSize::k2M);
  EXPECT_EQ(touch(at(0_B))->state, "Guest-Invalid");
  EXPECT_EQ(word(at(4_KiB)), 43U);
}

/// How accept() of 2 MiB in two entries or more fails while the host acts on its first list.
std::optional<FailureKind> failure(Lists& lists, PhysAddr gpa) {
  const auto result = lists.platform.accept(range(gpa, 2_MiB + 64_KiB));
  return result.has_value() ? std::nullopt : std::optional{result.error().kind};
}

TEST_P(SnpTestbedTest, AHostSpoilsThePageStateList) {
  using enum HostileAct;
  for (const HostileAct act : {kListGrown, kListMovedBack, kReservedSet}) {
    start();
    Lists lists{*bed};
    const std::array rules{HostileRule{.event = HostileEvent::kPageStateChange, .act = act}};
    bed->play(rules);
    EXPECT_EQ(failure(lists, at(2_MiB)), FailureKind::kHostLied) << host::name(act);
    EXPECT_EQ(bed->script().acted(0), 1U);
    bed.reset();
  }
}

TEST_P(SnpTestbedTest, AHostDoesThePageStateListInParts) {
  start();
  Lists lists{*bed};
  const std::array rules{HostileRule{
      .event = HostileEvent::kPageStateChange, .act = HostileAct::kPartly, .times = 5, .value = 2}};
  bed->play(rules);
  EXPECT_EQ(failure(lists, at(2_MiB)), std::nullopt);
  EXPECT_EQ(bed->script().acted(0), 5U);
}

TEST_P(SnpTestbedTest, AHostNeverFinishesThePageStateList) {
  start();
  Lists lists{*bed};
  const std::array rules{HostileRule{.event = HostileEvent::kPageStateChange,
                                     .act = HostileAct::kPartly,
                                     .times = HostileRule::kForever,
                                     .value = 0}};
  bed->play(rules);
  EXPECT_EQ(failure(lists, at(2_MiB)), FailureKind::kBusyForever);
}

TEST_P(SnpTestbedTest, AHostRefusesThePageStateList) {
  start();
  Lists lists{*bed};
  const std::array rules{HostileRule{.event = HostileEvent::kPageStateChange,
                                     .act = HostileAct::kStatus,
                                     .value = 0x100ULL << 32}};
  bed->play(rules);
  EXPECT_EQ(failure(lists, at(2_MiB)), FailureKind::kRefused);
}

// --- Two platforms ---

TEST_P(SnpTestbedTest, ATdMayRunBesideAnSnpGuest) {
  start();
  const auto td = Testbed::make({.ram_begin = kRam});
  ASSERT_TRUE(td.has_value()) << td.error();
  EXPECT_EQ(validate(at(0_B), PageSize::k4K).code, 0U);
  EXPECT_FALSE(Testbed::make({.platform = guest::PlatformKind::kSnp}).has_value());
  EXPECT_TRUE(touch(at(4_KiB)).has_value());
  EXPECT_TRUE(catch_stop([&] { *(*td)->window().pointer<volatile int>(kRam) = 1; }).has_value());
}

}  // namespace
}  // namespace accede::testbed
