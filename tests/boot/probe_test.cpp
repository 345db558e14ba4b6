// Guests that misbehave on purpose: what the emulator answers, and how it ends those that break a
// rule. The scenarios are in probe/.

#include "tests/boot/probe_run.hpp"

#include <gtest/gtest.h>

#include <string>

namespace accede::test {
namespace {

// --- What the guest survives
// -------------------------------------------------------------------------

TEST(Probe, GetsTheExactWordsOfTheDecisionTableFromAccept) {
  const Boot result = survive(
      "guard-unit,accept-twice,accept-launch-memory,accept-2m-over-4k,accept-1g,accept-unaligned,"
      "accept-reserved-bits,accept-shared-bit,accept-beyond-width");
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 4U);
  EXPECT_EQ(result.bytes("/accept/size_mismatch"), 1U);
  EXPECT_EQ(result.bytes("/accept/refused_1g"), 1U);
  // 3 unaligned, 9 + 12 reserved bits, 5 levels, 2 with the shared bit, 8 above the width.
  EXPECT_EQ(result.bytes("/accept/other_errors"), 39U);
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), result.bytes("/accept/bytes"));
  // Refusals are listed although none ends the guest.
  ASSERT_FALSE(result.violations("double-accept").empty());
  EXPECT_EQ(result.violations("double-accept")[0].at("fatal"), false);
  EXPECT_EQ(result.violations("double-accept")[0].at("count"), 4);
  EXPECT_FALSE(result.violations("invalid-accept").empty());
}

TEST(Probe, FindsAcceptedMemoryZeroAndEachOfFiveHundredAndTwelvePagesUsable) {
  const Boot result = survive("accept-content,accept-512-pages");
  EXPECT_EQ(result.bytes("/accept/calls/4k"), 513U);
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 1U);
  EXPECT_EQ(result.bytes("/accept/bytes"), 2 * kUnit + 4096);
}

TEST(Probe, GetsSizeMismatchFromAHostThatBacksWithSmallPages) {
  const Boot result =
      survive("accept-4k-backing,accept-protocol-2m,accept-protocol-ragged", {"--backing", "4k"});
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 0U);
  EXPECT_GE(result.bytes("/accept/size_mismatch"), 4U);
  EXPECT_EQ(result.bytes("/accept/calls/4k"), 512U + 512U + 512U + 3U + 2U);
}

TEST(Probe, ConvertsMemoryBothWaysWithoutKeepingItsContent) {
  const Boot result = survive(
      "map-gpa-operands,shared-round-trip,convert-one-page,share-pending-memory,convert-twice,"
      "convert-device,device-in-both-views");
  EXPECT_EQ(result.bytes("/convert/to_shared_bytes"), kUnit + 4096 + 8192 + 4 * 4096);
  EXPECT_EQ(result.bytes("/convert/to_private_bytes"), kUnit + 4096 + 8192);
  EXPECT_EQ(result.bytes("/convert/calls"), result.bytes("/exits/vmcall/map-gpa"));
}

TEST(Probe, GetsAnAnswerToEveryVmcall) {
  const Boot result = survive(
      "capabilities,register-masking,bad-masks,unknown-sub-functions,vendor-call,cpuid,port-io,"
      "port-io-operands,read-msr,unsupported-msr,write-msr,memory-mapped-io,"
      "memory-mapped-io-operands,get-quote,event-notification,report-port");
  EXPECT_EQ(result.violations("unknown-vmcall").size(), 9U)
      << "one for each sub-function, one for the vendor call";
  EXPECT_EQ(result.bytes("/exits/vmcall/setup-event-notify"), 4U);
  EXPECT_EQ(result.bytes("/exits/vmcall/get-quote"), 6U);
}

TEST(Probe, WaitsInRealTimeWhenItHalts) {
  const Boot result = survive("halt");
  EXPECT_GE(result.bytes("/exits/vmcall/hlt"), 20U);
  EXPECT_GE(result.bytes("/exits/idle_waits"), 20U);
}

TEST(Probe, SeesATdxMachineAndNothingOfTheHypervisorBelow) {
  const Boot result = survive(
      "vp-info,unknown-leaf,reserved-rax-bits,tdcall-bytes,tdcall-in-compatibility-mode,vm-fields,"
      "measurements,svm-hidden,cpuid-follows-cr4,"
      "tdx-visible,no-snp,memory-map,no-ve-info,cpuid-exception");
  const std::vector<Json> unknown = result.violations("unknown-tdcall");
  EXPECT_GE(unknown.size(), 13U) << "one for each leaf";
  for (const Json& violation : unknown) {
    EXPECT_EQ(violation.at("fatal"), false);
  }
  EXPECT_EQ(result.bytes("/exits/ve_injected"), 1U);
}

TEST(Probe, AcceptsOnTheFirstTouchWhereTheTdTakesExceptions) {
  const Boot result = survive("ve-access-first,ve-demote-pending,ve-accept-2m,ve-nested",
                              {"--unaccepted-touch", "exception"});
  EXPECT_EQ(result.bytes("/exits/ve_injected"), 8U);
}

TEST(Probe, Regression_E02_AcceptsExactlyTwoMebibytesInOneCall) {
  const Boot result = survive("accept-protocol-2m");
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 1U);
  EXPECT_EQ(result.bytes("/accept/calls/4k"), 0U);
}

TEST(Probe, AcceptsRangesOfAnyShapeThroughTheFirmwaresProtocol) {
  const Boot result = survive("accept-protocol-ragged,accept-protocol-operands");
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 2U);
  EXPECT_EQ(result.bytes("/accept/calls/4k"), 3U + 2U);
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 1U);
}

TEST(Probe, FindsAllMemoryAcceptedByAFirmwareThatAcceptsAll) {
  const Boot result =
      survive("firmware-accepted-all", {"--firmware", "accept-all", "--memory", "5G"});
  EXPECT_EQ(result.bytes("/accept/by_firmware_bytes"), 3 * kGiB);  // 2 GiB are below 4 GiB
  EXPECT_EQ(result.bytes("/accept/by_loader_bytes"), 0U);
}

TEST(Probe, FindsAPlainMachineWithoutTheEmulator) {
  static_cast<void>(survive("plain-machine", {"--platform", "none"}));
}

// --- What ends the guest
// --------------------------------------------------------------------------------

TEST(Probe, IsStoppedWhenItReadsPendingMemory) {
  const Boot result = break_rule("touch-pending", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + 0x1238);
  EXPECT_NE(result.text("/fault/state").find("not accepted"), std::string::npos);
}

TEST(Probe, IsStoppedWhenItWritesPendingMemory) {
  const Boot result = break_rule("touch-pending-write", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + 0x2345);
}

TEST(Probe, IsStoppedWhenItExecutesPendingMemory) {
  const Boot result = break_rule("touch-pending-fetch", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + 0x3000);
  EXPECT_EQ(address(result, "/fault/rip") & 0xFFF, 0U) << "RIP is in the page itself";
}

TEST(Probe, IsStoppedWhenAPageTableLiesInPendingMemory) {
  const Boot result = break_rule("touch-pending-page-table", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit);
  EXPECT_NE(result.text("/fault/message").find("page table"), std::string::npos);
}

TEST(Probe, IsStoppedByALoadAcrossTheEndOfAcceptedMemoryWithoutAGuardUnit) {
  const Boot result = break_rule("guard-unit-missing", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + kUnit);
}

TEST(Probe, IsStoppedWhenItAcceptsSharedMemory) {
  const Boot result = break_rule("accept-shared", "shared-private-mismatch");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit);
}

TEST(Probe, IsStoppedWhenItAcceptsWhereThereIsNoRam) {
  const Boot result = break_rule("accept-behind-the-end", "beyond-address-width");
  EXPECT_GE(address(result, "/fault/gpa"), kFirstUnit + 2 * kGiB);
}

TEST(Probe, IsStoppedWhenItUsesAPrivateAddressOfSharedMemory) {
  // The translation was in the TLB before the page was shared.
  const Boot result = break_rule("private-access-to-shared", "shared-private-mismatch");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + 0x1018);
}

TEST(Probe, IsStoppedWhenItUsesASharedAddressOfPrivateMemory) {
  const Boot read = break_rule("shared-access-to-private", "shared-private-mismatch");
  EXPECT_EQ(address(read, "/fault/gpa"), kViewBit | (kFirstUnit + 0x28));
  const Boot after = break_rule("shared-access-after-unshare", "shared-private-mismatch");
  EXPECT_EQ(address(after, "/fault/gpa"), kViewBit | kFirstUnit);
}

TEST(Probe, IsStoppedWhenItTouchesTheEmulator) {
  const Boot result = break_rule("emulator-memory", "emulator-memory");
  EXPECT_LT(address(result, "/fault/gpa"), 4 * kGiB);
}

TEST(Probe, CannotTakeTheEmulatorsMemoryByAcceptingOrSharingIt) {
  static_cast<void>(break_rule("accept-emulator-memory", "emulator-memory"));
  const Boot shared = break_rule("quote-into-emulator-memory", "emulator-memory");
  EXPECT_FALSE(shared.console_has("probe: quote")) << "GetQuote was refused before\n" << shared;
}

TEST(Probe, IsStoppedAtATripleFault) {
  static_cast<void>(break_rule("triple-fault", "shutdown"));
}

TEST(Probe, SaysItsLastWordsThroughReportFatalError) {
  const Boot result = probe("report-fatal-error");
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_EQ(result.text("/message"),
            "the probe says \"farewell\" \\ and this is exactly 64 characters.")
      << result;
  EXPECT_TRUE(result.at("/fault").is_null()) << result;
}

TEST(Probe, CannotForgeReportsAsAKernel) {
  const Boot result = probe("after-boot-services");
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_EQ(result.text("/message"), "good") << result;
  EXPECT_TRUE(result.at("/fault").is_null()) << "a forged line arrived\n" << result;
  EXPECT_TRUE(result.at("/seconds/firmware").is_number()) << "boot services were left\n" << result;
}

TEST(Probe, IsReportedWhenAScenarioOfItFails) {
  const Boot result = probe("no-such-scenario");
  EXPECT_EQ(result.exit_code, 1) << result;
  EXPECT_EQ(result.text("/outcome"), "panic") << result;
  EXPECT_TRUE(result.console_has("probe: no-such-scenario")) << result;
}

}  // namespace
}  // namespace accede::test
