// Conversions in bulk on real memory: what is one call, what a failure leaves, how long an exit is.
#include "accede/host/bulk_conversion.hpp"

#include "accede/host/rmp.hpp"
#include "tests/host/private_memory_fixture.hpp"
#include "tests/host/rmp_fixture.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>
#include <vector>

namespace accede::host {
namespace {

using namespace test;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;
using abi::ghcb::PscResult;
using abi::tdx::VmcallStatus;
using enum PrivateMemoryError;

using Words = std::vector<std::uint64_t>;
using Sizes = PageSizeRequests;

constexpr std::uint64_t kMark = 0x6D61726B;

bool never() {
  return false;
}

std::uint64_t entry(PhysAddr gpa, PageOp op, PageSize size = PageSize::k4K) {
  return PscEntry::make(gpa, size, op);
}
std::uint64_t small(std::uint64_t page, PageOp op = PageOp::kPrivate) {
  return entry(pages(kLow, page, 1).begin(), op);
}
std::uint64_t large(std::uint64_t block, PageOp op = PageOp::kPrivate) {
  return entry(kLow + 2_MiB * block, op, PageSize::k2M);
}
std::vector<std::uint64_t> run_of(std::uint64_t first, std::uint64_t count, PageOp op) {
  std::vector<std::uint64_t> entries;
  for (std::uint64_t i = 0; i < count; ++i) {
    entries.push_back(small(first + i, op));
  }
  return entries;
}

Words list_of(const std::vector<std::uint64_t>& entries) {
  Words words(abi::ghcb::kPscWords);
  words[0] = PscHeader::make(0, static_cast<std::uint16_t>(entries.size() - 1));
  std::ranges::copy(entries, words.begin() + 1);
  return words;
}
std::uint64_t cur(const Words& words) {
  return PscHeader::CurEntry::get(words[0]);
}

/// A launched SNP guest.
class BulkVm : public PrivateVm {
 public:
  explicit BulkVm(const BulkLimits& limits = {}, VmType type = VmType::kSnp)
      : PrivateVm{type}, bulk{memory, limits} {
    launch();
  }

  /// Answers lists that wait at once; returns their results.
  std::vector<PscResult> answer(std::vector<Words*> waiting, bool (*must_return)() = never,
                                Sizes sizes = Sizes::kAutomatic) {
    const auto report = [this](const GhcbMistake& mistake) { mistakes.push_back(mistake.kind); };
    std::vector<PageStateList> lists;
    for (Words* words : waiting) {
      lists.emplace_back(GhcbScratch{GhcbScratch::Buffer{*words}}, report, sizes);
    }
    bulk.answer_lists(lists, must_return, report, [this](PhysRange range, PageOp op) {
      resized.emplace_back(range, op);
      if (on_resize) {
        on_resize(range, op);
      }
    });
    std::vector<PscResult> results;
    for (const PageStateList& list : lists) {
      results.push_back(list.result());
    }
    return results;
  }
  PscResult answer(Words& words) { return answer({&words}).front(); }

  /// Makes pages shared and gives each content.
  void share(std::uint64_t first, std::uint64_t count) {
    ASSERT_TRUE(memory.convert(pages(kLow, first, count), kShared));
    for (std::uint64_t page = first; page < first + count; ++page) {
      put(pages(kLow, page, 1).begin(), kShared, kMark);
    }
  }
  [[nodiscard]] std::uint64_t calls() const { return backing.calls().total(); }
  [[nodiscard]] bool is_private(std::uint64_t first, std::uint64_t count) const {
    return is(pages(kLow, first, count), kPrivate);
  }
  [[nodiscard]] bool is_shared(std::uint64_t first, std::uint64_t count) const {
    return is(pages(kLow, first, count), kShared);
  }

  BulkConversion<FailingBacking> bulk;
  std::vector<GhcbMistakeKind> mistakes;
  std::vector<std::pair<PhysRange, PageOp>> resized;
  std::function<void(PhysRange, PageOp)> on_resize;
};

TEST(BulkList, Regression_K02_253PopulatedPagesAreOneCallAndTheirMemoryIsGone) {
  BulkVm vm;
  vm.share(0, 253);
  ASSERT_EQ(vm.backing.file(kShared).backed(), PageCount{253}.bytes());
  const std::uint64_t before = vm.calls();
  Words words = list_of(run_of(0, 253, PageOp::kPrivate));
  EXPECT_EQ(vm.answer(words), PscResult::kOk);
  EXPECT_EQ(vm.calls(), before + 1);
  EXPECT_EQ(vm.backing.file(kShared).backed(), 0_B);
  EXPECT_EQ(vm.content(kLow, kShared), 0U);
  EXPECT_TRUE(vm.is(whole(kLow), kPrivate));
  EXPECT_EQ(cur(words), 253U);
  for (std::uint64_t page = 0; page < 253; ++page) {
    ASSERT_EQ(words[1 + page], small(page) | 1) << page;
  }
}

TEST(BulkList, EntriesThatMakeOneRangeAreOneCallInWhateverOrderAndSize) {
  const std::vector<std::vector<std::uint64_t>> lists{
      {large(1), small(1024), small(1025), large(0)},
      {small(513), small(512), small(511), small(510)},
      {large(1), small(700), small(700), large(1)},
      {large(1) | 100, small(1024), small(611)},
      {small(600), small(600) | 1, small(601)},
  };
  for (const auto& entries : lists) {
    BulkVm vm;
    vm.share(0, 2048);
    const std::uint64_t before = vm.calls();
    Words words = list_of(entries);
    EXPECT_EQ(vm.answer(words), PscResult::kOk);
    EXPECT_EQ(vm.calls(), before + 1) << entries[0];
    EXPECT_EQ(cur(words), entries.size());
  }
}

TEST(BulkList, OnlyWhatWasAskedForIsConverted) {
  BulkVm vm;
  vm.share(0, 2048);
  Words words = list_of({small(5), small(6) | 1, small(7), large(1) | 3, small(4)});
  EXPECT_EQ(vm.answer(words), PscResult::kOk);
  for (std::uint64_t page = 0; page < 2048; ++page) {
    const bool asked = page == 4 || page == 5 || page == 7 || (page >= 515 && page < 1024);
    ASSERT_EQ(vm.is_private(page, 1), asked) << page;
    ASSERT_EQ(vm.content(pages(kLow, page, 1).begin(), kShared), asked ? 0 : kMark) << page;
  }
}

TEST(BulkList, ListsThatWaitAtOnceAreOneCallWhereTheyTouch) {
  BulkVm vm;
  vm.share(0, 2048);
  const std::uint64_t before = vm.calls();
  Words high = list_of(run_of(506, 253, PageOp::kPrivate));
  Words low = list_of(run_of(0, 253, PageOp::kPrivate));
  Words middle = list_of(run_of(253, 253, PageOp::kPrivate));
  Words apart = list_of({small(2000)});
  EXPECT_EQ(vm.answer({&high, &low, &middle, &apart}),
            (std::vector{PscResult::kOk, PscResult::kOk, PscResult::kOk, PscResult::kOk}));
  EXPECT_EQ(vm.calls(), before + 2);
  EXPECT_TRUE(vm.is_private(0, 759));
  EXPECT_TRUE(vm.is_shared(759, 1241));
  for (const Words* words : {&high, &low, &middle}) {
    EXPECT_EQ(cur(*words), 253U);
  }
}

TEST(BulkList, BothDirectionsInOneListEndAsTheLastEntrySays) {
  BulkVm vm;
  vm.share(0, 16);
  Words words = list_of({small(3), small(3, PageOp::kShared), small(4), small(4, PageOp::kShared),
                         small(4), large(0), small(9, PageOp::kShared)});
  EXPECT_EQ(vm.answer(words), PscResult::kOk);
  EXPECT_TRUE(vm.is_private(0, 9));
  EXPECT_TRUE(vm.is_shared(9, 1));
  EXPECT_TRUE(vm.is_private(10, 502));
  EXPECT_EQ(vm.content(pages(kLow, 9, 1).begin(), kShared), 0U) << "it was private in between";
}

TEST(BulkList, EveryBadHeaderChangesNothing) {
  for (const unsigned end : {253U, 254U, 255U, 256U, 1000U, 0x7FFFU, 0xFFFEU, 0xFFFFU}) {
    BulkVm vm;
    Words words = list_of({small(0, PageOp::kShared)});
    words[0] = PscHeader::make(0, static_cast<std::uint16_t>(end));
    const Words before = words;
    ASSERT_EQ(vm.answer(words), PscResult::kBadHeader) << end;
    ASSERT_EQ(words, before);
    ASSERT_TRUE(vm.is(whole(kLow), kPrivate));
    ASSERT_EQ(vm.mistakes, std::vector{GhcbMistakeKind::kListHeader});
  }
}

TEST(BulkList, ABadEntryEndsTheListThereAndWhatLiesBeforeIsDone) {
  for (const std::uint64_t bad : {large(1, PageOp::kShared) | 0x1000, small(9) | 2,
                                  large(1, PageOp::kShared) | 513, small(2) | 0xFFF}) {
    BulkVm vm;
    Words words = list_of(
        {small(1, PageOp::kShared), small(2, PageOp::kShared), bad, small(3, PageOp::kShared)});
    EXPECT_EQ(vm.answer(words), PscResult::kBadEntry);
    EXPECT_EQ(cur(words), 2U);
    EXPECT_EQ(words[3], bad);
    EXPECT_TRUE(vm.is_shared(1, 2));
    EXPECT_TRUE(vm.is_private(3, 2045));
    EXPECT_EQ(vm.mistakes, std::vector{GhcbMistakeKind::kListEntry});
  }
}

TEST(BulkList, AHeaderBehindItsEndHasNothingToDo) {
  for (const unsigned first : {1U, 252U, 253U, 0xFFFFU}) {
    BulkVm vm;
    Words words = list_of({small(0, PageOp::kShared)});
    words[0] = PscHeader::make(static_cast<std::uint16_t>(first), 0);
    EXPECT_EQ(vm.answer(words), PscResult::kOk);
    EXPECT_EQ(cur(words), first);
    EXPECT_TRUE(vm.is(whole(kLow), kPrivate));
  }
}

TEST(BulkList, PagesThatAreNotMemoryCanBeSharedButNotPrivate) {
  for (const PhysAddr gpa :
       {PhysAddr{0}, kLow + kSlotSize, PhysAddr{(1ULL << 52) - (2ULL << 20)}}) {
    BulkVm vm;
    const std::uint64_t before = vm.calls();
    Words share =
        list_of({entry(gpa, PageOp::kShared), entry(gpa, PageOp::kShared, PageSize::k2M)});
    EXPECT_EQ(vm.answer(share), PscResult::kOk);
    EXPECT_EQ(vm.calls(), before);
    Words take = list_of({small(4, PageOp::kShared), entry(gpa, PageOp::kPrivate)});
    EXPECT_EQ(vm.answer(take), PscResult::kGeneric);
    EXPECT_EQ(cur(take), 1U);
    EXPECT_EQ(take[2], entry(gpa, PageOp::kPrivate));
    EXPECT_TRUE(vm.is_shared(4, 1));
  }
}

TEST(BulkList, AChangeThatRunsOutOfMemoryIsRefusedWholly) {
  BulkVm vm;
  vm.share(2040, 8);
  Words words = list_of(run_of(2040, 9, PageOp::kPrivate));
  EXPECT_EQ(vm.answer(words), PscResult::kGeneric);
  EXPECT_EQ(cur(words), 0U);
  EXPECT_TRUE(vm.is_shared(2040, 8));
}

/// Refuses whatever contains one page.
struct Stubborn {
  bool prepare(PhysRange run, PageAttribute) const { return !run.contains(page); }
  PhysAddr page;
};

TEST(BulkList, Regression_K03_ARefusedListLeavesTheOldStateAndNoOtherListSuffers) {
  BulkVm vm;
  vm.share(0, 64);
  Stubborn stubborn{pages(kLow, 20, 1).begin()};
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(stubborn)));
  Words before = list_of(run_of(0, 16, PageOp::kPrivate));
  Words bad = list_of(run_of(16, 16, PageOp::kPrivate));
  Words after = list_of(run_of(32, 16, PageOp::kPrivate));
  EXPECT_EQ(vm.answer({&before, &bad, &after}),
            (std::vector{PscResult::kOk, PscResult::kGeneric, PscResult::kOk}));
  EXPECT_TRUE(vm.is_private(0, 16));
  EXPECT_TRUE(vm.is_shared(16, 16));
  EXPECT_TRUE(vm.is_private(32, 16));
  for (std::uint64_t page = 16; page < 32; ++page) {
    EXPECT_EQ(vm.content(pages(kLow, page, 1).begin(), kShared), kMark);
  }
  EXPECT_EQ(cur(bad), 0U);
  EXPECT_EQ(bad, list_of(run_of(16, 16, PageOp::kPrivate)));
}

TEST(BulkList, WhatKvmWouldHaveDoneBeforeARefusalIsDone) {
  BulkVm vm;
  vm.share(0, 2048);
  Stubborn stubborn{pages(kLow, 1030, 1).begin()};
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(stubborn)));
  std::vector<std::uint64_t> entries{large(1)};
  std::ranges::copy(run_of(1024, 16, PageOp::kPrivate), std::back_inserter(entries));
  Words words = list_of(entries);
  EXPECT_EQ(vm.answer(words), PscResult::kGeneric);
  EXPECT_EQ(cur(words), 1U) << "the 2 MiB entry is a change of its own";
  EXPECT_TRUE(vm.is_private(512, 512));
  EXPECT_TRUE(vm.is_shared(1024, 1024));
}

TEST(BulkList, AListThatTheGuestRewritesMeanwhileIsDoneAsItWas) {
  BulkVm vm;
  vm.share(0, 64);
  Words words = list_of({small(1), small(5), small(9)});
  struct Rewriter {
    bool prepare(PhysRange, PageAttribute) const {
      std::ranges::fill(*words, ~std::uint64_t{0});
      return true;
    }
    Words* words;
  };
  Rewriter rewriter{&words};
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(rewriter)));
  EXPECT_EQ(vm.answer(words), PscResult::kOk);
  EXPECT_EQ(cur(words), 3U);
  EXPECT_EQ(words[3], small(9) | 1);
  for (const std::uint64_t page : {1U, 5U, 9U}) {
    EXPECT_TRUE(vm.is_private(page, 1));
  }
  EXPECT_TRUE(vm.is_shared(2, 3));
}

TEST(BulkList, AnExitEndsInTimeAndTheNextGoesOn) {
  BulkVm vm{{.step = 2_MiB, .most = 1_GiB}};
  vm.share(0, 2048);
  Words words = list_of({large(0), large(1), small(1024), small(1025), large(3)});
  const auto at_once = [] { return true; };
  for (const std::uint64_t done : {1U, 2U, 4U, 5U}) {
    EXPECT_EQ(vm.answer({&words}, at_once), std::vector{PscResult::kOk});
    EXPECT_EQ(cur(words), done) << "one step each, however little time there is";
  }
  EXPECT_TRUE(vm.is_private(0, 1026));
  EXPECT_TRUE(vm.is_shared(1026, 510));
  EXPECT_TRUE(vm.is_private(1536, 512));
}

TEST(BulkList, WhoMeetsAnotherConversionIsToldToAskAgain) {
  BulkVm vm;
  vm.share(0, 64);
  struct Visitor {
    bool prepare(PhysRange, PageAttribute) {
      if (vm == nullptr) {
        return true;
      }
      BulkVm& met = *std::exchange(vm, nullptr);
      result = met.answer({&words}, [] { return true; }).front();
      return true;
    }
    BulkVm* vm;
    Words words = list_of({small(30)});
    PscResult result = PscResult::kGeneric;
  };
  Visitor visitor{&vm};
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(visitor)));
  Words words = list_of({small(3)});
  EXPECT_EQ(vm.answer(words), PscResult::kOk);
  EXPECT_EQ(visitor.result, PscResult::kOk);
  EXPECT_EQ(cur(visitor.words), 0U);
  EXPECT_TRUE(vm.is_shared(30, 1));
  EXPECT_EQ(vm.answer(visitor.words), PscResult::kOk);
  EXPECT_TRUE(vm.is_private(30, 1));
}

TEST(BulkPageSize, RequestsCountAsDoneAndReachTheHostOnlyWhereItWantsThem) {
  for (const Sizes sizes : {Sizes::kAutomatic, Sizes::kOnRequest}) {
    BulkVm vm;
    Words words =
        list_of({large(0, PageOp::kPsmash), large(1, PageOp::kPsmash), large(1, PageOp::kUnsmash),
                 small(9, PageOp::kPsmash), small(8, PageOp::kShared)});
    EXPECT_EQ(vm.answer({&words}, never, sizes), std::vector{PscResult::kOk});
    EXPECT_EQ(cur(words), 5U);
    EXPECT_EQ(words[2], large(1, PageOp::kPsmash) | 512);
    EXPECT_TRUE(vm.is_shared(8, 1));
    if (sizes == Sizes::kAutomatic) {
      EXPECT_TRUE(vm.resized.empty());
    } else {
      EXPECT_EQ(vm.resized, (std::vector<std::pair<PhysRange, PageOp>>{
                                {pages(kLow, 0, 1024), PageOp::kPsmash},
                                {pages(kLow, 512, 512), PageOp::kUnsmash}}));
    }
    EXPECT_TRUE(vm.mistakes.empty());
  }
}

TEST(BulkRange, APageIsHandedBackInTheSizeItHasHoweverTheListAsked) {
  BulkVm vm;
  struct Sized {
    void invalidate(const BackedPage& page) { gone.push_back(page); }
    std::vector<BackedPage> gone;
  };
  Sized sized;
  ASSERT_TRUE(vm.memory.register_consumer(consumer_of(sized)));
  std::vector<std::uint64_t> entries = run_of(510, 2, PageOp::kShared);
  entries.push_back(large(1, PageOp::kShared));
  entries.push_back(small(1024, PageOp::kShared));
  Words words = list_of(entries);
  const std::uint64_t before = vm.calls();
  EXPECT_EQ(vm.answer(words), PscResult::kOk);
  EXPECT_EQ(vm.calls(), before + 1);
  const auto page = [](std::uint64_t first, PageSize size) {
    return BackedPage{
        .gpa = pages(kLow, first, 1).begin(), .offset = PageCount{first}.bytes(), .size = size};
  };
  EXPECT_EQ(sized.gone, (std::vector{page(510, PageSize::k4K), page(511, PageSize::k4K),
                                     page(512, PageSize::k2M), page(1024, PageSize::k4K)}));
}

TEST(BulkRange, CrossesSlotsAndStopsWhereItCannotGoOn) {
  BulkVm vm;
  const PhysRange both = *PhysRange::make(kLow, kHigh + 8_MiB);
  const BulkProgress shared = vm.bulk.convert(both, kShared, never);
  EXPECT_EQ(shared.next, both.end());
  EXPECT_FALSE(shared.failure);
  EXPECT_TRUE(vm.is(whole(kLow), kShared));
  EXPECT_TRUE(vm.is(whole(kHigh), kShared));
  const BulkProgress refused = vm.bulk.convert(both, kPrivate, never);
  EXPECT_EQ(refused.next, kLow);
  ASSERT_TRUE(refused.failure);
  EXPECT_EQ(refused.failure->error, kOutsideSlots);
  EXPECT_EQ(refused.failure->at, *PhysRange::make(kLow + kSlotSize, kHigh));
  EXPECT_TRUE(vm.is(whole(kLow), kShared));
}

TEST(BulkRange, IsAsManyCallsAsStepsAndNoStepSplitsALargePage) {
  BulkVm vm{{.step = 2_MiB, .most = 1_GiB}};
  const std::uint64_t before = vm.calls();
  const BulkProgress done = vm.bulk.convert(pages(kLow, 511, 514), kShared, never);
  EXPECT_FALSE(done.failure);
  EXPECT_EQ(vm.calls(), before + 3) << "page 511, a large page, page 1024";
}

TEST(BulkRange, AFailingStepSaysWhereAndLeavesTheRest) {
  BulkVm vm{{.step = 2_MiB, .most = 1_GiB}};
  vm.backing.fail_after(2);
  const BulkProgress done = vm.bulk.convert(whole(kLow), kShared, never);
  EXPECT_EQ(done.next, kLow + 4_MiB);
  ASSERT_TRUE(done.failure);
  EXPECT_EQ(done.failure->error, kBackingFailed);
  EXPECT_TRUE(vm.is_shared(0, 1024));
  EXPECT_TRUE(vm.is_private(1024, 1024));
}

constexpr std::uint64_t kSharedBit = 1ULL << 47;

TEST(BulkMapGpa, GoesOnWhereRetrySaysUntilAllIsDone) {
  BulkVm vm{{.step = 2_MiB, .most = 4_MiB}, VmType::kTdx};
  const std::uint64_t start = kLow.value() | kSharedBit;
  const std::uint64_t size = kSlotSize.value();
  MapGpaAnswer answer = vm.bulk.map_gpa(start, size, kSharedBit, never);
  EXPECT_EQ(answer.r10, VmcallStatus::kRetry);
  EXPECT_EQ(answer.r11, start + (4ULL << 20)) << "the bound in pages";
  EXPECT_TRUE(vm.is_shared(0, 1024));
  EXPECT_TRUE(vm.is_private(1024, 1024));
  answer = vm.bulk.map_gpa(answer.r11, start + size - answer.r11, kSharedBit, [] { return true; });
  EXPECT_EQ(answer.r10, VmcallStatus::kRetry);
  EXPECT_EQ(answer.r11, start + (6ULL << 20)) << "the bound by a clock: one step";
  answer = vm.bulk.map_gpa(answer.r11, start + size - answer.r11, kSharedBit, [] { return true; });
  EXPECT_EQ(answer.r10, VmcallStatus::kSuccess);
  EXPECT_TRUE(vm.is(whole(kLow), kShared));
  answer = vm.bulk.map_gpa(kLow.value(), 4096, kSharedBit, never);
  EXPECT_EQ(answer.r10, VmcallStatus::kSuccess);
  EXPECT_TRUE(vm.is_private(0, 1));
}

TEST(BulkMapGpa, BadArgumentsChangeNothing) {
  BulkVm vm{{}, VmType::kTdx};
  const std::uint64_t low = kLow.value() | kSharedBit;
  struct Case {
    std::uint64_t start;
    std::uint64_t size;
    VmcallStatus status;
  };
  for (const Case& bad :
       {Case{low, 0, VmcallStatus::kInvalidOperand},
        Case{low, ~0ULL, VmcallStatus::kInvalidOperand},
        Case{low, 0 - low, VmcallStatus::kInvalidOperand},
        Case{kSharedBit * 2 - 4096, 8192, VmcallStatus::kInvalidOperand},
        Case{kSharedBit - 4096, 8192, VmcallStatus::kInvalidOperand},
        Case{low + 1, 4096, VmcallStatus::kAlignError}, Case{low, 4097, VmcallStatus::kAlignError},
        Case{4096, 4096, VmcallStatus::kInvalidOperand}}) {
    const MapGpaAnswer answer = vm.bulk.map_gpa(bad.start, bad.size, kSharedBit, never);
    EXPECT_EQ(answer.r10, bad.status) << bad.start << " " << bad.size;
    EXPECT_EQ(answer.r11, bad.start);
  }
  EXPECT_TRUE(vm.is(whole(kLow), kPrivate));
}

TEST(BulkPageSize, TheRmpFollowsTheGuestsRequests) {
  const PhysRange covered = *PhysRange::make(PhysAddr{kRmpBase}, kSlotSize);
  Storage storage{Rmp::storage_bound(covered)};
  Rmp rmp{covered, storage.span()};
  BulkVm vm;
  const auto spa = [&](PhysAddr gpa) { return covered.begin() + (gpa - kLow); };
  const PhysAddr block = kLow + 2_MiB;
  ASSERT_EQ(rmp.update(spa(block), RmpUpdate::guest(block, PageSize::k2M, kRmpAsid)),
            RmpUpdateCode::kSuccess);
  vm.on_resize = [&](PhysRange range, PageOp op) {
    for (PhysAddr gpa = range.begin(); gpa < range.end(); gpa += 2_MiB) {
      if (op == PageOp::kPsmash) {
        (void)rmp.psmash(spa(gpa));
      } else {
        (void)rmp.unsmash(spa(gpa));
      }
    }
  };
  const auto is_large = [&] { return RmpEntry::Large::get(rmp.lookup(spa(block)).low) != 0; };
  ASSERT_TRUE(is_large());
  Words psmash = list_of({large(1, PageOp::kPsmash)});
  EXPECT_EQ(vm.answer({&psmash}, never, Sizes::kOnRequest), std::vector{PscResult::kOk});
  EXPECT_FALSE(is_large());
  Words unsmash = list_of({large(0, PageOp::kUnsmash), large(1, PageOp::kUnsmash)});
  EXPECT_EQ(vm.answer({&unsmash}, never, Sizes::kOnRequest), std::vector{PscResult::kOk});
  EXPECT_TRUE(is_large());
  EXPECT_TRUE(vm.is(whole(kLow), kPrivate)) << "a size says nothing about the state";
}

}  // namespace
}  // namespace accede::host
