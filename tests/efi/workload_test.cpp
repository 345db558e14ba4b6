#include "accede/efi/kernel/workload.hpp"

#include "tests/efi/kernel_machine.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace accede::efi::kernel {
namespace {

using guest::Background;
using guest::Eager;
using guest::Lazy;
using test::KernelMachine;
using test::OneKernel;

template <class Policy>
class WorkloadTest : public testing::Test {
 protected:
  static constexpr bool kAhead = std::same_as<Policy, Background>;

  KernelMachine machine;
  OneKernel<Policy> kernel{machine};

  void start() { kernel.start(machine.boot()); }
  std::unique_ptr<WorkResult> work(const WorkRequest& request) {
    const MemoryState before = kernel.memory->state();
    auto result = kernel.work(request);
    EXPECT_TRUE(result->good()) << result->stopped;
    EXPECT_EQ(result->wrong_pages, 0U);
    EXPECT_EQ(kernel.memory->state().free, before.free);
    EXPECT_EQ(kernel.memory->state().total, before.total);
    EXPECT_TRUE(kernel.memory->sound());
    machine.expect_no_rule_broken();
    return result;
  }
};
using Policies = testing::Types<Lazy, Eager, Background>;
struct PolicyNames {
  template <class Policy>
  static std::string GetName(int) {
    return std::same_as<Policy, Lazy>    ? "Lazy"
           : std::same_as<Policy, Eager> ? "Eager"
                                         : "Background";
  }
};
TYPED_TEST_SUITE(WorkloadTest, Policies, PolicyNames);

TYPED_TEST(WorkloadTest, FillsAllMemoryAndGivesItBack) {
  this->start();
  const Bytes free = this->kernel.memory->state().free;
  for (int i = 0; i < 2; ++i) {
    const auto result = this->work({.kind = WorkKind::kFill});
    EXPECT_EQ(result->stopped, "done");
    EXPECT_EQ(result->touched, free);
    EXPECT_EQ(result->latency.count(), free / 4_KiB);
    EXPECT_EQ(this->kernel.memory->state().unaccepted, 0_B);
    EXPECT_EQ(this->kernel.memory->table().unaccepted(), 0_B);
  }
  // Heads that no bit stands for were accepted before the kernel began.
  EXPECT_EQ(this->machine.accepted(), this->machine.unaccepted());
}

TYPED_TEST(WorkloadTest, TouchesWhatIsAskedInWholePages) {
  this->start();
  const auto result = this->work({.kind = WorkKind::kTouch, .amount = 20_MiB + 5_B});
  EXPECT_EQ(result->stopped, "done");
  EXPECT_EQ(result->touched, 20_MiB);
  EXPECT_EQ(result->latency.count(), 20_MiB / 4_KiB);
  EXPECT_GT(result->elapsed_ticks, 0U);
}

TYPED_TEST(WorkloadTest, TouchesUntilNothingIsUnaccepted) {
  this->start();
  const bool was_unaccepted = this->kernel.memory->state().unaccepted != 0_B;
  const auto result = this->work({.kind = WorkKind::kTouch, .all = true});
  EXPECT_EQ(result->stopped, was_unaccepted ? "accepted" : "memory");
  EXPECT_EQ(this->kernel.memory->state().unaccepted, 0_B);
  // In the background a reserve is accepted ahead of use.
  EXPECT_GT(result->touched, this->kAhead ? 20_MiB : 80_MiB);
  // Again: now there is nothing to accept.
  const auto again = this->work({.kind = WorkKind::kTouch, .all = true});
  EXPECT_EQ(again->stopped, "memory");
  EXPECT_GT(again->touched, 85_MiB);
}

TYPED_TEST(WorkloadTest, TakesAndGivesBlocksOfRandomOrders) {
  this->start();
  const auto result = this->work({.kind = WorkKind::kRandom, .amount = 40_MiB});
  EXPECT_EQ(result->stopped, "done");
  EXPECT_EQ(result->touched, 40_MiB);
  EXPECT_GT(result->latency.count(), 100U);
  const auto all = this->work({.kind = WorkKind::kRandom, .all = true, .seed = 9});
  EXPECT_EQ(this->kernel.memory->state().unaccepted, 0_B);
  EXPECT_GT(all->touched, this->kAhead ? 20_MiB : 70_MiB);
}

TYPED_TEST(WorkloadTest, SaysThatItWasAskedForMoreThanThereIs) {
  this->start();
  EXPECT_EQ(this->work({.kind = WorkKind::kTouch, .amount = 1_TiB})->stopped, "memory");
  EXPECT_EQ(this->work({.kind = WorkKind::kRandom, .amount = 1_TiB})->stopped, "memory");
}

TYPED_TEST(WorkloadTest, IsTheSameForTheSameSeed) {
  this->start();
  const WorkRequest request{.kind = WorkKind::kRandom, .amount = 8_MiB, .seed = 3};
  const auto first = this->work(request)->latency.count();
  EXPECT_EQ(this->work(request)->latency.count(), first);
}

TEST(Workload, EndsAtAnAnswerThatNoHonestHostGives) {
  for (const auto kind : {WorkKind::kTouch, WorkKind::kRandom, WorkKind::kFill}) {
    KernelMachine machine;
    OneKernel<Lazy> kernel{machine};
    kernel.start(machine.boot());
    machine.attack();
    const auto result = kernel.work({.kind = kind, .amount = 64_MiB});
    EXPECT_FALSE(result->good());
    ASSERT_TRUE(result->failure.has_value());
    EXPECT_EQ(result->failure->failure.kind, guest::FailureKind::kAlreadyAccepted);
    EXPECT_EQ(result->wrong_pages, 0U);
    EXPECT_TRUE(kernel.memory->sound());
  }
}

/// Memory that somebody else writes to: one word of the page that was handed out last changes.
template <class Memory>
class SharedMemory {
 public:
  class Pages {
   public:
    explicit Pages(Memory& memory) : memory_{memory} {}
    auto allocate(guest::Order order) {
      const auto got = memory_.pages().allocate(order);
      last = got ? *got : last;
      return got;
    }
    auto free(PhysAddr at, guest::Order order) { return memory_.pages().free(at, order); }
    auto counters() { return memory_.pages().counters(); }
    PhysAddr last{};

   private:
    Memory& memory_;
  };

  SharedMemory(Memory& memory, Bytes offset) : memory_{memory}, pages_{memory}, offset_{offset} {}
  Pages& pages() { return pages_; }
  PhysWindow window() const { return memory_.window(); }
  bool sound() const { return memory_.sound(); }
  std::expected<void, guest::AcceptError> background_poll() {
    if (++polls_ == 50) {
      *window().template pointer<std::uint64_t>(pages_.last + offset_) ^= 0x10;
    }
    return {};
  }

 private:
  Memory& memory_;
  Pages pages_;
  Bytes offset_;
  unsigned polls_ = 0;
};

TEST(Workload, NoticesThatSomebodyElseWritesToItsPages) {
  for (const auto kind : {WorkKind::kTouch, WorkKind::kRandom, WorkKind::kFill}) {
    for (const Bytes offset : {0_B, 8_B, 4088_B}) {
      KernelMachine machine;
      OneKernel<Lazy> kernel{machine};
      kernel.start(machine.boot());
      SharedMemory shared{*kernel.memory, offset};
      Workload workload{shared, test::FakeClock{&kernel.now}};
      WorkResult result;
      workload.run({.kind = kind, .amount = 4_MiB}, result);
      EXPECT_GT(result.wrong_pages, 0U) << to_string(kind) << offset.value();
      EXPECT_FALSE(result.good());
    }
  }
}

/// Memory that loses a page.
TEST(Workload, NoticesThatMemoryDoesNotComeBack) {
  KernelMachine machine;
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  struct Forgetful {
    decltype(*kernel.memory)& memory;
    bool taken = false;
    auto& pages() { return memory.pages(); }
    PhysWindow window() const { return memory.window(); }
    bool sound() const { return memory.sound(); }
    std::expected<void, guest::AcceptError> background_poll() {
      if (!taken) {
        taken = memory.pages().allocate(guest::Order{0}).has_value();
      }
      return {};
    }
  };
  for (const auto kind : {WorkKind::kTouch, WorkKind::kFill}) {
    Forgetful forgetful{*kernel.memory};
    Workload workload{forgetful, test::FakeClock{&kernel.now}};
    WorkResult result;
    workload.run({.kind = kind, .amount = 4_MiB}, result);
    EXPECT_FALSE(result.good());
    EXPECT_EQ(result.stopped,
              kind == WorkKind::kTouch
                  ? "not all memory came back"
                  : "the memory that could be taken is not what was counted as free");
  }
}

}  // namespace
}  // namespace accede::efi::kernel
