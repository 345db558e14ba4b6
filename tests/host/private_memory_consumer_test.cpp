// Consumers of private memory: who may register, and the RMP and the secure EPT as such.
#include "accede/host/rmp.hpp"
#include "accede/host/secure_ept.hpp"
#include "tests/host/private_memory_fixture.hpp"
#include "tests/host/rmp_fixture.hpp"

namespace accede::host {
namespace {

using namespace test;
using enum PrivateMemoryError;

constexpr auto kInaccessible = Requirements::user_inaccessible();
constexpr auto kUnmovable = Requirements::unmovable();
constexpr auto kUnreclaimable = Requirements::unreclaimable();

/// A consumer without callbacks.
MemoryConsumer wants(Requirements needs, Requirements breaks = {}) {
  MemoryConsumer consumer;
  consumer.needs = needs;
  consumer.breaks = breaks;
  return consumer;
}

TEST(PrivateMemoryConsumer, RequirementsAreDistinctBits) {
  EXPECT_EQ((kInaccessible & kUnmovable).bits(), 0U);
  EXPECT_EQ((kInaccessible & kUnreclaimable).bits(), 0U);
  EXPECT_EQ((kUnmovable & kUnreclaimable).bits(), 0U);
  EXPECT_FALSE((kInaccessible | kUnmovable | kUnreclaimable).unknown());
}

TEST(PrivateMemoryConsumer, IsCheckedAgainstItselfTheMemoryAndAllOthers) {
  PrivateVm vm{VmType::kTdx};
  vm.make_private();
  auto& memory = vm.memory;
  EXPECT_TRUE(fails_with(memory.register_consumer(wants(Requirements{1U << 3})), kUnknownFlag));
  EXPECT_TRUE(
      fails_with(memory.register_consumer(wants({}, Requirements{1U << 31})), kUnknownFlag));
  EXPECT_TRUE(fails_with(memory.register_consumer(wants(kUnmovable, kUnmovable)), kContradiction));
  vm.backing.set_guarantees(kInaccessible | kUnmovable);
  EXPECT_TRUE(fails_with(memory.register_consumer(wants(kUnreclaimable)), kNotGuaranteed));

  const auto mover = memory.register_consumer(wants({}, kUnmovable));
  ASSERT_TRUE(mover);
  ASSERT_TRUE(memory.register_consumer(wants(kInaccessible))) << "distinct requirements";
  EXPECT_TRUE(fails_with(memory.register_consumer(wants(kUnmovable)), kContradiction))
      << "against the first of two";
  EXPECT_TRUE(fails_with(memory.register_consumer(wants({}, kInaccessible)), kContradiction))
      << "against the second, the other way round";
  ASSERT_TRUE(memory.unregister_consumer(*mover));
  EXPECT_TRUE(fails_with(memory.unregister_consumer(*mover), kNotHeld));
  EXPECT_TRUE(fails_with(memory.unregister_consumer(ConsumerId{99}), kNotHeld));
  ASSERT_TRUE(memory.register_consumer(wants(kUnmovable)));
  ASSERT_TRUE(memory.register_consumer(wants({})));
  EXPECT_TRUE(fails_with(memory.register_consumer(wants({})), kTableFull));
}

TEST(PrivateMemoryConsumer, TurnsSharedMemoryPrivateWithItsContentUnlessItIsMapped) {
  for (const VmType type : kAllVmTypes) {
    PrivateVm vm{type};
    vm.bind();
    EXPECT_TRUE(fails_with(vm.memory.register_consumer(wants(kInaccessible)), kWrongOrder));
    vm.put(kHigh, kPrivate, 77);
    ASSERT_TRUE(vm.memory.initialise());
    const auto hold = vm.memory.hold(pages(kHigh, 9, 1), kPrivate, HoldKind::kMapping);
    ASSERT_TRUE(hold);
    const BackingCalls before = vm.backing.calls();
    EXPECT_TRUE(fails_with(vm.memory.register_consumer(wants(kInaccessible)), kMapped));
    EXPECT_TRUE(vm.is(whole(kHigh), kShared));
    EXPECT_EQ(vm.backing.calls(), before);
    ASSERT_TRUE(vm.memory.release(*hold));
    ASSERT_TRUE(vm.memory.register_consumer(wants(kInaccessible)));
    EXPECT_TRUE(vm.is(whole(kLow), kPrivate));
    EXPECT_TRUE(vm.is(whole(kHigh), kPrivate));
    EXPECT_EQ(vm.content(kHigh, kPrivate), 77U) << properties_of(type).name;
    EXPECT_TRUE(vm.memory.launch());
  }
}

/// Keeps the RMP in step, as KVM does: entries come with the first private use (gmem_prepare) and
/// go with the page (gmem_invalidate).
struct RmpConsumer {
  [[nodiscard]] PhysAddr spa(Bytes offset) const { return rmp.covered().begin() + offset; }
  [[nodiscard]] bool assigned(PhysAddr at) const {
    return RmpEntry::Assigned::get(rmp.lookup(at).low) != 0;
  }
  [[nodiscard]] bool large(PhysAddr at) const {
    return assigned(at) && RmpEntry::Large::get(rmp.lookup(at).low) != 0;
  }

  bool prepare(PhysRange run, PageAttribute to) const {
    for (PhysAddr gpa = run.begin(); to == kShared && gpa < run.end(); gpa += 4_KiB) {
      const PhysAddr at = spa(gpa - kLow);
      if (rmp.in_use(at, PageSize::k4K) || RmpEntry::Immutable::get(rmp.lookup(at).low) != 0) {
        return false;
      }
    }
    return true;
  }
  bool allocate(const BackedPage& page) {
    if (page.size == PageSize::k2M &&
        rmp.update(spa(page.offset), RmpUpdate::guest(page.gpa, page.size, kRmpAsid)) ==
            RmpUpdateCode::kSuccess) {
      return true;
    }
    bool done = true;
    for (Bytes at; at < bytes(page.size); at += 4_KiB) {
      done = done && (assigned(spa(page.offset + at)) ||
                      rmp.update(spa(page.offset + at),
                                 RmpUpdate::guest(page.gpa + at, PageSize::k4K, kRmpAsid)) ==
                          RmpUpdateCode::kSuccess);
    }
    return done;
  }
  void invalidate(const BackedPage& page) {
    const PhysAddr begin = spa(page.offset);
    if (page.size == PageSize::k2M && large(begin)) {
      EXPECT_EQ(rmp.update(begin, RmpUpdate::hypervisor(PageSize::k2M)), RmpUpdateCode::kSuccess);
      return;
    }
    if (large(begin)) {
      EXPECT_EQ(rmp.psmash(begin.align_down(2_MiB)), PsmashCode::kSuccess);
    }
    for (PhysAddr at = begin; at < begin + bytes(page.size); at += 4_KiB) {
      if (assigned(at)) {
        EXPECT_EQ(rmp.update(at, RmpUpdate::hypervisor(PageSize::k4K)), RmpUpdateCode::kSuccess);
      }
    }
  }
  bool launch(const BackedPage& page) {
    return rmp.update(spa(page.offset), RmpUpdate::pre_guest(page.gpa, PageSize::k4K, kRmpAsid)) ==
               RmpUpdateCode::kSuccess &&
           rmp.launch_update(spa(page.offset), LaunchPage{.asid = kRmpAsid}) ==
               FirmwareCode::kSuccess;
  }

  Rmp& rmp;
};

class PrivateMemoryRmp : public testing::Test {
 protected:
  static constexpr PhysRange covered() {
    return *PhysRange::make(PhysAddr{kRmpBase}, kSlotSize * 2);
  }
  [[nodiscard]] RmpState state(std::uint64_t page) const {
    return state_of(rmp_.lookup(consumer_.spa(PageCount{page}.bytes())));
  }

  Storage storage_{Rmp::storage_bound(covered())};
  Rmp rmp_{covered(), storage_.span()};
  RmpConsumer consumer_{rmp_};
  PrivateVm vm_{VmType::kSnp};
};

TEST_F(PrivateMemoryRmp, PagesAreAssignedAtTheFirstUseIn2MAndSmashedWhenAPartGoes) {
  ASSERT_NO_FATAL_FAILURE(vm_.launch());
  ASSERT_TRUE(vm_.memory.register_consumer(consumer_of(consumer_)));
  EXPECT_FALSE(consumer_.assigned(consumer_.spa(0_B))) << "a conversion assigns nothing";
  const auto fault = vm_.memory.fault(kLow + 5_MiB, kPrivate);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->page.size, PageSize::k2M);
  EXPECT_TRUE(consumer_.large(consumer_.spa(4_MiB)));

  ASSERT_TRUE(vm_.memory.convert(pages(kLow, 1024 + 7, 3), kShared));
  EXPECT_EQ(state(1024 + 6), RmpState::kGuestInvalid);
  EXPECT_EQ(state(1024 + 7), RmpState::kHypervisor);
  EXPECT_EQ(state(1024 + 10), RmpState::kGuestInvalid);
  EXPECT_FALSE(consumer_.large(consumer_.spa(4_MiB)));
  // A block with a shared page is backed in 4 KiB.
  ASSERT_TRUE(vm_.memory.convert(pages(kLow, 3, 1), kShared));
  EXPECT_EQ(vm_.memory.fault(kLow, kPrivate)->page.size, PageSize::k4K);

  ASSERT_TRUE(vm_.memory.convert(whole(kLow), kShared));
  for (std::uint64_t page = 0; page < 2048; ++page) {
    ASSERT_EQ(state(page), RmpState::kHypervisor) << page;
  }
  EXPECT_TRUE(rmp_.invariants());
}

TEST_F(PrivateMemoryRmp, APageInUseRefusesAndNothingChanges) {
  ASSERT_NO_FATAL_FAILURE(vm_.launch());
  ASSERT_TRUE(vm_.memory.register_consumer(consumer_of(consumer_)));
  ASSERT_TRUE(vm_.memory.fault(kLow, kPrivate));
  const PhysAddr vmsa = consumer_.spa(20_KiB);
  ASSERT_TRUE(rmp_.begin_use(vmsa));
  EXPECT_TRUE(fails_with(vm_.memory.convert(pages(kLow, 0, 16), kShared), kConsumerRefused));
  EXPECT_TRUE(vm_.is(whole(kLow), kPrivate));
  EXPECT_TRUE(consumer_.large(consumer_.spa(0_B))) << "not even smashed";
  rmp_.end_use(vmsa);
  EXPECT_TRUE(vm_.memory.convert(pages(kLow, 0, 16), kShared));
}

TEST_F(PrivateMemoryRmp, LaunchPagesAreValidatedWhereTheyAre) {
  vm_.bind();
  ASSERT_TRUE(vm_.memory.register_consumer(consumer_of(consumer_)));
  vm_.put(kLow + 4_KiB, kPrivate, 99);
  ASSERT_TRUE(vm_.memory.populate(pages(kLow, 1, 1)));
  ASSERT_TRUE(vm_.memory.initialise());
  ASSERT_TRUE(vm_.memory.set_private(whole(kLow)));
  ASSERT_TRUE(vm_.memory.launch());
  EXPECT_EQ(state(1), RmpState::kGuestValid);
  EXPECT_EQ(state(0), RmpState::kHypervisor);
  EXPECT_EQ(vm_.content(kLow + 4_KiB, kPrivate), 99U);
}

/// Keeps a secure EPT in step: prepare blocks and tracks, cancel unblocks, invalidate removes.
struct SeptConsumer {
  [[nodiscard]] SeptState state(PhysAddr gpa) const { return sept.ept.lookup(gpa)->state; }
  [[nodiscard]] SeptLevel level(PhysAddr gpa) const { return sept.ept.lookup(gpa)->level; }

  /// Calls `use` with every leaf of `run`; a 2M page of which only a part lies inside is demoted.
  template <class Use>
  void for_each_leaf(PhysRange run, Use use) {
    for (PhysAddr gpa = run.begin(); gpa < run.end();) {
      if (is_free(state(gpa))) {
        gpa += 4_KiB;
        continue;
      }
      const PhysRange block = PhysRange::page(gpa, PageSize::k2M);
      if (level(gpa) == SeptLevel::k2M && !run.contains(block)) {
        EXPECT_EQ(sept.ept.range_block(block.begin(), SeptLevel::k2M)->status, 0U);
        EXPECT_EQ(sept.ept.track(), 0U);
        EXPECT_EQ(sept.ept.page_demote(block.begin(), SeptLevel::k2M)->status, 0U);
      }
      const SeptLevel at = level(gpa);
      use(gpa, at);
      gpa += abi::tdx::level_bytes(at);
    }
  }
  [[nodiscard]] static bool is_free(SeptState state) { return state == SeptState::kFree; }

  bool prepare(PhysRange run, PageAttribute to) {
    if (to == kPrivate) {
      return true;
    }
    if (run.contains(refuse)) {
      return false;
    }
    for_each_leaf(run, [&](PhysAddr gpa, SeptLevel at) {
      EXPECT_EQ(sept.ept.range_block(gpa, at)->status, 0U);
    });
    return sept.ept.track() == 0;
  }
  void cancel(PhysRange run, PageAttribute to) {
    if (to == kShared) {
      for_each_leaf(run, [&](PhysAddr gpa, SeptLevel at) {
        EXPECT_EQ(sept.ept.range_unblock(gpa, at)->status, 0U);
      });
    }
  }
  void invalidate(const BackedPage& page) {
    const PhysRange run = *PhysRange::make(page.gpa, bytes(page.size));
    for_each_leaf(run, [&](PhysAddr gpa, SeptLevel at) {
      EXPECT_EQ(sept.ept.page_remove(gpa, at)->status, 0U);
    });
  }
  bool allocate(const BackedPage& page) {
    const SeptLevel wanted = abi::tdx::sept_level(page.size);
    sept.add_tables(page.gpa.value(), wanted);
    if (!is_free(state(page.gpa))) {
      return true;
    }
    return sept.ept.page_aug(page.gpa, wanted, PhysAddr{1ULL << 40} + page.offset)->status == 0;
  }

  test::Sept sept;
  PhysRange refuse = *PhysRange::make(PhysAddr{~0xFFFULL - 1}, PhysAddr{~0xFFFULL});
};

TEST(PrivateMemorySept, ConversionsBlockTrackAndRemoveAndARefusalUnblocks) {
  PrivateVm vm{VmType::kTdx};
  ASSERT_NO_FATAL_FAILURE(vm.launch());
  SeptConsumer first;
  SeptConsumer second;
  ASSERT_EQ(first.sept.ept.finalize(), 0U);
  ASSERT_EQ(second.sept.ept.finalize(), 0U);
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(first)));
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(second)));
  ASSERT_TRUE(vm.memory.fault(kLow, kPrivate));
  EXPECT_EQ(first.level(kLow), SeptLevel::k2M);
  ASSERT_EQ(first.sept.accept(kLow.value(), 1), 0U);
  ASSERT_EQ(first.state(kLow), SeptState::kMapped);

  second.refuse = pages(kLow, 0, 1);
  EXPECT_TRUE(fails_with(vm.memory.convert(pages(kLow, 0, 512), kShared), kConsumerRefused));
  EXPECT_EQ(first.state(kLow), SeptState::kMapped) << "accepted, as it was before";
  EXPECT_EQ(second.state(kLow), SeptState::kPending);

  vm.backing.fail_after(0);
  EXPECT_TRUE(fails_with(vm.memory.convert(pages(kLow, 1, 3), kShared), kBackingFailed));
  EXPECT_EQ(first.state(kLow + 4_KiB), SeptState::kMapped);
  EXPECT_EQ(second.state(kLow + 4_KiB), SeptState::kPending);

  ASSERT_TRUE(vm.memory.convert(pages(kLow, 1, 3), kShared));
  EXPECT_EQ(first.state(kLow), SeptState::kMapped);
  EXPECT_EQ(first.state(kLow + 4_KiB), SeptState::kFree);
  EXPECT_EQ(first.state(kLow + 12_KiB), SeptState::kFree);
  EXPECT_EQ(first.state(kLow + 16_KiB), SeptState::kMapped);
  EXPECT_TRUE(first.sept.ept.invariants());
  EXPECT_TRUE(second.sept.ept.invariants());
}

}  // namespace
}  // namespace accede::host
