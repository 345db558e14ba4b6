#include "accede/efi/kernel/kernel_memory.hpp"

#include "tests/efi/kernel_machine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace accede::efi::kernel {
namespace {

using guest::Background;
using guest::Eager;
using guest::Lazy;
using guest::MemoryKind;
using guest::Order;
using test::KernelMachine;
using test::OneKernel;
using test::range;

/// What start() says about the machine.
std::string start_error(KernelMachine& machine) {
  OneKernel<Lazy> kernel{machine};
  const auto started = kernel.memory->start(machine.boot());
  EXPECT_FALSE(started.has_value());
  return started ? std::string{} : std::string{started.error().text().view()};
}

std::string error_after(const std::function<void(KernelMachine&)>& change) {
  KernelMachine machine;
  change(machine);
  return start_error(machine);
}

TEST(KernelMemory, IsReadyWithNothingAcceptedButTheGuardOfWhatWas) {
  KernelMachine machine;
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  const MemoryState state = kernel.memory->state();
  EXPECT_EQ(machine.accepted(), 2_MiB);
  EXPECT_EQ(state.accepted, 2_MiB);
  EXPECT_EQ(kernel.memory->table().unaccepted(), machine.unaccepted() - 2_MiB);
  // The guard is a part of a block that counts as unaccepted until it is used.
  EXPECT_EQ(state.unaccepted, machine.unaccepted());
  EXPECT_EQ(state.table, guest::HandOverRoute::kEfi);
  // All RAM but 64 KiB of GHCB pages and the firmware's tables.
  EXPECT_EQ(state.ram, 95_MiB);
  EXPECT_EQ(state.page_info, Bytes{12 * 96 * 256});
  EXPECT_EQ(state.total, state.free);
  EXPECT_EQ(state.used(), state.ram - state.free);
  // The image, its file, what it is told; page information.
  EXPECT_EQ(state.used(), 192_KiB + 4_KiB + 16_KiB + 288_KiB);
  EXPECT_TRUE(kernel.memory->sound());
  machine.expect_no_rule_broken();
}

TEST(KernelMemory, PutsTheInformationOfALargeMemoryWhereItIsAcceptedForIt) {
  KernelMachine machine{test::kCommandLine, {.memory = 512_MiB}};
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  const MemoryState state = kernel.memory->state();
  EXPECT_EQ(state.page_info, 1536_KiB);
  EXPECT_EQ(state.accepted, 2_MiB);
  EXPECT_EQ(machine.accepted(), 2_MiB);
  EXPECT_TRUE(kernel.memory->sound());
}

TEST(KernelMemory, NeverHandsOutWhatIsInUse) {
  KernelMachine machine;
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  const auto& table = kernel.memory->table();
  const std::vector in_use{machine.image(), machine.pristine(), machine.info(),
                           range(table.where(), Bytes{table.bytes().size()})};
  while (const auto page = kernel.memory->pages().allocate(Order{0})) {
    for (const PhysRange used : in_use) {
      ASSERT_FALSE(range(*page, 4_KiB).overlaps(used)) << std::hex << page->value();
    }
    *machine.window().pointer<std::uint64_t>(*page) = ~0ULL;
  }
  EXPECT_EQ(kernel.memory->state().free, 0_B);
  EXPECT_EQ(machine.boot().magic, BootInfo::kMagic);
  EXPECT_TRUE(kernel.memory->sound());
  machine.expect_no_rule_broken();
}

TEST(KernelMemory, AcceptsEverythingAtTheStartWhenItIsEager) {
  KernelMachine machine;
  OneKernel<Eager> kernel{machine};
  kernel.start(machine.boot());
  EXPECT_EQ(kernel.memory->state().unaccepted, 0_B);
  EXPECT_EQ(kernel.memory->table().unaccepted(), 0_B);
  machine.expect_no_rule_broken();
}

TEST(KernelMemory, AcceptsAheadOnlyWhenItIsLetAndOnlyUpToItsReserve) {
  KernelMachine machine;
  OneKernel<Background> kernel{machine};
  kernel.start(machine.boot());
  auto& memory = *kernel.memory;
  while (memory.state().free - memory.state().unaccepted >= 2_MiB) {
    ASSERT_TRUE(memory.pages().allocate(Order{0}).has_value());
  }
  const Bytes before = memory.state().accepted;
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_TRUE(memory.background_poll().has_value());
  }
  // The reserve is 8 MiB at least, and 20 ms of what was taken; then the acceptor sleeps.
  const Bytes reserve = memory.state().accepted - before;
  EXPECT_GE(reserve, 6_MiB);
  EXPECT_LT(reserve, memory.table().covered().size() - 8_MiB);
  EXPECT_TRUE(memory.sound());
  machine.expect_no_rule_broken();
}

TEST(KernelMemory, TakesAtMostOneStepInTheBackgroundEachMillisecond) {
  KernelMachine machine;
  OneKernel<Background> kernel{machine};
  kernel.start(machine.boot());
  auto& memory = *kernel.memory;
  while (memory.state().free - memory.state().unaccepted >= 2_MiB) {
    ASSERT_TRUE(memory.pages().allocate(Order{0}).has_value());
  }
  std::uint64_t last = 0;
  for (int i = 0; i < 2'000; ++i) {
    const Bytes before = memory.state().accepted;
    ASSERT_TRUE(memory.background_poll().has_value());
    const Bytes step = memory.state().accepted - before;
    if (step != 0_B) {
      EXPECT_LE(step, 4_MiB);  // a unit and its guard
      EXPECT_TRUE(last == 0 || kernel.now - last >= 1'000'000U);
      last = kernel.now;
    }
  }
  EXPECT_NE(last, 0U);
}

TEST(KernelMemory, SaysWhenThePlatformFailsInTheBackground) {
  KernelMachine machine;
  OneKernel<Background> kernel{machine};
  kernel.start(machine.boot());
  auto& memory = *kernel.memory;
  while (memory.state().free - memory.state().unaccepted >= 2_MiB) {
    ASSERT_TRUE(memory.pages().allocate(Order{0}).has_value());
  }
  machine.attack();
  std::optional<guest::AcceptError> error;
  for (int i = 0; i < 1'000 && !error; ++i) {
    if (const auto polled = memory.background_poll(); !polled) {
      error = polled.error();
    }
  }
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->failure.kind, guest::FailureKind::kAlreadyAccepted);
  EXPECT_TRUE(memory.sound());
}

TEST(KernelMemory, LeavesUnacceptedMemoryAloneWhereNothingCanAcceptIt) {
  KernelMachine machine;
  guest::NoPlatform platform;
  OneKernel<Lazy, guest::NoPlatform> kernel{machine, platform};
  kernel.start(machine.boot());
  EXPECT_EQ(kernel.memory->unusable(), machine.machine().unaccepted().size());
  EXPECT_EQ(kernel.memory->state().ram, 8_MiB + 64_KiB - 1_MiB);
  EXPECT_TRUE(kernel.work({.kind = WorkKind::kFill})->good());
}

TEST(KernelMemory, RefusesUnacceptedMemoryWithoutATable) {
  EXPECT_EQ(error_after([](KernelMachine& machine) { machine.boot().efi_entry_count = 0; }),
            "there is unaccepted memory, but nobody left a table of it");
}

TEST(KernelMemory, RefusesATableOfMemoryThatIsNotThere) {
  const std::string error = error_after([](KernelMachine& machine) {
    auto regions = machine.machine().regions();
    regions.back().range =
        *PhysRange::make(regions.back().range.begin(), regions.back().range.end() - 4_MiB);
    machine.tell_map(regions);
  });
  EXPECT_EQ(error,
            "the unaccepted table does not fit the memory map: it names memory that is not there "
            "(0x105c00000)");
}

TEST(KernelMemory, RefusesADamagedTable) {
  const std::string error =
      error_after([](KernelMachine& machine) { machine.flip(machine.machine().table_at(), 0xFF); });
  EXPECT_THAT(error, testing::StartsWith("the unaccepted table that was handed over is not sound"));
}

TEST(KernelMemory, RefusesADamagedHandOver) {
  const std::string error = error_after([](KernelMachine& machine) {
    machine.boot().hand_over = machine.machine().hand_over_at().value();
  });
  EXPECT_THAT(error, testing::StartsWith("what names the unaccepted table is damaged"));
}

TEST(KernelMemory, RefusesAMapThatIsNotSound) {
  EXPECT_THAT(error_after([](KernelMachine& machine) { machine.boot().efi_stride = 8; }),
              testing::StartsWith("the memory map of the firmware cannot be used"));
  EXPECT_THAT(error_after([](KernelMachine& machine) {
                auto regions = machine.machine().regions();
                regions[0].range = range(regions[0].range.begin(), 2_MiB);
                machine.tell_map(regions);
              }),
              testing::StartsWith("the memory map of the firmware cannot be used"));
}

TEST(KernelMemory, RefusesAMapWithoutMemory) {
  EXPECT_EQ(error_after([](KernelMachine& machine) {
              machine.boot().efi_map_bytes = 0;
              machine.boot().efi_entry_count = 0;
            }),
            "there is no memory");
}

TEST(KernelMemory, RefusesABootInfoThatCannotBe) {
  const std::vector<std::function<void(BootInfo&)>> changes{
      [](BootInfo& boot) { boot.magic ^= 1; },
      [](BootInfo& boot) { boot.version = 2; },
      [](BootInfo& boot) { std::swap(boot.image.begin, boot.image.end); },
      [](BootInfo& boot) { boot.image.end = boot.image.begin; },
      [](BootInfo& boot) { boot.pristine.end = ~0ULL; },
      [](BootInfo& boot) { boot.info.begin = boot.info.end + 1; },
      [](BootInfo& boot) { boot.efi_map_bytes = ~0ULL; },
      [](BootInfo& boot) { boot.efi_map = 0; },
      [](BootInfo& boot) { boot.command_line_bytes = ~0ULL; },
      [](BootInfo& boot) { boot.command_line = 0; },
      [](BootInfo& boot) { boot.efi_entry_count = ~0ULL / 24 + 1; },
      [](BootInfo& boot) { boot.marked_page = 0x1001; },
      [](BootInfo& boot) { boot.marked_page = ~0ULL - 4095; },
      [](BootInfo& boot) { boot.tsc_hz = 0; },
      [](BootInfo& boot) { boot.tsc_hz = ~0ULL; }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    EXPECT_THAT(error_after([&](KernelMachine& machine) { changes[i](machine.boot()); }),
                testing::StartsWith("the kernel was started with a BootInfo that cannot be: "))
        << i;
  }
}

TEST(KernelMemory, SaysWhenThePlatformFailsWhileItStarts) {
  KernelMachine machine;
  machine.attack();
  OneKernel<Eager> kernel{machine};
  const auto started = kernel.memory->start(machine.boot());
  ASSERT_FALSE(started.has_value());
  EXPECT_THAT(std::string{started.error().text().view()},
              testing::StartsWith("memory could not be accepted: the platform says that"));
}

// --- The page that the kernel before marked ---

class MarkedPageTest : public testing::Test {
 protected:
  void mark(PhysAddr page) {
    machine_.boot().marked_page = page.value();
    machine_.boot().marked_value = 0x1234;
  }
  void write(PhysAddr page) {
    std::fill_n(machine_.window().pointer<std::uint64_t>(page), 512, 0x1234);
  }

  KernelMachine machine_;
  PhysAddr page_ = machine_.machine().at(3_MiB);
};

TEST_F(MarkedPageTest, IsThereUntilItIsReleasedAndFreeMemoryAfterwards) {
  mark(page_);
  write(page_);
  OneKernel<Lazy> kernel{machine_};
  auto& memory = *kernel.start(machine_.boot()).memory;
  EXPECT_EQ(memory.marked_page_kept(), true);
  const MemoryState before = memory.state();
  ASSERT_TRUE(memory.release_marked_page().has_value());
  EXPECT_EQ(memory.state().free, before.free + 4_KiB);
  EXPECT_TRUE(memory.sound());
  bool seen = false;
  while (const auto page = memory.pages().allocate(Order{0})) {
    seen = seen || *page == page_;
  }
  EXPECT_TRUE(seen);
}

TEST_F(MarkedPageTest, IsLostWhenOneWordIsAnother) {
  for (const std::size_t word : {0U, 300U, 511U}) {
    mark(page_);
    write(page_);
    machine_.flip(page_ + Bytes{8 * word});
    OneKernel<Lazy> kernel{machine_};
    EXPECT_EQ(kernel.start(machine_.boot()).memory->marked_page_kept(), false);
  }
}

TEST_F(MarkedPageTest, IsLostAndNotTouchedWhenItIsNotAccepted) {
  for (const PhysAddr page : {machine_.machine().at(50_MiB), PhysAddr{0xFEE0'0000}}) {
    mark(page);
    OneKernel<Lazy> kernel{machine_};
    auto& memory = *kernel.start(machine_.boot()).memory;
    EXPECT_EQ(memory.marked_page_kept(), false);
    EXPECT_TRUE(memory.release_marked_page().has_value());
    EXPECT_TRUE(memory.sound());
  }
}

TEST_F(MarkedPageTest, StaysInUseWhenItBelongsToTheKernel) {
  mark(machine_.info().begin());
  OneKernel<Lazy> kernel{machine_};
  auto& memory = *kernel.start(machine_.boot()).memory;
  const MemoryState before = memory.state();
  ASSERT_TRUE(memory.release_marked_page().has_value());
  EXPECT_EQ(memory.state().free, before.free);
}

TEST_F(MarkedPageTest, IsNotThereWhenNobodyMarkedOne) {
  OneKernel<Lazy> kernel{machine_};
  auto& memory = *kernel.start(machine_.boot()).memory;
  EXPECT_EQ(memory.marked_page_kept(), std::nullopt);
  EXPECT_TRUE(memory.release_marked_page().has_value());
}

}  // namespace
}  // namespace accede::efi::kernel
