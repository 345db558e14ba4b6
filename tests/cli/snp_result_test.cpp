// What the reports say of an SEV-SNP guest.
#include "accede/cli/result_json.hpp"
#include "accede/cli/result_table.hpp"
#include "accede/cli/steps_text.hpp"
#include "accede/host/ghcb_types.hpp"
#include "tests/cli/made_up_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <utility>
#include <vector>

namespace accede::cli {
namespace {

using Json = nlohmann::ordered_json;
using emulator::EventKind;
using test::made_up_result;
using test::made_up_snp_result;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

std::string text_of(const RunResult& run, bool with_steps = false) {
  return results_text(std::span{&run, 1}, with_steps);
}

Json json_of(const RunResult& run) {
  return Json::parse(run_json(run));
}

/// A lazy boot with one violation.
RunResult with_violation(const emulator::Violation& violation) {
  RunResult run = made_up_snp_result();
  emulator::ReportHeader& header = run.at_up->report->header;
  header.violation_slots = 1;
  header.violation_total = violation.count;
  header.violations[0] = violation;
  return run;
}

RunResult terminated() {
  RunResult run = made_up_snp_result();
  run.outcome = Outcome::kPanic;
  run.message = "the guest terminated 1:2 (PVALIDATE failed)";
  run.up_at.reset();
  run.up.reset();
  run.at_end = std::exchange(run.at_up, std::nullopt);
  run.fault = Fault{.kind = "guest-termination",
                    .gpa = "0x0",
                    .rip = "0xffffffff81000000",
                    .state = "",
                    .message = run.message};
  emulator::ReportHeader& header = run.at_end->report->header;
  header.violation_slots = 1;
  header.violation_total = 1;
  header.violations[0] = {.gpa = 0,
                          .rip = 0xffffffff81000000,
                          .count = 1,
                          .kind = EventKind::kGuestTermination,
                          .fatal = 1,
                          .vcpu = 0,
                          .detail = 0x102};
  return run;
}

RunResult died_after_the_jump() {
  RunResult run = made_up_snp_result();
  run.label.kexec = true;
  run.kexec_state = run.up;
  run.kexec_at = 10.0;
  run.at_kexec = run.at_up;
  run.outcome = Outcome::kGuestFault;
  run.fault = Fault{.kind = "unaccepted-access", .gpa = "", .rip = "", .state = "", .message = ""};
  return run;
}

constexpr const char* kSharedAtKexec = "leaves memory shared when an SEV-SNP guest jumps";

TEST(SnpJson, CountsRequestsThroughTheGhcbByName) {
  const Json exits = json_of(made_up_snp_result())["exits"];
  EXPECT_EQ(exits["ghcb"], (Json{{"msr-page-state", 512}, {"page-state-change", 40}}));
  EXPECT_EQ(exits["tdcall"], Json::object());
  EXPECT_EQ(exits["vmcall"], Json::object());
}

TEST(SnpJson, ATdMakesNoRequestsThroughAGhcb) {
  EXPECT_EQ(json_of(made_up_result())["exits"]["ghcb"], Json::object());
}

TEST(SnpJson, SaysWhatTheGuestDidToTheRmp) {
  const Json json = json_of(made_up_snp_result());
  EXPECT_EQ(json["rmp"]["rescind_calls"], 520);
  EXPECT_EQ(json["rmp"]["rescinded_bytes"], 520 << 12);
  EXPECT_EQ(json["rmp"]["rmpadjust_calls"], 3);
  EXPECT_EQ(json["rmp"]["smashed_pages"], 2);
  EXPECT_EQ(json["convert"]["entries"], 3000);
  EXPECT_EQ(json["convert"]["implicit_pages"], 1);
}

TEST(SnpJson, HasThePlatformAndTheAcceptFiguresOfEveryPlatform) {
  const Json json = json_of(made_up_snp_result());
  EXPECT_EQ(json["platform"], "snp");
  EXPECT_EQ(json["accept_mode"], "lazy");
  EXPECT_EQ(json["firmware"], "handshake");
  EXPECT_EQ(json["accept"]["bytes"], 576 << 20);
  EXPECT_EQ(json["accept"]["calls"]["2m"], 288);
  EXPECT_EQ(json["guest"]["memory_encryption"], "AMD SEV SEV-ES SEV-SNP");
}

TEST(SnpJson, MemoryEncryptionIsNullWhenTheKernelSaidNothing) {
  RunResult run = made_up_snp_result();
  run.encryption.clear();
  EXPECT_TRUE(json_of(run)["guest"]["memory_encryption"].is_null());
}

TEST(SnpTable, SaysWhatTheVmIs) {
  EXPECT_THAT(text_of(made_up_snp_result()),
              HasSubstr("6.12.1-made-up as an SEV-SNP guest, 4 GiB, 1 vCPU, QEMU TCG\n"));
}

TEST(SnpTable, HasTheMemoryEncryptionThatTheKernelFound) {
  EXPECT_THAT(text_of(made_up_snp_result()),
              ContainsRegex("\nmemory encryption +AMD SEV SEV-ES SEV-SNP\n"));
}

TEST(SnpTable, HasNoRowForMemoryEncryptionThatNobodyNames) {
  RunResult run = made_up_snp_result();
  run.encryption.clear();
  EXPECT_THAT(text_of(run), Not(HasSubstr("memory encryption")));
}

TEST(SnpTable, ComparesLazyAndEager) {
  const std::vector<RunResult> runs{made_up_snp_result(), made_up_snp_result(AcceptMode::kEager)};
  EXPECT_THAT(results_text(runs),
              HasSubstr("Lazy acceptance reaches user space 3.00 times as fast as eager."));
}

TEST(SnpTable, SaysWhatAKernelLosesThatDoesNotKnowUnacceptedMemory) {
  RunResult run = made_up_snp_result();
  run.label.kernel = "6.1.0-56-cloud-amd64";
  run.label.firmware = FirmwareKind::kNever;
  run.up->unaccepted.reset();
  run.up->ram = Bytes{2ULL << 30};
  EXPECT_THAT(text_of(run), HasSubstr("6.1.0-56-cloud-amd64 does not know unaccepted memory: "
                                      "1.98 GiB of the VM's 4 GiB are lost to it."));
  EXPECT_THAT(text_of(run), HasSubstr("With --firmware accept-all"));
  EXPECT_EQ(json_of(run)["guest"]["knows_unaccepted_memory"], false);
}

TEST(SnpTable, NamesNothingThatOnlyTdsHave) {
  const std::regex foreign{R"(\bTDX?\b|TDs|SEPT|MapGPA|TDCALL|VMCALL|#VE|pending)"};
  std::vector<RunResult> runs{made_up_snp_result(), died_after_the_jump(), terminated()};
  runs.push_back(made_up_snp_result());
  runs.back().label.firmware = FirmwareKind::kAcceptAll;
  runs.push_back(made_up_snp_result());
  runs.back().label.loader = LoaderKind::kAccede;
  runs.push_back(made_up_snp_result());
  runs.back().label.kernel_kind = KernelKind::kGuest;
  for (const RunResult& run : runs) {
    EXPECT_FALSE(std::regex_search(text_of(run, true), foreign)) << text_of(run, true);
  }
  // The search finds such words where they are.
  EXPECT_TRUE(std::regex_search(text_of(made_up_result(), true), foreign));
}

TEST(SnpSteps, MemoryThatIsNotAcceptedIsNotValidated) {
  const std::string text = steps_text(made_up_snp_result());
  EXPECT_THAT(text, HasSubstr("leaves memory not validated: above 4 GiB"));
  EXPECT_THAT(text, HasSubstr("accepts nothing that is not validated"));
  RunResult run = made_up_snp_result();
  run.label.firmware = FirmwareKind::kAcceptAll;
  EXPECT_THAT(steps_text(run), HasSubstr("accepts what is not validated"));
}

TEST(SnpNotes, AMalformedRequestIsToldByWhatIsWrongWithIt) {
  const auto detail = static_cast<std::uint32_t>(host::GhcbMistakeKind::kBadScratch) << 8 |
                      static_cast<std::uint32_t>(host::GhcbField::kScratch);
  const RunResult run = with_violation({.gpa = 0x1000,
                                        .rip = 0xffffffff81000000,
                                        .count = 3,
                                        .kind = EventKind::kBadGhcb,
                                        .fatal = 0,
                                        .vcpu = 0,
                                        .detail = detail});
  EXPECT_THAT(text_of(run),
              HasSubstr("  3 x bad-ghcb: it made a request through its GHCB that is malformed; bad "
                        "scratch area, sw_scratch 0x1000, RIP 0xffffffff81000000\n"));
}

TEST(SnpNotes, AMistakeThatThisCommandDoesNotKnowIsSaidToBeUnknown) {
  const RunResult run = with_violation({.gpa = 0x1000,
                                        .rip = 0,
                                        .count = 1,
                                        .kind = EventKind::kBadGhcb,
                                        .fatal = 0,
                                        .vcpu = 0,
                                        .detail = 0xFFFF});
  EXPECT_THAT(text_of(run), HasSubstr("; unknown, unknown 0x1000, RIP 0x0\n"));
}

TEST(SnpNotes, AConversionThatNobodyAskedForIsARuleBroken) {
  const RunResult run = with_violation({.gpa = 0x809000,
                                        .rip = 0xfffcc000,
                                        .count = 1,
                                        .kind = EventKind::kImplicitConversion,
                                        .fatal = 0,
                                        .vcpu = 0,
                                        .detail = 0});
  EXPECT_THAT(text_of(run), HasSubstr("1 x implicit-conversion: it touched memory with the other "
                                      "C-bit, which the host converted without being asked; GPA "
                                      "0x809000, RIP 0xfffcc000\n"));
  EXPECT_EQ(exit_code(run), kExitDone);
}

TEST(SnpNotes, AGuestThatAsksToBeEndedGaveUp) {
  const std::string text = text_of(terminated());
  EXPECT_THAT(text, HasSubstr("the kernel gave up: the guest terminated 1:2 (PVALIDATE failed)\n"
                              "  instruction (RIP)       0xffffffff81000000\n"));
  EXPECT_THAT(text, Not(HasSubstr("rules that the guest broke")));
  EXPECT_EQ(json_of(terminated())["fault"]["kind"], "guest-termination");
  EXPECT_EQ(json_of(terminated())["violations"][0]["kind"], "guest-termination");
}

TEST(SnpNotes, AKexecThatFailsNamesWhatLinuxLeavesShared) {
  EXPECT_THAT(text_of(died_after_the_jump()), HasSubstr(kSharedAtKexec));
}

TEST(SnpNotes, OnlyALinuxOnSnpThatFailedLeftMemoryShared) {
  RunResult run = died_after_the_jump();
  run.label.platform = Platform::kTdx;
  EXPECT_THAT(text_of(run), Not(HasSubstr(kSharedAtKexec)));
  run = died_after_the_jump();
  run.label.kernel_kind = KernelKind::kGuest;
  EXPECT_THAT(text_of(run), Not(HasSubstr(kSharedAtKexec)));
  run = died_after_the_jump();
  run.kexec_at.reset();
  EXPECT_THAT(text_of(run), Not(HasSubstr(kSharedAtKexec)));
  run = died_after_the_jump();
  run.outcome = Outcome::kUserspace;
  EXPECT_THAT(text_of(run), Not(HasSubstr(kSharedAtKexec)));
}

}  // namespace
}  // namespace accede::cli
