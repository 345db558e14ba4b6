// What several vCPUs do at once. One vCPU is what runs today; nothing here may assume it.

#include "tests/emulator/td_machine.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace accede::emulator {
namespace {

using namespace accede::test;

constexpr unsigned kThreads = 4;

/// Runs `body` with the numbers 0 to kThreads - 1 at the same time.
void at_once(const std::function<void(unsigned)>& body) {
  std::atomic<unsigned> ready = 0;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      ++ready;
      while (ready < kThreads) {
        std::this_thread::yield();
      }
      body(i);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

/// A vCPU of its own for each thread.
class Processor {
 public:
  explicit Processor(unsigned index) {
    vcpu_.vmcb = vmcb_.get();
    vcpu_.index = static_cast<std::uint16_t>(index);
  }
  [[nodiscard]] Vcpu& vcpu() { return vcpu_; }

  std::uint64_t tdcall(TdMachine& td, std::uint64_t leaf, std::uint64_t rcx,
                       std::uint64_t rdx = 0) {
    vcpu_.gpr[kRax] = leaf;
    vcpu_.gpr[kRcx] = rcx;
    vcpu_.gpr[kRdx] = rdx;
    return td.module().tdcall(vcpu_) ? vcpu_.gpr[kRax] : ~0ULL;
  }

 private:
  std::unique_ptr<Vmcb> vmcb_ = std::make_unique<Vmcb>();
  Vcpu vcpu_{};
};

TEST(ConcurrentPagePool, NeverGivesOnePageTwice) {
  const GuestRam ram{8_MiB};
  PagePool pool{ram.window(), PhysAddr{1 << 20}, PhysAddr{3 << 20}};
  const std::uint64_t all = pool.available();
  std::array<std::vector<PhysAddr>, kThreads> held;
  at_once([&](unsigned i) {
    for (int round = 0; round < 200; ++round) {
      for (int n = 0; n < 20; ++n) {
        if (const auto page = pool.allocate()) {
          held[i].push_back(*page);
        }
      }
      for (int n = 0; n < 15 && !held[i].empty(); ++n) {
        pool.free(held[i].back());
        held[i].pop_back();
      }
    }
  });
  std::set<PhysAddr> pages;
  for (const auto& mine : held) {
    for (const PhysAddr page : mine) {
      EXPECT_TRUE(pages.insert(page).second);
    }
  }
  EXPECT_EQ(pages.size() + pool.available(), all);
}

TEST(ConcurrentNestedPageTable, KeepsTheChangesOfEveryCpu) {
  const GuestRam ram{16_MiB};
  PagePool pool{ram.window(), PhysAddr{1 << 20}, PhysAddr{9 << 20}};
  NestedPageTable tables{ram.window(), pool, pool.allocate().value(), ViewBit::kShared};
  const std::uint64_t all = pool.available();
  // Interleaved pages of the same 2 MiB: every table is shared by all.
  at_once([&](unsigned i) {
    for (std::uint64_t page = i; page < 4 * 512; page += kThreads) {
      ASSERT_TRUE(tables.map(View::kPrivate, pages_at(page * k4K, 1)));
      ASSERT_TRUE(tables.mapped(View::kPrivate, PhysAddr{page * k4K}).has_value());
    }
  });
  EXPECT_EQ(tables.mapped(View::kPrivate, PhysAddr{0}), PageSize::k2M);
  at_once([&](unsigned i) {
    for (std::uint64_t page = i; page < 4 * 512; page += kThreads) {
      ASSERT_TRUE(tables.unmap(View::kPrivate, pages_at(page * k4K, 1)));
    }
  });
  EXPECT_EQ(pool.available(), all);
}

TEST(ConcurrentReporter, CountsEveryEventAndViolation) {
  std::vector<std::uint64_t> storage(Reporter::area_bytes(100) / 8 + 1);
  Reporter reporter{std::as_writable_bytes(std::span{storage}), true};
  constexpr std::uint64_t kEach = 2000;
  at_once([&](unsigned i) {
    for (std::uint64_t n = 0; n < kEach; ++n) {
      Reporter::add(reporter.counters().exits_cpuid);
      Reporter::raise(reporter.counters().longest_step_bytes, n * kThreads + i);
      reporter.event(EventKind::kVmcall, 0, PhysRange{}, n, static_cast<std::uint16_t>(i));
      reporter.violation({.gpa = 0,
                          .rip = n % 3,
                          .count = 1,
                          .kind = EventKind::kUnknownTdcall,
                          .fatal = 0,
                          .vcpu = static_cast<std::uint16_t>(i),
                          .detail = 0});
    }
  });
  const ReportHeader& header = reporter.header();
  EXPECT_EQ(header.counters.exits_cpuid, kThreads * kEach);
  EXPECT_EQ(header.counters.longest_step_bytes, kThreads * kEach - 1);
  EXPECT_EQ(header.event_count, 100U);
  EXPECT_EQ(header.event_dropped, kThreads * kEach - 100);
  EXPECT_EQ(header.violation_total, kThreads * kEach);
  ASSERT_EQ(header.violation_slots, 3U);
  EXPECT_EQ(header.violations[0].count + header.violations[1].count + header.violations[2].count,
            kThreads * kEach);
}

TEST(ConcurrentTd, AcceptsEachPageForExactlyOneVcpu) {
  TdMachine td;
  std::atomic<std::uint64_t> accepted = 0;
  std::atomic<std::uint64_t> already = 0;
  // All want every page, in different orders: one gets it, the others hear that it is accepted or
  // busy, and nobody's data is zeroed.
  constexpr std::uint64_t kPages = 512;
  at_once([&](unsigned i) {
    Processor processor{i};
    for (std::uint64_t n = 0; n < kPages; ++n) {
      const std::uint64_t page = TdMachine::kPending + (n * (2 * i + 1)) % kPages * k4K;
      std::uint64_t status = processor.tdcall(td, 6, page);
      while (status == 0x8000'0200'0000'0001) {
        status = processor.tdcall(td, 6, page);
      }
      if (status == 0) {
        ++accepted;
      } else if (status >> 32 == 0x0B0A) {
        ++already;
      }
    }
  });
  EXPECT_EQ(accepted, kPages);
  EXPECT_EQ(already, (kThreads - 1) * kPages);
  EXPECT_EQ(td.counters().accepted_bytes[0], kPages * k4K);
  EXPECT_EQ(td.tables().mapped(View::kPrivate, PhysAddr{TdMachine::kPending}), PageSize::k2M);
  EXPECT_TRUE(td.memory().invariants());
}

TEST(ConcurrentTd, ConvertsAndAcceptsWithoutLosingStep) {
  TdMachine td;
  at_once([&](unsigned i) {
    Processor processor{i};
    // Each vCPU has its own quarter of every 2 MiB, so that all meet in every region.
    for (std::uint64_t region = 0; region < 4; ++region) {
      const std::uint64_t mine = TdMachine::kPending + region * k2M + i * (k2M / kThreads);
      for (std::uint64_t at = 0; at < k2M / kThreads; at += 4 * k4K) {
        EXPECT_EQ(processor.tdcall(td, 6, mine + at), 0U);
        const auto shared = td.pages().convert(processor.vcpu(), (mine + at) | kShared, k4K);
        ASSERT_TRUE(shared.has_value());
        EXPECT_EQ(shared->r10, 0U);
        const auto back = td.pages().convert(processor.vcpu(), mine + at, k4K);
        ASSERT_TRUE(back.has_value());
        EXPECT_EQ(back->r10, 0U);
        EXPECT_EQ(processor.tdcall(td, 6, mine + at), 0U);
      }
    }
  });
  constexpr std::uint64_t kConverted = 4 * k2M / 4;
  EXPECT_EQ(td.counters().to_shared_bytes, kConverted);
  EXPECT_EQ(td.counters().to_private_bytes, kConverted);
  EXPECT_EQ(td.counters().accepted_bytes[0], 2 * kConverted);
  for (std::uint64_t at = 0; at < 4 * k2M; at += k4K) {
    const std::uint64_t gpa = TdMachine::kPending + at;
    if (at % (4 * k4K) != 0) {
      ASSERT_FALSE(td.reachable(View::kPrivate, gpa)) << at;
      continue;
    }
    // An accept that met a conversion in its region leaves the mapping to the next touch.
    ASSERT_TRUE(td.reachable(View::kPrivate, gpa) || td.pages().touch(td.vcpu(), gpa, 0)) << at;
    ASSERT_TRUE(td.reachable(View::kPrivate, gpa)) << at;
  }
  EXPECT_TRUE(td.memory().invariants());
}

TEST(ConcurrentTd, ExtendsEveryMeasurement) {
  TdMachine td;
  constexpr std::uint64_t kData = 4 << 20;
  constexpr int kEach = 50;
  at_once([&](unsigned i) {
    Processor processor{i};
    for (int n = 0; n < kEach; ++n) {
      EXPECT_EQ(processor.tdcall(td, 2, kData, 1), 0U);
    }
  });
  // The data is the same each time: the order does not matter, the number does.
  TdMachine alone;
  Processor processor{0};
  for (unsigned n = 0; n < kThreads * kEach; ++n) {
    EXPECT_EQ(processor.tdcall(alone, 2, kData, 1), 0U);
  }
  constexpr std::uint64_t kOut = 5 << 20;
  EXPECT_EQ(processor.tdcall(td, 4, kOut, kData), 0U);
  EXPECT_EQ(processor.tdcall(alone, 4, kOut, kData), 0U);
  EXPECT_EQ(td.ram().at<abi::tdx::TdReport>(PhysAddr{kOut}).td_info.rtmr[1],
            alone.ram().at<abi::tdx::TdReport>(PhysAddr{kOut}).td_info.rtmr[1]);
}

}  // namespace
}  // namespace accede::emulator
