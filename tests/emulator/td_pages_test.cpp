#include "accede/emulator/td_pages.hpp"

#include "tests/emulator/td_machine.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace accede::emulator {
namespace {

using namespace accede::test;

constexpr std::uint64_t kPending = TdMachine::kPending;

class TdPagesTest : public testing::Test {
 protected:
  std::optional<Fault> touch(TdMachine& td, std::uint64_t gpa, std::uint64_t error = 0) {
    const Verdict verdict = td.pages().touch(td.vcpu(), gpa, error);
    return verdict ? std::nullopt : std::optional{verdict.error()};
  }
  static const Event* last_event(TdMachine& td) {
    const ReportHeader& header = td.reporter().header();
    const auto* const events = reinterpret_cast<const Event*>(
        reinterpret_cast<const std::byte*>(&header) + header.event_offset);
    return header.event_count == 0 ? nullptr : &events[header.event_count - 1];
  }
};

TEST_F(TdPagesTest, KeepsMemoryThatIsInUseAtLaunch) {
  TdMachine td;
  EXPECT_TRUE(td.reachable(View::kPrivate, 0));
  EXPECT_TRUE(td.reachable(View::kPrivate, TdMachine::kLowEnd - 1));
  EXPECT_FALSE(td.reachable(View::kShared, 0)) << "private, so not in the shared view";
  EXPECT_FALSE(td.reachable(View::kPrivate, TdMachine::kHidden));
  EXPECT_FALSE(td.reachable(View::kPrivate, kPending));
}

TEST_F(TdPagesTest, MapsLowDevicesInBothViews) {
  TdMachine td;
  for (const std::uint64_t gpa :
       {std::uint64_t{0xA0000}, std::uint64_t{0xFEE0'0000}, std::uint64_t{0xFFFF'FFF0}}) {
    EXPECT_TRUE(td.reachable(View::kPrivate, gpa)) << std::hex << gpa;
    EXPECT_TRUE(td.reachable(View::kShared, gpa)) << std::hex << gpa;
  }
}

TEST_F(TdPagesTest, MapsHighDevicesOnTheFirstTouch) {
  TdMachine td;
  constexpr std::uint64_t kDevice = 0x80'0000'0000;
  EXPECT_FALSE(td.reachable(View::kPrivate, kDevice));
  EXPECT_FALSE(touch(td, kDevice).has_value());
  EXPECT_TRUE(td.reachable(View::kPrivate, kDevice));
  EXPECT_FALSE(td.reachable(View::kShared, kDevice));
  EXPECT_FALSE(touch(td, kDevice | kShared).has_value());
  EXPECT_TRUE(td.reachable(View::kShared, kDevice));
}

TEST_F(TdPagesTest, DoesNotMapRamWithADevicesPage) {
  TdMachine td;
  EXPECT_FALSE(touch(td, TdMachine::kPendingEnd).has_value());
  EXPECT_TRUE(td.reachable(View::kPrivate, TdMachine::kPendingEnd));
  EXPECT_FALSE(td.reachable(View::kPrivate, TdMachine::kPendingEnd - 1));
}

TEST_F(TdPagesTest, EndsTheTdThatTouchesPendingMemory) {
  TdMachine td;
  const auto fault = touch(td, kPending + 0x1238);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kUnacceptedAccess);
  EXPECT_EQ(fault->gpa, kPending + 0x1238);
  EXPECT_NE(fault->state.find("not accepted"), std::string_view::npos) << fault->state;
  EXPECT_FALSE(fault->message.empty());
}

TEST_F(TdPagesTest, SaysWhenAPageTableLiesInPendingMemory) {
  TdMachine td;
  const auto fault = touch(td, kPending, svm::kNpfTableWalk);
  ASSERT_TRUE(fault.has_value());
  EXPECT_NE(fault->message.find("page table"), std::string_view::npos) << fault->message;
}

TEST_F(TdPagesTest, RaisesAVirtualizationExceptionWhereTheTdTakesThem) {
  struct Row {
    std::uint64_t error;
    std::uint64_t qualification;
  };
  for (const Row& row : {Row{0, 1}, Row{svm::kNpfWrite, 2}, Row{svm::kNpfFetch, 4}}) {
    TdMachine td{{.sept_ve_disable = false}};
    EXPECT_FALSE(touch(td, kPending + 0x10, row.error).has_value());
    EXPECT_TRUE(td.vcpu().ve_pending);
    EXPECT_EQ(td.vcpu().ve.exit_reason, 48U);
    EXPECT_EQ(td.vcpu().ve.gpa, kPending + 0x10);
    EXPECT_EQ(td.vcpu().ve.qualification, row.qualification);
    EXPECT_EQ(td.counters().ve_injected, 1U);
    EXPECT_FALSE(td.reachable(View::kPrivate, kPending));
  }
}

TEST_F(TdPagesTest, AcceptsAPageThatCausedAVirtualizationException) {
  TdMachine td{{.sept_ve_disable = false}};
  EXPECT_FALSE(touch(td, kPending).has_value());
  EXPECT_EQ(td.accept(kPending, 0), 0U) << "the host's 2 MiB page is demoted";
  EXPECT_TRUE(td.reachable(View::kPrivate, kPending));
  EXPECT_FALSE(td.reachable(View::kPrivate, kPending + k4K));
  EXPECT_TRUE(td.memory().invariants());
}

TEST_F(TdPagesTest, EndsTheTdThatCannotTakeItsDoubleFault) {
  TdMachine td{{.sept_ve_disable = false}};
  td.vcpu().vmcb->control.event_injection = 0x8000'0B08;
  const auto fault = touch(td, kPending);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kShutdown);
}

TEST_F(TdPagesTest, EndsTheTdThatMixesUpPrivateAndShared) {
  TdMachine td;
  auto fault = touch(td, k2M | kShared);
  ASSERT_TRUE(fault.has_value()) << "shared access to a private page";
  EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
  EXPECT_EQ(fault->gpa, k2M | kShared) << "as the guest used it";
  EXPECT_EQ(td.map_gpa(k2M | kShared, k4K).r10, 0U);
  fault = touch(td, k2M + 8);
  ASSERT_TRUE(fault.has_value()) << "private access to a shared page";
  EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
  EXPECT_EQ(fault->gpa, k2M + 8);
}

TEST_F(TdPagesTest, EndsTheTdThatTouchesTheEmulator) {
  TdMachine td;
  for (const std::uint64_t gpa :
       {TdMachine::kHidden, TdMachine::kHiddenEnd - 1, TdMachine::kHidden | kShared}) {
    const auto fault = touch(td, gpa);
    ASSERT_TRUE(fault.has_value()) << std::hex << gpa;
    EXPECT_EQ(fault->kind, EventKind::kEmulatorMemory);
    EXPECT_EQ(fault->gpa, gpa);
  }
}

TEST_F(TdPagesTest, EndsTheTdThatTouchesAnAddressAboveTheWidth) {
  TdMachine td;
  for (const std::uint64_t gpa : {1ULL << 48, (1ULL << 51) | kPending, (1ULL << 49) | kShared}) {
    const auto fault = touch(td, gpa);
    ASSERT_TRUE(fault.has_value()) << std::hex << gpa;
    EXPECT_EQ(fault->kind, EventKind::kBeyondAddressWidth);
  }
}

TEST_F(TdPagesTest, BacksWithSmallPagesWhenAsked) {
  TdMachine td{{.backing = host::Backing::k4K}};
  EXPECT_EQ(td.accept(kPending, 1), 0xC000'0B0B'0000'0001U);
  EXPECT_EQ(td.counters().size_mismatch, 1U);
  for (std::uint64_t at = 0; at < k2M; at += k4K) {
    ASSERT_EQ(td.accept(kPending + at, 0), 0U) << at;
  }
  EXPECT_EQ(td.counters().accept_calls[0], 512U);
  EXPECT_EQ(td.tables().mapped(View::kPrivate, PhysAddr{kPending}), PageSize::k2M)
      << "the emulator's own tables merge whatever the modelled host does";
}

TEST_F(TdPagesTest, LogsAdjacentAcceptsAsOneEventAndMeasuresTheLongestStep) {
  TdMachine td;
  for (std::uint64_t at = 0; at < 8 * k2M; at += k2M) {
    ASSERT_EQ(td.accept(kPending + at, 1), 0U);
  }
  const Event* const event = last_event(td);
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(event->kind, EventKind::kAccept);
  EXPECT_EQ(event->detail, 1);
  EXPECT_EQ(event->gpa + std::uint64_t{event->pages} * k4K, kPending + 8 * k2M);
  EXPECT_EQ(td.counters().longest_step_bytes, 8 * k2M);
  td.vcpu().step_bytes = 0;  // another exit came between
  ASSERT_EQ(td.accept(kPending + 8 * k2M, 1), 0U);
  EXPECT_EQ(td.counters().longest_step_bytes, 8 * k2M);
}

TEST_F(TdPagesTest, CountsAcceptedBytesForWhoRuns) {
  TdMachine td;
  ASSERT_EQ(td.accept(kPending, 0), 0U);
  td.view().enter_phase(Phase::kLoader);
  ASSERT_EQ(td.accept(kPending + k4K, 0), 0U);
  td.view().enter_phase(Phase::kKernel);
  ASSERT_EQ(td.accept(kPending + k2M, 1), 0U);
  td.view().enter_phase(Phase::kFirmware);
  EXPECT_EQ(td.view().phase(), Phase::kKernel) << "phases only go forward";
  EXPECT_EQ(td.counters().accepted_bytes[0], k4K);
  EXPECT_EQ(td.counters().accepted_bytes[1], k4K);
  EXPECT_EQ(td.counters().accepted_bytes[2], k2M);
}

TEST_F(TdPagesTest, OnlyMapsUntouchedMemoryWhenTimeIsModelled) {
  TdMachine td{{.cost = {.ticks_per_2m = 1'000'000}}};
  // What nobody wrote is zero on a real machine; a marker shows whether the emulator writes.
  td.word(kPending) = 42;
  const std::uint64_t before = td.counters().accept_ticks[0];
  ASSERT_EQ(td.accept(kPending, 1), 0U);
  EXPECT_EQ(td.word(kPending), 42U) << "not written";
  EXPECT_GE(td.counters().accept_ticks[0] - before, 1'000'000U) << "but the time passed";
  EXPECT_EQ(td.map_gpa(kPending | kShared, k4K).r10, 0U);
  td.word(kPending) = 43;
  EXPECT_EQ(td.map_gpa(kPending, k4K).r10, 0U);
  ASSERT_EQ(td.accept(kPending, 0), 0U);
  EXPECT_EQ(td.word(kPending), 0U) << "memory that was in use is zeroed whatever it costs";
}

TEST_F(TdPagesTest, AsksForATlbFlushWheneverAMappingGoes) {
  TdMachine td;
  const std::uint64_t before = td.view().flush_generation();
  ASSERT_EQ(td.accept(kPending, 1), 0U);
  EXPECT_EQ(td.view().flush_generation(), before) << "adding a mapping needs none";
  EXPECT_EQ(td.map_gpa(kPending | kShared, k4K).r10, 0U);
  const std::uint64_t shared = td.view().flush_generation();
  EXPECT_GT(shared, before);
  EXPECT_FALSE(touch(td, kPending | kShared).has_value());
  EXPECT_EQ(td.map_gpa(kPending, k4K).r10, 0U);
  EXPECT_GT(td.view().flush_generation(), shared);
}

TEST_F(TdPagesTest, EndsTheTdWithAReportWhenItsTablesRunOut) {
  TdMachine td{{.pool_pages = 12}};
  std::optional<Fault> fault;
  // Every second 4 KiB page of one 2 MiB region after the other needs a table each.
  for (std::uint64_t at = 0; at < 16 * k2M && !fault; at += k2M) {
    fault = td.accept_fault(kPending + at, 0);
  }
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kResourceExhausted);
  EXPECT_FALSE(fault->message.empty());
}

TEST_F(TdPagesTest, AgreesWithTheModelUnderRandomActions) {
  // Nested tables and model must never disagree: private pages are reachable when accepted, shared
  // pages never through the private view.
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random{seed};
  TdMachine td;
  constexpr std::uint64_t kPages = 3 * 512;
  for (int step = 0; step < 1500; ++step) {
    const std::uint64_t gpa = kPending + random() % kPages * k4K;
    const std::uint64_t count = 1 + random() % (random() % 4 == 0 ? 600 : 3);
    const std::uint64_t bytes = std::min(count, (kPending + kPages * k4K - gpa) / k4K) * k4K;
    switch (random() % 4) {
      case 0:
        static_cast<void>(td.accept_fault(gpa, 0));
        break;
      case 1:
        static_cast<void>(td.accept_fault(gpa & ~(k2M - 1), 1));
        break;
      case 2:
        ASSERT_EQ(td.map_gpa(gpa | kShared, bytes).r10, 0U);
        break;
      default:
        ASSERT_EQ(td.map_gpa(gpa, bytes).r10, 0U);
        break;
    }
    for (int i = 0; i < 16; ++i) {
      const std::uint64_t at = kPending + random() % kPages * k4K;
      const host::PageReport page = td.memory().state_of(PhysAddr{at});
      const bool accepted = page.entry.state == host::SeptState::kMapped;
      ASSERT_EQ(td.reachable(View::kPrivate, at), accepted) << "step " << step;
      if (page.attribute == host::PageAttribute::kShared) {
        ASSERT_FALSE(accepted) << "step " << step;
      } else {
        ASSERT_FALSE(td.reachable(View::kShared, at)) << "step " << step;
      }
    }
    if (step % 100 == 0) {
      ASSERT_TRUE(td.memory().invariants()) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace accede::emulator
