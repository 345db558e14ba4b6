// The testbed: real instructions, real memory, and what a guest meets that breaks a rule.
#include "accede/testbed/testbed.hpp"

#include "accede/guest/tdx_platform.hpp"
#include "tests/testbed/tdcall.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace accede::testbed {
namespace {

using abi::tdx::Operand;
using abi::tdx::SeptState;
using abi::tdx::Status;
using abi::tdx::status;
using abi::tdx::VmcallStatus;
using host::HostileAct;
using host::HostileEvent;
using host::HostileRule;
using test::accept;
using test::map_gpa;

constexpr std::uint64_t kSharedBit = 1ULL << 47;
constexpr std::uint64_t kRetry = 1;
constexpr PhysAddr kRam{4ULL << 30};  // above 4 GiB, as where unaccepted memory is

constexpr PhysAddr at(Bytes offset) {
  return kRam + offset;
}
PhysRange range(PhysAddr begin, Bytes size) {
  return *PhysRange::make(begin, size);
}

class TestbedTest : public testing::TestWithParam<Isolation> {
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
    auto made = Testbed::make(config);
    if (!made.has_value()) {
      throw std::runtime_error{made.error()};
    }
    bed = std::move(*made);
  }

  [[nodiscard]] volatile std::uint64_t& word(PhysAddr gpa) const {
    return *bed->window().pointer<volatile std::uint64_t>(gpa);
  }
  std::optional<StopReport> touch(PhysAddr gpa) const {
    return catch_stop([&] { [[maybe_unused]] const std::uint64_t value = word(gpa); });
  }
  [[nodiscard]] SeptState state(PhysAddr gpa) const { return bed->td().state_of(gpa).entry.state; }

  std::unique_ptr<Testbed> bed;
};

INSTANTIATE_TEST_SUITE_P(Isolations, TestbedTest,
                         testing::Values(Isolation::kUserfaultfd, Isolation::kMprotect),
                         [](const auto& isolation) { return std::string{name(isolation.param)}; });

// --- Touching ---

TEST_P(TestbedTest, ATouchOfUnacceptedMemoryIsCaughtWithAddressAndState) {
  start();
  const PhysAddr gpa = at(5_MiB) + 24_B;

  const std::optional<StopReport> read = touch(gpa);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->cause, StopCause::kTouch);
  EXPECT_EQ(read->address, bed->window().pointer<void>(gpa));
  EXPECT_EQ(read->gpa, gpa);
  EXPECT_EQ(read->state, "PENDING");
  EXPECT_FALSE(read->is_write);
  EXPECT_NE(read->rip, 0U);

  const std::optional<StopReport> write = catch_stop([&] { word(gpa) = 1; });
  ASSERT_TRUE(write.has_value());
  EXPECT_TRUE(write->is_write);
  EXPECT_EQ(bed->backed(), 0_B);
}

TEST_P(TestbedTest, AGuestThatTouchesNothingForbiddenRunsToItsEnd) {
  start();
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  EXPECT_FALSE(touch(at(0_B)).has_value());
  EXPECT_TRUE(touch(at(2_MiB)).has_value());
}

TEST_P(TestbedTest, MemoryAcceptedAtStartIsUsableAndCostsNothingUntilUsed) {
  start({.accepted_at_start = {range(at(4_MiB), 2_MiB), range(at(8_MiB), 4_KiB)}});
  EXPECT_EQ(bed->backed(), 0_B);
  word(at(4_MiB)) = 7;
  word(at(8_MiB)) = 8;
  EXPECT_EQ(word(at(4_MiB)), 7U);
  EXPECT_TRUE(touch(at(8_MiB) + 4_KiB).has_value());
}

// --- Accepting ---

TEST_P(TestbedTest, AnAcceptedPageIsZeroAndUsable) {
  start();
  ASSERT_EQ(accept(at(2_MiB), PageSize::k2M), 0U);
  EXPECT_EQ(bed->backed(), 2_MiB);
  for (Bytes offset{}; offset < 2_MiB; offset += 4_KiB) {
    ASSERT_EQ(word(at(2_MiB) + offset), 0U);
    word(at(2_MiB) + offset) = offset.value() + 1;
  }
  EXPECT_EQ(word(at(4_MiB) - 4_KiB), (2_MiB - 4_KiB).value() + 1);
  EXPECT_TRUE(touch(at(2_MiB) - 8_B).has_value());
  EXPECT_TRUE(touch(at(4_MiB)).has_value());
}

TEST_P(TestbedTest, OnlyTheAcceptedPageIsOpen) {
  start();
  ASSERT_EQ(accept(at(2_MiB) + 4_KiB, PageSize::k4K), 0U);
  EXPECT_FALSE(touch(at(2_MiB) + 4_KiB).has_value());
  EXPECT_TRUE(touch(at(2_MiB)).has_value());
  EXPECT_TRUE(touch(at(2_MiB) + 8_KiB).has_value());
}

TEST_P(TestbedTest, MemoryBackedIn4KAnswersA2MAcceptWithSizeMismatch) {
  start({.backing = host::Backing::k4K});
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), status(Status::kPageSizeMismatch, PageSize::k2M));
  EXPECT_TRUE(touch(at(0_B)).has_value());
  ASSERT_EQ(accept(at(0_B), PageSize::k4K), 0U);
  EXPECT_FALSE(touch(at(0_B)).has_value());
}

TEST_P(TestbedTest, ASecondAcceptIsAnsweredAlreadyAcceptedAndKeepsTheContent) {
  start();
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  word(at(0_B)) = 42;
  EXPECT_EQ(accept(at(0_B), PageSize::k2M), status(Status::kPageAlreadyAccepted, PageSize::k2M));
  EXPECT_EQ(word(at(0_B)), 42U);
}

TEST_P(TestbedTest, AReleasedPageLosesItsContentAndMustBeAcceptedAgain) {
  start({.page_release = true});
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  word(at(0_B)) = 42;
  ASSERT_EQ(test::release(at(0_B), PageSize::k2M), 0U);
  EXPECT_EQ(bed->backed(), 0_B);
  EXPECT_EQ(touch(at(0_B))->state, "PENDING");
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  EXPECT_EQ(word(at(0_B)), 0U);
}

TEST_P(TestbedTest, ReleaseDoesNotExistUnlessConfigured) {
  start();
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  EXPECT_EQ(test::release(at(0_B), PageSize::k2M), status(Status::kOperandInvalid, Operand::kRax));
}

TEST_P(TestbedTest, MemoryThatNobodyAcceptedIsNotBacked) {
  start({.memory = 64_GiB});
  EXPECT_EQ(bed->ram().size(), 64_GiB);
  ASSERT_EQ(accept(at(63_GiB), PageSize::k2M), 0U);
  ASSERT_EQ(accept(at(1_GiB), PageSize::k4K), 0U);
  EXPECT_EQ(bed->backed(), 2_MiB + 4_KiB);
}

TEST_P(TestbedTest, AnAcceptOfWhatIsNoRamStopsTheGuest) {
  start();
  const auto stop = catch_stop([&] { (void)accept(bed->ram().end(), PageSize::k4K); });
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kNotRam);
  EXPECT_EQ(stop->gpa, bed->ram().end());
  EXPECT_EQ(stop->state, "no RAM");
}

TEST_P(TestbedTest, AnAcceptOfASharedPageStopsTheGuest) {
  start();
  ASSERT_EQ(map_gpa(at(0_B).value() | kSharedBit, 4096).r10, 0U);
  const auto stop = catch_stop([&] { (void)accept(at(0_B), PageSize::k4K); });
  ASSERT_TRUE(stop.has_value());
  EXPECT_EQ(stop->cause, StopCause::kSharedPage);
  EXPECT_EQ(stop->state, "shared");
}

// --- Other calls ---

TEST_P(TestbedTest, VpInfoTellsTheAddressWidth) {
  start({.vcpus = 3});
  test::TdcallRegisters registers{.rax = 1};
  test::tdcall(registers);
  EXPECT_EQ(registers.rax, 0U);
  EXPECT_EQ(registers.rcx, 48U);
  EXPECT_EQ(registers.r8, 0x3'0000'0003U);
}

TEST_P(TestbedTest, AnUnknownLeafIsAnInvalidOperand) {
  start();
  for (const std::uint64_t rax : {99ULL, 0x1'0006ULL, 1ULL << 40 | 6}) {
    test::TdcallRegisters registers{.rax = rax, .rcx = at(0_B).value()};
    test::tdcall(registers);
    EXPECT_EQ(registers.rax, status(Status::kOperandInvalid, Operand::kRax));
    EXPECT_EQ(registers.rcx, at(0_B).value());
  }
}

TEST_P(TestbedTest, AnUnknownSubfunctionIsUnsupported) {
  start();
  test::TdcallRegisters registers{.rax = 0, .rcx = 0xFC00, .r10 = 0, .r11 = 10};
  test::tdcall(registers);
  EXPECT_EQ(registers.rax, 0U);
  EXPECT_EQ(registers.r10, static_cast<std::uint64_t>(VmcallStatus::kSubfuncUnsupported));
}

TEST_P(TestbedTest, AVmcallThatWouldShowTheStackPointerIsInvalid) {
  start();
  test::TdcallRegisters registers{.rax = 0, .rcx = 0xFC10, .r10 = 0, .r11 = 0x10001};
  test::tdcall(registers);
  EXPECT_EQ(registers.rax, status(Status::kOperandInvalid, Operand::kRcx));
}

// --- Conversion ---

TEST_P(TestbedTest, AMapGpaRoundTripLosesTheContent) {
  start();
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  word(at(64_KiB)) = 42;
  word(at(128_KiB)) = 43;

  ASSERT_EQ(map_gpa(at(64_KiB).value() | kSharedBit, (64_KiB).value()).r10, 0U);
  EXPECT_EQ(word(at(64_KiB)), 0U);  // shared: usable at once, with none of what was private
  word(at(64_KiB)) = 44;
  EXPECT_EQ(word(at(128_KiB)), 43U);

  ASSERT_EQ(map_gpa(at(64_KiB).value(), (64_KiB).value()).r10, 0U);
  EXPECT_EQ(touch(at(64_KiB))->state, "PENDING");
  ASSERT_EQ(accept(at(64_KiB), PageSize::k4K), 0U);
  EXPECT_EQ(word(at(64_KiB)), 0U);
  EXPECT_EQ(word(at(128_KiB)), 43U);
  EXPECT_TRUE(bed->td().invariants());
}

TEST_P(TestbedTest, ConvertedMemoryGoesBackToTheHost) {
  start();
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  ASSERT_EQ(map_gpa(at(0_B).value() | kSharedBit, (2_MiB).value()).r10, 0U);
  EXPECT_EQ(bed->backed(), 0_B);
  EXPECT_EQ(bed->counters().to_shared_bytes, (2_MiB).value());
}

// --- Several vCPUs ---

/// Runs `body(i)` on `count` threads.
template <class Body>
void on_threads(unsigned count, Body body) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&body, i] { body(i); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST_P(TestbedTest, ConcurrentAcceptsOfDifferentUnitsAllSucceed) {
  start({.memory = 64_MiB});
  constexpr unsigned kThreads = 4;
  constexpr unsigned kUnits = 32;
  std::atomic<unsigned> failed = 0;
  on_threads(kThreads, [&](unsigned thread) {
    for (unsigned unit = thread; unit < kUnits; unit += kThreads) {
      const PhysAddr gpa = at(2_MiB * unit);
      failed += accept(gpa, PageSize::k2M) != 0 || word(gpa + 4_KiB) != 0;
      word(gpa + 4_KiB) = unit;
    }
  });
  EXPECT_EQ(failed, 0U);
  EXPECT_EQ(bed->counters().accepts_2m, kUnits);
  EXPECT_EQ(bed->backed(), 64_MiB);
}

TEST_P(TestbedTest, ConcurrentAcceptsOfOnePageSucceedOnce) {
  start();
  constexpr unsigned kThreads = 4;
  constexpr unsigned kUnits = 16;
  std::atomic<unsigned> accepted = 0;
  std::atomic<unsigned> other = 0;
  on_threads(kThreads, [&](unsigned) {
    for (unsigned unit = 0; unit < kUnits; ++unit) {
      std::uint64_t rax = 0;
      do {
        rax = accept(at(2_MiB * unit), PageSize::k2M);
      } while (abi::tdx::code_of(rax) == Status::kOperandBusy);
      accepted += rax == 0;
      other += rax != 0 && abi::tdx::code_of(rax) != Status::kPageAlreadyAccepted;
    }
  });
  EXPECT_EQ(accepted, kUnits);
  EXPECT_EQ(other, 0U);
}

TEST_P(TestbedTest, ConcurrentConversionsAndTouchesKeepPagesApart) {
  start({.accepted_at_start = {range(at(0_B), 8_MiB)}});
  std::atomic<unsigned> wrong = 0;
  // Each vCPU takes its own 64 KiB of every 2M unit through the whole cycle.
  on_threads(4, [&](unsigned thread) {
    for (unsigned round = 0; round < 8; ++round) {
      const PhysAddr gpa = at(2_MiB * (round % 4)) + 64_KiB * thread;
      word(gpa) = thread + 1;
      while (map_gpa(gpa.value() | kSharedBit, 4096).r10 == kRetry) {
      }
      wrong += word(gpa) != 0;
      while (map_gpa(gpa.value(), 4096).r10 == kRetry) {
      }
      std::uint64_t rax = 0;
      do {
        rax = accept(gpa, PageSize::k4K);
      } while (abi::tdx::code_of(rax) == Status::kOperandBusy);
      wrong += rax != 0 || word(gpa) != 0;
    }
  });
  EXPECT_EQ(wrong, 0U);
  EXPECT_TRUE(bed->td().invariants());
}

TEST_P(TestbedTest, ConcurrentStopsAreCaughtEachOnItsOwnThread) {
  start();
  std::atomic<unsigned> right = 0;
  on_threads(4, [&](unsigned thread) {
    for (unsigned i = 0; i < 50; ++i) {
      const PhysAddr gpa = at(4_KiB * (thread * 50 + i));
      const std::optional<StopReport> stop = touch(gpa);
      right += stop.has_value() && stop->gpa == gpa;
    }
  });
  EXPECT_EQ(right, 200U);
}

// --- Hostile hosts ---

TEST_P(TestbedTest, AHostStaysBusyForAsLongAsTheRuleSays) {
  start();
  const std::array rules{HostileRule{.act = HostileAct::kBusy, .first = 2, .times = 3}};
  bed->play(rules);
  const std::uint64_t busy = status(Status::kOperandBusy, Operand::kRcx);
  EXPECT_EQ(accept(at(0_B), PageSize::k4K), 0U);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(accept(at(4_KiB), PageSize::k4K), busy);
  }
  EXPECT_EQ(accept(at(4_KiB), PageSize::k4K), 0U);
  EXPECT_EQ(bed->script().acted(0), 3U);
}

TEST_P(TestbedTest, AHostStaysBusyForEver) {
  start();
  const std::array rules{HostileRule{
      .act = HostileAct::kBusy, .where = range(at(2_MiB), 2_MiB), .times = HostileRule::kForever}};
  bed->play(rules);
  for (unsigned i = 0; i < 100; ++i) {
    ASSERT_NE(accept(at(2_MiB), PageSize::k2M), 0U);
  }
  EXPECT_EQ(accept(at(4_MiB), PageSize::k2M), 0U);  // elsewhere it is honest
}

TEST_P(TestbedTest, AHostAnswersAnyStatusAndChangesNothing) {
  start();
  const std::array rules{HostileRule{.act = HostileAct::kStatus, .value = 0x1234'5678'9ABC'DEF0}};
  bed->play(rules);
  EXPECT_EQ(accept(at(0_B), PageSize::k4K), 0x1234'5678'9ABC'DEF0U);
  EXPECT_TRUE(touch(at(0_B)).has_value());
  EXPECT_EQ(accept(at(0_B), PageSize::k4K), 0U);
}

TEST_P(TestbedTest, AHostClaimsThatAPageWasAcceptedBefore) {
  start();
  const std::array rules{HostileRule{.act = HostileAct::kAlreadyAccepted}};
  bed->play(rules);
  EXPECT_EQ(accept(at(0_B), PageSize::k2M), status(Status::kPageAlreadyAccepted, PageSize::k2M));
  EXPECT_TRUE(touch(at(0_B)).has_value());
}

TEST_P(TestbedTest, AHostClaimsSuccessWithoutEffect) {
  start();
  const std::array rules{HostileRule{.act = HostileAct::kPretend},
                         HostileRule{.event = HostileEvent::kConvert, .act = HostileAct::kPretend}};
  bed->play(rules);
  EXPECT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  EXPECT_TRUE(touch(at(0_B)).has_value());
  EXPECT_EQ(map_gpa(at(0_B).value() | kSharedBit, 4096).r10, 0U);
  EXPECT_TRUE(touch(at(0_B)).has_value());
}

TEST_P(TestbedTest, AHostReplacesAPageBehindTheGuest) {
  start();
  const std::array rules{
      HostileRule{.act = HostileAct::kReplace, .first = 2, .target = range(at(0_B), 4_KiB)}};
  bed->play(rules);
  ASSERT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  word(at(0_B)) = 42;
  word(at(4_KiB)) = 43;
  ASSERT_EQ(accept(at(2_MiB), PageSize::k2M), 0U);

  EXPECT_EQ(state(at(0_B)), SeptState::kPending);
  EXPECT_EQ(word(at(4_KiB)), 43U);
  EXPECT_EQ(touch(at(0_B))->state, "PENDING");
}

TEST_P(TestbedTest, AHostBacksInSmallPagesHere) {
  start();
  const std::array rules{
      HostileRule{.act = HostileAct::kBackSmall, .where = range(at(2_MiB), 2_MiB)}};
  bed->play(rules);
  EXPECT_EQ(accept(at(0_B), PageSize::k2M), 0U);
  EXPECT_EQ(accept(at(2_MiB), PageSize::k2M), status(Status::kPageSizeMismatch, PageSize::k2M));
  EXPECT_EQ(accept(at(2_MiB), PageSize::k4K), 0U);
  EXPECT_EQ(accept(at(4_MiB) - 4_KiB, PageSize::k4K), 0U);
}

TEST_P(TestbedTest, AHostSplitsAPageThatItHadBackedLarge) {
  start();
  const std::array rules{HostileRule{.act = HostileAct::kBackSmall}};
  bed->play(rules);
  ASSERT_TRUE(touch(at(0_B)).has_value());  // now PENDING in 2M
  EXPECT_EQ(accept(at(0_B), PageSize::k2M), status(Status::kPageSizeMismatch, PageSize::k2M));
}

TEST_P(TestbedTest, AHostLiesAboutTheProgressOfMapGpa) {
  start();
  const std::uint64_t start = at(2_MiB).value() | kSharedBit;
  const std::uint64_t size = (2_MiB).value();
  using enum HostileAct;
  const std::array rules{
      HostileRule{.event = HostileEvent::kConvert, .act = kRetryBackwards, .first = 1},
      HostileRule{.event = HostileEvent::kConvert, .act = kRetryOutOfRange, .first = 2},
      HostileRule{.event = HostileEvent::kConvert, .act = kRetryInPlace, .first = 3},
      HostileRule{.event = HostileEvent::kConvert, .act = kRetryAt, .first = 4, .value = 77},
      HostileRule{.event = HostileEvent::kConvert,
                  .act = kStatus,
                  .first = 5,
                  .value = static_cast<std::uint64_t>(VmcallStatus::kGpaInUse)}};
  bed->play(rules);
  for (const std::uint64_t r11 : {start - 4096, start + size + 4096, start, std::uint64_t{77}}) {
    const test::MapGpaAnswer answer = map_gpa(start, size);
    EXPECT_EQ(answer.r10, kRetry);
    EXPECT_EQ(answer.r11, r11);
  }
  EXPECT_EQ(map_gpa(start, size).r10, static_cast<std::uint64_t>(VmcallStatus::kGpaInUse));
  EXPECT_TRUE(touch(at(2_MiB)).has_value());  // nothing was converted
}

TEST_P(TestbedTest, AHostConvertsOnlyAPart) {
  start();
  const std::array rules{
      HostileRule{.event = HostileEvent::kConvert, .act = HostileAct::kPartly, .value = 8192}};
  bed->play(rules);
  const std::uint64_t start = at(0_B).value() | kSharedBit;
  const test::MapGpaAnswer answer = map_gpa(start, 16384);
  EXPECT_EQ(answer.r10, kRetry);
  EXPECT_EQ(answer.r11, start + 8192);
  EXPECT_FALSE(touch(at(4_KiB)).has_value());
  EXPECT_TRUE(touch(at(8_KiB)).has_value());
}

// --- The guest library on it ---

TEST_P(TestbedTest, TheLibrarysTdxPlatformRunsOnItUnchanged) {
  start({.backing = host::Backing::k4K});
  auto platform = guest::TdxPlatform::make();
  ASSERT_TRUE(platform.has_value());
  ASSERT_TRUE(platform->accept(range(at(2_MiB), 4_MiB)).has_value());
  EXPECT_EQ(bed->backed(), 4_MiB);
  ASSERT_TRUE(platform->convert(range(at(2_MiB), 64_KiB), guest::Visibility::kShared).has_value());
  word(at(2_MiB)) = 1;
  ASSERT_TRUE(platform->convert(range(at(2_MiB), 64_KiB), guest::Visibility::kPrivate).has_value());
  EXPECT_EQ(word(at(2_MiB)), 0U);
}

TEST_P(TestbedTest, TheLibrarysTdxPlatformSaysWhatAHostileHostDid) {
  start();
  using enum HostileAct;
  using guest::FailureKind;
  const std::array rules{
      HostileRule{.act = kBusy, .where = range(at(0_B), 2_MiB), .times = HostileRule::kForever},
      HostileRule{.act = kAlreadyAccepted, .where = range(at(2_MiB), 2_MiB)},
      HostileRule{.act = kStatus, .where = range(at(4_MiB), 2_MiB), .value = 1ULL << 63},
      HostileRule{.event = HostileEvent::kConvert, .act = kRetryBackwards, .first = 1},
      HostileRule{.event = HostileEvent::kConvert, .act = kRetryOutOfRange, .first = 2},
      HostileRule{.event = HostileEvent::kConvert, .act = kRetryInPlace, .first = 3, .times = 100}};
  bed->play(rules);
  auto platform = guest::TdxPlatform::make();
  ASSERT_TRUE(platform.has_value());
  const auto accepting = [&](Bytes offset) {
    return platform->accept(range(at(offset), 2_MiB)).error().kind;
  };
  const auto sharing = [&] {
    return platform->convert(range(at(8_MiB), 2_MiB), guest::Visibility::kShared).error().kind;
  };
  EXPECT_EQ(accepting(0_B), FailureKind::kBusyForever);
  EXPECT_EQ(accepting(2_MiB), FailureKind::kAlreadyAccepted);
  EXPECT_EQ(accepting(4_MiB), FailureKind::kRefused);
  EXPECT_EQ(sharing(), FailureKind::kHostLied);
  EXPECT_EQ(sharing(), FailureKind::kHostLied);
  EXPECT_EQ(sharing(), FailureKind::kBusyForever);
}

// --- The testbed itself ---

TEST_P(TestbedTest, ASecondTestbedOfThePlatformIsRefused) {
  start();
  const auto second = Testbed::make({});
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().find("already"), std::string::npos);
  EXPECT_EQ(accept(at(0_B), PageSize::k2M), 0U);  // the first one does not mind
  bed.reset();
  EXPECT_TRUE(Testbed::make({}).has_value());
}

TEST_P(TestbedTest, TheCountersTellWhatHappened) {
  start({.backing = host::Backing::k4K});
  (void)accept(at(0_B), PageSize::k2M);
  (void)accept(at(0_B), PageSize::k4K);
  (void)accept(at(0_B), PageSize::k4K);
  const Counters counters = bed->counters();
  EXPECT_EQ(counters.instructions, 3U);
  EXPECT_EQ(counters.accepts_4k, 1U);
  EXPECT_EQ(counters.accepts_2m, 0U);
  EXPECT_EQ(counters.accepted_bytes, 4096U);
  EXPECT_EQ(counters.refused, 2U);
  EXPECT_EQ(counters.accepts_at_once, 1U);
}

TEST(Testbed, RefusesRamThatCannotBe) {
  EXPECT_FALSE(Testbed::make({.memory = 0_B}).has_value());
  EXPECT_FALSE(Testbed::make({.memory = 5000_B}).has_value());
  EXPECT_FALSE(Testbed::make({.ram_begin = PhysAddr{4096}}).has_value());
  EXPECT_FALSE(Testbed::make({.memory = 4_MiB, .ram_begin = PhysAddr{1ULL << 47}}).has_value());
  EXPECT_FALSE(Testbed::make({.accepted_at_start = {range(PhysAddr{100}, 4_KiB)}}).has_value());
  EXPECT_FALSE(Testbed::make({.platform = guest::PlatformKind::kNone}).has_value());
}

/// While it lives the process may open one more file: enough for the memory, not for userfaultfd.
class OneMoreFile {
 public:
  OneMoreFile() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const int next = dup(STDERR_FILENO);
    close(next);
    const rlimit limit{.rlim_cur = static_cast<rlim_t>(next) + 1, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  ~OneMoreFile() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST(Testbed, WithoutUserfaultfdItFallsBackToMprotectUnlessToldOtherwise) {
#ifdef ACCEDE_UBSAN
  GTEST_SKIP() << "UBSan opens a pipe to look at an object's type, and the test leaves no room";
#endif
  const OneMoreFile limit;
  EXPECT_FALSE(Testbed::make({.isolation = Isolation::kUserfaultfd}).has_value());
  const auto bed = Testbed::make({});
  ASSERT_TRUE(bed.has_value()) << bed.error();
  EXPECT_EQ((*bed)->isolation(), Isolation::kMprotect);
}

TEST(Testbed, TakesRamThatEndsInsideALargePage) {
  const auto bed = Testbed::make({.memory = 2_MiB + 8_KiB});
  ASSERT_TRUE(bed.has_value()) << bed.error();
  EXPECT_EQ(accept(PhysAddr{} + 2_MiB, PageSize::k2M),
            status(Status::kPageSizeMismatch, PageSize::k2M));
  EXPECT_EQ(accept(PhysAddr{} + 2_MiB + 4_KiB, PageSize::k4K), 0U);
}

TEST(TestbedDeathTest, WithoutACatcherATouchPrintsOneLineAndAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const auto bed = Testbed::make({.ram_begin = kRam});
        (void)*(*bed)->window().pointer<volatile int>(at(4_KiB));
      },
      "accede testbed: touch of memory that is not accepted: GPA 0x100001000 is PENDING, read of "
      "0x[0-9a-f]+, RIP 0x[0-9a-f]+\n");
}

TEST(TestbedDeathTest, OtherIllegalInstructionsGoOnToTheHandlerFromBefore) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        std::signal(SIGILL, [](int) { _exit(3); });
        const auto bed = Testbed::make({});
        asm volatile("ud2");
      },
      testing::ExitedWithCode(3), "");
}

TEST(TestbedDeathTest, OtherBadPointersGoOnToTheHandlerFromBefore) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        std::signal(SIGSEGV, [](int) { _exit(4); });
        const auto bed = Testbed::make({});
        asm volatile("movb $1, 0" ::: "memory");
      },
      testing::ExitedWithCode(4), "");
}

TEST(TestbedDeathTest, WhenTheTestbedIsGoneSoAreItsHandlers) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        std::signal(SIGILL, [](int) { _exit(5); });
        {
          const auto bed = Testbed::make({});
        }
        (void)accept(PhysAddr{}, PageSize::k4K);
      },
      testing::ExitedWithCode(5), "");
}

}  // namespace
}  // namespace accede::testbed
