// SNP guests that misbehave on purpose: what the emulator answers, and how it ends those that break
// a rule. The scenarios are in probe/snp_*.cpp.

#include "tests/boot/probe_run.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

// The probe is no kernel: nobody promises anything for it.
const std::vector<std::string> kSnp{"--platform", "snp", "--firmware", "never"};

Boot survive_snp(const std::string& scenarios, std::vector<std::string> options = {}) {
  options.insert(options.end(), kSnp.begin(), kSnp.end());
  return survive(scenarios, options);
}
Boot break_snp_rule(const std::string& scenario, const std::string& kind) {
  return break_rule(scenario, kind, kSnp);
}

/// How often a rule was broken, all places together. None of it ended the guest.
std::uint64_t count(const Boot& boot, const std::string& kind) {
  std::uint64_t sum = 0;
  for (const Json& violation : boot.violations(kind)) {
    EXPECT_EQ(violation.at("fatal"), false) << violation;
    sum += violation.at("count").get<std::uint64_t>();
  }
  return sum;
}

/// The launcher shares a page with the host before the probe starts, and takes it back when the
/// probe is done: the command may look at the counters before or after that.
constexpr std::uint64_t kLauncherShares = 4096;
void expect_or_one_page_more(const Boot& boot, const std::string& path, std::uint64_t expected,
                             std::uint64_t page) {
  EXPECT_THAT(boot.bytes(path), AnyOf(expected, expected + page)) << path;
}

// --- What the guest survives
// -------------------------------------------------------------------------

TEST(SnpProbe, GetsTheExactWordsOfTheDecisionTableFromPvalidate) {
  const Boot result = survive_snp(
      "snp-msr-at-reset,snp-accept-by-msr,snp-accept-by-list,snp-accept-512-pages,"
      "snp-validate-twice,snp-launch-memory,snp-rescind-and-validate,snp-small-page-in-a-large-one,"
      "snp-large-page-over-a-small-one,snp-operands,snp-flags,snp-operand-mapping,"
      "snp-instruction-across-pages");
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 8U);
  expect_or_one_page_more(result, "/accept/calls/4k", 3 + 3 + 512 + 1 + 1 + 2 + 1, 1);
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 10U);
  EXPECT_EQ(count(result, "double-accept"), 10U);
  EXPECT_EQ(result.bytes("/accept/size_mismatch"), 3U);
  // 8 operands; 2 pages rescinded that were not validated.
  EXPECT_EQ(result.bytes("/accept/other_errors"), 10U);
  EXPECT_EQ(count(result, "invalid-accept"), 10U);
  EXPECT_EQ(count(result, "wrong-c-bit"), 1U);
  EXPECT_EQ(result.bytes("/rmp/rescind_calls"), 2 + 1U) << "and the launcher's page";
  EXPECT_GE(result.bytes("/rmp/smashed_pages"), 2U);
  EXPECT_EQ(result.bytes("/convert/implicit_pages"), 0U);
}

TEST(SnpProbe, GetsSizeMismatchFromAHostThatBacksWithSmallPages) {
  const Boot result = survive_snp("snp-accept-4k-backing,accept-protocol-2m", {"--backing", "4k"});
  EXPECT_EQ(result.bytes("/accept/calls/2m"), 0U);
  EXPECT_EQ(result.bytes("/accept/size_mismatch"), 3U);
  expect_or_one_page_more(result, "/accept/calls/4k", 512 + 512, 1);
  EXPECT_EQ(result.bytes("/rmp/smashed_pages"), 0U);
}

TEST(SnpProbe, ConvertsMemoryBothWaysAndGetsKvmsAnswersToItsLists) {
  const Boot result = survive_snp(
      "snp-shared-round-trip,snp-share-without-rescind,snp-convert-twice,snp-list-header,"
      "snp-list-entry,snp-list-resumed,snp-list-of-no-ram,snp-list-operations,snp-list-place,"
      "snp-msr-operations");
  // The page for lists; 1 + 4 + 1 + 3 pages of the scenarios.
  EXPECT_EQ(result.bytes("/convert/to_shared_bytes"), kLauncherShares + kUnit + 10 * 4096);
  expect_or_one_page_more(result, "/convert/to_private_bytes", kUnit + 4096, 4096);
  EXPECT_EQ(result.bytes("/convert/implicit_pages"), 0U);
  // 4 headers, 3 entries, 2 operations in lists and 5 in the MSR, 6 places.
  EXPECT_EQ(count(result, "bad-ghcb"), 20U);
  EXPECT_EQ(result.bytes("/accept/already_accepted"), 4U);
}

TEST(SnpProbe, GetsAnAnswerToEveryRequestThroughTheGhcb) {
  const Boot result = survive_snp(
      "snp-msr-at-reset,snp-msr-requests,snp-msr-cpuid,snp-unknown-msr-codes,snp-registration,"
      "snp-private-page,snp-emulator-page,snp-malformed,snp-port-io,snp-string-io,snp-report-port,"
      "snp-memory-mapped-io,snp-memory-mapped-nothing,snp-cpuid,snp-msr,snp-other-requests");
  EXPECT_EQ(result.bytes("/exits/ghcb/msr-other"), 8U);
  EXPECT_EQ(result.bytes("/exits/ghcb/msr-cpuid"), 36U);
  EXPECT_EQ(result.bytes("/exits/ghcb/guest-request"), 3U);
  // 8 MSR codes, 5 registrations, 2 + 1 + 2 pages that are none, 1 without a request, 22 malformed
  // requests, 3 of port I/O, 2 of MMIO, 1 of AP creation.
  EXPECT_EQ(count(result, "bad-ghcb"), 8U + 5 + 5 + 1 + 22 + 3 + 2 + 1);
}

TEST(SnpProbe, SeesAnSnpMachineAndNothingOfTheHypervisorBelow) {
  const Boot result = survive_snp(
      "snp-visible,snp-status-msr,snp-foreign-instructions,snp-rmpadjust,snp-rmpadjust-operands,"
      "svm-hidden,cpuid-follows-cr4,memory-map,device-in-both-views,accept-protocol-2m,"
      "snp-implicit-conversion");
  EXPECT_EQ(result.bytes("/rmp/rmpadjust_calls"), 9 + 2U);
  EXPECT_EQ(count(result, "wrong-c-bit"), 2U);
  EXPECT_EQ(result.bytes("/convert/implicit_pages"), 2U);
  EXPECT_EQ(count(result, "implicit-conversion"), 2U);
}

TEST(SnpProbe, ValidatesOnTheFirstTouchWhereItTakesExceptions) {
  const Boot result = survive_snp(
      "snp-vc-on-touch,snp-vc-after-rescind,snp-vc-on-a-page-table,snp-vc-on-a-shared-page,"
      "snp-vc-validate-on-touch",
      {"--unaccepted-touch", "exception"});
  EXPECT_EQ(result.bytes("/exits/ve_injected"), 3 + 1 + 1 + 1 + 1U);
  EXPECT_EQ(count(result, "implicit-conversion"), 1U);
}

// --- What ends the guest
// --------------------------------------------------------------------------------

TEST(SnpProbe, IsStoppedWhenItTouchesMemoryThatIsNotValidated) {
  const Boot result = break_snp_rule("touch-pending", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + 0x1238);
  EXPECT_THAT(result.text("/fault/state"), HasSubstr("not validated"));
}

TEST(SnpProbe, IsStoppedWhenAPageTableLiesInMemoryThatIsNotValidated) {
  const Boot result = break_snp_rule("touch-pending-page-table", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit);
  EXPECT_THAT(result.text("/fault/message"), HasSubstr("page table"));
}

TEST(SnpProbe, IsStoppedWhenItTouchesAPageThatItRescinded) {
  const Boot result = break_snp_rule("snp-touch-rescinded", "unaccepted-access");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + 0x5018);
}

TEST(SnpProbe, IsStoppedWhenItUsesASharedAddressOfValidatedMemory) {
  const Boot result = break_snp_rule("snp-shared-access-to-validated", "shared-private-mismatch");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + 0x1028);
  EXPECT_THAT(result.text("/fault/state"), HasSubstr("C-bit clear"));
}

TEST(SnpProbe, IsStoppedWhenItUsesAPrivateAddressOfSharedMemory) {
  const Boot result = break_snp_rule("snp-private-access-to-shared", "shared-private-mismatch");
  EXPECT_EQ(address(result, "/fault/gpa"), kViewBit | (kFirstUnit + 0x1018));
  EXPECT_THAT(result.text("/fault/state"), HasSubstr("C-bit set"));
}

TEST(SnpProbe, IsStoppedWhenItValidatesWhereThereIsNoRam) {
  const Boot result = break_snp_rule("snp-validate-behind-the-end", "beyond-address-width");
  EXPECT_GE(address(result, "/fault/gpa"), kFirstUnit + 2 * kGiB);
}

TEST(SnpProbe, CannotTakeTheEmulatorsMemoryByValidatingOrSharingIt) {
  const Boot validated = break_snp_rule("snp-validate-emulator-memory", "emulator-memory");
  EXPECT_LT(address(validated, "/fault/gpa"), kFirstUnit);
  const Boot shared = break_snp_rule("snp-share-emulator-memory", "emulator-memory");
  EXPECT_TRUE(shared.console_has("the host took the page state change")) << shared;
  EXPECT_LT(address(shared, "/fault/gpa"), kFirstUnit);
}

TEST(SnpProbe, IsStoppedWhenItUsesAGhcbThatIsNotRegistered) {
  const Boot result = break_snp_rule("snp-unregistered-page", "bad-ghcb");
  EXPECT_EQ(address(result, "/fault/gpa"), kFirstUnit + kUnit);
  EXPECT_EQ(result.text("/fault/state"), "GHCB not registered");
}

TEST(SnpProbe, IsStoppedWhenItReportsAnEventThatItCannotHandle) {
  const Boot result = break_snp_rule("snp-unsupported-event", "bad-ghcb");
  EXPECT_EQ(result.text("/fault/state"), "unsupported event in the guest");
}

TEST(SnpProbe, SaysWhyItTerminatesByMsrAndThroughThePage) {
  const Boot by_msr = break_snp_rule("snp-terminate-by-msr", "guest-termination");
  EXPECT_EQ(by_msr.text("/message"), "the guest terminated 1:2 (PVALIDATE failed)");
  const Boot by_page = break_snp_rule("snp-terminate-by-page", "guest-termination");
  EXPECT_EQ(by_page.text("/message"),
            "the guest terminated 0:2 (SNP features unsupported); sw_exit_info_2 0xaccede00");
}

}  // namespace
}  // namespace accede::test
