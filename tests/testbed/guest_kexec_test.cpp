// One kernel starts another in the same guest: the segments, the table, and what the next one does.
#include "accede/guest/kexec.hpp"
#include "tests/testbed/guest_vm.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace accede::testbed {
namespace {

using guest::AllocErrorKind;
using guest::HandOverErrorKind;
using guest::HandOverPlan;
using guest::HandOverRoute;
using guest::NextKernel;
using guest::SegmentList;
using guest::SegmentRequest;
using guest::TableSources;
using test::Blocks;
using test::efi_map;
using test::Kernel;
using test::Machine;
using test::MemoryKind;
using test::MemoryRegion;
using test::must;
using test::Order;
using test::range;
using test::Snp;
using test::Tdx;

template <class Side>
class GuestKexecTest : public testing::Test {};
using Sides = testing::Types<Tdx, Snp>;
TYPED_TEST_SUITE(GuestKexecTest, Sides, test::SideNames);

constexpr std::uint64_t kMark = 0x6D61726B'6D61726B;

/// What the next kernel can read, by the way that the table shall take.
NextKernel next_by(HandOverRoute route, PhysAddr table) {
  switch (route) {
    case HandOverRoute::kEfi:
      return {.efi_system_table = true, .efi_runtime = true, .efi_published = table};
    case HandOverRoute::kSetupData:
      return {.setup_data = true};
    default:
      return {.hand_over_object = true};
  }
}

/// Kernel and initrd of the next kernel, in memory that is not accepted: each with a hole behind.
template <class Side>
std::vector<SegmentRequest> requests(const Machine<Side>& machine) {
  return {{.destination = machine.at(20_MiB), .size = 3_MiB, .file_size = 2_MiB + 5_B},
          {.destination = machine.at(40_MiB) + 4_KiB, .size = 8_KiB, .file_size = 8_KiB}};
}

/// The units that a list needs, guards included, as far as they are unaccepted.
template <class AnyKernel>
Bytes needed(AnyKernel& kernel, const SegmentList& list) {
  Bytes sum;
  std::vector<PhysRange> seen;
  for (const guest::Segment& segment : list.segments()) {
    const PhysRange units = kernel.table().guarded(segment.destination);
    EXPECT_TRUE(std::ranges::none_of(seen, [&](PhysRange other) { return other.overlaps(units); }));
    seen.push_back(units);
    sum += kernel.table().count(units);
  }
  return sum;
}

std::vector<std::byte> content(std::size_t bytes, unsigned salt) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    made[i] = static_cast<std::byte>(i * 7 + salt);
  }
  return made;
}

/// The first kernel up to the jump; what the next one is told.
template <class Side>
class FirstKernel {
 public:
  explicit FirstKernel(Machine<Side>& machine) : machine_{machine}, kernel{machine} {
    kernel.boot();
    machine.publish_in_efi(kernel.table().where());
    // Something that must be there afterwards, in a page that no segment goes to.
    marked = must(kernel.allocator().allocate(Order{0}), "page");
    machine.word(marked) = kMark;
  }

  [[nodiscard]] SegmentList list() {
    return must(SegmentList::check(requests(machine_), kernel.map(), kernel.table()), "segments");
  }
  /// Loads, copies and publishes. The sources name the table by `route` only.
  TableSources start(HandOverRoute route) {
    const SegmentList segments = list();
    const HandOverPlan plan =
        guest::plan_hand_over(kernel.table(), kernel.map(), next_by(route, kernel.table().where()))
            .value();
    EXPECT_EQ(plan.route, route);
    const Bytes before{machine_.bed().counters().accepted_bytes};
    const Bytes expected = needed(kernel, segments);
    const auto loaded = must(guest::load(segments, plan, kernel.acceptor()), "load");
    EXPECT_EQ(loaded.accepted(), expected);
    EXPECT_EQ(Bytes{machine_.bed().counters().accepted_bytes} - before, expected);
    for (std::size_t i = 0; i < segments.segments().size(); ++i) {
      loaded.copy(i, content(segments.segments()[i].file_size.value(), unsigned(i)),
                  machine_.window());
    }
    return publish(loaded.hand_over());
  }

 private:
  TableSources publish(const HandOverPlan& plan) {
    const PhysAddr where = machine_.hand_over_at();
    const auto memory = machine_.memory(range(where, 256_B));
    switch (plan.route) {
      case HandOverRoute::kSetupData:
        must(guest::publish_in_setup_data(memory, PhysAddr{}, plan.table), "setup_data");
        return {.setup_data = where};
      case HandOverRoute::kHandOver:
        must(guest::publish_hand_over(memory, plan.table), "hand-over");
        return {.hand_over = where};
      default:
        return {.efi_entries = machine_.efi_entries()};
    }
  }

  Machine<Side>& machine_;

 public:
  Kernel<Side> kernel;
  PhysAddr marked;
};

template <class Side>
void expect_segments(const Machine<Side>& machine) {
  unsigned salt = 0;
  for (const SegmentRequest& segment : requests(machine)) {
    const auto memory = machine.memory(range(segment.destination, segment.size));
    const auto expected = content(segment.file_size.value(), salt++);
    EXPECT_TRUE(std::ranges::equal(memory.first(expected.size()), expected));
    EXPECT_TRUE(std::ranges::all_of(memory.subspan(expected.size()),
                                    [](std::byte byte) { return byte == std::byte{}; }));
  }
}

/// The next kernel: finds the table, uses all memory that nobody holds, and loses nothing.
template <class Side>
void run_second(Machine<Side>& machine, const TableSources& sources, HandOverRoute route,
                PhysAddr marked) {
  Kernel<Side> kernel{machine};
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  ASSERT_EQ(kernel.find_table(sources).value(), route);
  EXPECT_TRUE(kernel.table().invariants());
  std::vector<PhysRange> reserved{range(marked, 4_KiB)};
  for (const SegmentRequest& segment : requests(machine)) {
    reserved.push_back(range(segment.destination, segment.size));
  }
  must(kernel.start_early(reserved), "early");
  kernel.finish_boot();
  Blocks blocks{machine.window()};
  EXPECT_EQ(kernel.take_all(blocks, Order{9}).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_EQ(kernel.take_all(blocks, Order{0}).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(kernel.table().unaccepted(), 0_B);
  EXPECT_EQ(machine.word(marked), kMark);
  expect_segments(machine);
  EXPECT_TRUE(kernel.give_back(blocks));
  EXPECT_EQ(kernel.problem(), "");
}

/// Over all kernels: each page was accepted once.
template <class Side>
void expect_accepted_once(Machine<Side>& machine) {
  EXPECT_EQ(machine.bed().counters().accepted_bytes, machine.unaccepted().size().value());
  EXPECT_EQ(machine.bed().counters().refused, 0U);
}

template <class Side>
void hand_over_by(HandOverRoute route) {
  Machine<Side> machine;
  TableSources sources;
  PhysAddr marked;
  {
    FirstKernel<Side> first{machine};
    marked = first.marked;
    sources = first.start(route);
    EXPECT_GT(first.kernel.table().unaccepted(), 64_MiB);
  }
  run_second(machine, sources, route, marked);
  expect_accepted_once(machine);
}

// --- The whole way, by every carrier ---

TYPED_TEST(GuestKexecTest, TheNextKernelGoesOnByTheEfiConfigurationTable) {
  hand_over_by<TypeParam>(HandOverRoute::kEfi);
}

TYPED_TEST(GuestKexecTest, TheNextKernelGoesOnBySetupData) {
  hand_over_by<TypeParam>(HandOverRoute::kSetupData);
}

TYPED_TEST(GuestKexecTest, TheNextKernelGoesOnByAHandOverObject) {
  hand_over_by<TypeParam>(HandOverRoute::kHandOver);
}

TYPED_TEST(GuestKexecTest, TheTableIsHandedThroughManyKernels) {
  Machine<TypeParam> machine;
  {
    Kernel<TypeParam> firmware{machine};
    must(firmware.read_efi_map(efi_map(machine.regions())), "map");
    must(firmware.build_table(), "table");
    machine.publish_in_efi(firmware.table().where());
  }
  Bytes left = Bytes{~0ULL};
  for (unsigned generation = 0; generation < 6; ++generation) {
    Kernel<TypeParam> kernel{machine};
    must(kernel.read_efi_map(efi_map(machine.regions())), "map");
    ASSERT_EQ(kernel.find_table({.efi_entries = machine.efi_entries()}).value(),
              HandOverRoute::kEfi);
    must(kernel.start_early(), "early");
    kernel.finish_boot();
    EXPECT_LE(kernel.table().unaccepted(), left);
    Blocks blocks{machine.window()};
    // Each generation takes more than what those before it accepted.
    for (unsigned i = 0; i < 3 + generation * 3; ++i) {
      ASSERT_FALSE(kernel.take(blocks, Order{9}));
    }
    left = kernel.table().unaccepted();
    EXPECT_EQ(left + Bytes{machine.bed().counters().accepted_bytes}, machine.unaccepted().size());
    EXPECT_EQ(kernel.problem(), "");
  }
  EXPECT_EQ(machine.bed().counters().refused, 0U);
}

// --- Loading ---

TYPED_TEST(GuestKexecTest, Regression_L14_DestinationsAndTheirGuardsAreAcceptedAndNothingElse) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  auto& table = first.kernel.table();
  const SegmentList list = first.list();
  std::vector<PhysRange> units;
  for (PhysAddr at = machine.at(10_MiB); at < machine.ram().end(); at += 2_MiB) {
    if (table.any_unaccepted(range(at, 2_MiB))) {
      units.push_back(range(at, 2_MiB));
    }
  }
  const HandOverPlan plan =
      guest::plan_hand_over(table, first.kernel.map(), {.setup_data = true}).value();
  (void)must(guest::load(list, plan, first.kernel.acceptor()), "load");
  for (const PhysRange unit : units) {
    const bool wanted = std::ranges::any_of(list.segments(), [&](const guest::Segment& segment) {
      return table.guarded(segment.destination).overlaps(unit);
    });
    EXPECT_EQ(table.any_unaccepted(unit), !wanted);
    EXPECT_EQ(machine.touch(unit.begin()).has_value(), !wanted);
  }
}

TYPED_TEST(GuestKexecTest, ABlockThatLoadingAcceptedPartlyIsDrainedLaterWithoutASecondAccept) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  auto& kernel = first.kernel;
  const SegmentList list = first.list();
  const HandOverPlan plan =
      guest::plan_hand_over(kernel.table(), kernel.map(), {.setup_data = true}).value();
  // Both destinations lie in the middle of what the allocator holds as unaccepted blocks.
  const auto loaded = must(guest::load(list, plan, kernel.acceptor()), "load");
  EXPECT_GT(loaded.accepted(), 0_B);
  EXPECT_EQ(kernel.problem(), "");
  // The next kernel is never started after all.
  Blocks blocks{machine.window()};
  EXPECT_EQ(kernel.take_all(blocks).kind, AllocErrorKind::kOutOfMemory);
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(machine.word(first.marked), kMark);
  expect_accepted_once(machine);
  EXPECT_EQ(kernel.problem(), "");
}

TYPED_TEST(GuestKexecTest, ADestinationIsChosenWhereNothingIsLeftToAccept) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  auto& kernel = first.kernel;
  const std::array taken{machine.image()};
  const auto easy =
      must(guest::choose_destination({.size = 1_MiB, .taken = taken}, kernel.map(), kernel.table()),
           "place");
  EXPECT_EQ(easy.unaccepted, 0_B);
  EXPECT_FALSE(kernel.table().any_unaccepted(easy.range));
  const auto large = must(
      guest::choose_destination({.size = 16_MiB, .taken = taken}, kernel.map(), kernel.table()),
      "place");
  EXPECT_GT(large.unaccepted, 0_B);
  ASSERT_EQ(kernel.acceptor().accept(large.range).value(), large.unaccepted);
  EXPECT_FALSE(machine.touch(large.range.begin()).has_value());
  EXPECT_FALSE(machine.touch(large.range.end() - 8_B).has_value());
}

TYPED_TEST(GuestKexecTest, AnAttackWhileLoadingNamesTheSegmentAndLeavesTheKernelRunning) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  auto& kernel = first.kernel;
  const bool tdx = TypeParam::kKind == guest::PlatformKind::kTdx;
  const PhysRange second = range(machine.at(40_MiB), 2_MiB);
  machine.play({{.event = tdx ? host::HostileEvent::kAccept : host::HostileEvent::kValidate,
                 .act = tdx ? host::HostileAct::kAlreadyAccepted : host::HostileAct::kUnchanged,
                 .where = second}});
  const HandOverPlan plan =
      guest::plan_hand_over(kernel.table(), kernel.map(), {.setup_data = true}).value();
  const auto loaded = guest::load(first.list(), plan, kernel.acceptor());
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().kind, guest::SegmentErrorKind::kAcceptFailed);
  EXPECT_EQ(loaded.error().segment, 1U);
  EXPECT_EQ(loaded.error().accept.failure.kind, guest::FailureKind::kAlreadyAccepted);
  EXPECT_EQ(loaded.error().accept.failure.at, second.begin());
  machine.play({});
  (void)must(guest::load(first.list(), plan, kernel.acceptor()), "retry");
  EXPECT_EQ(machine.word(first.marked), kMark);
  EXPECT_EQ(kernel.problem(), "");
}

TYPED_TEST(GuestKexecTest, NoSegmentMayOverwriteTheTable) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  // A map that calls the table's memory usable: the list must protect it all the same.
  std::vector<MemoryRegion> regions = machine.regions();
  regions[2].kind = MemoryKind::kUsable;
  const auto map = guest::MemoryMap::from_regions(regions).value();
  const std::array wrong{
      SegmentRequest{.destination = machine.acpi().begin(), .size = 4_KiB, .file_size = 0_B}};
  EXPECT_EQ(SegmentList::check(wrong, map, first.kernel.table()).error().kind,
            guest::SegmentErrorKind::kOverwritesTable);
}

// --- When the table cannot go over ---

TYPED_TEST(GuestKexecTest, WithoutAWayForTheTableTheNextKernelIsNotLoaded) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  auto& kernel = first.kernel;
  const PhysAddr table = kernel.table().where();
  const auto refusal = [&](const NextKernel& next) {
    return guest::plan_hand_over(kernel.table(), kernel.map(), next).error();
  };
  EXPECT_EQ(refusal({}), HandOverErrorKind::kNoCarrier);
  EXPECT_EQ(refusal({.efi_runtime = true, .efi_published = table}),
            HandOverErrorKind::kNoSystemTable);
  EXPECT_EQ(refusal({.efi_system_table = true, .efi_published = table}),
            HandOverErrorKind::kNoRuntime);
  EXPECT_EQ(refusal({.efi_system_table = true,
                     .efi_runtime = true,
                     .efi_published = table + 64_B,
                     .setup_data = true}),
            HandOverErrorKind::kOtherTable);
}

TYPED_TEST(GuestKexecTest, Regression_L11_ATableThatTheNextKernelWouldOverwriteIsNotHandedOver) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  const auto refusal = [&](std::vector<MemoryRegion> regions) {
    const auto map = guest::MemoryMap::from_regions(regions).value();
    return guest::plan_hand_over(first.kernel.table(), map, {.setup_data = true}).error();
  };
  std::vector<MemoryRegion> regions = machine.regions();
  regions[2].kind = MemoryKind::kUsable;
  EXPECT_EQ(refusal(regions), HandOverErrorKind::kDoesNotSurvive);
  regions.erase(regions.begin() + 2);
  EXPECT_EQ(refusal(regions), HandOverErrorKind::kNotInMap);
}

TYPED_TEST(GuestKexecTest, AGuestThatAcceptedEverythingNeedsNoTable) {
  Machine<TypeParam> machine{{.memory = 32_MiB}};
  Kernel<TypeParam, guest::Eager> kernel{machine};
  kernel.boot();
  const auto plan = guest::plan_hand_over(kernel.table(), kernel.map(), {});
  ASSERT_TRUE(plan.has_value());
  EXPECT_EQ(plan->route, HandOverRoute::kNone);
  Kernel<TypeParam> next{machine};
  EXPECT_EQ(next.find_table({}).value(), HandOverRoute::kNone);
  EXPECT_FALSE(next.table().present());
}

TYPED_TEST(GuestKexecTest, ADamagedHandOverStopsTheNextKernelByName) {
  Machine<TypeParam> machine{{.memory = 48_MiB}};
  TableSources sources;
  {
    FirstKernel<TypeParam> first{machine};
    sources = first.start(HandOverRoute::kHandOver);
  }
  machine.memory(range(machine.hand_over_at() + 16_B, 1_B))[0] ^= std::byte{8};
  Kernel<TypeParam> next{machine};
  const auto found = next.find_table(sources);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().kind, guest::StartErrorKind::kCarrier);
  EXPECT_EQ(found.error().carrier.kind, guest::CarrierErrorKind::kBadChecksum);
  EXPECT_FALSE(next.table().present());
}

// --- A kernel that died ---

TYPED_TEST(GuestKexecTest, AKernelThatDiedBeforeItClearedABitMakesTheNextOneStopThere) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  // The accept took place, the bit stayed.
  const PhysRange unit = range(machine.at(30_MiB), 2_MiB);
  must(first.kernel.platform().accept(unit), "accept");
  machine.word(unit.begin()) = kMark;
  Kernel<TypeParam> next{machine};
  ASSERT_EQ(next.find_table({.efi_entries = machine.efi_entries()}).value(), HandOverRoute::kEfi);
  const auto accepted = next.acceptor().accept(unit);
  ASSERT_FALSE(accepted.has_value());
  EXPECT_EQ(accepted.error().failure.kind, guest::FailureKind::kAlreadyAccepted);
  EXPECT_EQ(accepted.error().failure.at, unit.begin());
  EXPECT_EQ(machine.word(unit.begin()), kMark);
}

// --- Readers of raw memory ---

TYPED_TEST(GuestKexecTest, Regression_L16_AReaderOfAllMemoryTouchesNothingUnaccepted) {
  Machine<TypeParam> machine;
  FirstKernel<TypeParam> first{machine};
  const guest::DumpFilter filter{first.kernel.table()};
  Bytes readable;
  Bytes skipped;
  filter.for_each_run(machine.ram(), [&](const guest::DumpFilter::Run& run) {
    (run.readable ? readable : skipped) += run.range.size();
    for (PhysAddr page = run.range.begin(); page < run.range.end(); page += 256_KiB) {
      ASSERT_NE(machine.touch(page).has_value(), run.readable);
    }
  });
  EXPECT_EQ(skipped, first.kernel.table().unaccepted());
  EXPECT_EQ(readable + skipped, machine.ram().size());
}

}  // namespace
}  // namespace accede::testbed
