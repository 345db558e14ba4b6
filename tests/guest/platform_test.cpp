#include "accede/guest/platform.hpp"

#include "tests/guest/fake_platform.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using test::FakePlatform;

PhysRange range(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

TEST(Platform, EveryFailureHasATextOfItsOwn) {
  using enum FailureKind;
  std::set<std::string_view> texts;
  for (const auto kind : {kAlreadyAccepted, kBusyForever, kRefused, kHostLied, kUnsupported}) {
    EXPECT_FALSE(to_string(kind).starts_with("unknown"));
    EXPECT_EQ(to_string(kind).find('\n'), std::string_view::npos);
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 5U);
  EXPECT_TRUE(to_string(static_cast<FailureKind>(99)).starts_with("unknown"));
}

TEST(Platform, EveryPlatformHasANameOfItsOwn) {
  using enum PlatformKind;
  EXPECT_EQ((std::set{to_string(kNone), to_string(kTdx), to_string(kSnp)}).size(), 3U);
  EXPECT_TRUE(to_string(static_cast<PlatformKind>(99)).starts_with("unknown"));
}

TEST(Platform, EveryAnswerHasOneReaction) {
  for (const PageSize size : {PageSize::k4K, PageSize::k2M, PageSize::k1G}) {
    EXPECT_EQ(reaction(Answer::kAccepted, size), Reaction::kProceed);
    EXPECT_EQ(reaction(Answer::kBusy, size), Reaction::kRetry);
    EXPECT_EQ(reaction(Answer::kInvalid, size), Reaction::kStop);
    EXPECT_EQ(reaction(static_cast<Answer>(99), size), Reaction::kStop);
  }
  EXPECT_EQ(reaction(Answer::kSizeMismatch, PageSize::k2M), Reaction::kSmallerPages);
  EXPECT_EQ(reaction(Answer::kSizeMismatch, PageSize::k4K), Reaction::kStop);
}

TEST(Platform, AlreadyAcceptedIsNeverSilentlyContinued) {
  for (const PageSize size : {PageSize::k4K, PageSize::k2M, PageSize::k1G}) {
    EXPECT_EQ(reaction(Answer::kAlreadyAccepted, size), Reaction::kStop);
  }
  EXPECT_EQ(failure_of(Answer::kAlreadyAccepted), FailureKind::kAlreadyAccepted);
}

TEST(Platform, EveryAnswerThatStopsIsAFailure) {
  EXPECT_EQ(failure_of(Answer::kBusy), FailureKind::kBusyForever);
  EXPECT_EQ(failure_of(Answer::kInvalid), FailureKind::kRefused);
  EXPECT_EQ(failure_of(Answer::kSizeMismatch), FailureKind::kRefused);
  EXPECT_EQ(failure_of(static_cast<Answer>(99)), FailureKind::kRefused);
}

TEST(NoPlatform, HasAllItsMemoryAndSharesNone) {
  NoPlatform platform;
  EXPECT_EQ(platform.kind(), PlatformKind::kNone);
  EXPECT_TRUE(platform.accept(range(0, 0x1000)));
  EXPECT_TRUE(platform.convert(range(0, 0x1000), Visibility::kPrivate));
  const PlatformResult shared = platform.convert(range(0x1000, 0x3000), Visibility::kShared);
  ASSERT_FALSE(shared);
  EXPECT_EQ(shared.error().kind, FailureKind::kUnsupported);
  EXPECT_EQ(shared.error().at, PhysAddr{0x1000});
  EXPECT_EQ(shared.error().done_end, PhysAddr{0x1000});
}

TEST(FakePlatform, RecordsWhatWasAccepted) {
  FakePlatform platform;
  EXPECT_TRUE(platform.accept(range(0x2000, 0x4000)));
  EXPECT_TRUE(platform.accept(range(0x4000, 0x5000)));
  EXPECT_EQ(platform.accepted_runs(), std::vector{range(0x2000, 0x5000)});
  EXPECT_TRUE(platform.accepted(range(0x3000, 0x5000)));
  EXPECT_FALSE(platform.accepted(range(0x4000, 0x6000)));
  EXPECT_FALSE(platform.any_accepted(range(0, 0x2000)));
}

TEST(FakePlatform, TellsWhenAPageIsAcceptedTwice) {
  FakePlatform platform;
  EXPECT_TRUE(platform.accept(range(0x2000, 0x4000)));
  const PlatformResult twice = platform.accept(range(0x1000, 0x5000));
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().kind, FailureKind::kAlreadyAccepted);
  EXPECT_EQ(twice.error().done_end, PhysAddr{0x2000});
  EXPECT_EQ(platform.double_accepts(), std::vector{PhysAddr{0x2000}});
  EXPECT_TRUE(platform.accepted(range(0x1000, 0x2000)));
}

TEST(FakePlatform, FailsWhereAndAsOftenAsItIsTold) {
  FakePlatform platform;
  platform.busy_at(PhysAddr{0x3000}, 2);
  ASSERT_EQ(platform.accept(range(0x2000, 0x5000)).error().done_end, PhysAddr{0x3000});
  ASSERT_EQ(platform.accept(range(0x3000, 0x5000)).error().kind, FailureKind::kBusyForever);
  EXPECT_TRUE(platform.accept(range(0x3000, 0x5000)));
  platform.fail_after(1, FailureKind::kRefused, 7);
  const PlatformResult result = platform.accept(range(0x8000, 0xA000));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().at, PhysAddr{0x9000});
  EXPECT_EQ(result.error().status, 7U);
}

TEST(FakePlatform, ASharedPageCanBeTakenBack) {
  FakePlatform platform;
  EXPECT_TRUE(platform.accept(range(0, 0x4000)));
  EXPECT_TRUE(platform.convert(range(0x1000, 0x2000), Visibility::kShared));
  EXPECT_TRUE(platform.shared(range(0x1000, 0x2000)));
  EXPECT_FALSE(platform.any_accepted(range(0x1000, 0x2000)));
  EXPECT_TRUE(platform.convert(range(0x1000, 0x2000), Visibility::kPrivate));
  EXPECT_TRUE(platform.accepted(range(0, 0x4000)));
  EXPECT_EQ(platform.call_count(), 3U);
}

}  // namespace
}  // namespace accede::guest
