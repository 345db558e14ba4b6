// The whole sequence, as the host sees it.
#include "accede/efi/kernel/run_kernel.hpp"

#include "tests/efi/kernel_machine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::efi::kernel {
namespace {

using test::Ended;
using test::FakeServices;
using test::Json;
using test::KernelMachine;
using test::run_kernel;
using testing::ElementsAre;

using How = Ended::How;

template <class Side>
class RunKernelOn : public testing::Test {
 protected:
  using Machine = test::BasicKernelMachine<Side>;
};
using Sides = testing::Types<test::Tdx, test::Snp>;
TYPED_TEST_SUITE(RunKernelOn, Sides, testbed::test::SideNames);

TEST(RunKernel, IsReadyAndPowersOff) {
  KernelMachine machine;
  FakeServices services;
  EXPECT_EQ(run_kernel(machine, machine.boot(), services).how, How::kPowerOff);
  EXPECT_THAT(services.steps(), ElementsAre("ready", "off"));
  EXPECT_THAT(services.waits, ElementsAre(true, false));
  ASSERT_NE(services.table, nullptr);
  const Json& ready = services.line("ready");
  EXPECT_EQ(ready["generation"], 1);
  EXPECT_EQ(ready["table"], "efi");
  EXPECT_EQ(ready["accepted_bytes"], machine.accepted().value());
  EXPECT_FALSE(ready.contains("marked_page"));
}

TEST(RunKernel, HangsWhenItIsAskedTo) {
  KernelMachine machine{"accede.exit=hang"};
  FakeServices services;
  EXPECT_EQ(run_kernel(machine, machine.boot(), services).how, How::kHang);
  EXPECT_THAT(services.steps(), ElementsAre("ready"));
}

TYPED_TEST(RunKernelOn, DoesEveryWorkloadUnderEveryPolicy) {
  for (const std::string policy : {"lazy", "eager", "background"}) {
    for (const std::string work : {"touch", "random", "fill"}) {
      SCOPED_TRACE(policy + " " + work);
      typename TestFixture::Machine machine{"accede.touch=30M accede.policy=" + policy +
                                            " accede.work=" + work};
      FakeServices services;
      EXPECT_EQ(run_kernel(machine, machine.boot(), services).how, How::kPowerOff);
      EXPECT_THAT(services.steps(), ElementsAre("ready", "work", "off"));
      EXPECT_THAT(services.waits, ElementsAre(true, true, false));
      const Json& report = services.line("work");
      EXPECT_EQ(report["policy"], policy);
      EXPECT_EQ(report["workload"], work);
      EXPECT_EQ(report["wrong_pages"], 0);
      EXPECT_EQ(report["stopped"], "done");
      if (work != "fill") {
        EXPECT_EQ(report["touched_bytes"], 30 << 20);
      }
      EXPECT_EQ(report["accepted_bytes"], machine.accepted().value());
      EXPECT_EQ(report["meminfo"]["MemFree"], services.line("ready")["meminfo"]["MemFree"]);
      machine.expect_no_rule_broken();
    }
  }
}

TYPED_TEST(RunKernelOn, StartsItselfAgainOnceAndKeepsTheMarkedPage) {
  for (const std::string policy : {"lazy", "eager", "background"}) {
    SCOPED_TRACE(policy);
    typename TestFixture::Machine machine{"accede.kexec=1 accede.touch=16M accede.policy=" +
                                          policy};
    FakeServices first;
    const Ended jump = run_kernel(machine, machine.boot(), first);
    ASSERT_EQ(jump.how, How::kJump);
    EXPECT_THAT(first.steps(), ElementsAre("ready", "work", "kexec"));
    EXPECT_THAT(first.waits, testing::Each(true));
    EXPECT_TRUE(first.prepared);

    const auto& boot = *machine.window().template pointer<BootInfo>(jump.next->boot_info);
    EXPECT_NE(boot.tsc_entry, 0U);
    FakeServices second;
    EXPECT_EQ(run_kernel(machine, boot, second).how, How::kPowerOff);
    EXPECT_THAT(second.steps(), ElementsAre("ready", "work", "off"));
    const Json& ready = second.line("ready");
    EXPECT_EQ(ready["generation"], 2);
    EXPECT_EQ(ready["marked_page"], "kept");
    EXPECT_EQ(ready["policy"], policy);
    EXPECT_EQ(ready["table"], policy == "eager" ? "none" : "hand-over");
    EXPECT_EQ(ready["ram_bytes"], first.line("ready")["ram_bytes"]);
    EXPECT_EQ(second.line("work")["wrong_pages"], 0);
    const std::uint64_t accepted = first.line("kexec")["accepted_bytes"].get<std::uint64_t>() +
                                   second.line("work")["accepted_bytes"].get<std::uint64_t>();
    EXPECT_EQ(accepted, machine.accepted().value());
    machine.expect_no_rule_broken();
  }
}

TEST(RunKernel, SaysThatTheMarkedPageWasOverwritten) {
  KernelMachine machine{"accede.kexec=1"};
  FakeServices first;
  const Ended jump = run_kernel(machine, machine.boot(), first);
  ASSERT_EQ(jump.how, How::kJump);
  machine.flip(jump.next->marked_page + 4088_B);
  FakeServices second;
  const auto& boot = *machine.window().pointer<BootInfo>(jump.next->boot_info);
  EXPECT_EQ(run_kernel(machine, boot, second).how, How::kPowerOff);
  EXPECT_EQ(second.line("ready")["marked_page"], "lost");
}

TEST(RunKernel, GoesOnWhenTheNextKernelCannotBeStarted) {
  KernelMachine machine{"accede.kexec=1"};
  machine.boot().pristine.end -= 512;
  FakeServices services;
  EXPECT_EQ(run_kernel(machine, machine.boot(), services).how, How::kPowerOff);
  EXPECT_THAT(services.steps(), ElementsAre("ready", "error", "off"));
  EXPECT_EQ(services.line("error")["message"],
            "the next kernel cannot be started: the image file is cut off (0x10)");
}

TEST(RunKernel, BreaksARuleWhenItIsAskedTo) {
  KernelMachine machine{"accede.fault=undefined accede.touch=1M"};
  FakeServices services;
  EXPECT_EQ(run_kernel(machine, machine.boot(), services).how, How::kPowerOff);
  EXPECT_EQ(services.broken, FaultKind::kUndefined);
  EXPECT_THAT(services.steps(), ElementsAre("ready", "work", "error", "off"));
}

TEST(RunKernel, PanicsWhenItsMemoryCannotBeStarted) {
  KernelMachine machine;
  machine.boot().efi_entry_count = 0;
  FakeServices services;
  const Ended ended = run_kernel(machine, machine.boot(), services);
  EXPECT_EQ(ended.how, How::kPanic);
  EXPECT_EQ(ended.text, "there is unaccepted memory, but nobody left a table of it");
  EXPECT_THAT(services.steps(), ElementsAre());
}

TYPED_TEST(RunKernelOn, StopsAfterAnAttackOnItsMemory) {
  typename TestFixture::Machine machine{"accede.touch=all accede.kexec=1"};
  machine.attack();
  FakeServices services;
  const Ended ended = run_kernel(machine, machine.boot(), services);
  EXPECT_EQ(ended.how, How::kPanic);
  EXPECT_THAT(ended.text, testing::StartsWith("memory could not be accepted: the platform says"));
  EXPECT_THAT(services.steps(), ElementsAre("ready", "work"));
}

TEST(RunKernel, SaysThatMemoryIsLeftAloneWithoutAPlatform) {
  KernelMachine machine{"accede.touch=all"};
  guest::NoPlatform platform;
  FakeServices services;
  EXPECT_EQ(run_kernel(machine, machine.boot(), services, platform).how, How::kPowerOff);
  EXPECT_THAT(services.steps(), ElementsAre("ready", "error", "work", "off"));
  EXPECT_EQ(services.line("work")["stopped"], "memory");
}

}  // namespace
}  // namespace accede::efi::kernel
