#include "accede/guest/kexec.hpp"

#include "accede/guest/acceptor.hpp"
#include "tests/guest/early_fixture.hpp"
#include "tests/guest/fake_platform.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string_view>
#include <vector>

namespace accede::guest {
namespace {

using test::FakePlatform;
using test::MapAndTable;
using test::pa;
using test::range_of;
using test::TestRam;
using testing::ElementsAre;
using enum MemoryKind;

SegmentRequest request(Bytes at, Bytes size, Bytes file = 0_B) {
  return {.destination = pa(at), .size = size, .file_size = file};
}

/// 128 MiB: 32 accepted, an ACPI table with ours inside, then unaccepted memory and a hole.
class KexecTest : public testing::Test {
 protected:
  static constexpr PhysAddr kTableAt{(31 << 20) + 8};

  SegmentError error_of(std::vector<SegmentRequest> requests) const {
    const auto list = SegmentList::check(requests, machine.map, machine.table);
    EXPECT_FALSE(list);
    return list ? SegmentError{} : list.error();
  }
  SegmentList list_of(std::vector<SegmentRequest> requests) const {
    return SegmentList::check(requests, machine.map, machine.table).value();
  }

  TestRam ram{128_MiB};
  MapAndTable machine{{{.range = range_of(4_KiB, 31_MiB), .kind = kUsable},
                       {.range = range_of(31_MiB, 32_MiB), .kind = kAcpiReclaim},
                       {.range = range_of(32_MiB, 96_MiB), .kind = kUnaccepted},
                       {.range = range_of(96_MiB, 100_MiB), .kind = kReserved},
                       {.range = range_of(100_MiB, 128_MiB), .kind = kUnaccepted}},
                      ram,
                      kTableAt};
  FakePlatform platform;
  Acceptor<FakePlatform> acceptor{machine.table, platform};
};

// --- Segments ---

TEST_F(KexecTest, SoundSegmentsPass) {
  const auto list = list_of({request(1_MiB, 1_MiB, 5_B), request(2_MiB, 1_MiB, 1_MiB),
                             request(40_MiB, 8_KiB), request(3_MiB, 0_B)});
  ASSERT_EQ(list.segments().size(), 4U);
  EXPECT_EQ(list.segments()[0].destination, range_of(1_MiB, 2_MiB));
  EXPECT_EQ(list.segments()[0].file_size, 5_B);
  EXPECT_TRUE(list_of({}).segments().empty());
}

TEST_F(KexecTest, ASegmentMayStretchFromAcceptedIntoUnacceptedMemory) {
  MapAndTable flat{{{.range = range_of(4_KiB, 32_MiB), .kind = kUsable},
                    {.range = range_of(32_MiB, 96_MiB), .kind = kUnaccepted}}};
  const std::array requests{request(31_MiB, 2_MiB)};
  EXPECT_TRUE(SegmentList::check(requests, flat.map, flat.table));
}

TEST_F(KexecTest, EveryKindOfWrongSegmentIsNamedWithItsIndex) {
  using enum SegmentErrorKind;
  const SegmentRequest good = request(1_MiB, 4_KiB);
  const auto expect = [&](std::vector<SegmentRequest> requests, SegmentErrorKind kind,
                          std::size_t segment) {
    const SegmentError error = error_of(std::move(requests));
    EXPECT_EQ(error.kind, kind) << to_string(error.kind);
    EXPECT_EQ(error.segment, segment);
  };
  expect(std::vector<SegmentRequest>(17, request(0_B, 0_B)), kTooMany, 16);
  expect({good, request(Bytes{~0ULL << 12}, 8_KiB)}, kWraps, 1);
  expect({good, request(Bytes{~0ULL << 12}, 4_KiB)}, kWraps, 1);
  expect({good, good, request(2_MiB + 1_B, 4_KiB)}, kUnaligned, 2);
  expect({request(2_MiB, 4097_B)}, kUnaligned, 0);
  expect({request(2_MiB, 4_KiB, 4097_B)}, kFileTooLarge, 0);
  expect({request(2_MiB, 0_B, 1_B)}, kFileTooLarge, 0);
  expect({good, request(0_B, 8_KiB)}, kOutsideRam, 1);
  expect({request(95_MiB, 1_MiB + 4_KiB)}, kOutsideRam, 0);
  expect({request(97_MiB, 4_KiB)}, kOutsideRam, 0);
  expect({request(128_MiB, 4_KiB)}, kOutsideRam, 0);
  expect({request(127_MiB, 2_MiB)}, kOutsideRam, 0);
  expect({request(31_MiB - 4_KiB, 8_KiB)}, kOutsideRam, 0);
  expect({good, request(2_MiB, 8_KiB), request(2_MiB + 4_KiB, 4_KiB)}, kOverlap, 2);
  expect({good, good}, kOverlap, 1);
  expect({request(4_MiB, 20_MiB), request(32_MiB, 60_MiB)}, kTooMuchMemory, 1);
}

TEST_F(KexecTest, ExactlyHalfOfTheRamIsAllowed) {
  MapAndTable flat{{{.range = range_of(16_MiB, 32_MiB), .kind = kUsable}}};
  std::array requests{request(16_MiB, 8_MiB)};
  EXPECT_TRUE(SegmentList::check(requests, flat.map, flat.table));
  requests[0].size += 4_KiB;
  EXPECT_EQ(SegmentList::check(requests, flat.map, flat.table).error().kind,
            SegmentErrorKind::kTooMuchMemory);
}

TEST_F(KexecTest, NoSegmentMayOverwriteTheTable) {
  MapAndTable other{{{.range = range_of(4_KiB, 32_MiB), .kind = kUsable},
                     {.range = range_of(32_MiB, 96_MiB), .kind = kUnaccepted}},
                    ram,
                    PhysAddr{0x10FF8}};
  for (const auto& [at, fine] :
       {std::pair{0xF000_B, true}, {0x10000_B, false}, {0x11000_B, false}, {0x12000_B, true}}) {
    const std::array requests{request(at, 4_KiB)};
    const auto list = SegmentList::check(requests, other.map, other.table);
    EXPECT_EQ(list.has_value(), fine) << at.value();
    EXPECT_TRUE(list || list.error().kind == SegmentErrorKind::kOverwritesTable);
  }
}

// --- Loading ---

TEST_F(KexecTest, Regression_L14_LoadAcceptsTheDestinationsAndTheirGuardsAndNothingElse) {
  const auto list = list_of({request(2_MiB, 4_MiB), request(40_MiB, 2_MiB), request(51_MiB, 4_KiB),
                             request(110_MiB, 8_KiB)});
  const auto loaded = load(list, HandOverPlan{}, acceptor);
  ASSERT_TRUE(loaded);
  EXPECT_THAT(
      platform.accepted_runs(),
      ElementsAre(range_of(40_MiB, 44_MiB), range_of(50_MiB, 52_MiB), range_of(110_MiB, 112_MiB)));
  EXPECT_EQ(loaded->accepted(), 8_MiB);
  EXPECT_EQ(load(list, HandOverPlan{}, acceptor)->accepted(), 0_B) << "never twice";
  EXPECT_TRUE(platform.double_accepts().empty());
}

TEST_F(KexecTest, Regression_L14_NothingIsCopiedBeforeAllIsAccepted) {
  const auto list = list_of({request(40_MiB, 8_KiB, 4097_B), request(60_MiB, 4_KiB, 4_KiB)});
  const auto destination = ram.bytes(range_of(40_MiB, 40_MiB + 8_KiB));
  std::fill(destination.begin(), destination.end(), std::byte{0xEE});
  bool copied = false;
  platform.on_entry([&](PhysRange) {
    copied |= std::ranges::any_of(destination, [](std::byte b) { return b != std::byte{0xEE}; });
  });
  const auto loaded = load(list, HandOverPlan{}, acceptor);
  ASSERT_TRUE(loaded);
  EXPECT_FALSE(copied);
  const std::vector<std::byte> file(4097, std::byte{0x11});
  loaded->copy(0, file, ram.window());
  EXPECT_EQ(destination[4096], std::byte{0x11});
  EXPECT_EQ(destination[4097], std::byte{0});
  EXPECT_EQ(destination.back(), std::byte{0});
}

TEST_F(KexecTest, Regression_L14_ADestinationThatIsNotAcceptedStopsTheLoad) {
  const auto list =
      list_of({request(40_MiB, 8_KiB), request(60_MiB, 4_KiB), request(70_MiB, 4_KiB)});
  platform.fail_at(pa(60_MiB + 64_KiB), FailureKind::kRefused, 0xBAD);
  const auto loaded = load(list, HandOverPlan{}, acceptor);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, SegmentErrorKind::kAcceptFailed);
  EXPECT_EQ(loaded.error().segment, 1U);
  EXPECT_EQ(loaded.error().accept.failure.status, 0xBADU);
  EXPECT_FALSE(platform.any_accepted(range_of(70_MiB, 72_MiB)));
  EXPECT_TRUE(load(list, HandOverPlan{}, acceptor))
      << "the second try goes on at the page that failed";
  EXPECT_TRUE(platform.double_accepts().empty());
}

TEST_F(KexecTest, CopyingTheWrongFileIsABugOfTheCaller) {
  const auto list = list_of({request(1_MiB, 8_KiB, 16_B)});
  const auto loaded = load(list, HandOverPlan{}, acceptor);
  const std::array<std::byte, 15> file{};
  EXPECT_DEATH(loaded->copy(0, file, ram.window()), "");
  EXPECT_DEATH(loaded->copy(1, file, ram.window()), "");
}

// --- Destinations ---

TEST_F(KexecTest, PrefersAPlaceWithNothingToAccept) {
  ASSERT_TRUE(acceptor.accept(range_of(60_MiB, 66_MiB - 4_KiB)));  // units 60..66
  const auto high = range_of(32_MiB, 128_MiB);
  const auto place =
      choose_destination({.size = 4_MiB, .limits = high}, machine.map, machine.table);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->range, range_of(60_MiB, 64_MiB));
  EXPECT_EQ(place->unaccepted, 0_B);
}

TEST_F(KexecTest, ThePlaceNeedsNoGuardThatIsUnaccepted) {
  ASSERT_TRUE(acceptor.accept(range_of(60_MiB, 64_MiB - 4_KiB)));  // units 60 and 62
  const auto high = range_of(32_MiB, 128_MiB);
  const auto choose = [&](Bytes size) {
    return choose_destination({.size = size, .limits = high}, machine.map, machine.table).value();
  };
  EXPECT_EQ(choose(4_MiB - 4_KiB).range.begin(), pa(60_MiB));
  EXPECT_EQ(choose(4_MiB - 4_KiB).unaccepted, 0_B);
  EXPECT_EQ(choose(4_MiB).range, range_of(32_MiB, 36_MiB)) << "would end on an unaccepted unit";
  EXPECT_EQ(choose(4_MiB).unaccepted, 6_MiB);
}

TEST_F(KexecTest, TakesUnacceptedMemoryWhenThereIsNothingElse) {
  const auto place =
      choose_destination({.size = 40_MiB, .align = 2_MiB}, machine.map, machine.table);
  EXPECT_EQ(place->range, range_of(32_MiB, 72_MiB));
  EXPECT_EQ(place->unaccepted, 42_MiB);
}

TEST_F(KexecTest, KeepsOffWhatIsTakenOffTheTableAndOffAddressZero) {
  const std::array taken{range_of(2_MiB, 3_MiB), range_of(4_KiB, 1_MiB)};
  const auto place = choose_destination({.size = 1_MiB + 1_B, .align = 1_MiB, .taken = taken},
                                        machine.map, machine.table);
  EXPECT_EQ(place->range, range_of(3_MiB, 4_MiB + 4_KiB));
  MapAndTable other{{{.range = range_of(0_B, 32_MiB), .kind = kUsable},
                     {.range = range_of(32_MiB, 96_MiB), .kind = kUnaccepted}},
                    ram,
                    PhysAddr{0x1008}};
  const auto first = choose_destination({.size = 1_B}, other.map, other.table);
  EXPECT_EQ(first->range, range_of(8_KiB, 12_KiB));
}

TEST_F(KexecTest, NoDestinationIsAnError) {
  for (const Bytes size : {65_MiB, Bytes{~0ULL}, Bytes{~0ULL - 4096}}) {
    EXPECT_EQ(choose_destination({.size = size}, machine.map, machine.table).error().kind,
              SegmentErrorKind::kNoDestination);
  }
  const DestinationRequest aligned{.size = 4_KiB, .align = Bytes{1ULL << 63}};
  EXPECT_EQ(choose_destination(aligned, machine.map, machine.table).error().kind,
            SegmentErrorKind::kNoDestination);
  const DestinationRequest hole{.size = 4_KiB, .limits = range_of(96_MiB, 100_MiB)};
  EXPECT_EQ(choose_destination(hole, machine.map, machine.table).error().kind,
            SegmentErrorKind::kNoDestination);
}

TEST_F(KexecTest, WithoutATableEveryPlaceIsAccepted) {
  const UnacceptedTable none;
  const auto place = choose_destination({.size = 4_MiB}, machine.map, none);
  EXPECT_EQ(place->range, *PhysRange::make(pa(4_KiB), 4_MiB));
  EXPECT_EQ(place->unaccepted, 0_B);
}

// --- Handing over ---

TEST_F(KexecTest, Regression_L11_EfiIsTheFirstChoiceThenSetupDataThenTheObject) {
  const auto route = [&](const NextKernel& next) {
    return plan_hand_over(machine.table, machine.map, next).value().route;
  };
  NextKernel next{.efi_system_table = true,
                  .efi_runtime = true,
                  .efi_published = kTableAt,
                  .setup_data = true,
                  .hand_over_object = true};
  EXPECT_EQ(route(next), HandOverRoute::kEfi);
  next.efi_runtime = false;
  EXPECT_EQ(route(next), HandOverRoute::kSetupData);
  next.setup_data = false;
  EXPECT_EQ(route(next), HandOverRoute::kHandOver);
  const auto plan = plan_hand_over(machine.table, machine.map, next);
  EXPECT_EQ(plan->table.table, kTableAt);
  EXPECT_EQ(plan->table.bound, Bytes{machine.table.bytes().size()});
}

TEST_F(KexecTest, Regression_L11_ATableThatNobodyNamesIsNotLeftBehind) {
  const auto error = [&](const NextKernel& next) {
    return plan_hand_over(machine.table, machine.map, next).error();
  };
  const PhysAddr other{0x5000};
  EXPECT_EQ(error({}), HandOverErrorKind::kNoCarrier);
  EXPECT_EQ(error({.efi_system_table = true, .efi_runtime = true}), HandOverErrorKind::kNoCarrier);
  EXPECT_EQ(error({.efi_runtime = true, .efi_published = kTableAt}),
            HandOverErrorKind::kNoSystemTable);
  EXPECT_EQ(error({.efi_system_table = true, .efi_published = kTableAt}),
            HandOverErrorKind::kNoRuntime);
  EXPECT_EQ(error({.efi_published = other}), HandOverErrorKind::kOtherTable);
  EXPECT_EQ(error({.efi_system_table = true,
                   .efi_runtime = true,
                   .efi_published = other,
                   .setup_data = true}),
            HandOverErrorKind::kOtherTable);
}

TEST_F(KexecTest, Regression_L11_TheMemoryOfTheTableMustSurvive) {
  const NextKernel next{.hand_over_object = true};
  const auto with_kind = [&](MemoryKind kind) {
    MapAndTable other{{{.range = range_of(4_KiB, 1_MiB), .kind = kind},
                       {.range = range_of(1_MiB, 2_MiB), .kind = kUnusable},
                       {.range = range_of(32_MiB, 96_MiB), .kind = kUnaccepted}},
                      ram,
                      PhysAddr{0x10008}};
    return plan_hand_over(other.table, other.map, next);
  };
  for (const MemoryKind kind : {kAcpiReclaim, kAcpiNvs, kReserved}) {
    EXPECT_TRUE(with_kind(kind)) << to_string(kind);
  }
  for (const MemoryKind kind : {kUsable, kUnusable, kPersistent}) {
    EXPECT_EQ(with_kind(kind).error(), HandOverErrorKind::kDoesNotSurvive) << to_string(kind);
  }
}

TEST_F(KexecTest, Regression_L11_EveryPageOfTheTableMustBeInTheMap) {
  const NextKernel next{.hand_over_object = true};
  for (const PhysRange known :
       {range_of(4_KiB, 8_KiB), range_of(8_KiB, 12_KiB), range_of(12_KiB, 16_KiB)}) {
    MapAndTable other{{{.range = known, .kind = kAcpiReclaim},
                       {.range = range_of(32_MiB, 96_MiB), .kind = kUnaccepted}},
                      ram,
                      PhysAddr{0x1FF8}};  // in the pages 1 and 2
    EXPECT_EQ(plan_hand_over(other.table, other.map, next).error(), HandOverErrorKind::kNotInMap);
  }
}

TEST_F(KexecTest, WithNothingUnacceptedNoTableNeedsToGoOver) {
  const UnacceptedTable none;
  EXPECT_EQ(plan_hand_over(none, machine.map, {})->route, HandOverRoute::kNone);
  ASSERT_TRUE(acceptor.accept(range_of(0_B, 128_MiB)));
  EXPECT_EQ(plan_hand_over(machine.table, machine.map, {})->route, HandOverRoute::kNone);
}

// --- The next kernel ---

class NextKernelTest : public KexecTest {
 protected:
  static constexpr PhysAddr kObjectAt{0x1E00000};
  static constexpr PhysAddr kNodeAt{0x1E01000};

  void publish_all() {
    const TablePlace place = place_of(machine.table);
    ASSERT_TRUE(publish_hand_over(ram.bytes(*PhysRange::make(kObjectAt, 64_B)), place));
    ASSERT_TRUE(publish_in_setup_data(ram.bytes(*PhysRange::make(kNodeAt, 64_B)), {}, place));
    ASSERT_TRUE(publish_in_efi(efi, 0, place.table));
  }

  alignas(8) std::array<std::byte, kEfiEntryBytes> efi{};
  std::array<PhysRange, 1> ranges{range_of(0_B, 32_MiB)};
  ReadableMemory memory{.window = ram.window(), .ranges = ranges};
  std::array<std::uint64_t, 8> index{};
};

TEST_F(NextKernelTest, Regression_L11_StartsFromTheSameTableByEveryRoute) {
  publish_all();
  const auto list = list_of({request(40_MiB, 8_KiB)});
  ASSERT_TRUE(load(list, HandOverPlan{}, acceptor));
  for (const auto& [sources, route] :
       {std::pair{TableSources{.efi_entries = efi}, HandOverRoute::kEfi},
        {TableSources{.setup_data = kNodeAt}, HandOverRoute::kSetupData},
        {TableSources{.hand_over = kObjectAt}, HandOverRoute::kHandOver},
        {TableSources{.efi_entries = efi, .setup_data = kNodeAt, .hand_over = kObjectAt},
         HandOverRoute::kHandOver}}) {
    UnacceptedTable next;
    ASSERT_EQ(start_from(sources, memory, next, index), route);
    EXPECT_EQ(next.unaccepted(), machine.table.unaccepted());
    EXPECT_FALSE(next.any_unaccepted(range_of(40_MiB, 42_MiB)));
    EXPECT_TRUE(next.any_unaccepted(range_of(42_MiB, 44_MiB)));
    EXPECT_TRUE(next.invariants());
  }
}

TEST_F(NextKernelTest, TheNextKernelGoesOnAcceptingWhereThisOneStopped) {
  publish_all();
  ASSERT_TRUE(acceptor.accept(range_of(40_MiB, 50_MiB)));
  UnacceptedTable next;
  ASSERT_TRUE(start_from({.hand_over = kObjectAt}, memory, next, index));
  Acceptor<FakePlatform> second{next, platform};
  ASSERT_TRUE(second.accept(range_of(0_B, 128_MiB)));
  EXPECT_TRUE(platform.double_accepts().empty());
  EXPECT_TRUE(platform.accepted(range_of(32_MiB, 96_MiB)));
}

TEST_F(NextKernelTest, WithoutASourceThereIsNoTable) {
  UnacceptedTable next;
  EXPECT_EQ(start_from({}, memory, next, index), HandOverRoute::kNone);
  EXPECT_FALSE(next.present());
}

TEST_F(NextKernelTest, ADamagedSourceIsNeverSkipped) {
  publish_all();
  const TableSources sources{.efi_entries = efi, .setup_data = kNodeAt, .hand_over = kObjectAt};
  UnacceptedTable next;
  ram.bytes(*PhysRange::make(kObjectAt + 32_B, 1_B))[0] ^= std::byte{1};
  auto error = start_from(sources, memory, next, index).error();
  EXPECT_EQ(error.kind, StartErrorKind::kCarrier);
  EXPECT_EQ(error.route, HandOverRoute::kHandOver);
  EXPECT_EQ(error.carrier.kind, CarrierErrorKind::kBadChecksum);
  publish_all();
  ASSERT_TRUE(publish_in_efi(efi, 1, kTableAt + 8_B));
  error = start_from(sources, memory, next, index).error();
  EXPECT_EQ(error.kind, StartErrorKind::kDisagree);
  EXPECT_EQ(error.route, HandOverRoute::kEfi);
  publish_all();
  ram.bytes(*PhysRange::make(kTableAt, 1_B))[0] = std::byte{2};
  error = start_from(sources, memory, next, index).error();
  EXPECT_EQ(error.kind, StartErrorKind::kTable);
  EXPECT_EQ(error.table.parse, abi::linux_unaccepted::ParseErrorKind::kUnknownVersion);
  EXPECT_FALSE(next.present());
}

/// A crash can come at any moment, and the crash kernel reads the table then.
TEST_F(NextKernelTest, History_WhateverTheTableCallsAcceptedIsAcceptedAtEveryStep) {
  publish_all();
  unsigned looks = 0;
  const auto look = [&] {
    ++looks;
    std::vector<std::uint64_t> copy((machine.table.bytes().size() + 7) / 8);
    std::memcpy(copy.data(), machine.table.bytes().data(), machine.table.bytes().size());
    UnacceptedTable crash;
    ASSERT_TRUE(crash.attach(std::as_writable_bytes(std::span{copy}), kTableAt, {}));
    const DumpFilter filter{crash};
    for (const PhysRange ram_range : {range_of(32_MiB, 96_MiB), range_of(100_MiB, 128_MiB)}) {
      filter.for_each_run(ram_range, [&](const DumpFilter::Run& run) {
        EXPECT_TRUE(!run.readable || platform.accepted(run.range));
      });
    }
  };
  platform.on_entry([&](PhysRange) { look(); });
  platform.fail_at(pa(61_MiB), FailureKind::kRefused, 1);
  const auto list =
      list_of({request(33_MiB, 8_MiB), request(60_MiB, 4_MiB), request(126_MiB, 2_MiB)});
  EXPECT_FALSE(load(list, HandOverPlan{}, acceptor));
  look();
  EXPECT_TRUE(load(list, HandOverPlan{}, acceptor));
  look();
  EXPECT_GT(looks, 8U);
}

// --- Dumps ---

TEST_F(KexecTest, Regression_L16_AReaderCanAskAndSkips) {
  ASSERT_TRUE(acceptor.accept(range_of(40_MiB, 41_MiB)));
  const DumpFilter filter{machine.table};
  EXPECT_TRUE(filter.readable(range_of(0_B, 32_MiB)));
  EXPECT_TRUE(filter.readable(range_of(40_MiB, 42_MiB)));
  EXPECT_FALSE(filter.readable(range_of(42_MiB, 42_MiB + 1_B)));
  EXPECT_FALSE(filter.readable(range_of(31_MiB, 33_MiB)));
  std::vector<std::pair<PhysRange, bool>> runs;
  filter.for_each_run(range_of(31_MiB + 5_B, 101_MiB), [&](const DumpFilter::Run& run) {
    runs.emplace_back(run.range, run.readable);
  });
  EXPECT_THAT(runs, ElementsAre(std::pair{range_of(31_MiB + 5_B, 32_MiB), true},
                                std::pair{range_of(32_MiB, 40_MiB), false},
                                std::pair{range_of(40_MiB, 42_MiB), true},
                                std::pair{range_of(42_MiB, 96_MiB), false},
                                std::pair{range_of(96_MiB, 100_MiB), true},
                                std::pair{range_of(100_MiB, 101_MiB), false}));
}

TEST_F(KexecTest, Regression_L16_EveryByteOfASmallMapHasTheRightAnswer) {
  ASSERT_TRUE(acceptor.accept(range_of(36_MiB, 37_MiB)));
  ASSERT_TRUE(acceptor.accept(range_of(44_MiB, 47_MiB)));
  const DumpFilter filter{machine.table};
  for (Bytes begin = 30_MiB; begin < 50_MiB; begin += 512_KiB) {
    for (Bytes size = 512_KiB; begin + size <= 50_MiB; size += 512_KiB) {
      const PhysRange range = *PhysRange::make(pa(begin), size);
      PhysAddr at = range.begin();
      bool all = true;
      filter.for_each_run(range, [&](const DumpFilter::Run& run) {
        ASSERT_EQ(run.range.begin(), at);
        ASSERT_EQ(run.readable, !machine.table.any_unaccepted(run.range));
        ASSERT_TRUE(run.readable || machine.table.count(run.range) >= run.range.size());
        all &= run.readable;
        at = run.range.end();
      });
      ASSERT_EQ(at, range.end());
      ASSERT_EQ(filter.readable(range), all);
    }
  }
}

TEST_F(KexecTest, Regression_L16_WithoutATableAllIsReadable) {
  const UnacceptedTable none;
  const DumpFilter filter{none};
  EXPECT_TRUE(filter.readable(range_of(0_B, 1_TiB)));
  const auto run = filter.first_run(range_of(0_B, 1_TiB));
  EXPECT_TRUE(run.readable);
  EXPECT_EQ(run.range, range_of(0_B, 1_TiB));
}

template <class Kind>
void expect_texts(Kind last) {
  std::set<std::string_view> texts;
  for (unsigned kind = 0; kind <= static_cast<unsigned>(last); ++kind) {
    const auto text = to_string(static_cast<Kind>(kind));
    EXPECT_EQ(text.find('\n'), std::string_view::npos);
    texts.insert(text);
  }
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(last) + 1);
  EXPECT_FALSE(texts.contains(to_string(static_cast<Kind>(99))));
}

TEST(KexecErrorText, EveryErrorHasOneLine) {
  expect_texts(SegmentErrorKind::kNoDestination);
  expect_texts(HandOverErrorKind::kOtherTable);
  expect_texts(StartErrorKind::kTable);
}

}  // namespace
}  // namespace accede::guest
