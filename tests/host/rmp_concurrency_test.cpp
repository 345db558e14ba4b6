// Several vCPUs and host threads on one RMP; meant for TSan. Invariants are checked when all rest.
#include "tests/host/rmp_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace accede::host {
namespace {

using test::gpa_at;
using test::kRmp2M;
using test::kRmp4K;
using test::kRmpAsid;
using test::spa_at;

void run_threads(unsigned count, const std::function<void(unsigned)>& body) {
  std::barrier start{static_cast<std::ptrdiff_t>(count)};
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      body(i);
    });
  }
}

TEST(RmpConcurrency, OfManyValidationsOfOnePageExactlyOneChangesIt) {
  test::RmpTable table;
  for (std::uint64_t page = 0; page < kRmp2M; page += kRmp4K) {
    ASSERT_EQ(table.assign(page, PageSize::k4K), RmpUpdateCode::kSuccess);
  }
  std::atomic<unsigned> changed = 0;
  run_threads(4, [&](unsigned thread) {
    std::mt19937 random{thread};
    for (unsigned i = 0; i < 4096; ++i) {
      const std::uint64_t page = (random() % 512) * kRmp4K;
      changed += table.pvalidate(page, 0) == PvalidateOutcome{} ? 1 : 0;
      EXPECT_EQ(table.access(page, PageSize::k4K), RmpVerdict::kAllowed);
    }
  });
  unsigned valid = 0;
  for (std::uint64_t page = 0; page < kRmp2M; page += kRmp4K) {
    valid += table.state(page) == RmpState::kGuestValid ? 1 : 0;
  }
  EXPECT_EQ(changed, valid);
  EXPECT_TRUE(table.rmp.invariants());
}

TEST(RmpConcurrency, SmashingAndUnsmashingBesideReadersNeverShowsAnotherPage) {
  test::RmpTable table;
  table.bring(0, PageSize::k2M, RmpState::kGuestValid);
  std::atomic<bool> stop = false;
  run_threads(3, [&](unsigned thread) {
    if (thread == 0) {
      for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(table.rmp.psmash(spa_at(0)), PsmashCode::kSuccess);
        EXPECT_EQ(table.rmp.unsmash(spa_at(0)), FirmwareCode::kSuccess);
      }
      stop = true;
      return;
    }
    while (!stop) {
      for (std::uint64_t page = 0; page < kRmp2M; page += 37 * kRmp4K) {
        const RmpEntry entry = table.rmp.lookup(spa_at(page));
        // Either it is seen right, or (a spurious fault) as nobody's.
        if (entry.low != 0) {
          EXPECT_EQ(RmpEntry::Gfn::get(entry.low), gpa_at(page).value() >> 12);
          EXPECT_EQ(abi::rmp::state_of(entry), RmpState::kGuestValid);
        }
      }
    }
  });
  EXPECT_TRUE(table.rmp.invariants());
}

TEST(RmpConcurrency, HostGuestAndFirmwareKeepCountsRight) {
  test::RmpTable table;
  run_threads(4, [&](unsigned thread) {
    std::mt19937 random{thread};
    for (int i = 0; i < 3000; ++i) {
      const std::uint64_t region = random() % 2 * kRmp2M;
      const std::uint64_t page = region + random() % 4 * kRmp4K;
      switch (random() % 9) {
        case 0:
          (void)table.assign(page, PageSize::k4K);
          break;
        case 1:
          (void)table.assign(region, PageSize::k2M);
          break;
        case 2:
          (void)table.release(page, PageSize::k4K);
          break;
        case 3:
          (void)table.release(region, PageSize::k2M);
          break;
        case 4:
          (void)table.rmp.psmash(spa_at(region));
          break;
        case 5:
          (void)table.pvalidate(page, random() % 2);
          break;
        case 6:
          (void)table.rmp.rmpadjust(table.page(page), 0, 0x301);
          break;
        case 7:
          if (table.rmp.begin_use(spa_at(page))) {
            EXPECT_TRUE(table.rmp.in_use(spa_at(page), PageSize::k4K));
            table.rmp.end_use(spa_at(page));
          }
          break;
        default:
          (void)table.rmp.update(spa_at(page),
                                 RmpUpdate::pre_guest(gpa_at(page), PageSize::k4K, kRmpAsid));
          (void)table.rmp.reclaim(spa_at(page), PageSize::k4K);
      }
    }
  });
  EXPECT_TRUE(table.rmp.invariants());
}

TEST(RmpConcurrency, AVmsaRunsOnOneCpuAtATimeAndIsNeverTakenAwayMeanwhile) {
  test::RmpTable table;
  table.bring(kRmp4K, PageSize::k4K, RmpState::kPreGuest);
  ASSERT_EQ(
      table.rmp.launch_update(spa_at(kRmp4K), {.type = LaunchPageType::kVmsa, .asid = kRmpAsid}),
      FirmwareCode::kSuccess);
  unsigned runs = 0;  // not atomic: TSan sees two CPUs inside
  std::atomic<unsigned> entered = 0;
  std::atomic<unsigned> inside = 0;
  run_threads(3, [&](unsigned thread) {
    const RunPages pages{.vmcb = spa_at(kRmp2M + thread * kRmp4K),
                         .vmsa = RunPages::Vmsa{spa_at(kRmp4K), gpa_at(kRmp4K), kRmpAsid}};
    for (int i = 0; i < 3000; ++i) {
      const RunVerdict verdict = table.rmp.vmrun(pages);
      if (verdict == RunVerdict::kEntered) {
        EXPECT_EQ(inside.fetch_add(1), 0U);
        ++runs;
        EXPECT_EQ(table.rmp.update(spa_at(kRmp4K), RmpUpdate::hypervisor(PageSize::k4K)),
                  RmpUpdateCode::kFailInUse);
        inside.fetch_sub(1);
        entered.fetch_add(1, std::memory_order_relaxed);
        table.rmp.vmexit(pages);
      } else {
        EXPECT_EQ(verdict, RunVerdict::kVmexitInvalid);
      }
    }
  });
  EXPECT_EQ(runs, entered);
  EXPECT_GT(runs, 0U);
  EXPECT_TRUE(table.rmp.invariants());
}

}  // namespace
}  // namespace accede::host
