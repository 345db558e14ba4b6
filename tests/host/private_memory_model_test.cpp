// PrivateMemory against a naive map, and under threads, on real memory.
#include "tests/host/private_memory_fixture.hpp"

#include <random>
#include <thread>

namespace accede::host {
namespace {

using namespace test;
using enum PrivateMemoryError;

/// What the naive map knows of a page.
struct NaivePage {
  PageAttribute attribute = kPrivate;
  std::uint64_t content = 0;
};

class PrivateMemoryModel : public testing::TestWithParam<VmType> {
 protected:
  static constexpr std::uint64_t kPages = kSlotSize / 4_KiB;

  void SetUp() override { vm_.launch(); }

  void convert(std::uint64_t first, std::uint64_t count, PageAttribute to) {
    const bool kept = vm_.memory.properties().content == ContentRule::kPreserved;
    Bytes changed;
    for (std::uint64_t i = first; i < first + count; ++i) {
      if (naive_[i].attribute != to) {
        naive_[i] = {.attribute = to, .content = kept ? naive_[i].content : 0};
        changed += 4_KiB;
      }
    }
    const auto done = vm_.memory.convert(pages(kHigh, first, count), to);
    ASSERT_TRUE(done);
    ASSERT_EQ(done->changed, changed);
  }
  /// A conversion that the memory object refuses.
  void fail_to_convert(std::uint64_t first, std::uint64_t count, PageAttribute to) {
    vm_.backing.fail_after(0);
    const auto done = vm_.memory.convert(pages(kHigh, first, count), to);
    vm_.backing.fail_after(~std::uint64_t{0} >> 1);
    ASSERT_TRUE(done ? done->changed == 0_B || !vm_.memory.properties().host_loses_private
                     : done.error().error == kBackingFailed);
    for (std::uint64_t i = first; done && i < first + count; ++i) {
      naive_[i].attribute = to;  // SEV: no call, so nothing to fail
    }
  }
  void write(std::uint64_t page, std::uint64_t value) {
    const PhysAddr gpa = pages(kHigh, page, 1).begin();
    ASSERT_TRUE(vm_.memory.fault(gpa, naive_[page].attribute));
    vm_.put(gpa, naive_[page].attribute, value);
    naive_[page].content = value;
  }
  void compare() {
    for (std::uint64_t i = 0; i < kPages; ++i) {
      const PhysAddr gpa = pages(kHigh, i, 1).begin();
      ASSERT_EQ(vm_.memory.attribute(gpa), naive_[i].attribute) << i;
      ASSERT_EQ(vm_.content(gpa, naive_[i].attribute), naive_[i].content) << i;
      if (vm_.memory.properties().two_backings) {
        const PageAttribute other = naive_[i].attribute == kShared ? kPrivate : kShared;
        ASSERT_EQ(vm_.content(gpa, other), 0U) << i;
      }
    }
  }

  std::mt19937_64 random_{test::seed_from_environment(11)};
  std::vector<NaivePage> naive_ = std::vector<NaivePage>(kPages);
  PrivateVm vm_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Types, PrivateMemoryModel, testing::ValuesIn(kAllVmTypes),
                         [](const auto& each) {
                           std::string text{properties_of(each.param).name};
                           std::erase_if(text, [](char c) { return c == '-' || c == ' '; });
                           return text;
                         });

TEST_P(PrivateMemoryModel, RandomConversionsAgreeWithANaiveMapAndRealContent) {
  for (int round = 0; round < 1500; ++round) {
    const std::uint64_t first = random_() % kPages;
    const std::uint64_t longest = random_() % 8 == 0 ? kPages : 20;
    const std::uint64_t count = std::min(kPages - first, 1 + random_() % longest);
    const PageAttribute to = random_() % 2 == 0 ? kShared : kPrivate;
    switch (random_() % 8) {
      case 0:
      case 1:
      case 2:
        ASSERT_NO_FATAL_FAILURE(convert(first, count, to));
        break;
      case 3:
        ASSERT_NO_FATAL_FAILURE(fail_to_convert(first, count, to));
        break;
      default:
        ASSERT_NO_FATAL_FAILURE(write(first, random_()));
    }
    if (round % 300 == 299) {
      ASSERT_NO_FATAL_FAILURE(compare()) << round;
    }
  }
}

/// Every page that it is told to allocate or invalidate, once each at a time.
struct Owner {
  bool allocate(const BackedPage& page) {
    if (busy.exchange(true)) {
      // Two callbacks for one block at once: claims are broken.
      broken = true;
    }
    (void)page;
    busy = false;
    return true;
  }
  void invalidate(const BackedPage& page) { (void)allocate(page); }

  std::atomic<bool> busy = false;
  std::atomic<bool> broken = false;
};

TEST(PrivateMemoryConcurrency, TwoThreadsConvertWhileAThirdTouches) {
  PrivateVm vm{VmType::kTdx};
  ASSERT_NO_FATAL_FAILURE(vm.launch());
  Owner owner;
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(owner)));
  // All three work in one 2 MiB block: callbacks of the block must never meet.
  constexpr int kRounds = 1500;
  std::atomic<int> working = 2;
  std::atomic<std::uint64_t> converted = 0;
  std::atomic<std::uint64_t> wrong = 0;
  const auto convert = [&](std::uint64_t seed) {
    std::mt19937_64 random{seed};
    for (int i = 0; i < kRounds;) {
      const PhysRange range = pages(kLow, random() % 500, 1 + random() % 12);
      const auto done = vm.memory.convert(range, random() % 2 == 0 ? kShared : kPrivate);
      if (done) {
        converted += done->changed.value();
        ++i;
      } else if (done.error().error != kBusy) {
        ++wrong;
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
    --working;
  };
  std::uint64_t touched = 0;
  std::thread one{convert, 1};
  std::thread two{convert, 2};
  std::mt19937_64 random{3};
  while (working != 0 || touched < 100) {
    const PhysAddr gpa = pages(kLow, random() % 512, 1).begin();
    const PageAttribute side = random() % 2 == 0 ? kShared : kPrivate;
    const auto fault = vm.memory.fault(gpa, side);
    if (fault) {
      ++touched;
    } else if (fault.error().error != kBusy && fault.error().error != kImplicitConversion) {
      ++wrong;
    }
  }
  one.join();
  two.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_FALSE(owner.broken);
  EXPECT_GT(converted, 0U);
  // Whoever touched, the other side of every page holds nothing.
  vm.memory.attributes().visit(whole(kLow), [&](PhysRange run, PageAttribute attribute) {
    for (PhysAddr gpa = run.begin(); gpa < run.end(); gpa += 4_KiB) {
      const PageAttribute other = attribute == kShared ? kPrivate : kShared;
      const PhysRange page = PhysRange::page(gpa, PageSize::k4K);
      const OffsetRange at = vm.memory.slot_of(page)->offsets(other, page);
      EXPECT_NE(
          lseek(vm.backing.file(other).fd(), static_cast<off_t>(at.begin().value()), SEEK_DATA),
          static_cast<off_t>(at.begin().value()));
    }
  });
}

TEST(PrivateMemoryConcurrency, WhoeverMeetsAChangeIsToldToTryAgainAndNeighboursAreNot) {
  PrivateVm vm{VmType::kTdx};
  ASSERT_NO_FATAL_FAILURE(vm.launch());
  /// A consumer that looks around while it is asked.
  struct Visitor {
    bool prepare(PhysRange, PageAttribute) {
      // From another thread's point of view; claims know no owner.
      same_block = vm->memory.convert(pages(kLow, 100, 1), kShared);
      fault = vm->memory.fault(pages(kLow, 3, 1).begin(), kPrivate);
      hold = vm->memory.hold(pages(kLow, 3, 1), kShared, HoldKind::kMapping);
      joining = vm->memory.register_consumer({});
      next_block = vm->memory.fault(pages(kLow, 512, 1).begin(), kPrivate);
      return true;
    }
    PrivateVm* vm;
    PrivateMemoryResult<Conversion> same_block{};
    PrivateMemoryResult<MemoryFault> fault{};
    PrivateMemoryResult<HoldId> hold{};
    PrivateMemoryResult<ConsumerId> joining{};
    PrivateMemoryResult<MemoryFault> next_block{};
  };
  Visitor visitor{.vm = &vm};
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(visitor)));
  ASSERT_TRUE(vm.memory.convert(pages(kLow, 0, 512), kShared));
  EXPECT_TRUE(fails_with(visitor.same_block, kBusy));
  EXPECT_TRUE(fails_with(visitor.fault, kBusy));
  EXPECT_TRUE(fails_with(visitor.hold, kBusy));
  EXPECT_TRUE(fails_with(visitor.joining, kBusy));
  EXPECT_TRUE(visitor.next_block) << "Regression_L02: neighbours never wait for each other";
}

}  // namespace
}  // namespace accede::host
