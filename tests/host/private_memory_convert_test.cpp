// Conversions: what becomes of content, how many calls they take, and that failures leave no trace.
#include "tests/host/private_memory_fixture.hpp"

namespace accede::host {
namespace {

using namespace test;
using enum PrivateMemoryError;

constexpr std::uint64_t kMark = 0x6D61726B;

/// A launched VM with a mark in a page that is on `side`.
void mark(PrivateVm& vm, PhysAddr gpa, PageAttribute side) {
  ASSERT_TRUE(vm.memory.fault(gpa, side)) << properties_of(VmType::kTdx).name;
  vm.put(gpa, side, kMark);
  ASSERT_EQ(vm.content(gpa, side), kMark);
}

class PrivateMemoryEveryType : public testing::TestWithParam<VmType> {};
INSTANTIATE_TEST_SUITE_P(Types, PrivateMemoryEveryType, testing::ValuesIn(kAllVmTypes),
                         [](const auto& each) {
                           std::string text{properties_of(each.param).name};
                           std::erase_if(text, [](char c) { return c == '-' || c == ' '; });
                           return text;
                         });

TEST_P(PrivateMemoryEveryType, DestroysOrPreservesContentAsItsRowSays) {
  PrivateVm vm{GetParam()};
  vm.launch();
  const bool kept = vm.memory.properties().content == ContentRule::kPreserved;
  const PhysRange range = pages(kHigh, 5, 3);
  for (const PageAttribute from : {kPrivate, kShared}) {
    const PageAttribute to = from == kPrivate ? kShared : kPrivate;
    ASSERT_NO_FATAL_FAILURE(mark(vm, range.begin(), from));
    const Bytes held = vm.backing.file(from).backed();
    const auto done = vm.memory.convert(range, to);
    ASSERT_TRUE(done);
    EXPECT_EQ(done->changed, 12_KiB);
    EXPECT_TRUE(vm.is(range, to));
    EXPECT_TRUE(vm.is(pages(kHigh, 0, 5), kPrivate));
    EXPECT_TRUE(vm.is(pages(kHigh, 8, 2040), kPrivate));
    EXPECT_EQ(vm.content(range.begin(), to), kept ? kMark : 0);
    if (!kept) {
      EXPECT_EQ(vm.content(range.begin(), from), 0U) << "the old side is gone";
      EXPECT_EQ(vm.backing.file(from).backed(), held - (from == kPrivate ? 12_KiB : 4_KiB))
          << "its memory too";
    }
  }
}

TEST_P(PrivateMemoryEveryType, ConvertsAtAnAccessOnlyWhereItsRowAllows) {
  for (const bool implicit : {false, true}) {
    PrivateVm vm{GetParam(), implicit};
    vm.launch();
    const VmProperties& row = vm.memory.properties();
    const PhysAddr page = pages(kLow, 9, 1).begin();
    const auto to_shared = vm.memory.fault(page + 17_B, kShared);
    if (implicit && row.implicit_to_shared) {
      ASSERT_TRUE(to_shared);
      EXPECT_TRUE(to_shared->converted);
      EXPECT_TRUE(vm.is(pages(kLow, 9, 1), kShared));
    } else {
      EXPECT_TRUE(fails_with(to_shared, kImplicitConversion));
      EXPECT_TRUE(vm.is(pages(kLow, 9, 1), kPrivate));
      ASSERT_TRUE(vm.memory.convert(pages(kLow, 9, 1), kShared));
    }
    const auto to_private = vm.memory.fault(page, kPrivate);
    if (implicit && row.implicit_to_private) {
      ASSERT_TRUE(to_private);
      EXPECT_TRUE(to_private->converted);
      EXPECT_TRUE(vm.is(whole(kLow), kPrivate));
    } else {
      EXPECT_TRUE(fails_with(to_private, kImplicitConversion));
      EXPECT_TRUE(vm.is(pages(kLow, 9, 1), kShared));
    }
  }
}

TEST_P(PrivateMemoryEveryType, IsToldOnceWhatIsSoAlready) {
  PrivateVm vm{GetParam()};
  vm.launch();
  const BackingCalls before = vm.backing.calls();
  const auto done = vm.memory.convert(pages(kLow, 0, 100), kPrivate);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->changed, 0_B);
  EXPECT_EQ(vm.backing.calls(), before);
}

TEST_P(PrivateMemoryEveryType, PinsAndMappingsKeepTheirPages) {
  PrivateVm vm{GetParam()};
  vm.launch();
  const VmProperties& row = vm.memory.properties();
  const PhysRange range = pages(kLow, 16, 8);
  if (row.host_loses_private) {
    EXPECT_TRUE(fails_with(vm.memory.hold(range, kShared, HoldKind::kPin), kNotShared));
  }
  ASSERT_TRUE(vm.memory.convert(range, kShared));
  const PhysRange inside = pages(kLow, 18, 1);
  for (const HoldKind kind : {HoldKind::kPin, HoldKind::kMapping}) {
    const auto hold = vm.memory.hold(inside, kShared, kind);
    ASSERT_TRUE(hold);
    const BackingCalls before = vm.backing.calls();
    const auto converted = vm.memory.convert(range, kPrivate);
    const bool blocks = row.host_loses_private && (kind == HoldKind::kPin || !row.two_backings);
    if (blocks) {
      ASSERT_TRUE(fails_with(converted, kind == HoldKind::kPin ? kPinned : kMapped));
      EXPECT_EQ(converted.error().at, inside);
      EXPECT_TRUE(vm.is(range, kShared));
      EXPECT_EQ(vm.backing.calls(), before);
    } else {
      EXPECT_TRUE(converted);
    }
    ASSERT_TRUE(vm.memory.release(*hold));
    EXPECT_TRUE(fails_with(vm.memory.release(*hold), kNotHeld));
    ASSERT_TRUE(vm.memory.convert(range, kPrivate));
    ASSERT_TRUE(vm.memory.convert(range, kShared));
  }
}

TEST(PrivateMemoryConvert, ARangeIsOneBackingCallHoweverMixed) {
  for (const VmType type : {VmType::kTdx, VmType::kPkvm}) {
    PrivateVm vm{type};
    vm.launch();
    for (std::uint64_t page = 0; page < 253; page += 2) {
      ASSERT_TRUE(vm.memory.convert(pages(kLow, page, 1), kShared));
    }
    const std::uint64_t before = vm.backing.calls().total();
    const auto done = vm.memory.convert(pages(kLow, 0, 253), kPrivate);
    ASSERT_TRUE(done);
    EXPECT_EQ(done->changed, PageCount{127}.bytes());
    EXPECT_EQ(vm.backing.calls().total(), before + 1);
    EXPECT_TRUE(vm.is(whole(kLow), kPrivate));
  }
}

TEST(PrivateMemoryConvert, SevTogglesWithoutAnyCallAndTheHostKeepsItsMapping) {
  for (const VmType type : {VmType::kSev, VmType::kSevEs}) {
    PrivateVm vm{type};
    vm.launch();
    const std::uint64_t before = vm.backing.calls().total();
    ASSERT_TRUE(vm.memory.convert(pages(kLow, 0, 16), kShared));
    ASSERT_TRUE(vm.memory.convert(pages(kLow, 0, 16), kPrivate));
    EXPECT_EQ(vm.backing.calls().total(), before);
    EXPECT_EQ(*vm.backing.file(kShared).host_view().data(), std::byte{0});
  }
}

TEST(PrivateMemoryConvert, Regression_K02_AConversionOf253PagesIsNotOnePerPage) {
  PrivateVm vm{VmType::kSnp};
  vm.launch();
  ASSERT_TRUE(vm.memory.convert(pages(kLow, 0, 253), kShared));
  for (std::uint64_t page = 0; page < 253; ++page) {
    ASSERT_NO_FATAL_FAILURE(mark(vm, pages(kLow, page, 1).begin(), kShared));
  }
  ASSERT_GE(vm.backing.file(kShared).backed(), PageCount{253}.bytes());
  const BackingCalls before = vm.backing.calls();
  ASSERT_TRUE(vm.memory.convert(pages(kLow, 0, 253), kPrivate));
  EXPECT_EQ(vm.backing.calls().total(), before.total() + 1);
  EXPECT_EQ(vm.backing.calls().discard, before.discard + 1);
  EXPECT_EQ(vm.backing.file(kShared).backed(), 0_B) << "no page is held twice";
}

TEST(PrivateMemoryConvert, RelinquishedPagesAreGoneAndComeBackEmpty) {
  PrivateVm vm{VmType::kPkvm};
  vm.launch();
  const PhysRange page = pages(kLow, 3, 1);
  ASSERT_NO_FATAL_FAILURE(mark(vm, page.begin(), kPrivate));
  ASSERT_EQ(vm.backing.file(kPrivate).backed(), 2_MiB) << "where nothing is shared, 2 MiB come";
  ASSERT_TRUE(vm.memory.relinquish(page));
  EXPECT_EQ(vm.content(page.begin(), kPrivate), 0U);
  EXPECT_EQ(vm.backing.file(kPrivate).backed(), 2_MiB - 4_KiB);
  ASSERT_TRUE(vm.memory.fault(page.begin(), kPrivate));
  EXPECT_EQ(vm.content(page.begin(), kPrivate), 0U);
  ASSERT_TRUE(vm.memory.convert(page, kShared));
  EXPECT_TRUE(fails_with(vm.memory.relinquish(page), kNotPrivate));
}

/// Writes down what it is told; refuses the given call of prepare.
struct Recorder {
  bool prepare(PhysRange run, PageAttribute) {
    if (*prepare_left == 0) {
      --*prepare_left;
      return false;
    }
    --*prepare_left;
    prepared.push_back(run);
    return true;
  }
  void cancel(PhysRange run, PageAttribute) { canceled.push_back(run); }
  void invalidate(const BackedPage& page) { invalidated.push_back(page); }

  int* prepare_left;
  std::vector<PhysRange> prepared;
  std::vector<PhysRange> canceled;
  std::vector<BackedPage> invalidated;
};

/// Three consumers, and shared pages in the low slot: a conversion has three runs.
class PrivateMemoryRollBack : public testing::TestWithParam<VmType> {
 protected:
  void SetUp() override {
    vm_.launch();
    for (Recorder& recorder : recorders_) {
      ASSERT_TRUE(vm_.memory.register_consumer(consumer_of(recorder)));
    }
    ASSERT_TRUE(vm_.memory.convert(pages(kLow, 4, 2), kShared));
    ASSERT_TRUE(vm_.memory.convert(pages(kLow, 8, 2), kShared));
    ASSERT_NO_FATAL_FAILURE(mark(vm_, pages(kLow, 3, 1).begin(), kPrivate));
    ASSERT_NO_FATAL_FAILURE(mark(vm_, pages(kLow, 9, 1).begin(), kShared));
    clear();
  }
  void clear() {
    left_ = -1;
    for (Recorder& recorder : recorders_) {
      recorder = {.prepare_left = &left_, .prepared = {}, .canceled = {}, .invalidated = {}};
    }
  }
  void expect_as_before() {
    EXPECT_TRUE(vm_.is(pages(kLow, 0, 4), kPrivate));
    EXPECT_TRUE(vm_.is(pages(kLow, 4, 2), kShared));
    EXPECT_TRUE(vm_.is(pages(kLow, 6, 2), kPrivate));
    EXPECT_TRUE(vm_.is(pages(kLow, 8, 2), kShared));
    EXPECT_TRUE(vm_.is(pages(kLow, 10, 100), kPrivate));
    EXPECT_EQ(vm_.content(pages(kLow, 3, 1).begin(), kPrivate), kMark);
    EXPECT_EQ(vm_.content(pages(kLow, 9, 1).begin(), kShared), kMark);
    for (const Recorder& recorder : recorders_) {
      EXPECT_TRUE(recorder.invalidated.empty());
      auto prepared = recorder.prepared;
      auto canceled = recorder.canceled;
      const auto before = [](PhysRange a, PhysRange b) { return a.begin() < b.begin(); };
      std::ranges::sort(prepared, before);
      std::ranges::sort(canceled, before);
      EXPECT_EQ(prepared, canceled);
    }
  }

  int left_ = -1;
  std::array<Recorder, 3> recorders_{Recorder{&left_, {}, {}, {}}, Recorder{&left_, {}, {}, {}},
                                     Recorder{&left_, {}, {}, {}}};
  PrivateVm vm_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Types, PrivateMemoryRollBack, testing::Values(VmType::kTdx, VmType::kPkvm),
                         [](const auto& each) {
                           return std::string{properties_of(each.param).name};
                         });

TEST_P(PrivateMemoryRollBack, Regression_K03_ARefusalOfAnyConsumerAtAnyRunLeavesTheOldState) {
  for (const PageAttribute to : {kShared, kPrivate}) {
    const int calls = to == kShared ? 3 * 3 : 2 * 3;
    for (int refused = 0; refused < calls; ++refused) {
      clear();
      left_ = refused;
      const auto done = vm_.memory.convert(pages(kLow, 0, 12), to);
      ASSERT_TRUE(fails_with(done, kConsumerRefused)) << refused;
      expect_as_before();
    }
    clear();
    left_ = calls;  // none is refused: the count of calls above is right
    const BackingCalls before = vm_.backing.calls();
    vm_.backing.fail_after(0);
    const auto done = vm_.memory.convert(pages(kLow, 0, 12), to);
    ASSERT_TRUE(fails_with(done, kBackingFailed));
    EXPECT_EQ(done.error().code, FailingBacking::kCode);
    EXPECT_EQ(left_, 0);
    if (properties_of(GetParam()).two_backings) {
      EXPECT_EQ(vm_.backing.calls(), before);
    }  // in place, what a failed call may have changed in part is set again
    expect_as_before();
  }
  clear();
  ASSERT_TRUE(vm_.memory.convert(pages(kLow, 0, 12), kShared)) << "nothing is left over";
}

TEST_P(PrivateMemoryRollBack, EachFailingCallOfSetPrivateLeavesTheOldState) {
  for (std::uint64_t call = 0;; ++call) {
    PrivateVm vm{GetParam()};
    vm.bind();
    vm.put(kLow, kPrivate, kMark);
    ASSERT_TRUE(vm.memory.initialise());
    vm.backing.fail_after(call);
    const auto done = vm.memory.set_private(whole(kLow));
    if (!vm.backing.failed()) {
      EXPECT_TRUE(done);
      EXPECT_GE(call, 1U);
      break;
    }
    ASSERT_TRUE(fails_with(done, kBackingFailed)) << call;
    EXPECT_TRUE(vm.is(whole(kLow), kShared));
    EXPECT_EQ(vm.memory.stage(), VmStage::kInitialised);
    EXPECT_EQ(vm.content(kLow, kPrivate), kMark);
    std::uint64_t seen = 0;
    std::memcpy(&seen, vm.backing.file(kPrivate).host_view().data(), sizeof seen);
    EXPECT_EQ(seen, kMark) << "the host can touch it again";
    ASSERT_TRUE(vm.memory.set_private(whole(kLow)));
  }
}

TEST_P(PrivateMemoryRollBack, AFailedRelinquishKeepsThePage) {
  vm_.backing.fail_after(0);
  EXPECT_TRUE(fails_with(vm_.memory.relinquish(pages(kLow, 0, 4)), kBackingFailed));
  expect_as_before();
  clear();
  left_ = 1;
  EXPECT_TRUE(fails_with(vm_.memory.relinquish(pages(kLow, 0, 4)), kConsumerRefused));
  expect_as_before();
}

TEST_P(PrivateMemoryRollBack, AFailedFaultConvertsAndAllocatesNothing) {
  vm_.backing.fail_after(0);
  EXPECT_TRUE(fails_with(vm_.memory.fault(pages(kLow, 0, 1).begin(), kPrivate), kBackingFailed));
  expect_as_before();
}

}  // namespace
}  // namespace accede::host
