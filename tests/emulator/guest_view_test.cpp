#include "accede/emulator/guest_view.hpp"

#include "accede/emulator/cpu.hpp"
#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace accede::emulator {
namespace {

using test::pages_at;
using test::range_of;

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 1ULL << 21;
constexpr std::uint64_t k1G = 1ULL << 30;

/// 640 KiB, and 1 MiB to 34 MiB of RAM with the emulator from 24 MiB to 32 MiB.
class GuestViewTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kHidden = 24ULL << 20;
  static constexpr std::uint64_t kHiddenEnd = 32ULL << 20;
  static constexpr std::uint64_t kEnd = 34ULL << 20;

  /// The view of a machine with `pool_pages` pages of nested tables.
  GuestView& view(AcceptCost cost = {}, std::uint64_t pool_pages = 64) {
    pool_.emplace(ram_.window(), PhysAddr{kHidden}, PhysAddr{kHidden + pool_pages * k4K});
    tables_.emplace(ram_.window(), *pool_, pool_->allocate().value(), ViewBit::kPrivate);
    vcpu_.vmcb = vmcb_.get();
    return view_.emplace(ram_.window(), machine_, touched_, *tables_, reporter_, cost);
  }
  [[nodiscard]] std::uint64_t& word(std::uint64_t gpa) {
    return ram_.at<std::uint64_t>(PhysAddr{gpa});
  }
  [[nodiscard]] std::optional<PageSize> mapped(View view, std::uint64_t gpa) const {
    return tables_->mapped(view, PhysAddr{gpa});
  }
  [[nodiscard]] const Counters& counters() { return reporter_.counters(); }

  test::GuestRam ram_{Bytes{kEnd}};
  std::array<PhysRange, 3> ranges_{range_of(0, 0xA0000), range_of(1 << 20, kHidden),
                                   range_of(kHiddenEnd, kEnd)};
  MachineMap machine_{ranges_, range_of(kHidden, kHiddenEnd)};
  std::vector<std::uint64_t> report_storage_ =
      std::vector<std::uint64_t>(Reporter::area_bytes(64) / 8);
  Reporter reporter_{std::as_writable_bytes(std::span{report_storage_}), true};
  std::vector<std::uint64_t> touched_storage_ =
      std::vector<std::uint64_t>(TouchedPages::storage_bound(PhysAddr{kEnd}).value() / 8);
  TouchedPages touched_{touched_storage_};
  std::optional<PagePool> pool_;
  std::optional<NestedPageTable> tables_;
  std::optional<GuestView> view_;
  std::unique_ptr<Vmcb> vmcb_ = std::make_unique<Vmcb>();
  Vcpu vcpu_{};
};

TEST_F(GuestViewTest, MapsLowDevicesAndNothingElse) {
  ASSERT_TRUE(view().map_low_devices());
  for (const View view : {View::kPrivate, View::kShared}) {
    for (const std::uint64_t gpa : {0xA0000U, 0xFFFFFU, 0xFEE0'0000U, 0xFFFF'FFFFU}) {
      EXPECT_TRUE(mapped(view, gpa).has_value()) << std::hex << gpa;
    }
    for (const std::uint64_t gpa :
         {std::uint64_t{0}, std::uint64_t{0x9FFFF}, std::uint64_t{1 << 20}, kHidden - 1, 4 * k1G}) {
      EXPECT_FALSE(mapped(view, gpa).has_value()) << std::hex << gpa;
    }
  }
}

TEST_F(GuestViewTest, NeverMapsTheEmulatorAsADevice) {
  ASSERT_TRUE(view().map_low_devices());
  for (const std::uint64_t gpa : {kHidden, kHiddenEnd - 1}) {
    EXPECT_FALSE(mapped(View::kPrivate, gpa).has_value()) << std::hex << gpa;
    EXPECT_FALSE(mapped(View::kShared, gpa).has_value()) << std::hex << gpa;
  }
}

TEST_F(GuestViewTest, SaysWhenThereIsNoTableForADevice) {
  EXPECT_FALSE(view({}, 3).map_low_devices());
  EXPECT_FALSE(view({}, 1).map_device(View::kShared, PhysAddr{0xFEE0'0000}));
  EXPECT_FALSE(view_->exhausted()) << "it is the caller who learns of it";
}

TEST_F(GuestViewTest, MapsTheLargestPageAroundADevice) {
  GuestView& it = view();
  EXPECT_TRUE(it.map_device(View::kShared, PhysAddr{5 * k1G + 3}));
  EXPECT_EQ(mapped(View::kShared, 5 * k1G), PageSize::k1G);
  EXPECT_FALSE(mapped(View::kPrivate, 5 * k1G).has_value());
  EXPECT_TRUE(it.map_device(View::kPrivate, PhysAddr{kEnd + 5}));
  EXPECT_EQ(mapped(View::kPrivate, kEnd), PageSize::k2M);
  EXPECT_TRUE(it.map_device(View::kPrivate, PhysAddr{0xA0001}));
  EXPECT_EQ(mapped(View::kPrivate, 0xA0000), PageSize::k4K);
}

TEST_F(GuestViewTest, ChangesOneViewAndKeepsTheContent) {
  GuestView& it = view();
  word(k2M) = 42;
  it.map(View::kPrivate, pages_at(k2M, 2));
  EXPECT_TRUE(mapped(View::kPrivate, k2M + k4K).has_value());
  EXPECT_FALSE(mapped(View::kShared, k2M).has_value());
  it.unmap(View::kPrivate, pages_at(k2M, 1));
  EXPECT_FALSE(mapped(View::kPrivate, k2M).has_value());
  EXPECT_TRUE(mapped(View::kPrivate, k2M + k4K).has_value());
  EXPECT_EQ(word(k2M), 42U);
}

TEST_F(GuestViewTest, AsksForATlbFlushWhenAMappingGoes) {
  GuestView& it = view();
  it.map(View::kPrivate, pages_at(k2M, 2));
  EXPECT_EQ(it.flush_generation(), 0U);
  it.unmap(View::kPrivate, pages_at(k2M, 1));
  EXPECT_EQ(it.flush_generation(), 1U);
}

TEST_F(GuestViewTest, RemembersThatTheTablesRanOut) {
  GuestView& it = view({}, 4);
  it.map(View::kPrivate, pages_at(k2M, 1));
  EXPECT_FALSE(it.exhausted());
  it.map(View::kPrivate, pages_at(2 * k2M, 1));
  EXPECT_TRUE(it.exhausted());
  it.unmap(View::kPrivate, pages_at(k2M, 1));
  EXPECT_TRUE(it.exhausted()) << "for good";
}

TEST_F(GuestViewTest, RemembersThatALargePageCouldNotBeSplit) {
  GuestView& it = view({}, 3);
  it.map(View::kPrivate, range_of(k2M, 2 * k2M));
  EXPECT_FALSE(it.exhausted());
  it.unmap(View::kPrivate, pages_at(k2M, 1));
  EXPECT_TRUE(it.exhausted());
}

TEST_F(GuestViewTest, ScrubsWhatTheGuestMayHaveWritten) {
  GuestView& it = view();
  it.map(View::kShared, pages_at(k2M, 1));
  it.unmap(View::kShared, pages_at(k2M, 1));
  word(k2M) = 42;
  word(k2M + k4K - 8) = 43;
  word(k2M + k4K) = 44;
  it.scrub(pages_at(k2M, 2));
  EXPECT_EQ(word(k2M), 0U);
  EXPECT_EQ(word(k2M + k4K - 8), 0U);
  EXPECT_EQ(word(k2M + k4K), 44U) << "nobody could write it: it would be zero";
}

TEST_F(GuestViewTest, ZeroesAnAcceptedPageWhereThatIsTheCost) {
  word(k2M) = 42;
  word(k2M + k4K) = 43;
  view().zero_accepted(PhysAddr{k2M});
  EXPECT_EQ(word(k2M), 0U);
  EXPECT_EQ(word(k2M + k4K), 43U);
}

TEST_F(GuestViewTest, ZeroesOnlyUsedPagesWhereTheCostIsModelled) {
  GuestView& it = view({.ticks_per_2m = 1});
  word(k2M) = 42;
  it.zero_accepted(PhysAddr{k2M});
  EXPECT_EQ(word(k2M), 42U);
  it.map(View::kPrivate, pages_at(k2M, 1));
  it.zero_accepted(PhysAddr{k2M});
  EXPECT_EQ(word(k2M), 0U);
}

TEST_F(GuestViewTest, LetsTheTimeOfTheAcceptedBytesPass) {
  constexpr std::uint64_t kTicks = 4'000'000;
  const GuestView& it = view({.ticks_per_2m = kTicks});
  std::uint64_t started = cpu::read_tsc();
  it.wait_out(started, 2_MiB);
  EXPECT_GE(cpu::read_tsc() - started, kTicks);
  started = cpu::read_tsc() - kTicks;
  const std::uint64_t before = cpu::read_tsc();
  it.wait_out(started, 2_MiB);
  EXPECT_LT(cpu::read_tsc() - before, kTicks) << "it has passed already";
}

TEST_F(GuestViewTest, CountsForTheFirmwareWhatItAcceptsOnBehalfOfALoader) {
  GuestView& it = view();
  it.enter_phase(Phase::kLoader);
  it.set_firmware_accepts(true);
  it.count_accept(vcpu_, PhysAddr{k2M}, PageSize::k4K, cpu::read_tsc());
  EXPECT_EQ(it.phase(), Phase::kLoader) << "it is still the loader that runs";
  it.set_firmware_accepts(false);
  it.count_accept(vcpu_, PhysAddr{2 * k2M}, PageSize::k2M, cpu::read_tsc());
  EXPECT_EQ(counters().accepted_bytes[0], k4K);
  EXPECT_EQ(counters().accepted_bytes[1], k2M);
}

TEST_F(GuestViewTest, CountsNothingForTheFirmwareOnceTheKernelRuns) {
  GuestView& it = view();
  it.set_firmware_accepts(true);
  it.enter_phase(Phase::kKernel);
  it.count_accept(vcpu_, PhysAddr{k2M}, PageSize::k4K, cpu::read_tsc());
  EXPECT_EQ(counters().accepted_bytes[0], 0U);
  EXPECT_EQ(counters().accepted_bytes[2], k4K);
}

TEST_F(GuestViewTest, CountsAcceptsForWhoRunsInEachSize) {
  GuestView& it = view();
  it.count_accept(vcpu_, PhysAddr{k2M}, PageSize::k4K, cpu::read_tsc());
  it.enter_phase(Phase::kKernel);
  it.enter_phase(Phase::kLoader);
  EXPECT_EQ(it.phase(), Phase::kKernel) << "phases only go forward";
  it.count_accept(vcpu_, PhysAddr{2 * k2M}, PageSize::k2M, cpu::read_tsc() - 1000);
  EXPECT_EQ(counters().accept_calls[0], 1U);
  EXPECT_EQ(counters().accept_calls[1], 1U);
  EXPECT_EQ(counters().accepted_bytes[0], k4K);
  EXPECT_EQ(counters().accepted_bytes[1], 0U);
  EXPECT_EQ(counters().accepted_bytes[2], k2M);
  EXPECT_GE(counters().accept_ticks[2], 1000U) << "the kernel's";
  EXPECT_EQ(counters().accept_ticks[1], 0U);
}

TEST_F(GuestViewTest, MeasuresTheLongestRunOfAdjacentAccepts) {
  GuestView& it = view();
  const auto accept = [&](std::uint64_t gpa) {
    it.count_accept(vcpu_, PhysAddr{gpa}, PageSize::k4K, cpu::read_tsc());
    return counters().longest_step_bytes;
  };
  EXPECT_EQ(accept(k2M), k4K);
  EXPECT_EQ(accept(k2M + k4K), 2 * k4K);
  EXPECT_EQ(accept(k2M + 3 * k4K), 2 * k4K) << "not adjacent";
  EXPECT_EQ(accept(k2M + 4 * k4K), 2 * k4K);
  EXPECT_EQ(accept(k2M + 5 * k4K), 3 * k4K);
  vcpu_.step_bytes = 0;  // another exit came between
  EXPECT_EQ(accept(k2M + 6 * k4K), 3 * k4K);
  EXPECT_EQ(accept(k2M + 7 * k4K), 3 * k4K);
  EXPECT_EQ(reporter_.header().event_count, 2U) << "adjacent accepts are one event";
}

}  // namespace
}  // namespace accede::emulator
