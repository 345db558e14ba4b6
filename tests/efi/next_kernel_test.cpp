// From one kernel to the next over one machine: where it goes, what it is told, what survives.
#include "accede/efi/kernel/next_kernel.hpp"

#include "tests/efi/kernel_machine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::efi::kernel {
namespace {

using efi::test::word_at;
using guest::Eager;
using guest::Lazy;
using guest::Order;
using test::FlatImageSample;
using test::KernelMachine;
using test::OneKernel;
using test::range;

constexpr std::string_view kLine = "quiet accede.kexec=1  accede.policy=lazy accede.kexec=1 end";

class NextKernelTest : public testing::Test {
 protected:
  template <class Policy>
  NextKernelEntry prepare(OneKernel<Policy>& kernel) {
    // The object gives everything back when it goes, as after a jump that never took place; the
    // memory keeps its content.
    NextKernel next{*kernel.memory};
    const auto entry = next.prepare();
    if (!entry) {
      throw std::runtime_error{std::string{entry.error().text().view()}};
    }
    return *entry;
  }
  template <class Policy>
  std::string refusal(OneKernel<Policy>& kernel) {
    const MemoryState before = kernel.memory->state();
    NextKernel next{*kernel.memory};
    const auto entry = next.prepare();
    EXPECT_FALSE(entry.has_value());
    EXPECT_EQ(kernel.memory->state().free, before.free);
    EXPECT_EQ(kernel.memory->state().total, before.total);
    EXPECT_TRUE(kernel.memory->sound());
    return entry ? std::string{} : std::string{entry.error().text().view()};
  }
  [[nodiscard]] const BootInfo& told(const NextKernelEntry& next) {
    return *machine.window().pointer<BootInfo>(next.boot_info);
  }
  /// What is in use must not be overwritten.
  void expect_apart(const NextKernelEntry& next) {
    const std::vector in_use{machine.image(), machine.pristine(), machine.info(),
                             machine.machine().acpi(), range(next.marked_page, 4_KiB)};
    for (const PhysRange used : in_use) {
      EXPECT_FALSE(next.image.overlaps(used));
      EXPECT_FALSE(next.info.overlaps(used));
    }
    EXPECT_FALSE(next.image.overlaps(next.info));
  }

  KernelMachine machine{kLine};
};

TEST_F(NextKernelTest, Regression_L14_GoesToUnacceptedMemoryWhichIsAcceptedBeforeTheCopy) {
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  const auto& table = kernel.memory->table();
  const PhysRange unaccepted = *table.next_run(table.covered());
  const Bytes before = machine.accepted();
  const NextKernelEntry next = prepare(kernel);
  EXPECT_EQ(machine.accepted() - before, next.accepted);
  EXPECT_TRUE(unaccepted.contains(next.image));
  EXPECT_TRUE(unaccepted.contains(next.info));
  EXPECT_FALSE(table.any_unaccepted(next.image));
  EXPECT_FALSE(table.any_unaccepted(next.info));
  EXPECT_GT(next.accepted, 0_B);
  EXPECT_EQ(machine.accepted(), kernel.memory->state().accepted);
  expect_apart(next);
  EXPECT_TRUE(kernel.memory->sound());
  machine.expect_no_rule_broken();
}

TEST_F(NextKernelTest, GoesToFreeMemoryWhenAllIsAccepted) {
  OneKernel<Eager> kernel{machine};
  kernel.start(machine.boot());
  const Bytes before = machine.accepted();
  const NextKernelEntry next = prepare(kernel);
  EXPECT_EQ(next.accepted, 0_B);
  EXPECT_EQ(machine.accepted(), before);
  expect_apart(next);
}

TEST_F(NextKernelTest, NeverGoesOverMemoryThatSomebodyHolds) {
  for (const bool all_but_a_little : {false, true}) {
    OneKernel<Eager> kernel{machine};
    kernel.start(machine.boot());
    auto& pages = kernel.memory->pages();
    std::vector<PhysAddr> held;
    while (kernel.memory->state().free > (all_but_a_little ? 9_MiB : 60_MiB)) {
      held.push_back(*pages.allocate(Order{0}));
    }
    const NextKernelEntry next = prepare(kernel);
    for (const PhysAddr page : held) {
      ASSERT_FALSE(range(page, 4_KiB).overlaps(next.image));
      ASSERT_FALSE(range(page, 4_KiB).overlaps(next.info));
    }
  }
}

TEST_F(NextKernelTest, IsPlacedForItsNewAddress) {
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  const NextKernelEntry next = prepare(kernel);
  const FlatImageSample sample;
  EXPECT_TRUE(next.image.begin().is_aligned(2_MiB));
  EXPECT_EQ(next.image.size(), 8_KiB);
  EXPECT_EQ(next.entry, next.image.begin() + 0x80_B);
  const auto memory = machine.machine().memory(next.image);
  EXPECT_EQ(word_at(&memory[0x100]), next.image.begin().value() + 0x80);
  EXPECT_EQ(memory[0x90], std::byte{0x90});
  EXPECT_EQ(memory[0x400], std::byte{0});
}

TEST_F(NextKernelTest, IsToldEverythingThatWeWereTold) {
  machine.boot().efi_system_table = 0x7F00'1000;
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  const NextKernelEntry next = prepare(kernel);
  set_entry_time(next, machine.window(), 77);
  const BootInfo& boot = told(next);
  const auto reader = BootReader::make(boot, machine.window());
  ASSERT_TRUE(reader.has_value());
  const BootReader& ours = kernel.memory->boot();
  EXPECT_EQ(boot.generation, 2U);
  EXPECT_EQ(boot.tsc_hz, machine.boot().tsc_hz);
  EXPECT_EQ(boot.tsc_entry, 77U);
  EXPECT_EQ(boot.efi_system_table, 0x7F00'1000U);
  EXPECT_EQ(boot.efi_entry_count, 0U);
  EXPECT_EQ(reader->image(), next.image);
  EXPECT_EQ(reader->info_range(), next.info);
  EXPECT_TRUE(std::ranges::equal(reader->efi_map(), ours.efi_map()));
  EXPECT_EQ(reader->efi_stride(), ours.efi_stride());
  EXPECT_TRUE(std::ranges::equal(reader->pristine_file(), ours.pristine_file()));
  EXPECT_EQ(reader->command_line(), "quiet accede.policy=lazy end");
  EXPECT_TRUE(next.info.contains(reader->pristine()));
  EXPECT_EQ(reader->marked_page(), range(next.marked_page, 4_KiB));
  for (std::size_t word = 0; word < 512; ++word) {
    ASSERT_EQ(machine.machine().word(next.marked_page + Bytes{8 * word}), boot.marked_value);
  }
}

TEST_F(NextKernelTest, TakesTheTableAndAcceptsNoUnitTwice) {
  OneKernel<Lazy> first{machine};
  first.start(machine.boot());
  (void)first.work({.kind = WorkKind::kTouch, .amount = 20_MiB});
  const NextKernelEntry entry = prepare(first);
  const Bytes unaccepted = first.memory->table().unaccepted();

  OneKernel<Lazy> second{machine};
  second.start(told(entry));
  auto& memory = *second.memory;
  EXPECT_EQ(memory.state().table, guest::HandOverRoute::kHandOver);
  EXPECT_EQ(memory.table().unaccepted() + memory.state().accepted, unaccepted);
  EXPECT_EQ(memory.marked_page_kept(), true);
  ASSERT_TRUE(memory.release_marked_page().has_value());
  // The memory of the first kernel is free now; nothing else is lost.
  EXPECT_EQ(memory.state().ram, first.memory->state().ram);
  const auto result = second.work({.kind = WorkKind::kFill});
  EXPECT_TRUE(result->good()) << result->stopped;
  EXPECT_EQ(machine.accepted(), machine.unaccepted());
  machine.expect_no_rule_broken();
}

TEST_F(NextKernelTest, NeedsNoTableAfterAnEagerKernel) {
  OneKernel<Eager> first{machine};
  first.start(machine.boot());
  const NextKernelEntry entry = prepare(first);
  EXPECT_EQ(told(entry).hand_over, 0U);
  OneKernel<Lazy> second{machine};
  second.start(told(entry));
  EXPECT_EQ(second.memory->state().table, guest::HandOverRoute::kNone);
  EXPECT_EQ(second.memory->state().ram, first.memory->state().ram);
  EXPECT_EQ(second.memory->marked_page_kept(), true);
  EXPECT_TRUE(second.work({.kind = WorkKind::kFill})->good());
  machine.expect_no_rule_broken();
}

TEST_F(NextKernelTest, GoesThroughManyGenerations) {
  const BootInfo* boot = &machine.boot();
  // A kernel lives on here while its successors run: nothing of it may be needed.
  for (std::uint32_t generation = 1; generation <= 6; ++generation) {
    ASSERT_EQ(boot->generation, generation);
    OneKernel<Lazy> kernel{machine};
    kernel.start(*boot);
    if (generation > 1) {
      ASSERT_EQ(kernel.memory->marked_page_kept(), true);
      ASSERT_TRUE(kernel.memory->release_marked_page().has_value());
    }
    ASSERT_TRUE(kernel.work({.kind = WorkKind::kRandom, .amount = 10_MiB * generation})->good());
    boot = &told(prepare(kernel));
    ASSERT_TRUE(kernel.memory->sound());
  }
  machine.expect_no_rule_broken();
}

TEST_F(NextKernelTest, LeavesThisKernelAsItWasWhenTheImageIsDamaged) {
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  machine.machine().memory(machine.pristine())[0] ^= std::byte{1};
  const Bytes before = machine.accepted();
  EXPECT_EQ(refusal(kernel), "the next kernel cannot be started: the image file is none of ours");
  EXPECT_EQ(machine.accepted(), before);
}

TEST_F(NextKernelTest, LeavesThisKernelAsItWasWhenThereIsNoImage) {
  machine.boot().pristine = {0, 0};
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  EXPECT_EQ(refusal(kernel), "the next kernel cannot be started: the image file is cut off");
}

TEST_F(NextKernelTest, LeavesThisKernelAsItWasWhenTheTableWouldNotSurvive) {
  auto regions = machine.machine().regions();
  regions[2].kind = guest::MemoryKind::kUsable;
  machine.tell_map(regions);
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  EXPECT_EQ(refusal(kernel),
            "the next kernel cannot be started: the unaccepted table lies in memory that the next "
            "kernel would use");
}

TEST_F(NextKernelTest, LeavesThisKernelAsItWasWhenThePlatformRefuses) {
  OneKernel<Lazy> kernel{machine};
  kernel.start(machine.boot());
  machine.attack();
  EXPECT_THAT(refusal(kernel),
              testing::StartsWith("the next kernel cannot be started: the platform says that"));
  machine.machine().play({});
  EXPECT_TRUE(kernel.work({.kind = WorkKind::kTouch, .amount = 40_MiB})->good());
  EXPECT_EQ(told(prepare(kernel)).generation, 2U);
}

TEST_F(NextKernelTest, LeavesThisKernelAsItWasWhenThereIsNoMemory) {
  OneKernel<Eager> kernel{machine};
  kernel.start(machine.boot());
  auto& pages = kernel.memory->pages();
  std::vector<PhysAddr> held;
  while (const auto page = pages.allocate(Order{0})) {
    held.push_back(*page);
  }
  EXPECT_EQ(refusal(kernel), "the next kernel cannot be started: out of memory");
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(pages.free(held.back(), Order{0}).has_value());
    held.pop_back();
  }
  EXPECT_EQ(refusal(kernel), "the next kernel cannot be started: out of memory");
}

TEST(CommandLineCopy, LosesTheWordsThatAskForAKexecAndNothingElse) {
  const auto copy = [](std::string_view line) {
    std::vector<char> to(line.size());
    const std::size_t size = copy_command_line(line, to);
    return std::string{to.data(), size};
  };
  EXPECT_EQ(copy(""), "");
  EXPECT_EQ(copy("accede.kexec=1"), "");
  EXPECT_EQ(copy("  accede.kexec=1 "), "");
  EXPECT_EQ(copy("a accede.kexec=1"), "a");
  EXPECT_EQ(copy("accede.kexec=1 b\n"), "b");
  EXPECT_EQ(copy("a\t b accede.kexec=1\naccede.kexec=1 c"), "a b c");
  EXPECT_EQ(copy("accede.kexec=0 xaccede.kexec=1 accede.kexec=12"),
            "accede.kexec=0 xaccede.kexec=1 accede.kexec=12");
}

TEST(CommandLineCopy, SaysThatTheNextKernelIsNotToStartAnother) {
  const std::string_view line = "accede.kexec=1 accede.touch=all";
  std::vector<char> to(line.size());
  const std::size_t size = copy_command_line(line, to);
  const Options options =
      parse_options({to.data(), size}, [](const OptionProblem&) { ADD_FAILURE(); });
  EXPECT_FALSE(options.kexec);
  EXPECT_TRUE(options.touch_all);
}

}  // namespace
}  // namespace accede::efi::kernel
