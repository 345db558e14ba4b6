// Random sequences of all that an SNP guest does to its pages.
#include "accede/emulator/snp_pages.hpp"

#include "tests/emulator/snp_machine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

namespace accede::emulator {
namespace {

using namespace accede::test;
using abi::ghcb::PageOp;
using abi::rmp::RmpState;

/// Three 2 MiB regions above 4 GiB.
constexpr std::uint64_t kBase = SnpMachine::kPending;
constexpr std::uint64_t kPages = 3 * 512;

struct Options {
  host::Backing backing;
  bool stop_on_unaccepted;
};

class SnpPagesModelTest : public testing::TestWithParam<Options> {
 protected:
  /// Mostly one of a few, so that much happens to the same page.
  [[nodiscard]] std::uint64_t any_page() {
    const std::uint64_t page = random_() % kPages;
    return kBase + (random_() % 4 == 0 ? page : page / 512 * 512 + page % 8) * k4K;
  }
  [[nodiscard]] bool any() { return random_() % 2 == 0; }

  void page_state() {
    const PageOp op = any() ? PageOp::kShared : PageOp::kPrivate;
    const std::uint64_t gpa = any_page();
    if (random_() % 3 != 0) {
      snp_.change_state(gpa, op);
      return;
    }
    const std::uint64_t count = 1 + random_() % 600;
    const std::uint64_t end = std::min(gpa + count * k4K, kBase + kPages * k4K);
    const auto answer =
        snp_.pages().change_page_state(snp_.vcpu(), {.range = range_of(gpa, end), .op = op});
    ASSERT_FALSE(answer.refused);
  }
  void pvalidate() {
    const std::uint64_t gpa = any_page();
    if (any()) {
      static_cast<void>(snp_.try_pvalidate(gpa, 0, random_() % 4 != 0));
    } else {
      static_cast<void>(snp_.try_pvalidate(gpa & ~(k2M - 1), 1, random_() % 4 != 0));
    }
  }
  void touch() {
    constexpr std::array kErrors{std::uint64_t{0}, svm::kNpfWrite, svm::kNpfFetch};
    const std::uint64_t gpa = any_page() | (any() ? kCBit : 0);
    if (snp_.reachable(snp_.tables().view_of(gpa), gpa & ~kCBit)) {
      return;  // no processor would ask
    }
    const bool is_walk = random_() % 4 == 0;
    const std::uint64_t error = is_walk ? svm::kNpfTableWalk : kErrors[random_() % kErrors.size()];
    const auto fault = snp_.touch(gpa, error);
    const bool is_private = (error & (svm::kNpfTableWalk | svm::kNpfFetch)) != 0;
    if (is_private && !fault && (gpa & kCBit) == 0 && !snp_.is_shared(gpa) &&
        snp_.state(gpa) == RmpState::kGuestValid) {
      aliases_[gpa] = (snp_.vcpu().save().cr3 & kCBit) == 0;
    }
  }
  void exit() {
    snp_.vcpu().save().cr3 ^= any() ? kCBit : 0;
    snp_.processor().after_exit(snp_.vcpu());
    const bool has_passing = std::ranges::any_of(aliases_, [](auto alias) { return alias.second; });
    if ((snp_.vcpu().save().cr3 & kCBit) != 0 && has_passing) {
      aliases_.clear();
    }
  }
  void step() {
    switch (random_() % 8) {
      case 0:
      case 1:
      case 2:
        pvalidate();
        break;
      case 3:
      case 4:
        page_state();
        break;
      case 5:
        exit();
        break;
      default:
        touch();
        break;
    }
  }
  /// The invariant of SnpPages at one page.
  void check(std::uint64_t gpa) {
    const bool is_valid = snp_.state(gpa) == RmpState::kGuestValid;
    ASSERT_EQ(snp_.reachable(View::kPrivate, gpa), is_valid) << std::hex << gpa;
    const bool is_alias = is_valid && aliases_.contains(gpa);
    if (snp_.reachable(View::kShared, gpa)) {
      ASSERT_TRUE(snp_.is_shared(gpa) || is_alias) << std::hex << gpa;
    } else {
      aliases_.erase(gpa);  // all go when one has to
    }
    ASSERT_FALSE(snp_.is_shared(gpa) && is_valid) << std::hex << gpa;
  }

  std::mt19937 random_;
  SnpMachine snp_{{.backing = GetParam().backing,
                   .stop_on_unaccepted = GetParam().stop_on_unaccepted,
                   .pool_pages = 2048}};
  std::map<std::uint64_t, bool> aliases_;  ///< true: until CR3 has the C-bit
};

TEST_P(SnpPagesModelTest, ReachesAPageOnlyAsTheRmpAndTheHostHaveIt) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  random_.seed(seed);
  for (int number = 0; number < 1000; ++number) {
    SCOPED_TRACE(testing::Message() << "step " << number);
    ASSERT_NO_FATAL_FAILURE(step());
    for (std::uint64_t page = 0; page < kPages; ++page) {
      ASSERT_NO_FATAL_FAILURE(check(kBase + page * k4K));
    }
    if (number % 100 == 0) {
      ASSERT_TRUE(snp_.memory().invariants());
    }
  }
  // Or else the sequence says nothing.
  EXPECT_GT(snp_.counters().accept_calls[0], 0U);
  EXPECT_GT(snp_.counters().rescind_calls, 0U);
  EXPECT_GT(snp_.counters().implicit_conversions, 0U);
  EXPECT_FALSE(snp_.view().exhausted());
}

std::string name_of(const testing::TestParamInfo<Options>& machine) {
  return std::string{machine.param.backing == host::Backing::k2M ? "In2M" : "In4K"} +
         (machine.param.stop_on_unaccepted ? "Stopping" : "RaisingVc");
}
INSTANTIATE_TEST_SUITE_P(Machines, SnpPagesModelTest,
                         testing::Values(Options{host::Backing::k2M, true},
                                         Options{host::Backing::k4K, true},
                                         Options{host::Backing::k2M, false}),
                         name_of);

}  // namespace
}  // namespace accede::emulator
