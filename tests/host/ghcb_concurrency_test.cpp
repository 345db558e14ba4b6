// A guest that writes its GHCB page while the host answers it.
#include "tests/host/ghcb_fixture.hpp"

#include <atomic>
#include <random>
#include <thread>

namespace accede::host::test {
namespace {

template <class T>
void store(T& field, T value) {
  std::atomic_ref{field}.store(value, std::memory_order_relaxed);
}

constexpr std::uint64_t kEntries = 8;

/// The two values that entry `i` has: private and 4 KiB, or shared and 2 MiB.
std::uint64_t entry(std::uint64_t i, bool large) {
  return large ? PscEntry::make(PhysAddr{(100 + i) << 21}, PageSize::k2M, PageOp::kShared)
               : PscEntry::make(PhysAddr{i << 12}, PageSize::k4K, PageOp::kPrivate);
}

void request(GhcbPage& page) {
  store(page.sw_exit_code, static_cast<std::uint64_t>(ExitCode::kPageStateChange));
  store(page.sw_scratch, kScratch);
  store(page.usage, 0U);
  const auto valid = abi::ghcb::valid_bits(ValidBit::kSwExitCode, ValidBit::kSwExitInfo1,
                                           ValidBit::kSwExitInfo2, ValidBit::kSwScratch);
  store(page.valid_bitmap[0], valid[0]);
  store(page.valid_bitmap[1], valid[1]);
}

TEST(GhcbConcurrency, EveryEntryIsDoneAtMostOnceAsOneOfTheValuesThatItHad) {
  GhcbVm vm;
  GhcbPage& page = vm.page();
  page.shared_buffer[0] = PscHeader::make(0, kEntries - 1);
  for (std::uint64_t i = 0; i < kEntries; ++i) {
    page.shared_buffer[1 + i] = entry(i, false);
  }
  std::atomic<bool> stop = false;
  std::thread other_cpu{[&] {
    std::mt19937 random{1};
    while (!stop) {
      const std::uint64_t i = random() % kEntries;
      store(page.shared_buffer[1 + i], entry(i, random() % 2 != 0));
      const auto cur = static_cast<std::uint16_t>(random() % kEntries);
      store(page.shared_buffer[0], PscHeader::make(cur, random() % 16 == 0 ? 300 : kEntries - 1));
    }
  }};
  std::vector<unsigned> done(kEntries);
  vm.host.on_page_state = [&](const GhcbPageState& change) {
    const bool large = change.op == PageOp::kShared;
    EXPECT_EQ(change.size, large ? PageSize::k2M : PageSize::k4K);
    const unsigned shift = large ? 21 : 12;
    for (std::uint64_t at = change.range.begin().value() >> shift;
         at < change.range.end().value() >> shift; ++at) {
      ++done.at(at - (large ? 100 : 0));
    }
    return GhcbPageStateAnswer::all();
  };
  for (unsigned round = 0; round < 20'000; ++round) {
    std::ranges::fill(done, 0);
    vm.host.log.clear();
    request(page);
    ASSERT_EQ(vm.ghcb.exit(kGhcb).next, GhcbNext::kResume);
    ASSERT_LE(std::ranges::max(done), 1U);
    const auto result = static_cast<PscResult>(std::atomic_ref{page.sw_exit_info_2}.load());
    ASSERT_TRUE(result == PscResult::kOk || result == PscResult::kBadHeader);
  }
  stop = true;
  other_cpu.join();
}

}  // namespace
}  // namespace accede::host::test
