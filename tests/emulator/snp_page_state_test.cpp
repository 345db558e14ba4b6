// Page state changes of an SNP guest, by both protocols.
#include "accede/emulator/snp_pages.hpp"

#include "tests/emulator/snp_machine.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace accede::emulator {
namespace {

using namespace accede::test;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;

constexpr std::uint64_t kPending = SnpMachine::kPending;
constexpr std::uint64_t kInUse = 4 * k2M;  ///< validated at launch
constexpr std::uint64_t kGhcb = kInUse + k2M + k4K;

class SnpPageStateTest : public testing::Test {
 protected:
  /// A page state change by a list in the GHCB page; a test failure when it is refused.
  void change_list(SnpMachine& snp, const std::vector<std::uint64_t>& entries) {
    abi::ghcb::GhcbPage& page = snp.ghcb(kGhcb);
    page.sw_exit_code = static_cast<std::uint64_t>(abi::ghcb::ExitCode::kPageStateChange);
    page.sw_exit_info_1 = 0;
    page.sw_exit_info_2 = 0;
    page.sw_scratch = kGhcb + 0x800;
    page.valid_bitmap = {~0ULL, ~0ULL};
    page.shared_buffer[0] = PscHeader::make(0, static_cast<std::uint16_t>(entries.size() - 1));
    std::copy(entries.begin(), entries.end(), &page.shared_buffer[1]);
    EXPECT_EQ(snp.vmgexit(kGhcb), kGhcb);
    EXPECT_EQ(page.sw_exit_info_1, 0U);
    EXPECT_EQ(page.sw_exit_info_2, 0U);
  }
  static std::vector<Event> events(SnpMachine& snp) {
    const ReportHeader& header = snp.reporter().header();
    const auto* const first = reinterpret_cast<const Event*>(
        reinterpret_cast<const std::byte*>(&header) + header.event_offset);
    return {first, first + header.event_count};
  }
};

TEST_F(SnpPageStateTest, SharesAPageAndTakesItBackByMsr) {
  SnpMachine snp;
  snp.change_state(kInUse + k4K, PageOp::kShared);
  EXPECT_FALSE(snp.reachable(View::kPrivate, kInUse + k4K));
  EXPECT_TRUE(snp.reachable(View::kPrivate, kInUse + 2 * k4K));
  EXPECT_FALSE(snp.touch(kInUse + k4K).has_value());
  EXPECT_TRUE(snp.reachable(View::kShared, kInUse + k4K));
  const std::uint64_t flushes = snp.view().flush_generation();
  snp.change_state(kInUse + k4K, PageOp::kPrivate);
  EXPECT_FALSE(snp.reachable(View::kShared, kInUse + k4K));
  EXPECT_FALSE(snp.reachable(View::kPrivate, kInUse + k4K)) << "not validated yet";
  EXPECT_GT(snp.view().flush_generation(), flushes);
  EXPECT_EQ(snp.pvalidate(kInUse + k4K, 0).rax, 0U);
  EXPECT_TRUE(snp.reachable(View::kPrivate, kInUse + k4K));
  EXPECT_EQ(snp.counters().to_shared_bytes, k4K);
  EXPECT_EQ(snp.counters().to_private_bytes, k4K);
  EXPECT_EQ(snp.counters().convert_calls, 2U);
  EXPECT_EQ(snp.counters().page_state_entries, 2U);
}

TEST_F(SnpPageStateTest, CountsOnlyPagesThatChange) {
  SnpMachine snp;
  snp.change_state(kInUse, PageOp::kPrivate);
  EXPECT_EQ(snp.counters().to_private_bytes, 0U);
  EXPECT_EQ(snp.counters().page_state_entries, 1U);
  EXPECT_TRUE(snp.reachable(View::kPrivate, kInUse)) << "still validated";
  EXPECT_TRUE(events(snp).empty());
}

TEST_F(SnpPageStateTest, SharesAndTakesBackListsOfPages) {
  SnpMachine snp;
  snp.make_ghcb(kGhcb);
  const std::uint64_t shared = snp.counters().to_shared_bytes;
  change_list(snp, {PscEntry::make(PhysAddr{kPending}, PageSize::k2M, PageOp::kShared),
                    PscEntry::make(PhysAddr{kInUse}, PageSize::k4K, PageOp::kShared),
                    PscEntry::make(PhysAddr{kInUse + k4K}, PageSize::k4K, PageOp::kShared)});
  EXPECT_EQ(snp.counters().to_shared_bytes - shared, k2M + 2 * k4K);
  EXPECT_EQ(snp.counters().page_state_entries, 1U + 3U);
  for (const std::uint64_t gpa : {kPending, kPending + k2M - k4K, kInUse, kInUse + k4K}) {
    EXPECT_TRUE(snp.is_shared(gpa)) << std::hex << gpa;
    EXPECT_FALSE(snp.reachable(View::kPrivate, gpa)) << std::hex << gpa;
    EXPECT_FALSE(snp.touch(gpa).has_value());
    EXPECT_TRUE(snp.reachable(View::kShared, gpa)) << std::hex << gpa;
  }
  EXPECT_FALSE(snp.is_shared(kPending + k2M));
  change_list(snp, {PscEntry::make(PhysAddr{kPending}, PageSize::k2M, PageOp::kPrivate)});
  EXPECT_FALSE(snp.reachable(View::kShared, kPending));
  EXPECT_EQ(snp.pvalidate(kPending, 1).rax, 0U) << "in 2 MiB again";
  EXPECT_EQ(snp.tables().mapped(View::kPrivate, PhysAddr{kPending}), PageSize::k2M);
  EXPECT_EQ(snp.counters().implicit_conversions, 0U);
}

TEST_F(SnpPageStateTest, LogsPageStateChanges) {
  SnpMachine snp;
  snp.change_state(kInUse, PageOp::kShared);
  snp.change_state(kInUse + k4K, PageOp::kShared);
  snp.change_state(kInUse, PageOp::kPrivate);
  const std::vector<Event> log = events(snp);
  ASSERT_EQ(log.size(), 2U);
  EXPECT_EQ(log[0].kind, EventKind::kConvertShared);
  EXPECT_EQ(log[0].gpa, kInUse);
  EXPECT_EQ(log[0].pages, 2U);
  EXPECT_EQ(log[1].kind, EventKind::kConvertPrivate);
}

TEST_F(SnpPageStateTest, ShowsNobodyWhatThePageHeldBeforeItChanged) {
  SnpMachine snp;
  snp.word(kInUse) = 42;
  snp.word(kInUse + k4K) = 43;
  snp.change_state(kInUse, PageOp::kShared);
  EXPECT_EQ(snp.word(kInUse), 0U) << "the host sees no private data";
  EXPECT_EQ(snp.word(kInUse + k4K), 43U) << "the neighbour keeps its own";
  EXPECT_FALSE(snp.touch(kInUse).has_value());
  snp.word(kInUse) = 44;
  snp.change_state(kInUse, PageOp::kPrivate);
  ASSERT_EQ(snp.pvalidate(kInUse, 0).rax, 0U);
  EXPECT_EQ(snp.word(kInUse), 0U) << "a fresh page";
}

TEST_F(SnpPageStateTest, OnlyMapsUntouchedMemoryWhenTimeIsModelled) {
  SnpMachine snp{{.cost = {.ticks_per_2m = 1'000'000}}};
  snp.word(kPending) = 42;
  const std::uint64_t before = snp.counters().accept_ticks[0];
  ASSERT_EQ(snp.pvalidate(kPending, 1).rax, 0U);
  EXPECT_EQ(snp.word(kPending), 42U) << "not written";
  EXPECT_GE(snp.counters().accept_ticks[0] - before, 1'000'000U) << "but the time passed";
  snp.change_state(kPending, PageOp::kShared);
  EXPECT_EQ(snp.word(kPending), 0U);
  EXPECT_FALSE(snp.touch(kPending).has_value());
  snp.word(kPending) = 43;
  snp.change_state(kPending, PageOp::kPrivate);
  ASSERT_EQ(snp.pvalidate(kPending, 0).rax, 0U);
  EXPECT_EQ(snp.word(kPending), 0U) << "memory that was in use is zeroed whatever it costs";
}

TEST_F(SnpPageStateTest, ZeroesMemoryThatIsValidated) {
  SnpMachine snp;
  snp.word(kPending + k2M - 8) = 42;
  ASSERT_EQ(snp.pvalidate(kPending, 1).rax, 0U);
  EXPECT_EQ(snp.word(kPending + k2M - 8), 0U);
}

TEST_F(SnpPageStateTest, CountsTheEntriesThatPageStateChangesSmash) {
  SnpMachine snp;
  snp.change_state(kInUse + k4K, PageOp::kShared);
  EXPECT_EQ(snp.counters().smashed_pages, 1U);
  snp.change_state(kInUse + 2 * k4K, PageOp::kShared);
  EXPECT_EQ(snp.counters().smashed_pages, 1U);
  snp.make_ghcb(kGhcb);
  EXPECT_EQ(snp.counters().smashed_pages, 2U);
  change_list(snp, {PscEntry::make(PhysAddr{kInUse + 2 * k2M}, PageSize::k2M, PageOp::kShared)});
  EXPECT_EQ(snp.counters().smashed_pages, 2U) << "a whole entry goes as it is";
}

}  // namespace
}  // namespace accede::emulator
