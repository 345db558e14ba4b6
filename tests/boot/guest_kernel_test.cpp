// Our own kernel on the machine: memory under every policy, faults, and starting itself again.

#include "tests/boot/accede_run.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::test {
namespace {

/// Boots our kernel; a failed test unless it was ready and broke no rule.
Boot guest_boot(std::vector<std::string> options, Seconds most = Seconds{120}) {
  options.insert(options.begin(), {"--kernel", "guest"});
  Boot result = boot(options, most);
  EXPECT_EQ(result.exit_code, 0) << result;
  EXPECT_EQ(result.text("/outcome"), "ready") << result;
  EXPECT_TRUE(result.at("/fault").is_null()) << result;
  EXPECT_EQ(result.at("/warnings"), Json::array()) << result;
  return result;
}

void expect_no_rule_broken(const Boot& result) {
  EXPECT_EQ(result.at("/violations"), Json::array()) << result;
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/other_errors"), 0U) << result;
}

/// All memory was handed out, held what was written, and what the platform counts as accepted is
/// what the kernel does not call unaccepted any more.
void expect_all_memory_used(const Boot& result) {
  EXPECT_EQ(result.bytes("/work/wrong_pages"), 0U) << result;
  EXPECT_EQ(result.bytes("/work/unaccepted_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/work/accept_bytes"), result.bytes("/lazy_bytes")) << result;
  EXPECT_GT(result.number("/work/touched_bytes"),
            0.97 * result.number("/guest/mem_total_bytes") - 64.0 * kMiB)
      << result;
  expect_no_rule_broken(result);
}

TEST(GuestKernel, IsReadyWithLittleMoreAcceptedThanItUses) {
  const Boot result = guest_boot({"--memory", "12G"});
  EXPECT_LE(result.bytes("/accept/bytes"), result.bytes("/guest/used_bytes") + 64 * kMiB) << result;
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), 9 * kGiB) << result;
  EXPECT_LT(result.bytes("/guest/lost_bytes"), 64 * kMiB) << result;
  EXPECT_EQ(result.bytes("/lazy_bytes") - result.bytes("/accept/bytes"),
            result.bytes("/guest/unaccepted_bytes"))
      << result;
  expect_no_rule_broken(result);
}

TEST(GuestKernel, CanUseAllItsMemoryUnderEveryPolicy) {
  const std::vector<Boot> runs =
      boot_several({"--kernel", "guest", "--accept", "lazy,eager,background", "--memory", "3G",
                    "--work", "fill", "--touch", "all"},
                   Seconds{240});
  ASSERT_EQ(runs.size(), 3U);
  for (const Boot& run : runs) {
    SCOPED_TRACE(run.text("/accept_mode"));
    EXPECT_EQ(run.exit_code, 0) << run;
    expect_all_memory_used(run);
  }
  EXPECT_EQ(runs[1].bytes("/guest/unaccepted_bytes"), 0U) << "eager accepts before it is ready";
  EXPECT_GT(runs[0].bytes("/guest/unaccepted_bytes"), 512 * kMiB) << runs[0];
}

TEST(GuestKernel, AllocatesAndFreesInRandomOrders) {
  const std::vector<Boot> runs =
      boot_several({"--kernel", "guest", "--accept", "lazy,background", "--memory", "3G", "--work",
                    "random", "--touch", "2G"},
                   Seconds{180});
  ASSERT_EQ(runs.size(), 2U);
  for (const Boot& run : runs) {
    EXPECT_EQ(run.exit_code, 0) << run;
    EXPECT_EQ(run.bytes("/work/wrong_pages"), 0U) << run;
    EXPECT_GE(run.bytes("/work/touched_bytes"), 2 * kGiB) << run;
    expect_no_rule_broken(run);
  }
}

TEST(GuestKernel, TakesSmallPagesWhereTheHostHasNoLargeOnes) {
  const Boot result = guest_boot({"--memory", "3G", "--backing", "4k", "--accept", "eager",
                                  "--touch", "all", "--work", "fill", "--timeout", "100"});
  EXPECT_EQ(result.bytes("/accept/size_mismatch"), result.bytes("/lazy_bytes") / (2 * kMiB))
      << result;
  EXPECT_EQ(result.bytes("/accept/calls/4k"), result.bytes("/lazy_bytes") / 4096) << result;
  expect_all_memory_used(result);
}

TEST(GuestKernel, RunsOnThePlainMachineToo) {
  const Boot result = guest_boot({"--platform", "none", "--memory", "3G", "--touch", "512M"});
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/work/wrong_pages"), 0U) << result;
}

TEST(GuestKernel, FindsEverythingAcceptedByAFirmwareThatAcceptsAll) {
  const Boot result = guest_boot({"--firmware", "accept-all", "--memory", "3G", "--touch", "512M"});
  EXPECT_EQ(result.bytes("/accept/by_kernel_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  expect_no_rule_broken(result);
}

TEST(GuestKernel, StartsItselfAgainAndAcceptsNothingTwice) {
  const Boot result =
      guest_boot({"--memory", "3G", "--kexec", "--touch", "all", "--work", "fill"}, Seconds{180});
  EXPECT_EQ(result.bytes("/kexec/double_accepts"), 0U) << result;
  EXPECT_EQ(result.text("/kexec/marked_page"), "kept") << result;
  expect_no_rule_broken(result);
}

TEST(GuestKernel, HandsItsUnacceptedMemoryToTheNext) {
  const Boot result = guest_boot({"--memory", "4G", "--kexec"});
  EXPECT_GT(result.bytes("/kexec/unaccepted_before_bytes"), kGiB) << result;
  EXPECT_GT(result.bytes("/kexec/unaccepted_after_bytes"), kGiB) << result;
  EXPECT_LT(result.bytes("/kexec/unaccepted_after_bytes"),
            result.bytes("/kexec/unaccepted_before_bytes"))
      << "the destinations lay in unaccepted memory";
  EXPECT_EQ(result.bytes("/kexec/double_accepts"), 0U) << result;
  EXPECT_EQ(result.text("/kexec/marked_page"), "kept") << result;
  expect_no_rule_broken(result);
}

TEST(GuestKernel, IsAtHomeInAScatteredMap) {
  const Boot result = guest_boot({"--memory", "4G", "--map-holes", "600", "--touch", "64M"});
  EXPECT_GT(result.bytes("/guest/unaccepted_bytes"), kGiB) << result;
  expect_no_rule_broken(result);
}

TEST(GuestKernel, HasEverythingAcceptedWhenThereIsNoMemoryForATable) {
  const Boot result = guest_boot({"--memory", "3G", "--map-lie", "no-table"});
  EXPECT_EQ(result.bytes("/guest/unaccepted_bytes"), 0U) << result;
  EXPECT_EQ(result.bytes("/accept/bytes"), result.bytes("/lazy_bytes")) << result;
  expect_no_rule_broken(result);
}

TEST(GuestKernel, WorksAheadWhileItIsIdle) {
  // It never ends by itself: what was accepted until then is the last step.
  const Boot result = boot({"--kernel", "guest", "--memory", "3G", "--accept", "background",
                            "--append", "accede.exit=hang", "--steps", "--timeout", "10"},
                           Seconds{60});
  EXPECT_EQ(result.exit_code, 4) << result;
  EXPECT_EQ(result.bytes("/accept/bytes"), 0U) << "when it was ready\n" << result;
  ASSERT_FALSE(result.at("/steps").empty()) << result;
  const Json last = result.at("/steps").back();
  EXPECT_EQ(last.at("who"), "kernel") << last.dump();
  EXPECT_GE(last.at("bytes").get<std::uint64_t>(), 4 * kMiB) << last.dump();
}

/// What our kernel's EFI part refuses it says, and goes back to the firmware.
void expect_refusal(const std::string& lie, const std::string& reason) {
  const Boot result = boot({"--kernel", "guest", "--map-lie", lie, "--timeout", "60"}, Seconds{90});
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_NE(result.text("/message").find(reason), std::string::npos) << result;
}

TEST(GuestKernelRefuses, MemoryMapsThatMislead) {
  expect_refusal("overlap", "claim the same memory");
  expect_refusal("wrap", "address space");
}

// --- Faults --------------------------------------------------------------------------------------

/// Breaks a rule on purpose; the kernel reports that itself.
Boot broken(const std::string& rule, std::vector<std::string> more = {}) {
  more.insert(more.begin(),
              {"--kernel", "guest", "--memory", "3G", "--append", "accede.fault=" + rule});
  Boot result = boot(more, Seconds{90});
  EXPECT_EQ(result.exit_code, 1) << result;
  return result;
}

TEST(GuestKernelFault, OfANullPointerShowsRegistersAndTheWalk) {
  const Boot result = broken("null");
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  for (const char* const part :
       {"#PF page fault", "at RIP 0x", "rax 0x", "cr2 0x", "PML4 [0]", "not present"}) {
    EXPECT_TRUE(result.console_has(part)) << part << "\n" << result;
  }
}

TEST(GuestKernelFault, OfAnOverflowingStackIsReportedOnAnotherStack) {
  const Boot result = broken("stack");
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_TRUE(result.console_has("#PF")) << result;
}

TEST(GuestKernelFault, OfAnUndefinedInstructionIsReported) {
  const Boot result = broken("undefined");
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_TRUE(result.console_has("#UD")) << result;
}

TEST(GuestKernelFault, OfUnacceptedMemoryShowsTheStateOfThePage) {
  const Boot result = broken("unaccepted", {"--unaccepted-touch", "exception"});
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_TRUE(result.console_has("#VE")) << result;
  EXPECT_TRUE(result.console_has("unaccepted (unit")) << result;
}

TEST(GuestKernelFault, OfUnacceptedMemoryEndsTheGuestWhereTheHostAskedForThat) {
  const Boot result = broken("unaccepted");
  EXPECT_EQ(result.text("/outcome"), "guest-fault") << result;
  EXPECT_EQ(result.text("/fault/kind"), "unaccepted-access") << result;
}

}  // namespace
}  // namespace accede::test
