#include "accede/cli/result_json.hpp"
#include "accede/cli/result_table.hpp"
#include "tests/cli/made_up_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

using Json = nlohmann::ordered_json;
using test::made_up_result;
using ::testing::HasSubstr;
using ::testing::Not;

Json run_object(const RunResult& run) {
  return Json::parse(run_json(run));
}

std::vector<RunResult> both() {
  return {made_up_result(AcceptMode::kLazy), made_up_result(AcceptMode::kEager)};
}

RunResult faulty() {
  RunResult run = made_up_result();
  run.outcome = Outcome::kGuestFault;
  run.up_at.reset();
  run.up.reset();
  run.at_end = std::exchange(run.at_up, std::nullopt);
  run.fault = Fault{.kind = "unaccepted-access",
                    .gpa = "0x100200000",
                    .rip = "0xffffffff81000000",
                    .state = "pending",
                    .message = "accept the page first"};
  emulator::ReportHeader& header = run.at_end->report->header;
  header.violation_slots = 1;
  header.violation_total = 5;
  header.violations[0] = {.gpa = 0x100200000,
                          .rip = 0xffffffff81000000,
                          .count = 1,
                          .kind = emulator::EventKind::kUnacceptedAccess,
                          .fatal = 1,
                          .vcpu = 0,
                          .detail = 2};
  run.console_tail = {"[    1.0] last words"};
  return run;
}

TEST(ResultJson, HasEveryFieldOfTheContract) {
  const Json json = run_object(made_up_result());
  for (const char* const field : {"platform", "memory_bytes", "accept_mode", "firmware", "kernel",
                                  "accel", "vcpus", "outcome", "seconds", "guest", "host", "accept",
                                  "first_touch_ns", "kexec", "convert", "exits", "fault"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  for (const char* const path : {"/seconds/firmware",
                                 "/seconds/kernel_to_init",
                                 "/seconds/total",
                                 "/guest/mem_total_bytes",
                                 "/guest/mem_free_bytes",
                                 "/guest/unaccepted_bytes",
                                 "/guest/lost_bytes",
                                 "/host/backed_bytes",
                                 "/accept/bytes",
                                 "/accept/by_firmware_bytes",
                                 "/accept/by_loader_bytes",
                                 "/accept/by_kernel_bytes",
                                 "/accept/calls/4k",
                                 "/accept/calls/2m",
                                 "/accept/refused_1g",
                                 "/accept/size_mismatch",
                                 "/accept/already_accepted",
                                 "/accept/longest_step_bytes",
                                 "/accept/seconds",
                                 "/convert/to_shared_bytes",
                                 "/convert/to_private_bytes",
                                 "/convert/calls",
                                 "/exits/tdcall",
                                 "/exits/vmcall",
                                 "/exits/ghcb"}) {
    EXPECT_TRUE(json.contains(Json::json_pointer{path})) << path;
  }
}

TEST(ResultJson, SaysWhatWasMeasured) {
  const Json json = run_object(made_up_result());
  EXPECT_EQ(json["platform"], "tdx");
  EXPECT_EQ(json["memory_bytes"], 4294967296);
  EXPECT_EQ(json["accept_mode"], "lazy");
  EXPECT_EQ(json["firmware"], "never");
  EXPECT_EQ(json["outcome"], "userspace");
  EXPECT_DOUBLE_EQ(json["seconds"]["kernel_to_init"], 2.0);
  EXPECT_EQ(json["guest"]["unaccepted_bytes"], 1514143744);
  // 20 MiB are missing from what the kernel sees; 16 of them are the emulator's.
  EXPECT_EQ(json["guest"]["lost_bytes"], 4 << 20);
  EXPECT_EQ(json["accept"]["bytes"], 576 << 20);
  EXPECT_EQ(json["accept"]["by_loader_bytes"], 64 << 20);
  EXPECT_EQ(json["accept"]["calls"]["2m"], 288);
  EXPECT_DOUBLE_EQ(json["accept"]["seconds"], 0.5);
  EXPECT_EQ(json["exits"]["tdcall"], (Json{{"6", 300}}));
  EXPECT_EQ(json["exits"]["vmcall"], (Json{{"map-gpa", 4}}));
  EXPECT_EQ(json["host"]["backed_bytes"], 900 << 20);
  EXPECT_TRUE(json["fault"].is_null());
  EXPECT_TRUE(json["first_touch_ns"].is_null());
  EXPECT_FALSE(json.contains("console_tail"));
}

TEST(ResultJson, FieldsAreThereWhenNothingWasMeasured) {
  RunResult nothing;
  nothing.label.platform = Platform::kNone;
  nothing.outcome = Outcome::kTimeout;
  const Json json = run_object(nothing);
  EXPECT_EQ(json["accept_mode"], "none");
  EXPECT_TRUE(json["seconds"]["kernel_to_init"].is_null());
  EXPECT_TRUE(json["guest"]["lost_bytes"].is_null());
  EXPECT_EQ(json["accept"]["bytes"], 0);
  EXPECT_TRUE(json["host"]["backed_bytes"].is_null());
  EXPECT_TRUE(json.contains("console_tail"));
}

TEST(ResultJson, AWorkloadAddsLatencies) {
  RunResult run = made_up_result();
  run.work = GuestWork{};
  run.work->touched = Bytes{8192};
  run.work->first_touch = {.count = 2,
                           .p50 = 1,
                           .p99 = 2,
                           .p999 = 3,
                           .p9999 = 4,
                           .max = 5,
                           .histogram = {{.upper_ns = 5, .count = 2}}};
  const Json json = run_object(run);
  EXPECT_EQ(json["first_touch_ns"]["p9999"], 4);
  EXPECT_EQ(json["first_touch_ns"]["histogram"], Json::parse("[[5,2]]"));
  EXPECT_EQ(json["work"]["touched_bytes"], 8192);
}

TEST(ResultJson, AFaultHasItsFields) {
  const Json json = run_object(faulty());
  EXPECT_EQ(json["outcome"], "guest-fault");
  EXPECT_EQ(json["fault"]["kind"], "unaccepted-access");
  EXPECT_EQ(json["fault"]["gpa"], "0x100200000");
  EXPECT_EQ(json["fault"]["rip"], "0xffffffff81000000");
  EXPECT_EQ(json["fault"]["state"], "pending");
  EXPECT_TRUE(json["fault"]["symbol"].is_null());
  EXPECT_EQ(json["violations"][0]["kind"], "unaccepted-access");
  EXPECT_EQ(json["violations"][0]["fatal"], true);
  EXPECT_EQ(json["console_tail"][0], "[    1.0] last words");
}

TEST(ResultJson, SeveralRunsAreAListWithTheSpeedup) {
  const Json json = Json::parse(results_json(both()));
  ASSERT_EQ(json["runs"].size(), 2U);
  EXPECT_EQ(json["runs"][1]["accept_mode"], "eager");
  EXPECT_DOUBLE_EQ(json["speedup"], 3.0);
}

TEST(ResultJson, OneRunIsAnObject) {
  const std::array runs{made_up_result()};
  EXPECT_TRUE(Json::parse(results_json(runs)).contains("platform"));
}

TEST(ResultJson, SpeedupNeedsBothModesOfOneKernel) {
  std::vector<RunResult> runs{made_up_result(), made_up_result()};
  EXPECT_TRUE(Json::parse(results_json(runs))["speedup"].is_null());
  runs = both();
  runs[1].label.kernel = "other";
  EXPECT_FALSE(speedup(runs));
  runs = both();
  runs[0].up_at.reset();
  EXPECT_FALSE(speedup(runs));
}

TEST(ResultJson, BytesThatAreNotTextDoNotSpoilTheDocument) {
  RunResult run = faulty();
  run.console_tail = {"\xFF\xFE caf\xC3"};
  EXPECT_TRUE(Json::accept(run_json(run)));
}

TEST(RunResult, OutcomesHaveNamesAndExitCodes) {
  std::set<std::string_view> names;
  for (const Outcome outcome : {Outcome::kUserspace, Outcome::kReady, Outcome::kPanic,
                                Outcome::kGuestFault, Outcome::kTimeout, Outcome::kReset}) {
    names.insert(name(outcome));
  }
  EXPECT_EQ(names, (std::set<std::string_view>{"userspace", "ready", "panic", "guest-fault",
                                               "timeout", "reset"}));
  RunResult run = made_up_result();
  EXPECT_EQ(exit_code(run), kExitDone);
  run.outcome = Outcome::kTimeout;
  EXPECT_EQ(exit_code(run), kExitTimedOut);
  run.outcome = Outcome::kPanic;
  EXPECT_EQ(exit_code(run), kExitTestedFailed);
}

TEST(RunResult, MemoryThatDoesNotHoldWhatWasWrittenIsAFailure) {
  RunResult run = made_up_result();
  run.work = GuestWork{};
  run.work->wrong_pages = 1;
  EXPECT_EQ(exit_code(run), kExitTestedFailed);
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("1 pages did not hold"));
}

TEST(ResultTable, ComparesLazyAndEager) {
  const std::string text = results_text(both());
  EXPECT_THAT(text, HasSubstr("6.12.1-made-up as a TDX guest, 4 GiB, 1 vCPU, QEMU TCG\n"));
  EXPECT_THAT(text, HasSubstr("lazy      eager  eager / lazy\n"));
  EXPECT_THAT(text, HasSubstr("kernel start to init       2.00 s     6.00 s        3.00 x\n"));
  EXPECT_THAT(text, HasSubstr("RAM the kernel manages   3.82 GiB   3.82 GiB        1.00 x\n"));
  EXPECT_THAT(text, HasSubstr("accept calls 2M / 4K     288 / 12   288 / 12\n"));
  EXPECT_THAT(text, HasSubstr("Lazy acceptance reaches user space 3.00 times as fast as eager."));
  EXPECT_THAT(text, HasSubstr("protects nothing"));
  EXPECT_THAT(text, Not(HasSubstr("lost")));
}

TEST(ResultTable, HasNoBlanksAtLineEnds) {
  EXPECT_THAT(results_text(both()), Not(HasSubstr(" \n")));
}

TEST(ResultTable, OneRunHasNoRatio) {
  const std::array runs{made_up_result()};
  const std::string text = results_text(runs);
  EXPECT_THAT(text, Not(HasSubstr(" x\n")));
  EXPECT_THAT(text, Not(HasSubstr("eager")));
}

TEST(ResultTable, WithoutEmulatorThereIsNothingToAccept) {
  RunResult run = made_up_result();
  run.label.platform = Platform::kNone;
  run.at_up->report.reset();
  const std::array runs{run};
  const std::string text = results_text(runs);
  EXPECT_THAT(text, HasSubstr("no emulator"));
  EXPECT_THAT(text, Not(HasSubstr("accept")));
  EXPECT_THAT(text, Not(HasSubstr("protects nothing")));
}

TEST(ResultTable, SaysWhatAKernelLosesThatDoesNotKnowUnacceptedMemory) {
  RunResult run = made_up_result();
  run.label.kernel = "6.1.0-56-cloud-amd64";
  run.up->unaccepted.reset();
  run.up->ram = Bytes{2ULL << 30};
  std::string text = results_text(std::span{&run, 1});
  EXPECT_THAT(text, HasSubstr("6.1.0-56-cloud-amd64 does not know unaccepted memory: 1.98 GiB of "
                              "the VM's 4 GiB are lost to it."));
  EXPECT_THAT(text, HasSubstr("With --firmware accept-all"));
  run.label.firmware = FirmwareKind::kAcceptAll;
  run.up->ram = Bytes{(4ULL << 30) - (20ULL << 20)};
  text = results_text(std::span{&run, 1});
  EXPECT_THAT(text, Not(HasSubstr("lost to it")));
}

TEST(ResultTable, SaysThatTheFirmwareAcceptedForAKernelThatPromisedNothing) {
  RunResult run = made_up_result();
  run.label.firmware = FirmwareKind::kHandshake;
  EXPECT_THAT(results_text(std::span{&run, 1}),
              AllOf(HasSubstr(", the firmware has the handshake\n"),
                    Not(HasSubstr("Nobody told the firmware"))));
  run.at_up->report->header.counters.accepted_bytes = {2ULL << 30, 0, 0};
  EXPECT_THAT(results_text(std::span{&run, 1}),
              HasSubstr("Nobody told the firmware before ExitBootServices that the kernel accepts "
                        "memory:\nit accepted 2 GiB then"));
  run.label.force_accept = true;
  EXPECT_THAT(results_text(std::span{&run, 1}),
              AllOf(HasSubstr(", the firmware accepts all memory\n"),
                    Not(HasSubstr("Nobody told the firmware"))));
}

TEST(ResultTable, ShowsAFaultInWords) {
  const RunResult run = faulty();
  const std::string text = results_text(std::span{&run, 1});
  EXPECT_THAT(text, HasSubstr("the guest broke a rule and was stopped: unaccepted-access\n"));
  EXPECT_THAT(text, HasSubstr("guest physical address  0x100200000\n"));
  EXPECT_THAT(text, HasSubstr("instruction (RIP)       0xffffffff81000000\n"));
  EXPECT_THAT(text, HasSubstr("state of the page       pending\n"));
  EXPECT_THAT(text, HasSubstr("what to look at         accept the page first\n"));
  EXPECT_THAT(text, HasSubstr("  | [    1.0] last words\n"));
  EXPECT_THAT(text, HasSubstr("1 x unaccepted-access: it touched memory that it had not accepted; "
                              "GPA 0x100200000, RIP 0xffffffff81000000 (fatal)\n"));
  EXPECT_THAT(text, HasSubstr("and 4 more at other places"));
}

TEST(ResultTable, AFatalErrorThatTheGuestReportsBreaksNoRule) {
  RunResult run = faulty();
  emulator::ReportHeader& header = run.at_end->report->header;
  header.violation_total = 1;
  header.violations[0].kind = emulator::EventKind::kGuestPanic;
  EXPECT_THAT(results_text(std::span{&run, 1}), Not(HasSubstr("rules that the guest broke")));
  EXPECT_EQ(run_object(run)["violations"][0]["kind"], "guest-panic");
}

TEST(ResultTable, ShowsPanicsTimeoutsAndWarnings) {
  RunResult run = made_up_result();
  run.outcome = Outcome::kPanic;
  run.message = "no root";
  run.warnings = {"odd"};
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("the kernel gave up: no root\n"));
  run.boot_services_exited.reset();
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("the kernel did not start: no root\n"));
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("The console showed nothing."));
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("warning: odd\n"));
  run.outcome = Outcome::kTimeout;
  run.message = "no end after 9 s";
  EXPECT_THAT(results_text(std::span{&run, 1}), HasSubstr("no end after 9 s\n"));
}

TEST(ResultTable, SeveralKernelsAreToldApart) {
  std::vector<RunResult> runs = both();
  runs[1].label.kernel = "6.1.0-56-cloud-amd64";
  runs.push_back(made_up_result());
  const std::string text = results_text(runs);
  EXPECT_THAT(text, HasSubstr("6.12.1-made-up lazy  6.1.0-56-cloud-amd64 eager"));
  EXPECT_THAT(text, HasSubstr("6.12.1-made-up, 6.1.0-56-cloud-amd64 as a TDX guest"));
}

}  // namespace
}  // namespace accede::cli
