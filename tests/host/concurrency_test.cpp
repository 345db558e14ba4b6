// Several vCPUs and host threads at once; meant for TSan. The invariant checks run when all rest.
#include "tests/host/td_memory_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace accede::host {
namespace {

using test::k2M;
using test::k4K;
using test::kSharedBit;
using test::range;
using test::rcx;
using test::Sept;

constexpr std::uint64_t kGpa = 1ULL << 30;

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

TEST(SecureEptConcurrency, DifferentPagesOfOne2MRegionAreAcceptedInParallel) {
  for (int round = 0; round < 5; ++round) {
    Sept sept;
    for (std::uint64_t i = 0; i < 512; ++i) {
      sept.augment(kGpa + i * k4K, SeptLevel::k4K);
    }
    std::array<unsigned, 512> zeroed{};  // not atomic: TSan sees a page that two threads zero
    run_threads(4, [&](unsigned thread) {
      for (std::uint64_t i = 0; i < 128; ++i) {
        const std::uint64_t page = i * 4 + thread;
        const GuestCallResult result = sept.ept.accept(
            rcx(kGpa + page * k4K, 0), [&](PhysAddr) { ++zeroed[page]; }, [] { return false; });
        EXPECT_EQ(result.kind, GuestCallKind::kCompleted);
        EXPECT_EQ(result.rax, 0U);
      }
    });
    for (const unsigned count : zeroed) {
      ASSERT_EQ(count, 1U);
    }
    EXPECT_EQ(sept.ept.storage_used(), 12_KiB) << "uniform again: no table of 4K entries";
    EXPECT_TRUE(sept.ept.invariants());
  }
}

TEST(SecureEptConcurrency, OnePageIsAcceptedByExactlyOneThread) {
  for (const SeptLevel level : {SeptLevel::k4K, SeptLevel::k2M}) {
    Sept sept;
    for (int round = 0; round < 60; ++round) {
      const std::uint64_t gpa = kGpa + static_cast<std::uint64_t>(round) * k2M;
      sept.augment(gpa, level);
      unsigned zeroed = 0;  // not atomic, on purpose
      std::atomic<unsigned> won = 0;
      run_threads(3, [&](unsigned) {
        const GuestCallResult result = sept.ept.accept(
            rcx(gpa, static_cast<std::uint64_t>(level)), [&](PhysAddr) { ++zeroed; },
            [] { return false; });
        ASSERT_EQ(result.kind, GuestCallKind::kCompleted);
        if (result.rax == 0) {
          won.fetch_add(1);
        } else {
          EXPECT_TRUE(result.rax == 0x8000020000000001 ||
                      result.rax == 0x00000B0A00000000 + static_cast<std::uint64_t>(level));
        }
      });
      ASSERT_EQ(won.load(), 1U);
      ASSERT_EQ(zeroed, level == SeptLevel::k4K ? 1U : 512U);
    }
    EXPECT_TRUE(sept.ept.invariants());
  }
}

TEST(SecureEptConcurrency, Regression_L01_NoLockIsHeldWhileAPageIsZeroed) {
  Sept sept;
  for (const std::uint64_t page : {std::uint64_t{0}, std::uint64_t{1}}) {
    sept.augment(kGpa + page * k4K, SeptLevel::k4K);
  }
  // Each zeroing waits until the other has begun: possible only if they overlap in time.
  std::barrier both{2};
  run_threads(2, [&](unsigned thread) {
    const GuestCallResult result = sept.ept.accept(
        rcx(kGpa + thread * k4K, 0), [&](PhysAddr) { both.arrive_and_wait(); },
        [] { return false; });
    EXPECT_EQ(result.rax, 0U);
  });
}

TEST(SecureEptConcurrency, ReadersNeverSeeAnotherRegionsPages) {
  // Two writers share two table pages for four regions: every AUG takes one, every REMOVE gives it
  // back. Every entry maps GPA to GPA + offset, so a reader that strays into a recycled table sees
  // a wrong host page.
  Sept sept{{}, 20_KiB};
  (void)sept.ept.finalize();
  constexpr std::uint64_t kRegions = 4;
  for (std::uint64_t r = 0; r < kRegions; ++r) {
    sept.add_tables(kGpa + r * k2M, SeptLevel::k4K);
  }
  std::atomic<unsigned> writers = 2;
  run_threads(3, [&](unsigned thread) {
    if (thread == 2) {
      for (std::uint64_t i = 0; writers.load() != 0; ++i) {
        const std::uint64_t gpa = kGpa + i % kRegions * k2M;
        const EntryView view = *sept.ept.lookup(PhysAddr{gpa});
        if (view.hpa != PhysAddr{}) {
          ASSERT_EQ(view.hpa, PhysAddr{gpa + Sept::kHpaOffset});
        }
      }
      return;
    }
    for (std::uint64_t i = 0; i < 10'000; ++i) {
      const PhysAddr gpa{kGpa + (thread * 2 + i % 2) * k2M};
      ASSERT_EQ(sept.ept.page_aug(gpa, SeptLevel::k4K, gpa + Bytes{Sept::kHpaOffset})->status, 0U);
      ASSERT_EQ(sept.ept.range_block(gpa, SeptLevel::k4K)->status, 0U);
      (void)sept.ept.track();
      ASSERT_EQ(sept.ept.page_remove(gpa, SeptLevel::k4K)->status, 0U);
    }
    writers.fetch_sub(1);
  });
  EXPECT_TRUE(sept.ept.invariants());
}

TEST(SecureEptConcurrency, EveryCallAgainstEveryOtherLeavesASoundTree) {
  Sept sept{{.page_release = true}, 64_KiB};
  (void)sept.ept.finalize();
  const std::uint64_t seed = test::seed_from_environment(11);
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::array<std::atomic<int>, 8> zeroing{};  // by 4K or 2M page in play: never two at once
  run_threads(4, [&](unsigned thread) {
    std::mt19937_64 random{seed + thread};
    for (int i = 0; i < 20000; ++i) {
      const auto level = static_cast<SeptLevel>(random() % 8 == 0 ? 2 : random() % 2);
      const std::uint64_t offset = level == SeptLevel::k4K ? random() % 2 * k4K : 0;
      const std::uint64_t slot = level == SeptLevel::k1G ? 0 : random() % 2 * k2M;
      const PhysAddr gpa{kGpa + slot + offset};
      const PhysAddr hpa = gpa + Bytes{Sept::kHpaOffset};
      switch (random() % 10) {
        case 0:
          sept.add_tables(gpa.value(), level);
          break;
        case 1:
          (void)sept.ept.page_aug(gpa, level, hpa);
          break;
        case 2:
          (void)sept.ept.range_block(gpa, level);
          break;
        case 3: {
          const VcpuEpoch inside = sept.ept.vcpu_entered();
          (void)sept.ept.access(gpa);
          sept.ept.vcpu_left(inside);
          (void)sept.ept.track();
          break;
        }
        case 4:
          (void)sept.ept.page_remove(gpa, level);
          break;
        case 5:
          (void)sept.ept.page_demote(gpa, level);
          break;
        case 6:
          (void)sept.ept.page_promote(gpa, level);
          break;
        case 7:
          (void)sept.ept.range_unblock(gpa, level);
          break;
        case 8:
          (void)sept.ept.release(gpa.value() | static_cast<std::uint64_t>(level));
          break;
        default:
          (void)sept.ept.accept(
              gpa.value() | static_cast<std::uint64_t>(level),
              [&](PhysAddr page) {
                const std::uint64_t at = page.value() - Sept::kHpaOffset - kGpa;
                if (at % k2M < 4 * k4K) {
                  auto& users = zeroing[at / k2M * 4 + at % k2M / k4K];
                  EXPECT_EQ(users.fetch_add(1), 0) << "a page is zeroed by two at once";
                  users.fetch_sub(1);
                }
              },
              [&] { return random() % 64 == 0; });
      }
    }
  });
  EXPECT_TRUE(sept.ept.invariants());
}

TEST(SecureEptConcurrency, OneGigPagesComeAndGoUnderWalkers) {
  // Before finalize() PROMOTE and DEMOTE need no BLOCK, so walks pass the 1G entry all the time and
  // find the table below it dead.
  Sept sept;
  sept.add_tables(kGpa, SeptLevel::k2M);
  for (std::uint64_t i = 0; i < 512; ++i) {
    (void)sept.ept.sept_add(PhysAddr{kGpa + i * k2M}, SeptLevel::k2M);
    for (std::uint64_t page = 0; page < 512; ++page) {
      const PhysAddr gpa{kGpa + i * k2M + page * k4K};
      ASSERT_EQ(sept.ept.page_add(gpa, gpa + Bytes{Sept::kHpaOffset})->status, 0U);
    }
    ASSERT_EQ(sept.ept.page_promote(PhysAddr{kGpa + i * k2M}, SeptLevel::k2M)->status, 0U);
  }
  std::atomic<bool> stop = false;
  run_threads(3, [&](unsigned thread) {
    std::mt19937_64 random{thread};
    if (thread == 0) {
      for (int i = 0; i < 300; ++i) {
        const HostCall call = i % 2 == 0 ? sept.ept.page_promote(PhysAddr{kGpa}, SeptLevel::k1G)
                                         : sept.ept.page_demote(PhysAddr{kGpa}, SeptLevel::k1G);
        EXPECT_TRUE(call.has_value() && call->status == 0);
      }
      stop = true;
      return;
    }
    while (!stop) {
      // Mapped all the time, in one size or the other.
      const std::uint64_t gpa = kGpa + random() % (512 * k2M);
      const EntryView view = *sept.ept.lookup(PhysAddr{gpa});
      ASSERT_EQ(view.state, SeptState::kMapped);
      ASSERT_EQ(view.hpa, PhysAddr{(gpa & ~4095ULL) + Sept::kHpaOffset});
      const GuestCallResult again =
          sept.ept.accept(rcx(gpa & ~(k2M - 1), 1), [](PhysAddr) {}, [] { return false; });
      ASSERT_EQ(again.kind, GuestCallKind::kCompleted);
      ASSERT_EQ(again.rax >> 32, 0x00000B0AU);
    }
  });
  EXPECT_TRUE(sept.ept.invariants());
}

// --- TdMemory: what a conversion and a fault of one region may not do at the same time ---

TEST(TdMemoryExclusion, AFaultDuringAConversionIsToldToTryAgain) {
  test::Td td{{range(kGpa, kGpa + 2 * k2M)}, Backing::k4K};
  for (const std::uint64_t page : {0ULL, 5ULL}) {
    ASSERT_EQ(td.accept(kGpa + page * k4K).rax, 0U);
  }
  unsigned mapped = 0;
  unsigned checked = 0;
  const auto on_mapped = [&](PhysAddr, PhysAddr, PageSize) { ++mapped; };
  const auto ignore = [](auto...) {};
  const TdMemoryHooks faults{.mapped = on_mapped,
                             .private_gone = ignore,
                             .shared_gone = ignore,
                             .augmented = ignore,
                             .kick_vcpus = ignore};
  const auto other_cpu = [&](PhysRange) {
    std::jthread{[&] {
      const auto accept = [&](std::uint64_t gpa) {
        return td.memory.accept(gpa, [](PhysAddr) {}, [] { return false; }, faults).kind;
      };
      EXPECT_EQ(td.memory.touch_private(PhysAddr{kGpa + 5 * k4K}, faults).kind, TouchKind::kRetry);
      EXPECT_EQ(td.memory.touch_private(PhysAddr{kGpa + 7 * k4K}, faults).kind, TouchKind::kRetry);
      EXPECT_EQ(accept(kGpa + 8 * k4K), AcceptOutcomeKind::kInterrupted);
      EXPECT_EQ(td.memory.touch_shared(PhysAddr{kGpa}, ignore).kind, TouchKind::kRetry);
      EXPECT_EQ(mapped, 0U);
      // Another region is not concerned.
      EXPECT_EQ(accept(kGpa + k2M), AcceptOutcomeKind::kCompleted);
      EXPECT_EQ(mapped, 1U);
      ++checked;
    }};
  };
  const TdMemoryHooks converts{.mapped = ignore,
                               .private_gone = other_cpu,
                               .shared_gone = ignore,
                               .augmented = ignore,
                               .kick_vcpus = ignore};
  EXPECT_EQ(td.memory.map_gpa(kGpa | kSharedBit, k4K, converts).to_shared, 4_KiB);
  EXPECT_EQ(checked, 1U);
  EXPECT_TRUE(td.memory.invariants());
}

TEST(TdMemoryExclusion, AConversionWaitsForTheFaultsInside) {
  test::Td td{{range(kGpa, kGpa + k2M)}, Backing::k4K};
  std::atomic<bool> converted = false;
  std::jthread other;
  const auto ignore = [](auto...) {};
  const TdMemoryHooks plain{.mapped = ignore,
                            .private_gone = ignore,
                            .shared_gone = ignore,
                            .augmented = ignore,
                            .kick_vcpus = ignore};
  const auto on_mapped = [&](PhysAddr, PhysAddr, PageSize) {
    other = std::jthread{[&] {
      (void)td.memory.map_gpa(kGpa | kSharedBit, k2M, plain);
      converted = true;
    }};
    std::this_thread::sleep_for(std::chrono::milliseconds{30});
    EXPECT_FALSE(converted) << "the page was converted while its mapping was being made";
  };
  const TdMemoryHooks faults{.mapped = on_mapped,
                             .private_gone = ignore,
                             .shared_gone = ignore,
                             .augmented = ignore,
                             .kick_vcpus = ignore};
  EXPECT_EQ(td.memory.accept(kGpa, [](PhysAddr) {}, [] { return false; }, faults).rax, 0U);
  other.join();
  EXPECT_TRUE(converted);
  EXPECT_EQ(td.memory.touch_private(PhysAddr{kGpa}, plain).kind, TouchKind::kSharedPage);
}

TEST(TdMemoryExclusion, AConversionWaitsForAnAcceptOfItsPage) {
  test::Td td{{range(kGpa, kGpa + k2M)}, Backing::k2M};
  std::jthread other;
  std::atomic<bool> converted = false;
  const auto ignore = [](auto...) {};
  const TdMemoryHooks plain{.mapped = ignore,
                            .private_gone = ignore,
                            .shared_gone = ignore,
                            .augmented = ignore,
                            .kick_vcpus = ignore};
  unsigned zeroed = 0;
  const auto zero = [&](PhysAddr) {
    if (++zeroed == 1) {
      other = std::jthread{[&] {
        const MapGpaOutcome outcome = td.memory.map_gpa(kGpa | kSharedBit, k2M, plain);
        converted = outcome.to_shared == 2_MiB;
      }};
    }
    if (zeroed == 500) {
      std::this_thread::sleep_for(std::chrono::milliseconds{2});
      EXPECT_FALSE(converted) << "a page was removed while it was being zeroed";
    }
  };
  EXPECT_EQ(td.memory.accept(rcx(kGpa, 1), zero, [] { return false; }, plain).rax, 0U);
  other.join();
  EXPECT_EQ(zeroed, 512U);
  EXPECT_TRUE(converted);
  EXPECT_EQ(td.memory.state_of(PhysAddr{kGpa}).entry.state, SeptState::kFree);
}

/// vCPUs that accept and touch, while others convert the same memory back and forth.
class TdMemoryConcurrency : public testing::TestWithParam<Backing> {
 protected:
  static constexpr std::uint64_t kPages = 3 * 512;

  /// Which pages the embedder's tables map: changed by the hooks only.
  std::array<std::atomic<bool>, kPages> mapped_{};
  std::array<std::atomic<bool>, kPages> shared_{};

  static std::uint64_t index(PhysAddr gpa) { return (gpa.value() - kGpa) / k4K; }

  template <class F>
  auto with_hooks(F f) {
    const auto on_mapped = [&](PhysAddr gpa, PhysAddr, PageSize size) {
      for (std::uint64_t i = 0; i < bytes(size) / 4_KiB; ++i) {
        mapped_[index(gpa) + i] = true;
      }
    };
    const auto on_private_gone = [&](PhysRange gone) {
      for (PhysAddr page = gone.begin(); page < gone.end(); page += 4_KiB) {
        mapped_[index(page)] = false;
      }
    };
    const auto on_shared_gone = [&](PhysRange gone) {
      for (PhysAddr page = gone.begin(); page < gone.end(); page += 4_KiB) {
        shared_[index(page)] = false;
      }
    };
    const auto on_augmented = [](PhysAddr, PageSize) {};
    const auto on_kick = [] { std::this_thread::yield(); };
    return f(TdMemoryHooks{.mapped = on_mapped,
                           .private_gone = on_private_gone,
                           .shared_gone = on_shared_gone,
                           .augmented = on_augmented,
                           .kick_vcpus = on_kick});
  }
};

TEST_P(TdMemoryConcurrency, ThePageTablesNeverKeepWhatWasConverted) {
  test::Td td{{range(kGpa, kGpa + kPages * k4K)}, GetParam()};
  const std::uint64_t seed = test::seed_from_environment(13);
  SCOPED_TRACE("seed " + std::to_string(seed));
  run_threads(4, [&](unsigned thread) {
    std::mt19937_64 random{seed + thread};
    for (int i = 0; i < 600; ++i) {
      const std::uint64_t page = random() % 3 * 512 + random() % 4;
      const std::uint64_t gpa = kGpa + page * k4K;
      // In the guest, then out of it: the exit that the call stands for.
      td.sept.ept.vcpu_left(td.sept.ept.vcpu_entered());
      with_hooks([&](const TdMemoryHooks& hooks) {
        switch (random() % 8) {
          case 0: {
            const std::uint64_t shared = random() % 2 != 0 ? kSharedBit : 0;
            const std::uint64_t size = (1 + random() % 3) * k4K;
            (void)td.memory.map_gpa(gpa | shared, size, hooks);
            break;
          }
          case 1:
            (void)td.memory.map_gpa((gpa & ~(k2M - 1)) | (random() % 2 != 0 ? kSharedBit : 0), k2M,
                                    hooks);
            break;
          case 2:
            (void)td.memory.release(gpa, hooks);
            break;
          case 3:
            (void)td.memory.touch_private(PhysAddr{gpa}, hooks);
            break;
          case 4:
            (void)td.memory.touch_shared(PhysAddr{gpa},
                                         [&](PhysAddr at, PhysAddr) { shared_[index(at)] = true; });
            break;
          default: {
            const std::uint64_t level = random() % 2;
            (void)td.memory.accept(
                level != 0 ? rcx(gpa & ~(k2M - 1), 1) : gpa, [](PhysAddr) {},
                [&] { return random() % 128 == 0; }, hooks);
          }
        }
        return 0;
      });
    }
  });
  ASSERT_TRUE(td.memory.invariants());
  for (std::uint64_t i = 0; i < kPages; ++i) {
    const PageReport report = td.memory.state_of(PhysAddr{kGpa + i * k4K});
    if (mapped_[i]) {
      EXPECT_EQ(report.entry.state, SeptState::kMapped) << i;
    }
    EXPECT_EQ(shared_[i] && report.attribute == PageAttribute::kPrivate, false) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Backings, TdMemoryConcurrency,
                         testing::Values(Backing::k2M, Backing::k4K));

}  // namespace
}  // namespace accede::host
