#include "accede/emulator/snp_pages.hpp"

#include "tests/emulator/snp_machine.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace accede::emulator {
namespace {

using namespace accede::test;
using abi::ghcb::PageOp;
using abi::rmp::RmpState;

constexpr std::uint64_t kPending = SnpMachine::kPending;
constexpr std::uint64_t kInUse = 4 * k2M;  ///< validated at launch
constexpr std::uint64_t kGhcb = kInUse + k2M + k4K;

class SnpPagesTest : public testing::Test {
 protected:
  static std::vector<Event> events(SnpMachine& snp) {
    const ReportHeader& header = snp.reporter().header();
    const auto* const first = reinterpret_cast<const Event*>(
        reinterpret_cast<const std::byte*>(&header) + header.event_offset);
    return {first, first + header.event_count};
  }
  /// Makes the page one that the firmware has.
  static void lock(SnpMachine& snp, std::uint64_t gpa) {
    ASSERT_EQ(snp.rmp().update(PhysAddr{gpa},
                               host::RmpUpdate::pre_guest(PhysAddr{gpa}, PageSize::k4K, 1)),
              abi::rmp::RmpUpdateCode::kSuccess);
  }
};

// --- At launch ---

TEST_F(SnpPagesTest, TakesMemoryThatIsInUseAsValidated) {
  SnpMachine snp;
  for (const std::uint64_t gpa : {std::uint64_t{0}, kInUse, SnpMachine::kLowEnd - 1}) {
    EXPECT_TRUE(snp.reachable(View::kPrivate, gpa)) << std::hex << gpa;
    EXPECT_FALSE(snp.reachable(View::kShared, gpa)) << std::hex << gpa;
    EXPECT_EQ(snp.state(gpa), RmpState::kGuestValid) << std::hex << gpa;
  }
  EXPECT_FALSE(snp.reachable(View::kPrivate, SnpMachine::kHidden));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending));
  EXPECT_EQ(snp.state(kPending), RmpState::kHypervisor);
  EXPECT_EQ(snp.counters().accepted_bytes[0], 0U) << "by nobody";
}

TEST_F(SnpPagesTest, AdoptsMemoryWithItsContent) {
  SnpMachine snp;
  snp.word(kPending + 3 * k4K) = 42;
  EXPECT_TRUE(snp.pages().adopt(pages_at(kPending + 3 * k4K, 2)));
  EXPECT_EQ(snp.word(kPending + 3 * k4K), 42U);
  EXPECT_TRUE(snp.reachable(View::kPrivate, kPending + 4 * k4K));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending + 2 * k4K));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending + 5 * k4K));
  EXPECT_FALSE(snp.pages().adopt(pages_at(kPending + 4 * k4K, 2))) << "one is in use";
}

TEST_F(SnpPagesTest, AdoptsNothingWithoutStorage) {
  SnpMachine snp{{.pool_pages = 8}};
  EXPECT_FALSE(snp.pages().adopt(range_of(kPending, kPending + k4K)) &&
               snp.pages().adopt(range_of(kPending + k2M, kPending + k2M + k4K)));
  EXPECT_TRUE(snp.view().exhausted());
}

// --- Touching what is not validated ---

TEST_F(SnpPagesTest, EndsTheGuestThatTouchesMemoryBeforeItValidatedIt) {
  SnpMachine snp;
  const auto fault = snp.touch(kCBit | (kPending + 0x1238));
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kUnacceptedAccess);
  EXPECT_EQ(fault->gpa, kPending + 0x1238);
  EXPECT_NE(fault->state.find("Guest-Invalid"), std::string_view::npos) << fault->state;
  EXPECT_EQ(fault->message.find("page table"), std::string_view::npos) << fault->message;
  EXPECT_EQ(snp.state(kPending), RmpState::kGuestInvalid) << "the touch had it assigned";
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending));
  EXPECT_EQ(snp.event(), 0U);
}

TEST_F(SnpPagesTest, SaysWhenAPageTableLiesInMemoryThatIsNotValidated) {
  for (const std::uint64_t gpa : {kPending, kCBit | kPending}) {
    SnpMachine snp;
    const auto fault = snp.touch(gpa, svm::kNpfTableWalk);
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->kind, EventKind::kUnacceptedAccess);
    EXPECT_NE(fault->message.find("page table"), std::string_view::npos) << fault->message;
  }
}

TEST_F(SnpPagesTest, RaisesVcWhereTheGuestTakesIt) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  snp.vcpu().save().cr2 = 0x77;
  EXPECT_FALSE(snp.touch(kCBit | kPending, svm::kNpfWrite).has_value());
  EXPECT_EQ(snp.event(), 0x404ULL << 32 | 0x8000'0B1D);
  EXPECT_EQ(snp.vcpu().save().cr2, kPending) << "mapped at its own address";
  EXPECT_EQ(snp.vcpu().save().rip, SnpMachine::kRip);
  EXPECT_EQ(snp.counters().ve_injected, 1U);
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending));
}

TEST_F(SnpPagesTest, TellsTheAddressOfAnInstructionThatIsNotValidated) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  snp.vcpu().save().rip = kPending + 0x123;
  EXPECT_FALSE(snp.touch(kCBit | (kPending + 0x123), svm::kNpfFetch).has_value());
  EXPECT_EQ(snp.event(), 0x404ULL << 32 | 0x8000'0B1D);
  EXPECT_EQ(snp.vcpu().save().cr2, kPending + 0x123);
}

TEST_F(SnpPagesTest, TellsWhereAnInstructionGoesOnOnThePageThatIsNotValidated) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  ASSERT_EQ(snp.pvalidate(kPending, 0).rax, 0U);
  snp.vcpu().save().rip = kPending + 0xFFE;
  EXPECT_FALSE(snp.touch(kCBit | (kPending + 0x1000), svm::kNpfFetch).has_value());
  EXPECT_EQ(snp.vcpu().save().cr2, kPending + 0x1000);
}

TEST_F(SnpPagesTest, MakesADoubleFaultOfVcWhileAnExceptionIsDelivered) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  for (const std::uint64_t vector : {0ULL, 10ULL, 13ULL, 14ULL, 29ULL}) {
    snp.event() = 0x8000'0B00 | vector;
    EXPECT_FALSE(snp.touch(kCBit | kPending).has_value());
    EXPECT_EQ(snp.event(), 0x8000'0B08U) << vector;
  }
  for (const std::uint64_t event : {0x8000'0306ULL, 0x8000'000EULL}) {
    snp.event() = event;  // #UD; an interrupt with the number of #PF
    EXPECT_FALSE(snp.touch(kCBit | kPending).has_value());
    EXPECT_EQ(snp.event() & 0xFF, 29U) << std::hex << event;
  }
}

TEST_F(SnpPagesTest, EndsTheGuestThatCannotTakeItsDoubleFault) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  snp.event() = 0x8000'0B08;
  const auto fault = snp.touch(kCBit | kPending);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kShutdown);
}

TEST_F(SnpPagesTest, TellsTheAddressThatARegisterPointsTo) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  snp.leaf(2) = kCBit | kPending | SnpMachine::kPresent;
  snp.gpr(kRsi) = SnpMachine::window(2) + 0x40;
  EXPECT_FALSE(snp.touch(kCBit | (kPending + 0x48)).has_value());
  EXPECT_EQ(snp.vcpu().save().cr2, SnpMachine::window(2) + 0x48) << "the page is what it shows";
}

TEST_F(SnpPagesTest, TellsNoAddressThatDoesNotMapThePage) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  snp.vcpu().save().cr3 = SnpMachine::kTables + 0x8000;  // nothing is mapped
  snp.vcpu().save().cr2 = 0x77;
  EXPECT_FALSE(snp.touch(kCBit | kPending, svm::kNpfWrite).has_value());
  EXPECT_EQ(snp.vcpu().save().cr2, 0x77U);
}

TEST_F(SnpPagesTest, ValidatesAPageThatCausedVc) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  EXPECT_FALSE(snp.touch(kCBit | kPending).has_value());
  EXPECT_EQ(snp.pvalidate(kPending, 0).rax, 0U) << "the host's 2 MiB entry is smashed";
  EXPECT_TRUE(snp.reachable(View::kPrivate, kPending));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kPending + k4K));
}

TEST_F(SnpPagesTest, MapsAValidatedPageThatIsNot) {
  SnpMachine snp;
  ASSERT_EQ(snp.pvalidate(kPending, 1).rax, 0U);
  ASSERT_TRUE(snp.tables().unmap(View::kPrivate, range_of(kPending, kPending + k2M)));
  EXPECT_FALSE(snp.touch(kCBit | (kPending + 5 * k4K)).has_value());
  EXPECT_EQ(snp.tables().mapped(View::kPrivate, PhysAddr{kPending}), PageSize::k2M);
  EXPECT_EQ(snp.counters().accept_calls[1], 1U) << "a touch accepts nothing";
}

// --- Sizes and rescinding ---

TEST_F(SnpPagesTest, CountsTheEntriesThatAreSmashed) {
  SnpMachine snp;
  ASSERT_EQ(snp.pvalidate(kPending + k4K, 0).rax, 0U);
  EXPECT_EQ(snp.counters().smashed_pages, 1U);
  EXPECT_EQ(snp.state(kPending), RmpState::kGuestInvalid);
  EXPECT_EQ(snp.state(kPending + k4K), RmpState::kGuestValid);
  ASSERT_EQ(snp.pvalidate(kPending + 2 * k4K, 0).rax, 0U);
  EXPECT_EQ(snp.counters().smashed_pages, 1U) << "it is small by now";
  ASSERT_EQ(snp.pvalidate(kPending + k2M, 1).rax, 0U);
  EXPECT_EQ(snp.counters().smashed_pages, 1U);
  ASSERT_EQ(snp.pvalidate(kInUse, 0, false).rax, 0U) << "also where all was valid";
  EXPECT_EQ(snp.counters().smashed_pages, 2U);
}

TEST_F(SnpPagesTest, CountsTheEntriesThatAdjustingSmashes) {
  SnpMachine snp;
  snp.gpr(kRax) = kInUse;
  snp.gpr(kRcx) = 0;
  snp.gpr(kRdx) = 1;
  EXPECT_FALSE(snp.execute(kRmpAdjust).has_value());
  EXPECT_EQ(snp.counters().smashed_pages, 1U);
}

TEST_F(SnpPagesTest, TakesARescindedPageFromTheGuest) {
  SnpMachine snp;
  const std::uint64_t flushes = snp.view().flush_generation();
  ASSERT_EQ(snp.pvalidate(kInUse + k4K, 0, false).rax, 0U);
  EXPECT_FALSE(snp.reachable(View::kPrivate, kInUse + k4K));
  EXPECT_TRUE(snp.reachable(View::kPrivate, kInUse));
  EXPECT_TRUE(snp.reachable(View::kPrivate, kInUse + 2 * k4K));
  EXPECT_GT(snp.view().flush_generation(), flushes);
  const auto fault = snp.touch(kCBit | (kInUse + k4K));
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kUnacceptedAccess);
  EXPECT_EQ(snp.pvalidate(kInUse + k4K, 0).rax, 0U);
  EXPECT_TRUE(snp.reachable(View::kPrivate, kInUse + k4K));
}

TEST_F(SnpPagesTest, CountsWhatIsRescinded) {
  SnpMachine snp;
  ASSERT_EQ(snp.pvalidate(kInUse, 1, false).rax, 0U);
  ASSERT_EQ(snp.pvalidate(kInUse + k2M, 0, false).rax, 0U);
  EXPECT_EQ(snp.counters().rescind_calls, 2U);
  EXPECT_EQ(snp.counters().rescinded_bytes, k2M + k4K);
  EXPECT_EQ(snp.counters().accept_calls[0] + snp.counters().accept_calls[1], 0U);
  const std::vector<Event> log = events(snp);
  ASSERT_EQ(log.size(), 2U);
  EXPECT_EQ(log[0].kind, EventKind::kRescind);
  EXPECT_EQ(log[0].gpa, kInUse);
  EXPECT_EQ(log[0].pages, 512U);
  EXPECT_EQ(log[0].detail, 1);
  EXPECT_EQ(log[1].detail, 0);
  ASSERT_TRUE(snp.pvalidate(kInUse, 1, false).carry);
  EXPECT_EQ(snp.counters().rescind_calls, 2U) << "nothing changed";
}

// --- The wrong C-bit ---

TEST_F(SnpPagesTest, EndsTheGuestWithASharedAccessToAValidatedPage) {
  SnpMachine snp;
  for (const std::uint64_t error : {std::uint64_t{0}, svm::kNpfWrite}) {
    const auto fault = snp.touch(kInUse + 8, error);
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
    EXPECT_EQ(fault->gpa, kInUse + 8) << "as the guest used it";
    EXPECT_EQ(snp.state(kInUse), RmpState::kGuestValid);
    EXPECT_FALSE(snp.reachable(View::kShared, kInUse));
  }
}

TEST_F(SnpPagesTest, EndsTheGuestWithAPrivateAccessToASharedPage) {
  SnpMachine snp;
  snp.change_state(kInUse, PageOp::kShared);
  const auto fault = snp.touch(kCBit | (kInUse + 8));
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
  EXPECT_EQ(fault->gpa, kCBit | (kInUse + 8));
  EXPECT_TRUE(snp.is_shared(kInUse));
  EXPECT_EQ(snp.counters().implicit_conversions, 0U);
}

TEST_F(SnpPagesTest, ConvertsASharedPageToPrivateOnATouchWhereTheGuestTakesVc) {
  SnpMachine snp{{.stop_on_unaccepted = false}};
  snp.change_state(kInUse, PageOp::kShared);
  EXPECT_FALSE(snp.touch(kInUse).has_value());
  ASSERT_TRUE(snp.reachable(View::kShared, kInUse));
  EXPECT_FALSE(snp.touch(kCBit | kInUse).has_value());
  EXPECT_EQ(snp.event(), 0x404ULL << 32 | 0x8000'0B1D);
  EXPECT_FALSE(snp.is_shared(kInUse));
  EXPECT_FALSE(snp.reachable(View::kShared, kInUse));
  EXPECT_EQ(snp.counters().implicit_conversions, 1U);
  EXPECT_EQ(snp.counters().to_private_bytes, k4K);
}

TEST_F(SnpPagesTest, ConvertsAPageThatIsNotValidatedToSharedOnATouch) {
  SnpMachine snp;
  EXPECT_FALSE(snp.touch(kPending + 0x10).has_value());
  EXPECT_TRUE(snp.is_shared(kPending));
  EXPECT_TRUE(snp.reachable(View::kShared, kPending));
  EXPECT_FALSE(snp.reachable(View::kShared, kPending + k4K));
  EXPECT_EQ(snp.counters().implicit_conversions, 1U);
  EXPECT_EQ(snp.counters().to_shared_bytes, k4K);
  EXPECT_EQ(snp.counters().convert_calls, 0U) << "nobody asked";
  const Violation* const violation = snp.violation(EventKind::kImplicitConversion);
  ASSERT_NE(violation, nullptr);
  EXPECT_EQ(violation->gpa, kPending + 0x10);
  EXPECT_EQ(violation->detail, static_cast<std::uint32_t>(View::kShared));
  EXPECT_EQ(violation->fatal, 0);
}

TEST_F(SnpPagesTest, ConvertsARescindedPageToSharedOnATouch) {
  SnpMachine snp;
  ASSERT_EQ(snp.pvalidate(kInUse, 0, false).rax, 0U);
  EXPECT_FALSE(snp.touch(kInUse).has_value());
  EXPECT_TRUE(snp.is_shared(kInUse));
  EXPECT_EQ(snp.state(kInUse), RmpState::kHypervisor);
  EXPECT_EQ(snp.counters().implicit_conversions, 1U);
}

TEST_F(SnpPagesTest, ConvertsASharedPageThatIsValidated) {
  SnpMachine snp;
  snp.change_state(kInUse, PageOp::kShared);
  EXPECT_FALSE(snp.touch(kInUse).has_value());
  EXPECT_EQ(snp.pvalidate(kInUse, 0).rax, 0U);
  EXPECT_FALSE(snp.reachable(View::kShared, kInUse));
  EXPECT_TRUE(snp.reachable(View::kPrivate, kInUse));
  EXPECT_EQ(snp.counters().implicit_conversions, 1U);
  const Violation* const violation = snp.violation(EventKind::kImplicitConversion);
  ASSERT_NE(violation, nullptr);
  EXPECT_EQ(violation->detail, static_cast<std::uint32_t>(View::kPrivate));
}

TEST_F(SnpPagesTest, ConvertsNothingUnaskedForAGuestThatDoesAllRight) {
  SnpMachine snp;
  snp.change_state(kInUse, PageOp::kShared);
  EXPECT_FALSE(snp.touch(kInUse).has_value());
  snp.change_state(kInUse, PageOp::kPrivate);
  EXPECT_EQ(snp.pvalidate(kInUse, 0).rax, 0U);
  EXPECT_EQ(snp.counters().implicit_conversions, 0U);
  EXPECT_EQ(snp.reporter().header().violation_total, 0U);
}

// --- GHCB pages ---

TEST_F(SnpPagesTest, MapsAGhcbWhereThePageIsSharedRam) {
  SnpMachine snp;
  EXPECT_EQ(snp.pages().map_ghcb(PhysAddr{kGhcb}), nullptr) << "private";
  EXPECT_EQ(snp.pages().map_ghcb(PhysAddr{kPending}), nullptr) << "private, not validated";
  EXPECT_EQ(snp.pages().map_ghcb(PhysAddr{0xA0000}), nullptr);
  EXPECT_EQ(snp.pages().map_ghcb(PhysAddr{SnpMachine::kHidden}), nullptr);
  snp.change_state(kGhcb, PageOp::kShared);
  EXPECT_EQ(snp.pages().map_ghcb(PhysAddr{kGhcb}), &snp.ghcb(kGhcb));
  EXPECT_TRUE(snp.reachable(View::kShared, kGhcb));
}

// --- What is nobody's RAM ---

TEST_F(SnpPagesTest, ReachesDevicesWithEitherCBit) {
  SnpMachine snp;
  constexpr std::uint64_t kDevice = 0x40'0000'0000;
  EXPECT_TRUE(snp.reachable(View::kPrivate, 0xFEE0'0000));
  EXPECT_TRUE(snp.reachable(View::kShared, 0xFEE0'0000));
  EXPECT_FALSE(snp.touch(kDevice).has_value());
  EXPECT_TRUE(snp.reachable(View::kShared, kDevice));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kDevice));
  EXPECT_FALSE(snp.touch(kCBit | kDevice).has_value());
  EXPECT_TRUE(snp.reachable(View::kPrivate, kDevice));
}

TEST_F(SnpPagesTest, EndsTheGuestThatTouchesTheEmulatorOrNothing) {
  SnpMachine snp;
  for (const std::uint64_t gpa : {SnpMachine::kHidden, kCBit | (SnpMachine::kHiddenEnd - 1)}) {
    const auto fault = snp.touch(gpa);
    ASSERT_TRUE(fault.has_value()) << std::hex << gpa;
    EXPECT_EQ(fault->kind, EventKind::kEmulatorMemory);
    EXPECT_EQ(fault->gpa, gpa);
  }
  for (const std::uint64_t gpa : {1ULL << 48, (1ULL << 51) | kCBit | kPending}) {
    const auto fault = snp.touch(gpa);
    ASSERT_TRUE(fault.has_value()) << std::hex << gpa;
    EXPECT_EQ(fault->kind, EventKind::kBeyondAddressWidth);
  }
}

TEST_F(SnpPagesTest, EndsTheGuestThatUsesAPageOfTheFirmware) {
  SnpMachine snp{{.backing = host::Backing::k4K}};
  lock(snp, kPending);
  for (const auto& fault :
       {snp.touch(kCBit | kPending), snp.touch(kPending), snp.try_pvalidate(kPending, 0, 1)}) {
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->kind, EventKind::kRmpViolation);
    EXPECT_EQ(fault->state, "immutable");
  }
}

TEST_F(SnpPagesTest, EndsTheGuestWithAReportWhenItsTablesRunOut) {
  SnpMachine snp{{.pool_pages = 12}};
  std::optional<Fault> fault;
  // A 4 KiB page in one 2 MiB region after the other needs a table each.
  for (std::uint64_t at = 0; at < 16 * k2M && !fault; at += k2M) {
    fault = snp.try_pvalidate(kPending + at, 0, 1);
  }
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kResourceExhausted);
}

TEST_F(SnpPagesTest, EndsTheGuestWhenAPageStateChangeFindsNoTables) {
  SnpMachine snp{{.pool_pages = 12}};
  std::optional<Fault> fault;
  for (std::uint64_t at = kInUse; at < kInUse + 12 * k2M && !fault; at += k2M) {
    fault = snp.try_vmgexit(abi::ghcb::page_state_request(PhysAddr{at}, PageOp::kShared));
  }
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kResourceExhausted);
}

}  // namespace
}  // namespace accede::emulator
