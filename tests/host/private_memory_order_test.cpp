// The way to launch, and everything that is refused on it and afterwards.
#include "tests/host/private_memory_fixture.hpp"

#include <set>

namespace accede::host {
namespace {

using namespace test;
using enum PrivateMemoryError;

constexpr std::uint64_t kMark = 0x6A72616D;

TEST(PrivateMemoryOrder, SlotsThenBindThenPopulateThenInitThenSetPrivateThenLaunch) {
  PrivateVm vm{VmType::kTdx};
  const PhysRange some = pages(kLow, 0, 1);
  // At each stage, everything that belongs to a later or an earlier one is refused.
  EXPECT_TRUE(fails_with(vm.memory.initialise(), kWrongOrder));
  ASSERT_TRUE(vm.memory.add_slot(whole(kLow)));
  EXPECT_TRUE(fails_with(vm.memory.populate(some), kNotBound));
  EXPECT_TRUE(fails_with(vm.memory.initialise(), kNotBound));
  EXPECT_TRUE(fails_with(vm.memory.set_private(some), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.launch(), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.convert(some, kPrivate), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.fault(kLow, kPrivate), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.relinquish(some), kWrongOrder));
  ASSERT_EQ(vm.memory.stage(), VmStage::kSlots);

  ASSERT_TRUE(vm.memory.bind(kLow, 0_B, 0_B));
  EXPECT_TRUE(fails_with(vm.memory.add_slot(whole(kHigh)), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.bind(kLow, 0_B, 0_B), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.set_private(some), kWrongOrder));
  ASSERT_EQ(vm.memory.stage(), VmStage::kBound);

  ASSERT_TRUE(vm.memory.populate(some));
  EXPECT_TRUE(fails_with(vm.memory.set_private(some), kWrongOrder));
  ASSERT_EQ(vm.memory.stage(), VmStage::kPopulated);

  ASSERT_TRUE(vm.memory.initialise());
  EXPECT_TRUE(fails_with(vm.memory.initialise(), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.populate(pages(kLow, 1, 1)), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.launch(), kWrongOrder));
  ASSERT_EQ(vm.memory.stage(), VmStage::kInitialised);

  ASSERT_TRUE(vm.memory.set_private(pages(kLow, 1, 1)));
  EXPECT_TRUE(fails_with(vm.memory.launch(), kNotPrivate)) << "the populated page is shared";
  ASSERT_TRUE(vm.memory.set_private(some));
  EXPECT_TRUE(fails_with(vm.memory.convert(some, kShared), kWrongOrder));
  ASSERT_EQ(vm.memory.stage(), VmStage::kPrivate);

  ASSERT_TRUE(vm.memory.launch());
  EXPECT_TRUE(fails_with(vm.memory.launch(), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.set_private(some), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.add_slot(whole(kHigh)), kWrongOrder));
  EXPECT_TRUE(fails_with(vm.memory.populate(pages(kLow, 1, 1)), kWrongOrder));
  EXPECT_TRUE(vm.memory.convert(some, kShared));
}

TEST(PrivateMemoryOrder, OnlyTypesWithASeparateSourceTakeABuffer) {
  for (const VmType type : kAllVmTypes) {
    PrivateVm vm{type};
    vm.bind();
    std::vector<std::byte> source(4096, std::byte{0x5A});
    const auto populated = vm.memory.populate(pages(kHigh, 3, 1), source);
    if (!properties_of(type).separate_source) {
      EXPECT_TRUE(fails_with(populated, kSeparateSource)) << properties_of(type).name;
      EXPECT_EQ(vm.content(pages(kHigh, 3, 1).begin(), kPrivate), 0U);
      continue;
    }
    ASSERT_TRUE(populated) << properties_of(type).name;
    EXPECT_EQ(vm.content(pages(kHigh, 3, 1).begin(), kPrivate), 0x5A5A5A5A5A5A5A5A);
  }
}

/// Notes the pages that are launched and refuses one.
struct Launcher {
  bool launch(const BackedPage& page) {
    if (launched.size() == refuse_at) {
      return false;
    }
    launched.push_back(page);
    return true;
  }
  void invalidate(const BackedPage& page) { invalidated.push_back(page); }

  std::size_t refuse_at = ~std::size_t{0};
  std::vector<BackedPage> launched;
  std::vector<BackedPage> invalidated;
};

TEST(PrivateMemoryOrder, WhatIsPopulatedInPlaceIsLaunchedInTheVeryPage) {
  for (const VmType type : kAllVmTypes) {
    PrivateVm vm{type};
    vm.bind();
    Launcher launcher;
    ASSERT_TRUE(vm.memory.register_consumer(consumer_of(launcher)));
    const PhysRange range = pages(kHigh, 7, 3);
    // The host writes through its own mapping of the private memory object.
    const OffsetRange at = vm.memory.slot_of(range)->offsets(kPrivate, range);
    const std::uint64_t mark = kMark;
    std::memcpy(vm.backing.file(kPrivate).host_view().data() + at.begin().value(), &mark,
                sizeof mark);
    ASSERT_TRUE(vm.memory.populate(range));
    ASSERT_TRUE(vm.memory.initialise());
    ASSERT_TRUE(vm.memory.set_private(range));
    ASSERT_TRUE(vm.memory.launch());
    ASSERT_EQ(launcher.launched.size(), 3U);
    EXPECT_EQ(launcher.launched[0], (BackedPage{.gpa = range.begin(), .offset = at.begin()}));
    EXPECT_EQ(launcher.launched[2].offset, at.begin() + 8_KiB);
    EXPECT_EQ(vm.content(range.begin(), kPrivate), kMark) << properties_of(type).name;
  }
}

TEST(PrivateMemoryOrder, ARefusedLaunchPageTakesBackThoseBeforeIt) {
  PrivateVm vm{VmType::kSnp};
  vm.bind();
  Launcher launcher{.refuse_at = 2, .launched = {}, .invalidated = {}};
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(launcher)));
  ASSERT_TRUE(vm.memory.populate(pages(kLow, 0, 5)));
  ASSERT_TRUE(vm.memory.initialise());
  ASSERT_TRUE(vm.memory.set_private(whole(kLow)));
  const auto launched = vm.memory.launch();
  ASSERT_TRUE(fails_with(launched, kConsumerRefused));
  EXPECT_EQ(launched.error().at, pages(kLow, 2, 1));
  EXPECT_EQ(launcher.invalidated, launcher.launched);
  EXPECT_EQ(vm.memory.stage(), VmStage::kPrivate);
  launcher.refuse_at = ~std::size_t{0};
  EXPECT_TRUE(vm.memory.launch());
}

TEST(PrivateMemoryOrder, AfterSetPrivateTheHostCannotTouchThePage) {
  for (const VmType type : {VmType::kTdx, VmType::kPkvm}) {
    PrivateVm vm{type};
    vm.make_private();
    const std::byte* const page = vm.backing.file(kPrivate).host_view().data();
    EXPECT_DEATH((void)*static_cast<const volatile std::byte*>(page), "");
  }
}

TEST(PrivateMemoryBadInput, OfSlotsAndBindingsIsRefusedByName) {
  PrivateVm vm{VmType::kTdx};
  EXPECT_TRUE(fails_with(vm.memory.add_slot(pages(kLow, 0, 0)), kEmpty));
  EXPECT_TRUE(fails_with(vm.memory.add_slot(range(0x1001, 0x3000)), kUnaligned));
  EXPECT_TRUE(fails_with(vm.memory.add_slot(range(0, 9ULL << 30)), kOutsideAttributes));
  EXPECT_TRUE(
      fails_with(vm.memory.add_slot(range(~0xFFFULL - 0x1000, ~0xFFFULL)), kOutsideAttributes));
  ASSERT_TRUE(vm.memory.add_slot(whole(kLow)));
  EXPECT_TRUE(fails_with(vm.memory.add_slot(pages(kLow, 2047, 2)), kSlotOverlap));
  ASSERT_TRUE(vm.memory.add_slot(pages(kLow, 2048, 1))) << "neighbours do not overlap";
  ASSERT_TRUE(vm.memory.add_slot(whole(kHigh)));
  EXPECT_TRUE(fails_with(vm.memory.add_slot(range(0x1000, 0x2000)), kTableFull));
  EXPECT_TRUE(fails_with(vm.memory.bind(kHigh + 4_KiB, 0_B, 0_B), kOutsideSlots));
  EXPECT_TRUE(fails_with(vm.memory.bind(kLow, 1_B, 0_B), kUnaligned));
  EXPECT_TRUE(fails_with(vm.memory.bind(kLow, 0_B, kSlotSize + 4_KiB), kOutsideBacking));
  EXPECT_TRUE(fails_with(vm.memory.bind(kLow, Bytes{~0xFFFULL}, 0_B), kOutsideBacking));
  ASSERT_TRUE(vm.memory.bind(kLow, 0_B, 0_B));
  EXPECT_TRUE(fails_with(vm.memory.bind(kHigh, kSlotSize, kSlotSize - 4_KiB), kBindingOverlap));
  EXPECT_TRUE(fails_with(vm.memory.populate(pages(kLow, 0, 1)), kNotBound));
  EXPECT_EQ(vm.backing.calls(), BackingCalls{});
}

TEST(PrivateMemoryBadInput, InPlaceBothSidesAreOnePlace) {
  PrivateVm vm{VmType::kPkvm};
  ASSERT_TRUE(vm.memory.add_slot(whole(kLow)));
  EXPECT_TRUE(fails_with(vm.memory.bind(kLow, 0_B, kSlotSize), kBindingOverlap));
  EXPECT_TRUE(vm.memory.bind(kLow, kSlotSize, kSlotSize));
}

TEST(PrivateMemoryBadInput, OfPopulateIsRefusedByName) {
  PrivateVm vm{VmType::kTdx};
  vm.bind();
  EXPECT_TRUE(fails_with(vm.memory.populate(pages(kLow, 0, 0)), kEmpty));
  EXPECT_TRUE(fails_with(vm.memory.populate(range(0x200001, 0x202001)), kUnaligned));
  EXPECT_TRUE(fails_with(vm.memory.populate(pages(kLow, 2047, 2)), kOutsideSlots));
  ASSERT_TRUE(vm.memory.populate(pages(kLow, 4, 4)));
  EXPECT_TRUE(fails_with(vm.memory.populate(pages(kLow, 7, 4)), kPopulated));
  vm.backing.fail_after(0);
  const std::vector<std::byte> source(4096);
  const auto failed = vm.memory.populate(pages(kLow, 0, 1), source);
  ASSERT_TRUE(fails_with(failed, kBackingFailed));
  EXPECT_EQ(failed.error().code, FailingBacking::kCode);
  ASSERT_TRUE(vm.memory.populate(pages(kLow, 0, 1), source)) << "the failure left no trace";
  ASSERT_TRUE(vm.memory.populate(pages(kLow, 1, 1)));
  EXPECT_TRUE(fails_with(vm.memory.populate(pages(kLow, 2, 1)), kTableFull));
}

TEST(PrivateMemoryBadInput, OfConversionsChangesNothing) {
  for (const VmType type : kAllVmTypes) {
    PrivateVm vm{PrivateMemoryConfig{.type = type, .granule = 16_KiB}};
    vm.launch();
    const BackingCalls before = vm.backing.calls();
    for (const PageAttribute to : {kShared, kPrivate}) {
      EXPECT_TRUE(fails_with(vm.memory.convert(pages(kLow, 4, 0), to), kEmpty));
      EXPECT_TRUE(fails_with(vm.memory.convert(pages(kLow, 1, 4), to), kUnaligned));
      EXPECT_TRUE(fails_with(vm.memory.convert(pages(kLow, 4, 5), to), kUnaligned));
      EXPECT_TRUE(fails_with(vm.memory.convert(pages(kLow, 2044, 8), to), kOutsideSlots));
      EXPECT_TRUE(fails_with(vm.memory.convert(range(0, 0x4000), to), kOutsideSlots));
      EXPECT_TRUE(
          fails_with(vm.memory.convert(range(~0x3FFFULL - 0x4000, ~0x3FFFULL), to), kOutsideSlots));
      EXPECT_TRUE(fails_with(vm.memory.fault(PhysAddr{0}, to), kOutsideSlots));
      EXPECT_TRUE(fails_with(vm.memory.fault(PhysAddr{~0ULL}, to), kOutsideSlots));
    }
    EXPECT_TRUE(
        fails_with(vm.memory.hold(range(0, 0x1000), kShared, HoldKind::kPin), kOutsideSlots));
    EXPECT_TRUE(fails_with(vm.memory.release(HoldId{3}), kNotHeld));
    EXPECT_TRUE(fails_with(vm.memory.release(HoldId{~std::size_t{0}}), kNotHeld));
    EXPECT_TRUE(vm.is(whole(kLow), kPrivate));
    EXPECT_EQ(vm.backing.calls(), before);
  }
}

TEST(PrivateMemoryBadInput, EveryErrorHasALineOfItsOwn) {
  std::set<std::string_view> lines;
  int errors = 0;
  for (int i = 0; i <= static_cast<int>(kNotHeld); ++i, ++errors) {
    lines.insert(name(static_cast<PrivateMemoryError>(i)));
  }
  EXPECT_EQ(lines.size(), static_cast<std::size_t>(errors));
  EXPECT_FALSE(lines.contains("unknown error"));
  EXPECT_EQ(name(static_cast<PrivateMemoryError>(200)), "unknown error");
}

}  // namespace
}  // namespace accede::host
