// Page tables without the C-bit: a firmware's.
#include "accede/emulator/private_aliases.hpp"

#include "tests/emulator/snp_machine.hpp"

#include <gtest/gtest.h>

namespace accede::emulator {
namespace {

using namespace accede::test;
using abi::ghcb::PageOp;

constexpr std::uint64_t kTable = 4 * k2M;  ///< where the guest has page tables: validated

class PrivateAliasesTest : public testing::Test {
 protected:
  /// The processor reads a page table through a pointer without the C-bit.
  void walk(std::uint64_t gpa) {
    const auto fault = snp_.touch(gpa, svm::kNpfTableWalk);
    EXPECT_FALSE(fault.has_value()) << fault.value_or(Fault{}).message;
    EXPECT_TRUE(snp_.reachable(View::kShared, gpa)) << std::hex << gpa;
  }

  SnpMachine snp_;
};

TEST_F(PrivateAliasesTest, AreMadeWhenAWalkMeetsAPrivatePage) {
  walk(kTable + 0x18);
  EXPECT_FALSE(snp_.reachable(View::kShared, kTable + k4K)) << "one page";
  EXPECT_TRUE(snp_.reachable(View::kPrivate, kTable));
  EXPECT_FALSE(snp_.is_shared(kTable)) << "not converted";
  EXPECT_EQ(snp_.state(kTable), abi::rmp::RmpState::kGuestValid);
  EXPECT_EQ(snp_.counters().implicit_conversions, 0U);
  EXPECT_EQ(snp_.reporter().header().violation_total, 0U);
}

TEST_F(PrivateAliasesTest, AreNoExcuseForOtherAccesses) {
  walk(kTable);
  const auto fault = snp_.touch(kTable + k4K);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
}

TEST_F(PrivateAliasesTest, StayWhileTheGuestWalksWithoutTheCBit) {
  walk(kTable);
  snp_.processor().after_exit(snp_.vcpu());
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable));
}

TEST_F(PrivateAliasesTest, GoWhenTheGuestsTablesHaveTheCBit) {
  walk(kTable);
  walk(kTable + 7 * k4K);
  const std::uint64_t flushes = snp_.view().flush_generation();
  snp_.vcpu().save().cr3 |= kCBit;
  snp_.processor().after_exit(snp_.vcpu());
  EXPECT_FALSE(snp_.reachable(View::kShared, kTable));
  EXPECT_FALSE(snp_.reachable(View::kShared, kTable + 7 * k4K));
  EXPECT_GT(snp_.view().flush_generation(), flushes);
  EXPECT_TRUE(snp_.reachable(View::kPrivate, kTable));
  const auto fault = snp_.touch(kTable, svm::kNpfWrite);
  ASSERT_TRUE(fault.has_value()) << "noticed from now on";
  EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
}

TEST_F(PrivateAliasesTest, AreDroppedOnceAndNotAtEveryExit) {
  walk(kTable);
  snp_.vcpu().save().cr3 |= kCBit;
  snp_.processor().after_exit(snp_.vcpu());
  const std::uint64_t flushes = snp_.view().flush_generation();
  snp_.processor().after_exit(snp_.vcpu());
  EXPECT_EQ(snp_.view().flush_generation(), flushes) << "a flush of the TLB is not free";
}

TEST_F(PrivateAliasesTest, OfAGuestWithTheCBitInCr3Stay) {
  // Else a walk that meets two tables without the C-bit would never come to its end.
  snp_.vcpu().save().cr3 |= kCBit;
  walk(kTable);
  snp_.processor().after_exit(snp_.vcpu());
  walk(kTable + k4K);
  snp_.processor().after_exit(snp_.vcpu());
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable));
}

TEST_F(PrivateAliasesTest, AreMadeForAFetchThroughAMappingWithoutTheCBit) {
  const auto fault = snp_.touch(kTable, svm::kNpfFetch);
  EXPECT_FALSE(fault.has_value());
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable));
  EXPECT_FALSE(snp_.is_shared(kTable));
}

TEST_F(PrivateAliasesTest, AreMadeForEveryAccessWithoutPagingOrPae) {
  snp_.vcpu().save().cr0 = 0;
  EXPECT_FALSE(snp_.touch(kTable, svm::kNpfWrite).has_value());
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable));
  snp_.vcpu().save().cr0 = 1U << 31;
  snp_.vcpu().save().cr4 = 0;
  EXPECT_FALSE(snp_.touch(kTable + k4K, svm::kNpfWrite).has_value());
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable + k4K));
  EXPECT_FALSE(snp_.is_shared(kTable + k4K));
}

TEST_F(PrivateAliasesTest, GoWithAPageThatIsShared) {
  walk(kTable);
  snp_.change_state(kTable, PageOp::kShared);
  EXPECT_FALSE(snp_.reachable(View::kShared, kTable)) << "until it is touched as shared";
  EXPECT_FALSE(snp_.touch(kTable).has_value());
  snp_.vcpu().save().cr3 |= kCBit;
  snp_.processor().after_exit(snp_.vcpu());
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable)) << "no alias any more";
}

TEST_F(PrivateAliasesTest, GoWithAPageThatIsRescinded) {
  walk(kTable);
  ASSERT_EQ(snp_.pvalidate(kTable, 0, false).rax, 0U);
  EXPECT_FALSE(snp_.reachable(View::kShared, kTable));
  const auto fault = snp_.touch(kTable, svm::kNpfTableWalk);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, EventKind::kUnacceptedAccess);
}

TEST_F(PrivateAliasesTest, StayWhenOtherPagesGo) {
  walk(kTable);
  snp_.change_state(kTable + k4K, PageOp::kShared);
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable));
}

TEST_F(PrivateAliasesTest, AreMadeAgainWhenTheyAreNeeded) {
  walk(kTable);
  snp_.change_state(kTable, PageOp::kShared);
  snp_.change_state(kTable, PageOp::kPrivate);
  ASSERT_EQ(snp_.pvalidate(kTable, 0).rax, 0U);
  EXPECT_FALSE(snp_.reachable(View::kShared, kTable));
  walk(kTable);
}

TEST_F(PrivateAliasesTest, MakeRoomWhenThereAreTooMany) {
  constexpr std::uint64_t kRoom = 256;
  for (std::uint64_t i = 0; i <= kRoom; ++i) {
    walk(kTable + i * k4K);
  }
  EXPECT_FALSE(snp_.reachable(View::kShared, kTable)) << "the walk brings it back";
  EXPECT_TRUE(snp_.reachable(View::kShared, kTable + kRoom * k4K));
  snp_.vcpu().save().cr3 |= kCBit;
  snp_.processor().after_exit(snp_.vcpu());
  for (std::uint64_t i = 0; i <= kRoom; ++i) {
    EXPECT_FALSE(snp_.reachable(View::kShared, kTable + i * k4K)) << i;
  }
}

TEST_F(PrivateAliasesTest, AreNoWayToReadTablesThatTheHostCanWrite) {
  snp_.change_state(kTable, PageOp::kShared);
  for (const std::uint64_t error : {svm::kNpfTableWalk, svm::kNpfFetch}) {
    const auto fault = snp_.touch(kTable, error);
    ASSERT_TRUE(fault.has_value()) << error;
    EXPECT_EQ(fault->kind, EventKind::kPolarityMismatch);
  }
  EXPECT_TRUE(snp_.is_shared(kTable));
}

}  // namespace
}  // namespace accede::emulator
