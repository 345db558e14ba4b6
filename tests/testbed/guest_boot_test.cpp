// The guest library from the memory map to the page allocator, on memory that faults when it is
// touched too early.
#include "accede/abi/e820.hpp"
#include "accede/guest/background.hpp"
#include "accede/guest/detect.hpp"
#include "tests/testbed/guest_vm.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

namespace accede::testbed {
namespace {

using guest::AllocErrorKind;
using guest::Background;
using guest::Eager;
using guest::Lazy;
using test::Blocks;
using test::efi_map;
using test::Kernel;
using test::Machine;
using test::MachineConfig;
using test::must;
using test::Order;
using test::Plain;
using test::range;
using test::Snp;
using test::Tdx;
using test::Visibility;

template <class Side>
class GuestBootTest : public testing::Test {};
using Sides = testing::Types<Tdx, Snp>;
TYPED_TEST_SUITE(GuestBootTest, Sides, test::SideNames);

/// Takes all memory in blocks of several sizes, uses all of it, and gives it back.
template <class AnyKernel>
void use_everything(AnyKernel& kernel) {
  auto& allocator = kernel.allocator();
  const Bytes free = allocator.counters().free;
  Blocks blocks{kernel.machine().window()};
  for (const unsigned order : {10U, 3U, 0U}) {
    EXPECT_EQ(kernel.take_all(blocks, Order{order}).kind, AllocErrorKind::kOutOfMemory);
  }
  EXPECT_EQ(blocks.size(), free);
  EXPECT_EQ(allocator.counters().free, 0_B);
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(kernel.problem(), "");
  EXPECT_TRUE(kernel.give_back(blocks));
  EXPECT_EQ(allocator.counters().free, free);
  EXPECT_EQ(kernel.problem(), "");
}

/// All memory was accepted, each page once, and nothing else was ever asked for.
template <class Side>
void expect_all_accepted_once(Machine<Side>& machine) {
  const Counters counters = machine.bed().counters();
  EXPECT_EQ(counters.accepted_bytes, machine.unaccepted().size().value());
  EXPECT_EQ(counters.refused, 0U);
}

// --- All memory, by every policy ---

TYPED_TEST(GuestBootTest, AllMemoryCanBeUsedUnderTheLazyPolicy) {
  Machine<TypeParam> machine;
  Kernel<TypeParam, Lazy> kernel{machine};
  kernel.boot();
  EXPECT_GT(kernel.table().unaccepted(), 64_MiB);
  use_everything(kernel);
  EXPECT_EQ(kernel.table().unaccepted(), 0_B);
  expect_all_accepted_once(machine);
}

TYPED_TEST(GuestBootTest, AllMemoryIsAcceptedAtBootUnderTheEagerPolicy) {
  Machine<TypeParam> machine;
  Kernel<TypeParam, Eager> kernel{machine};
  kernel.boot();
  EXPECT_EQ(kernel.table().unaccepted(), 0_B);
  expect_all_accepted_once(machine);
  use_everything(kernel);
  EXPECT_EQ(kernel.allocator().accept_waits(), 0U);
  expect_all_accepted_once(machine);
}

TYPED_TEST(GuestBootTest, ABackgroundAcceptorKeepsItsReserveAndAllMemoryCanBeUsed) {
  Machine<TypeParam> machine;
  Kernel<TypeParam, Background> kernel{machine};
  kernel.boot();
  guest::BackgroundAcceptor acceptor{kernel.allocator(), {.floor = 24_MiB, .ceiling = 24_MiB}};
  const auto settle = [&] {
    while (must(acceptor.step(), "step").sleep_ns != guest::BackgroundStep::kUntilWoken) {
    }
  };
  settle();
  EXPECT_GE(kernel.allocator().zone(0).counters().free.bytes(), 24_MiB);

  Blocks blocks{machine.window()};
  for (unsigned i = 0; i < 24; ++i) {
    ASSERT_FALSE(kernel.take(blocks, Order{7}));
  }
  EXPECT_EQ(kernel.allocator().accept_waits(), 0U);
  EXPECT_GE(kernel.hooks().wakes, 1U);
  settle();
  EXPECT_TRUE(blocks.intact());
  EXPECT_TRUE(kernel.give_back(blocks));
  use_everything(kernel);
  expect_all_accepted_once(machine);
}

TYPED_TEST(GuestBootTest, AHostThatBacksInSmallPagesChangesNothing) {
  Machine<TypeParam> machine{{.memory = 40_MiB, .backing = host::Backing::k4K}};
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  use_everything(kernel);
  const Counters counters = machine.bed().counters();
  EXPECT_EQ(counters.accepted_bytes, machine.unaccepted().size().value());
  EXPECT_EQ(counters.accepts_2m, 0U);
  // Each unit was asked for as a large page once; the firmware's rest of a unit never.
  EXPECT_EQ(counters.refused, (machine.ram().end() - machine.at(10_MiB)) / 2_MiB);
}

TYPED_TEST(GuestBootTest, MemoryOnBothSidesOf4GiBIsUsedWholly) {
  Machine<TypeParam> machine{{.memory = 96_MiB, .ram_begin = PhysAddr{(4ULL << 30) - (64 << 20)}}};
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  ASSERT_EQ(kernel.allocator().zone_count(), 2U);
  use_everything(kernel);
  expect_all_accepted_once(machine);
}

TYPED_TEST(GuestBootTest, MemoryAboveFourTebibytesIsUsedWholly) {
  Machine<TypeParam> machine{{.memory = 40_MiB, .ram_begin = PhysAddr{(8ULL << 40) - (32 << 20)}}};
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  use_everything(kernel);
  expect_all_accepted_once(machine);
}

TYPED_TEST(GuestBootTest, ATableInPagesAcceptsNoMoreThanIsUsed) {
  Machine<TypeParam> machine{{.memory = 40_MiB}};
  Kernel<TypeParam> kernel{machine};
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  must(kernel.build_table(4_KiB), "table");
  must(kernel.start_early(), "early");
  kernel.finish_boot();
  Blocks launch{machine.window()};
  ASSERT_EQ(kernel.take_all(launch, Order{0}, {.no_wait = true}).kind,
            AllocErrorKind::kWouldAccept);
  const std::uint64_t before = machine.bed().counters().accepted_bytes;
  Blocks blocks{machine.window()};
  ASSERT_FALSE(kernel.take(blocks, Order{5}));
  EXPECT_LE(machine.bed().counters().accepted_bytes - before, (128_KiB + 4_KiB).value());
  EXPECT_TRUE(kernel.give_back(blocks));
  EXPECT_TRUE(kernel.give_back(launch));
  use_everything(kernel);
  EXPECT_EQ(machine.bed().counters().accepted_bytes, machine.unaccepted().size().value());
}

// --- Every way to get memory ---

TYPED_TEST(GuestBootTest, EveryWayToAllocateGivesAcceptedMemoryOnly) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  auto& allocator = kernel.allocator();
  Blocks blocks{machine.window()};

  ASSERT_EQ(kernel.take_all(blocks, Order{0}, {.no_wait = true}).kind,
            AllocErrorKind::kWouldAccept);
  std::array<PhysAddr, 700> pages;
  ASSERT_EQ(must(allocator.allocate_bulk(pages), "bulk"), pages.size());
  for (const PhysAddr page : pages) {
    blocks.add(page, Order{0});
  }
  const PhysRange run = must(allocator.allocate_contiguous(PageCount{1537}, 2_MiB), "contiguous");
  for (PhysAddr page = run.begin(); page < run.end(); page += 4_KiB) {
    blocks.add(page, Order{0});
  }
  const PhysRange device = range(machine.at(24_MiB) + 12_KiB, 1_MiB);
  ASSERT_TRUE(must(allocator.take_out(device, true), "take out"));
  for (PhysAddr page = device.begin(); page < device.end(); page += 4_KiB) {
    blocks.add(page, Order{0});
  }
  EXPECT_TRUE(blocks.intact());
  EXPECT_EQ(kernel.problem(), "");
  EXPECT_EQ(machine.bed().counters().refused, 0U);
}

TYPED_TEST(GuestBootTest, WhatMayBeReadBehindABlockIsAcceptedToo) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  Blocks blocks{machine.window()};
  for (unsigned i = 0; i < 8; ++i) {
    ASSERT_FALSE(kernel.take(blocks, Order{9}));
    const PhysAddr end = blocks.entries().back().at + 2_MiB;
    EXPECT_TRUE(end == machine.ram().end() || !machine.touch(end)) << std::hex << end.value();
  }
  // From the middle, where nothing behind it was accepted before.
  const PhysRange device = range(machine.at(24_MiB), 2_MiB);
  EXPECT_TRUE(machine.touch(device.end()));
  ASSERT_TRUE(must(kernel.allocator().take_out(device, true), "take out"));
  EXPECT_FALSE(machine.touch(device.end()));
}

TYPED_TEST(GuestBootTest, FreshPagesHoldWhatThePlatformLeft) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  Blocks blocks{machine.window()};
  ASSERT_EQ(kernel.take_all(blocks, Order{0}, {.no_wait = true}).kind,
            AllocErrorKind::kWouldAccept);
  const auto fresh = kernel.allocator().allocate(Order{9});
  ASSERT_TRUE(fresh);
  for (Bytes page{}; page < 2_MiB; page += 4_KiB) {
    ASSERT_EQ(machine.word(*fresh + page), TypeParam::kFresh);
  }
}

// --- Bookkeeping ---

TYPED_TEST(GuestBootTest, Regression_L15_AllBookkeepingLivesInMemoryThatWasAcceptedForIt) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  kernel.boot_to_early();
  auto& early = kernel.early();
  // Allocations that touch nowhere make the list of reservations grow, more than once.
  std::vector<PhysRange> kept;
  for (unsigned i = 0; i < 400; ++i) {
    kept.push_back(must(early.allocate(64_B, 128_B), "early"));
    machine.word(kept.back().begin()) = i;
  }
  EXPECT_GT(early.bookkeeping(), 8_KiB);
  kernel.finish_boot();
  EXPECT_GE(kernel.allocator().metadata(),
            guest::Zone::metadata_bytes(kernel.allocator().zone(0).span()));
  for (unsigned i = 0; i < kept.size(); ++i) {
    EXPECT_EQ(machine.word(kept[i].begin()), i);
  }
  use_everything(kernel);
  for (unsigned i = 0; i < kept.size(); ++i) {
    EXPECT_EQ(machine.word(kept[i].begin()), i) << "somebody else got early memory";
  }
  expect_all_accepted_once(machine);
}

TYPED_TEST(GuestBootTest, Regression_L12_TheTableIsNeverGivenToAnybody) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  Blocks blocks{machine.window()};
  (void)kernel.take_all(blocks, Order{0});
  const PhysRange table = range(kernel.table().where(), Bytes{kernel.table().bytes().size()});
  for (const Blocks::Entry& entry : blocks.entries()) {
    ASSERT_FALSE(range(entry.at, 4_KiB).overlaps(table));
  }
  EXPECT_TRUE(kernel.table().invariants());
}

// --- What is not needed ---

TYPED_TEST(GuestBootTest, Regression_L17_MemoryThatNobodyUsesIsNotBacked) {
  Machine<TypeParam> machine{{.memory = 2_GiB}};
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  // Page information, the lists of the early allocator, the rest of a unit that the table cannot
  // describe, and for each of those at most a unit at its begin and one behind its end.
  const Bytes bookkeeping = kernel.allocator().metadata() + kernel.early().bookkeeping() + 2_MiB;
  const Bytes most = machine.launch().size() + bookkeeping + 2_MiB * 4;
  EXPECT_LE(machine.bed().backed(), most);

  Blocks blocks{machine.window()};
  for (unsigned i = 0; i < 32; ++i) {
    ASSERT_FALSE(kernel.take(blocks, Order{8}));
  }
  EXPECT_LE(machine.bed().backed(), most + blocks.size() + 2_MiB * 2);
  EXPECT_EQ(kernel.table().unaccepted() + Bytes{machine.bed().counters().accepted_bytes},
            machine.unaccepted().size());
}

TYPED_TEST(GuestBootTest, MemoryCanBeUsedFromTheFirstStepOfDeferredInitOn) {
  Machine<TypeParam> machine{{.memory = 256_MiB}};
  Kernel<TypeParam> kernel{machine};
  kernel.boot_to_early();
  must(kernel.open_allocator(), "allocator");
  Blocks blocks{machine.window()};
  unsigned steps = 0;
  while (must(kernel.init().step(), "step")) {
    ++steps;
    ASSERT_FALSE(kernel.take(blocks, Order{4}));
  }
  EXPECT_EQ(steps, 4U);
  EXPECT_TRUE(blocks.intact());
  EXPECT_TRUE(kernel.give_back(blocks));
  use_everything(kernel);
}

// --- Without acceptance ---

TEST(GuestBoot, WithoutAPlatformNothingIsEverAccepted) {
  Machine<Plain> machine{{.memory = 64_MiB, .launch = 64_MiB}};
  Kernel<Plain> kernel{machine};
  kernel.boot();
  EXPECT_FALSE(kernel.table().present());
  EXPECT_EQ(guest::unusable_without_platform(kernel.map(), guest::PlatformKind::kNone), 0_B);
  use_everything(kernel);
  EXPECT_EQ(machine.bed().counters().instructions, 0U);
  const auto got = kernel.allocator().allocate(Order{0});
  ASSERT_TRUE(got);
  EXPECT_EQ(kernel.platform().convert(range(*got, 4_KiB), Visibility::kShared).error().kind,
            guest::FailureKind::kUnsupported);
}

TEST(GuestBoot, WithoutAPlatformUnacceptedMemoryIsReportedBeforeItIsTouched) {
  Machine<Plain> machine;
  Kernel<Plain> kernel{machine};
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  EXPECT_EQ(guest::unusable_without_platform(kernel.map(), kernel.platform().kind()),
            machine.unaccepted().size());
}

TYPED_TEST(GuestBootTest, WithoutATableEveryAcceptIsANoOp) {
  Machine<TypeParam> machine{{.memory = 64_MiB, .launch = 64_MiB}};
  Kernel<TypeParam> kernel{machine};
  const Counters before = machine.bed().counters();
  kernel.boot();
  EXPECT_FALSE(kernel.table().present());
  use_everything(kernel);
  EXPECT_EQ(machine.bed().counters().accepted_bytes, before.accepted_bytes);
  EXPECT_EQ(machine.bed().counters().instructions, before.instructions);
  EXPECT_EQ(kernel.acceptor().counters().accept_calls, 0U);
}

// --- Somebody else's table ---

/// E820 entries: usable memory of `machine` as one, whatever is accepted.
template <class Side>
std::vector<std::byte> e820_of(const Machine<Side>& machine) {
  using abi::e820::Type;
  const std::array entries{
      std::pair{*PhysRange::make(machine.launch().begin(), machine.image().end()), Type::kRam},
      std::pair{machine.ghcbs(), Type::kReserved}, std::pair{machine.acpi(), Type::kAcpiReclaim},
      std::pair{*PhysRange::make(machine.acpi().end(), machine.ram().end()), Type::kRam}};
  std::vector<std::byte> bytes;
  for (const auto& [where, type] : entries) {
    const abi::e820::Entry entry{.address = where.begin().value(),
                                 .bytes = where.size().value(),
                                 .type = static_cast<std::uint32_t>(type)};
    const auto raw = std::bit_cast<std::array<std::byte, sizeof(entry)>>(entry);
    bytes.insert(bytes.end(), raw.begin(), raw.end());
  }
  return bytes;
}

TYPED_TEST(GuestBootTest, AKernelBootsFromE820AndTheTableThatALoaderLeft) {
  Machine<TypeParam> machine;
  {
    Kernel<TypeParam> loader{machine};
    must(loader.read_efi_map(efi_map(machine.regions())), "map");
    must(loader.build_table(), "table");
    machine.publish_in_efi(loader.table().where());
  }
  Kernel<TypeParam> kernel{machine};
  must(kernel.read_e820(e820_of(machine)), "E820");
  ASSERT_EQ(must(kernel.find_table({.efi_entries = machine.efi_entries()}), "table"),
            guest::HandOverRoute::kEfi);
  must(kernel.start_early(), "early");
  kernel.finish_boot();
  use_everything(kernel);
  expect_all_accepted_once(machine);
}

TYPED_TEST(GuestBootTest, Regression_T02_OurTableIsTheOneThatLinuxLooksFor) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  must(kernel.read_efi_map(efi_map(machine.regions())), "map");
  must(kernel.build_table(), "table");
  machine.publish_in_efi(kernel.table().where());

  // As drivers/firmware/efi does: LINUX_EFI_UNACCEPTED_MEM_TABLE_GUID, then the raw structure.
  constexpr std::array<std::uint8_t, 16> kGuid{0x3C, 0xDE, 0xD1, 0xD5, 0x5C, 0x10, 0xF9, 0x44,
                                               0x9E, 0xA9, 0xBC, 0xEF, 0x98, 0x12, 0x00, 0x31};
  std::uint64_t found = 0;
  for (std::size_t at = 0; at < machine.efi_entries().size(); at += 24) {
    const std::byte* const entry = machine.efi_entries().data() + at;
    if (std::memcmp(entry, kGuid.data(), kGuid.size()) == 0) {
      std::memcpy(&found, entry + 16, sizeof(found));
    }
  }
  ASSERT_NE(found, 0U);
  struct LinuxTable {
    std::uint32_t version;
    std::uint32_t unit_size;
    std::uint64_t phys_base;
    std::uint64_t size;
  } table{};
  const auto raw = machine.memory(range(PhysAddr{found}, 4_KiB));
  std::memcpy(&table, raw.data(), sizeof(table));
  EXPECT_EQ(table.version, 1U);
  EXPECT_EQ(table.unit_size, (2_MiB).value());
  // The unit in which unaccepted memory begins; its rest was accepted and has no bit.
  EXPECT_EQ(table.phys_base, machine.at(8_MiB).value());
  EXPECT_EQ(table.size, 6U);  // 44 units
  for (unsigned bit = 0; bit < 48; ++bit) {
    const auto byte = std::to_integer<unsigned>(raw[sizeof(table) + bit / 8]);
    EXPECT_EQ((byte >> (bit % 8) & 1) != 0, bit >= 1 && bit < 44) << bit;
  }
}

TYPED_TEST(GuestBootTest, Regression_S01_MemoryOfTheLaunchIsNeverAcceptedAgain) {
  Machine<TypeParam> machine;
  machine.word(machine.at(4_MiB)) = 42;
  Kernel<TypeParam> kernel{machine};
  kernel.boot_to_early();
  EXPECT_FALSE(kernel.table().any_unaccepted(machine.launch()));
  ASSERT_EQ(kernel.acceptor().accept(machine.launch()), 0_B);
  EXPECT_EQ(machine.word(machine.at(4_MiB)), 42U);
  kernel.finish_boot();
  use_everything(kernel);
  expect_all_accepted_once(machine);
}

// --- Conversion ---

TYPED_TEST(GuestBootTest, AllocatedPagesGoToTheHostAndComeBack) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  Blocks blocks{machine.window()};
  for (unsigned i = 0; i < 64; ++i) {
    ASSERT_FALSE(kernel.take(blocks, Order{2}));
  }
  const auto lent = must(kernel.allocator().allocate(Order{2}), "pages");
  machine.word(lent) = 42;
  must(kernel.platform().convert(range(lent, 16_KiB), Visibility::kShared), "share");
  EXPECT_NE(machine.word(lent), 42U);
  machine.word(lent + 4_KiB) = 43;
  EXPECT_EQ(machine.word(lent + 4_KiB), 43U);
  must(kernel.platform().convert(range(lent, 16_KiB), Visibility::kPrivate), "take back");
  for (Bytes page{}; page < 16_KiB; page += 4_KiB) {
    EXPECT_EQ(machine.word(lent + page), TypeParam::kFresh);
  }
  EXPECT_TRUE(blocks.intact());
  EXPECT_TRUE(kernel.allocator().free(lent, Order{2}).has_value());
  EXPECT_TRUE(kernel.give_back(blocks));
  EXPECT_EQ(kernel.problem(), "");
  use_everything(kernel);
}

TYPED_TEST(GuestBootTest, Regression_K02_ManyPagesAreConvertedAtOnceAndNoOtherPageWithThem) {
  Machine<TypeParam> machine;
  Kernel<TypeParam> kernel{machine};
  kernel.boot();
  Blocks blocks{machine.window()};
  ASSERT_FALSE(kernel.take(blocks, Order{10}));
  const PhysAddr large = blocks.entries().front().at;
  const PhysRange part = range(large + 4_KiB, 1_MiB - 8_KiB);

  const Counters before = machine.bed().counters();
  must(kernel.platform().convert(part, Visibility::kShared), "share");
  const Counters after = machine.bed().counters();
  // One call on TDX; on SNP a list takes 253 entries.
  const std::uint64_t calls = (part.size() / 4_KiB + 252) / 253;
  EXPECT_LE(after.conversions - before.conversions, calls);

  EXPECT_EQ(machine.word(large), large.value() ^ 0x5EED);
  EXPECT_EQ(machine.word(part.end()), part.end().value() ^ 0x5EED);
  EXPECT_EQ(machine.word(large + 2_MiB), (large + 2_MiB).value() ^ 0x5EED);
  must(kernel.platform().convert(part, Visibility::kPrivate), "take back");
  EXPECT_EQ(machine.word(part.end()), part.end().value() ^ 0x5EED);
  EXPECT_TRUE(kernel.give_back(blocks));
  use_everything(kernel);
}

// --- Detection ---

TEST(GuestBoot, DetectionNamesThePlatformThatThenBoots) {
  const auto cpuid = [](std::uint32_t leaf, std::uint32_t) -> guest::CpuidResult {
    switch (leaf) {
      case 0:
        return {.eax = 0x21};
      case 0x21:
        return {.ebx = 0x65746E49, .ecx = 0x20202020, .edx = 0x5844546C};
      default:
        return {};
    }
  };
  const auto found = guest::detect_platform(cpuid);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->kind, guest::PlatformKind::kTdx);
  Machine<Tdx> machine{{.memory = 32_MiB}};
  Kernel<Tdx> kernel{machine};
  kernel.boot();
  use_everything(kernel);
}

}  // namespace
}  // namespace accede::testbed
