#include "accede/cli/boot_watcher.hpp"

#include "tests/cli/made_up_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kUp =
    R"(ACCEDE-INIT {"step":"up","meminfo":{"MemTotal":4000,"Unaccepted":1000}})";
constexpr const char* kWork =
    R"(ACCEDE-INIT {"step":"work","touched_bytes":4096,"meminfo":{"Unaccepted":0}})";
constexpr const char* kOff = R"(ACCEDE-INIT {"step":"off"})";

Measurement measurement(std::uint64_t backed) {
  return {.report = ReportSnapshot{.header = test::made_up_header(), .events = {}},
          .backed = Bytes{backed}};
}

/// A boot as far as the kernel's first line.
BootWatcher in_kernel(Expectations expectations = {}) {
  BootWatcher watcher{test::made_up_result().label, expectations};
  watcher.report_line(1.0, R"({"event":"launcher","version":"0.1.0"})");
  watcher.report_line(1.1, R"({"event":"takeover","report_gpa":"0x1000","report_bytes":8192})");
  watcher.report_line(1.2, R"({"event":"kernel-start"})");
  watcher.report_line(2.0, R"({"event":"boot-services-exited"})");
  watcher.console_line(2.1, "[    0.000000] Linux version 6.12");
  return watcher;
}

/// Measures at the end and takes the result.
RunResult finish(BootWatcher& watcher, double now = 100) {
  EXPECT_TRUE(watcher.wants_measurement());
  watcher.measured(now, measurement(3));
  EXPECT_TRUE(watcher.wants_stop());
  return watcher.take_result();
}

TEST(BootWatcher, FollowsABootToPowerOff) {
  BootWatcher watcher = in_kernel();
  EXPECT_TRUE(watcher.launcher_seen());
  EXPECT_EQ(watcher.phase(), "kernel");
  ASSERT_TRUE(watcher.takeover());
  EXPECT_EQ(watcher.takeover()->report_gpa, PhysAddr{0x1000});
  EXPECT_FALSE(watcher.wants_measurement());
  watcher.console_line(2.2, "[    0.1] Memory Encryption Features active: Intel TDX");

  watcher.console_line(5.0, kUp);
  EXPECT_TRUE(watcher.wants_measurement());
  EXPECT_FALSE(watcher.take_resume());
  watcher.measured(5.1, measurement(1));
  EXPECT_TRUE(watcher.take_resume());
  EXPECT_FALSE(watcher.take_resume());

  watcher.console_line(6.0, kWork);
  watcher.measured(6.1, measurement(2));
  EXPECT_TRUE(watcher.take_resume());

  watcher.console_line(6.2, kOff);
  watcher.shutdown(6.5, {.reason = "guest-shutdown"});
  EXPECT_FALSE(watcher.wants_stop());
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kUserspace);
  EXPECT_EQ(result.message, "");
  EXPECT_DOUBLE_EQ(*kernel_to_init(result), 3.0);
  EXPECT_DOUBLE_EQ(result.total, 6.5);
  EXPECT_EQ(result.encryption, "Intel TDX");
  EXPECT_EQ(result.up->unaccepted, Bytes{1000});
  EXPECT_EQ(result.work->touched, Bytes{4096});
  EXPECT_EQ(result.at_up->backed, Bytes{1});
  EXPECT_EQ(result.at_work->backed, Bytes{2});
  EXPECT_EQ(result.at_end->backed, Bytes{3});
  EXPECT_THAT(result.warnings, IsEmpty());
}

TEST(BootWatcher, KeepsWhatTheFirmwareSaidOfItsPlan) {
  BootWatcher watcher{test::made_up_result().label, {}};
  watcher.report_line(1.0, R"({"event":"firmware-plan","accepts_bytes":4096,"leaves_bytes":8192})");
  watcher.report_line(1.1, R"({"event":"firmware-plan","accepts_bytes":"many"})");
  watcher.timed_out(2.0, "");
  EXPECT_EQ(watcher.take_result().firmware_plan, Bytes{4096}) << "a broken line says nothing";
}

TEST(BootWatcher, AResetAfterTheWorkIsDoneIsFine) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(5.0, kUp);
  watcher.measured(5.1, {});
  watcher.console_line(5.2, kOff);
  watcher.shutdown(5.5, {.reason = "guest-reset"});
  EXPECT_EQ(finish(watcher).outcome, Outcome::kUserspace);
}

TEST(BootWatcher, AFaultStopsTheRunAndExplainsIt) {
  BootWatcher watcher = in_kernel();
  watcher.report_line(
      3.0,
      R"({"event":"fault","kind":"unaccepted-access","gpa":"0x1","rip":"0x2","state":"pending","message":"m"})");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kGuestFault);
  EXPECT_EQ(result.fault->kind, "unaccepted-access");
  EXPECT_EQ(result.message, "m");
  EXPECT_DOUBLE_EQ(result.total, 3.0);
  EXPECT_TRUE(result.at_end->report);
}

TEST(BootWatcher, AFaultWhileMeasuringIsNotLost) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(5.0, kUp);
  watcher.report_line(5.05, R"({"event":"fault","kind":"shutdown"})");
  EXPECT_TRUE(watcher.wants_measurement());
  watcher.measured(5.1, measurement(1));
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kGuestFault);
  EXPECT_TRUE(result.at_up);
  EXPECT_TRUE(result.at_end);
}

TEST(BootWatcher, AFaultAfterUserspaceIsTheOutcome) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(5.0, kUp);
  watcher.measured(5.1, {});
  watcher.console_line(5.2, kOff);
  watcher.report_line(5.3, R"({"event":"fault","kind":"double-accept"})");
  EXPECT_EQ(finish(watcher).outcome, Outcome::kGuestFault);
}

TEST(BootWatcher, OnlyTheFirstFaultCounts) {
  BootWatcher watcher = in_kernel();
  watcher.report_line(3.0, R"({"event":"fault","kind":"first"})");
  watcher.report_line(3.1, R"({"event":"fault","kind":"second"})");
  EXPECT_EQ(finish(watcher).fault->kind, "first");
}

TEST(BootWatcher, AReportedFatalErrorIsAPanic) {
  BootWatcher watcher = in_kernel();
  watcher.report_line(3.0, R"({"event":"guest-panic","message":"TD misconfiguration"})");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_EQ(result.message, "TD misconfiguration");
}

TEST(BootWatcher, AKernelPanicEndsWithItsReset) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(3.0, "[    1.0] Kernel panic - not syncing: no root");
  EXPECT_FALSE(watcher.wants_measurement());
  ASSERT_TRUE(watcher.deadline());
  watcher.shutdown(3.1, {.reason = "guest-reset"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_EQ(result.message, "no root");
}

TEST(BootWatcher, AKernelPanicThatDoesNotResetEndsSoon) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(3.0, "[    1.0] Kernel panic - not syncing: no root");
  watcher.deadline_passed(*watcher.deadline());
  EXPECT_EQ(finish(watcher).outcome, Outcome::kPanic);
}

TEST(BootWatcher, APanicAfterUserspaceIsTheOutcome) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(5.0, kUp);
  watcher.measured(5.1, {});
  watcher.console_line(5.2, "[    1.0] Kernel panic - not syncing: out of memory");
  watcher.shutdown(5.3, {.reason = "guest-reset"});
  EXPECT_EQ(finish(watcher).outcome, Outcome::kPanic);
}

TEST(BootWatcher, AResetWithoutInitIsAReset) {
  BootWatcher watcher = in_kernel();
  watcher.shutdown(3.1, {.reason = "guest-reset"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kReset);
  EXPECT_THAT(result.message, HasSubstr("reset"));
}

TEST(BootWatcher, GoingOffBeforeTheWorkIsDoneIsAReset) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(5.0, kUp);
  watcher.measured(5.1, {});
  watcher.shutdown(5.2, {.reason = "guest-shutdown"});
  EXPECT_EQ(finish(watcher).outcome, Outcome::kReset);
}

TEST(BootWatcher, QemuEndingOnItsOwnIsAReset) {
  BootWatcher watcher = in_kernel();
  watcher.vm_ended(3.0, "signal 9 (Killed)");
  ASSERT_TRUE(watcher.wants_stop());
  const RunResult result = watcher.take_result();
  EXPECT_EQ(result.outcome, Outcome::kReset);
  EXPECT_THAT(result.message, HasSubstr("signal 9"));
  EXPECT_DOUBLE_EQ(result.total, 3.0);
}

TEST(BootWatcher, ATimeoutShowsTheLastLines) {
  BootWatcher watcher = in_kernel();
  for (int i = 0; i < 100; ++i) {
    watcher.console_line(3.0, "line " + std::to_string(i));
  }
  watcher.timed_out(20.0, "and a half");
  watcher.measured(20.1, {});
  ASSERT_TRUE(watcher.wants_stop());
  const RunResult result = watcher.take_result();
  EXPECT_EQ(result.outcome, Outcome::kTimeout);
  EXPECT_EQ(result.message, "no end after 20 s");
  ASSERT_EQ(result.console_tail.size(), 15U);
  EXPECT_EQ(result.console_tail.front(), "line 86");
  EXPECT_EQ(result.console_tail.back(), "and a half");
}

TEST(BootWatcher, ATimeoutTakesALastMeasurement) {
  BootWatcher watcher = in_kernel();
  watcher.timed_out(20.0, "");
  EXPECT_TRUE(watcher.wants_measurement());
  EXPECT_FALSE(watcher.wants_stop());
  watcher.timed_out(20.1, "");
  EXPECT_FALSE(watcher.wants_stop());
  watcher.measured(20.2, {});
  ASSERT_TRUE(watcher.wants_stop());
  const RunResult result = watcher.take_result();
  EXPECT_EQ(result.outcome, Outcome::kTimeout);
  EXPECT_TRUE(result.at_end);
}

TEST(BootWatcher, ATimeoutDoesNotWaitForEverForItsLastMeasurement) {
  BootWatcher watcher = in_kernel();
  watcher.timed_out(20.0, "");
  watcher.timed_out(23.5, "");
  ASSERT_TRUE(watcher.wants_stop());
  EXPECT_EQ(watcher.take_result().outcome, Outcome::kTimeout);
}

TEST(BootWatcher, TheTailLeavesOutOurOwnLinesAndControls) {
  BootWatcher watcher{test::made_up_result().label, {}};
  watcher.console_line(1.0, "\x1b[2Jone");
  watcher.console_line(1.0, "");
  watcher.console_line(1.0, R"(ACCEDE-INIT {"step":"error","message":"m"})");
  watcher.console_line(1.0, std::string(1000, 'x'));
  watcher.timed_out(2.0, "");
  const RunResult result = watcher.take_result();
  EXPECT_THAT(result.console_tail, ElementsAre("one", std::string(300, 'x')));
  EXPECT_THAT(result.warnings, ElementsAre("the guest says: m"));
}

TEST(BootWatcher, AnEfiProgramThatReturnsIsReady) {
  BootWatcher watcher = in_kernel({.our_init = true, .kernel = false});
  watcher.report_line(3.0, R"({"event":"kernel-returned","status":0})");
  EXPECT_EQ(finish(watcher).outcome, Outcome::kReady);
}

TEST(BootWatcher, AnEfiProgramThatFailsIsAPanic) {
  BootWatcher watcher = in_kernel({.our_init = true, .kernel = false});
  watcher.report_line(3.0, R"({"event":"kernel-returned","status":9223372036854775822})");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_THAT(result.message, HasSubstr("0x800000000000000e"));
}

TEST(BootWatcher, ALinuxThatReturnsIsAPanic) {
  BootWatcher watcher = in_kernel();
  watcher.report_line(3.0, R"({"event":"kernel-returned","status":0})");
  EXPECT_EQ(finish(watcher).outcome, Outcome::kPanic);
}

TEST(BootWatcher, ALauncherErrorStopsAtOnce) {
  BootWatcher watcher{test::made_up_result().label, {}};
  watcher.report_line(1.0, R"({"event":"error","message":"no SVM"})");
  EXPECT_TRUE(watcher.wants_stop());
  EXPECT_EQ(watcher.launcher_error(), "no SVM");
}

TEST(BootWatcher, AForeignInitIsDoneWhenTheVmGoesOff) {
  BootWatcher watcher = in_kernel({.our_init = false, .kernel = true});
  watcher.console_line(5.0, "[    2.9] Run /init as init process");
  ASSERT_TRUE(watcher.wants_measurement());
  watcher.measured(5.1, measurement(1));
  watcher.shutdown(9.0, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kUserspace);
  EXPECT_DOUBLE_EQ(*result.up_at, 5.0);
  EXPECT_FALSE(result.up);
  EXPECT_TRUE(result.at_up);
}

TEST(BootWatcher, AForeignInitThatStaysIsATimeoutThatSaysSo) {
  BootWatcher watcher = in_kernel({.our_init = false, .kernel = true});
  watcher.console_line(5.0, "[    2.9] Run /init as init process");
  watcher.measured(5.1, {});
  watcher.timed_out(20.0, "");
  const RunResult result = watcher.take_result();
  EXPECT_EQ(result.outcome, Outcome::kTimeout);
  EXPECT_THAT(result.message, HasSubstr("did not power off"));
}

constexpr Expectations kOnItsOwn{.our_init = false, .kernel = true, .on_its_own = true};

TEST(BootWatcher, AnInitOnItsOwnRunsAFewSeconds) {
  BootWatcher watcher = in_kernel(kOnItsOwn);
  watcher.console_line(5.0, "[    2.9] Run /init as init process");
  watcher.measured(5.1, measurement(1));
  ASSERT_TRUE(watcher.deadline());
  EXPECT_DOUBLE_EQ(*watcher.deadline(), 10.0);
  watcher.deadline_passed(10.0);
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kUserspace);
  EXPECT_EQ(result.console_release, "6.12");
}

TEST(BootWatcher, AKernelOnItsOwnMayBeSilent) {
  BootWatcher watcher = in_kernel(kOnItsOwn);
  ASSERT_TRUE(watcher.deadline());
  EXPECT_DOUBLE_EQ(*watcher.deadline(), 47.0);
  watcher.deadline_passed(47.0);
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kTimeout);
  EXPECT_EQ(result.message, "the console does not tell that an init was started");
  EXPECT_TRUE(result.at_end);
}

TEST(BootWatcher, OurInitWaitsForItsOwnLine) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(4.9, "[    2.9] Run /init as init process");
  EXPECT_FALSE(watcher.wants_measurement());
}

TEST(BootWatcher, AGuestThatSaysOffButStaysIsStopped) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(5.0, kUp);
  watcher.measured(5.1, {});
  watcher.console_line(5.2, kOff);
  ASSERT_TRUE(watcher.deadline());
  watcher.deadline_passed(*watcher.deadline());
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kUserspace);
  EXPECT_THAT(result.warnings, ElementsAre("the guest did not power off"));
}

TEST(BootWatcher, RepeatedLinesMeasureOnce) {
  BootWatcher watcher = in_kernel();
  watcher.console_line(5.0, kUp);
  watcher.measured(5.1, {});
  EXPECT_TRUE(watcher.take_resume());
  watcher.console_line(5.2, kUp);
  EXPECT_FALSE(watcher.wants_measurement());
  watcher.report_line(5.3, R"({"event":"boot-services-exited"})");
  watcher.timed_out(6, "");
  EXPECT_DOUBLE_EQ(*watcher.take_result().boot_services_exited, 2.0);
}

TEST(BootWatcher, AGuestCannotFillTheHostWithWarnings) {
  BootWatcher watcher = in_kernel();
  for (int i = 0; i < 1000; ++i) {
    watcher.console_line(3.0, "ACCEDE-INIT nonsense");
  }
  watcher.timed_out(6, "");
  EXPECT_EQ(watcher.take_result().warnings.size(), 20U);
}

}  // namespace
}  // namespace accede::cli
