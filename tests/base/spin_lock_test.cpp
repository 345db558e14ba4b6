#include "accede/base/spin_lock.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace accede {
namespace {

TEST(SpinLock, CanBeTakenAgainAfterItWasReleased) {
  SpinLock lock;
  for (int i = 0; i < 2; ++i) {
    const SpinGuard guard{lock};
  }
  lock.lock();
  lock.unlock();
}

TEST(SpinLockConcurrency, LetsOneThreadInAtATime) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 2000;
  SpinLock lock;
  int count = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        const SpinGuard guard{lock};
        ++count;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(count, kThreads * kRounds);
}

}  // namespace
}  // namespace accede
