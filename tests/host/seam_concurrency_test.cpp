// Several processors in the module at once; meant for TSan. Invariants are checked when all rest.
#include "accede/host/seam_module.hpp"

#include "tests/host/seam_fixture.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <functional>
#include <thread>
#include <vector>

namespace accede::host {
namespace {

using test::kGib;
using test::kMib;
using test::kPageBytes;
using test::SeamHost;

constexpr std::uint64_t kPages = SeamHost::kTdmr;
constexpr std::uint64_t kMemory = SeamHost::kTdmr + 256 * kMib;
constexpr std::uint64_t kGpa = 8 * kGib;
constexpr std::uint64_t kMetadataR8 = 0xC000030000000008;

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

bool is_busy(const SeamCall& call) {
  return abi::tdx::code_of(call->status) == abi::tdx::Status::kOperandBusy;
}

/// Calls again until no other call is in the way.
SeamCall insist(const std::function<SeamCall()>& call) {
  for (;;) {
    const SeamCall result = call();
    if (!result.has_value() || !is_busy(result)) {
      return result;
    }
    std::this_thread::yield();
  }
}

class SeamConcurrency : public testing::Test {
 protected:
  SeamConcurrency() {
    host_.bring_up();
    for (unsigned i = 0; i < 2; ++i) {
      const std::uint64_t at = kPages + i * kMib;
      tds_.push_back(host_.build_td(at, KeyId{33 + i}));
      host_.add_tables(tds_.back(), kGpa, at + 512 * 1024);
      EXPECT_EQ(test::word(module_.mr_finalize(tds_.back())), 0U);
    }
  }

  SeamHost host_;
  SeamModule& module_ = host_.module;
  std::vector<PhysAddr> tds_;
};

TEST_F(SeamConcurrency, TheLoserOfALockedPageIsBusyAndTheHolderUndisturbed) {
  // What another processor meets while one is inside with the page.
  test::AlignedBytes storage{128_KiB};
  Pamt pamt{storage.span()};
  ASSERT_TRUE(pamt.configure(host_.tdmrs()));
  while (pamt.initialize(PhysAddr{SeamHost::kTdmr}).has_value()) {
  }
  std::barrier inside{2};
  run_threads(2, [&](unsigned thread) {
    if (thread == 0) {
      auto page = pamt.walk(PhysAddr{kMemory}, PageSize::k4K, PamtLock::kExclusive);
      ASSERT_TRUE(page.has_value());
      inside.arrive_and_wait();
      page->assign(PamtType::kTdr, PhysAddr{});
      inside.arrive_and_wait();
    } else {
      inside.arrive_and_wait();
      const auto page = pamt.walk(PhysAddr{kMemory}, PageSize::k4K, PamtLock::kShared);
      EXPECT_EQ(page.error(), PamtRefusal::kBusy);
      inside.arrive_and_wait();
    }
  });
  EXPECT_EQ(pamt.walk(PhysAddr{kMemory}, PageSize::k4K, PamtLock::kShared)->type(), PamtType::kTdr);
}

TEST_F(SeamConcurrency, OfTwoTdsThatTakeTheSamePagesEachPageHasOneOwner) {
  constexpr std::uint64_t kCount = 512;
  std::array<std::array<std::uint64_t, kCount>, 2> status{};
  run_threads(2, [&](unsigned thread) {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      // Two that come together may both be busy.
      const SeamCall call = insist([&] {
        return module_.mem_page_aug(kGpa + i * kPageBytes, tds_[thread],
                                    PhysAddr{kMemory + i * kPageBytes});
      });
      status.at(thread).at(i) = call->status;
    }
  });
  for (std::uint64_t i = 0; i < kCount; ++i) {
    unsigned owners = 0;
    for (unsigned thread = 0; thread < 2; ++thread) {
      const std::uint64_t word = status.at(thread).at(i);
      owners += word == 0 ? 1 : 0;
      EXPECT_TRUE(word == 0 || word == kMetadataR8) << std::hex << word;
      if (word == 0) {
        EXPECT_EQ(host_.metadata(kMemory + i * kPageBytes).rdx, tds_[thread].value());
      }
    }
    EXPECT_EQ(owners, 1U) << i;
  }
  EXPECT_TRUE(module_.invariants());
}

TEST_F(SeamConcurrency, SmallAndLargePagesNeverShareMemory) {
  // One TD takes 2 MiB, the other the last 4 KiB of them; then both give back.
  std::atomic<unsigned> together = 0;
  std::atomic<unsigned> large = 0;
  std::atomic<unsigned> small = 0;
  std::array<std::atomic<bool>, 2> owns{};
  run_threads(2, [&](unsigned thread) {
    const std::uint64_t rcx = thread == 0 ? (kGpa + 2 * kMib) | 1 : kGpa;
    const PhysAddr page{thread == 0 ? kMemory : kMemory + 2 * kMib - kPageBytes};
    for (int i = 0; i < 300; ++i) {
      if (module_.mem_page_aug(rcx, tds_[thread], page)->status != 0) {
        continue;
      }
      owns.at(thread) = true;
      together += owns.at(1 - thread) ? 1 : 0;
      (thread == 0 ? large : small) += 1;
      EXPECT_EQ(insist([&] { return module_.mem_range_block(rcx, tds_[thread]); })->status, 0U);
      EXPECT_EQ(insist([&] { return module_.mem_track(tds_[thread]); })->status, 0U);
      owns.at(thread) = false;
      EXPECT_EQ(insist([&] { return module_.mem_page_remove(rcx, tds_[thread]); })->status, 0U);
    }
  });
  EXPECT_EQ(together, 0U);
  EXPECT_GT(large + small, 0U);
  EXPECT_TRUE(module_.invariants());
}

TEST_F(SeamConcurrency, OneTdIsBuiltAndEndedWhileAnotherWorks) {
  std::atomic<bool> stop = false;
  run_threads(2, [&](unsigned thread) {
    if (thread == 0) {
      const PhysAddr tdr{kPages + 8 * kMib};
      for (int i = 0; i < 60; ++i) {
        EXPECT_EQ(insist([&] { return module_.mng_create(tdr, KeyId{40}); })->status, 0U);
        EXPECT_EQ(insist([&] { return module_.mng_vpflushdone(tdr); })->status, 0U);
        for (const ProcessorId processor : SeamHost::packages()) {
          EXPECT_EQ(insist([&] { return module_.phymem_cache_wb(processor); })->status, 0U);
        }
        EXPECT_EQ(insist([&] { return module_.mng_key_freeid(tdr); })->status, 0U);
        EXPECT_EQ(insist([&] { return module_.phymem_page_reclaim(tdr); })->status, 0U);
      }
      stop = true;
      return;
    }
    for (std::uint64_t i = 0; !stop; i = (i + 1) % 512) {
      const std::uint64_t gpa = kGpa + i * kPageBytes;
      const PhysAddr page{kMemory + i * kPageBytes};
      EXPECT_EQ(insist([&] { return module_.mem_page_aug(gpa, tds_[0], page); })->status, 0U);
      EXPECT_EQ(insist([&] { return module_.mem_range_block(gpa, tds_[0]); })->status, 0U);
      EXPECT_EQ(insist([&] { return module_.mem_track(tds_[0]); })->status, 0U);
      EXPECT_EQ(insist([&] { return module_.mem_page_remove(gpa, tds_[0]); })->status, 0U);
    }
  });
  EXPECT_TRUE(module_.invariants());
}

TEST(SeamBringUpConcurrency, EachProcessorAndEachStepOfATdmrIsDoneOnce) {
  SeamHost host;
  ASSERT_EQ(test::word(host.module.sys_init()), 0U);
  run_threads(4, [&](unsigned thread) {
    EXPECT_EQ(host.module.sys_lp_init(ProcessorId{thread})->status, 0U);
  });
  ASSERT_EQ(test::word(host.module.sys_config(host.tdmrs(), SeamHost::kGlobalKey)), 0U);
  for (const ProcessorId processor : SeamHost::packages()) {
    ASSERT_EQ(test::word(host.module.sys_key_config(processor)), 0U);
  }
  std::atomic<unsigned> steps = 0;
  run_threads(4, [&](unsigned) {
    for (;;) {
      const SeamCall call =
          insist([&] { return host.module.sys_tdmr_init(PhysAddr{SeamHost::kTdmr}); });
      if (call->status != 0) {
        EXPECT_EQ(call->status, 0x00000A0300000000U);
        return;
      }
      ++steps;
    }
  });
  EXPECT_EQ(steps, 512U);
}

}  // namespace
}  // namespace accede::host
