// Boots of our own kernel, and loaders that refuse.
#include "tests/cli/made_up_boot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::cli {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(OwnKernelWatcher, IsReadyWhenItSaysSoAndPowersOff) {
  BootWatcher watcher = in_kernel(false);
  at(watcher, 2.5, kReady, measurement(1));
  EXPECT_EQ(watcher.phase(), "ready");
  at(watcher, 3.0, kGuestWork, measurement(2));
  watcher.console_line(3.1, kGuestOff);
  watcher.shutdown(3.2, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kReady);
  EXPECT_EQ(exit_code(result), kExitDone);
  EXPECT_DOUBLE_EQ(*kernel_to_init(result), 0.5);
  EXPECT_DOUBLE_EQ(*result.kernel_started, 1.2);
  ASSERT_TRUE(result.up);
  EXPECT_EQ(result.up->release, "accede-guest 0.1.0");
  EXPECT_EQ(result.up->used, Bytes{700});
  EXPECT_EQ(result.up->page_info, Bytes{70});
  EXPECT_EQ(result.up->accepted, Bytes{900});
  EXPECT_EQ(result.up->table, "efi");
  EXPECT_EQ(result.work->first_touch.p50, 7U);
  EXPECT_THAT(result.console_tail, IsEmpty());
  EXPECT_FALSE(result.kexec_at || result.second || result.marked_page);
}

TEST(OwnKernelWatcher, ReadyIsNotEnoughWhenItThenGoesOffInTheMiddle) {
  BootWatcher watcher = in_kernel(false);
  at(watcher, 2.5, kReady, measurement(1));
  watcher.shutdown(2.6, {.reason = "guest-reset"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kReset);
  EXPECT_EQ(exit_code(result), kExitTestedFailed);
}

TEST(OwnKernelWatcher, AFaultThatItReportsIsAPanic) {
  BootWatcher watcher = in_kernel(false);
  at(watcher, 2.5, kReady, measurement(1));
  watcher.console_line(2.6, R"(ACCEDE-GUEST {"step":"fault","message":"page fault at 0x0"})");
  ASSERT_TRUE(watcher.deadline());
  watcher.deadline_passed(*watcher.deadline());
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_EQ(result.message, "page fault at 0x0");
}

TEST(OwnKernelWatcher, TheFirstOfTwoFaultsExplainsTheSecond) {
  BootWatcher watcher = in_kernel(false);
  watcher.console_line(2.6, R"(ACCEDE-GUEST {"step":"fault","message":"first"})");
  watcher.console_line(2.7, R"(ACCEDE-GUEST {"step":"fault","message":"second"})");
  watcher.shutdown(2.8, {.reason = "guest-reset"});
  EXPECT_EQ(finish(watcher).message, "first");
}

TEST(OwnKernelWatcher, ItsOwnWordsExplainMoreThanTheFatalErrorThatItReports) {
  BootWatcher watcher = in_kernel(false);
  watcher.report_line(2.6, R"({"event":"guest-panic","message":"page fau"})");
  watcher.console_line(2.6, R"(ACCEDE-GUEST {"step":"fault","message":"page fault at 0x0"})");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_EQ(result.message, "page fault at 0x0");
}

TEST(OwnKernelWatcher, ARuleThatItBrokeWeighsMoreThanItsFault) {
  BootWatcher watcher = in_kernel(false);
  watcher.console_line(2.6, R"(ACCEDE-GUEST {"step":"fault","message":"#VE"})");
  watcher.report_line(2.7, R"({"event":"fault","kind":"unaccepted-access","message":"m"})");
  watcher.console_line(2.8, R"(ACCEDE-GUEST {"step":"fault","message":"again"})");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kGuestFault);
  EXPECT_EQ(result.message, "m");
}

TEST(OwnKernelWatcher, AnErrorThatDoesNotStopItIsAWarning) {
  BootWatcher watcher = in_kernel(false);
  watcher.console_line(2.6, R"(ACCEDE-GUEST {"step":"error","message":"no timer"})");
  watcher.console_line(2.7, "ACCEDE-GUEST nonsense");
  watcher.timed_out(9, "");
  watcher.timed_out(99, "");
  EXPECT_THAT(watcher.take_result().warnings,
              ElementsAre("the guest says: no timer", HasSubstr("could not be read")));
}

TEST(OwnKernelWatcher, StartsItselfAgain) {
  BootWatcher watcher = in_kernel(true);
  at(watcher, 2.5, kReady, measurement(1));
  at(watcher, 3.0, kGuestWork, measurement(2));
  at(watcher, 4.0, kGuestKexec, measurement(3, 5));
  EXPECT_EQ(watcher.phase(), "kexec");
  at(watcher, 4.25, kGuestSecond, measurement(7, 5));
  EXPECT_EQ(watcher.phase(), "second kernel");
  watcher.console_line(
      4.5, R"(ACCEDE-GUEST {"step":"work","touched_bytes":8192,"wrong_pages":0,"meminfo":{}})");
  EXPECT_TRUE(watcher.take_resume());
  watcher.console_line(4.6, kGuestOff);
  watcher.shutdown(4.7, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher, measurement(8, 5));
  EXPECT_EQ(result.outcome, Outcome::kReady);
  EXPECT_EQ(exit_code(result), kExitDone);
  EXPECT_EQ(result.up->table, "efi");
  EXPECT_EQ(result.work->touched, Bytes{4096});
  EXPECT_EQ(result.second_work->touched, Bytes{8192});
  EXPECT_EQ(result.kexec_state->unaccepted, Bytes{400});
  EXPECT_EQ(result.second->unaccepted, Bytes{390});
  EXPECT_EQ(result.second->table, "hand-over");
  EXPECT_EQ(result.marked_page, "kept");
  EXPECT_DOUBLE_EQ(*kexec_seconds(result), 0.25);
  EXPECT_EQ(accepted_by_kexec(result), Bytes{4U << 20});
  EXPECT_EQ(double_accepts(result), 0U);
  EXPECT_EQ(main_report(result)->header.counters.accepted_bytes[2], 1U << 20);
}

TEST(OwnKernelWatcher, AMarkedPageThatIsLostFails) {
  for (const char* const word : {"lost", "perhaps"}) {
    BootWatcher watcher = in_kernel(true);
    at(watcher, 2.5, kReady, measurement(1));
    at(watcher, 4.0, kGuestKexec, measurement(3));
    const std::string line = R"(ACCEDE-GUEST {"step":"ready","generation":2,"marked_page":")" +
                             std::string{word} + R"(","meminfo":{}})";
    at(watcher, 4.25, line.c_str(), measurement(3));
    watcher.console_line(4.6, kGuestOff);
    watcher.shutdown(4.7, {.reason = "guest-shutdown"});
    const RunResult result = finish(watcher, measurement(3));
    EXPECT_EQ(result.marked_page, "lost");
    EXPECT_EQ(result.outcome, Outcome::kReady);
    EXPECT_EQ(exit_code(result), kExitTestedFailed);
  }
}

TEST(LoaderWatcher, TheReasonOfARefusalIsTheMessage) {
  BootWatcher watcher = in_kernel(false, LoaderKind::kAccede);
  watcher.console_line(1.5, "\x1b[0maccede-loader: first word");
  watcher.console_line(1.6, "accede-loader: the kernel is truncated");
  watcher.report_line(1.7, R"({"event":"kernel-returned","status":9223372036854775809})");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_EQ(result.message, "the loader refused it: the kernel is truncated");
  EXPECT_EQ(exit_code(result), kExitTestedFailed);
}

TEST(LoaderWatcher, OurKernelMayReturnWithAReasonToo) {
  BootWatcher watcher = in_kernel(false);
  watcher.console_line(1.6, "accede-guest: the memory map has too many entries");
  watcher.report_line(1.7, R"({"event":"kernel-returned","status":9223372036854775809})");
  EXPECT_EQ(finish(watcher).message,
            "it returned to the firmware: the memory map has too many entries");
}

TEST(LoaderWatcher, TheReasonMayComeAfterTheReport) {
  BootWatcher watcher = in_kernel(false, LoaderKind::kAccede);
  watcher.report_line(1.7, R"({"event":"kernel-returned","status":9223372036854775809})");
  watcher.console_line(1.8, "accede-loader: no memory for the table");
  EXPECT_EQ(finish(watcher).message, "the loader refused it: no memory for the table");
}

TEST(LoaderWatcher, AReturnWithoutReasonHasItsStatus) {
  BootWatcher watcher = in_kernel(false);
  watcher.report_line(1.7, R"({"event":"kernel-returned","status":9223372036854775809})");
  EXPECT_THAT(finish(watcher).message, HasSubstr("0x8000000000000001"));
}

TEST(LoaderWatcher, WhatTheLoaderSaidIsNoReasonForALaterPanic) {
  BootWatcher watcher = in_kernel(false);
  watcher.console_line(1.5, "accede-loader: starts the kernel");
  watcher.console_line(3.0, "[    1.0] Kernel panic - not syncing: no root");
  watcher.shutdown(3.1, {.reason = "guest-reset"});
  EXPECT_EQ(finish(watcher).message, "no root");
}

TEST(LauncherErrors, AreAResultThatSaysWhy) {
  BootWatcher watcher{test::made_up_result().label, {}};
  watcher.report_line(1.0, R"({"event":"error","message":"no SVM"})");
  ASSERT_TRUE(watcher.wants_stop());
  const RunResult result = watcher.take_result();
  EXPECT_EQ(result.outcome, Outcome::kReset);
  EXPECT_EQ(result.message, "the launcher cannot go on: no SVM");
  EXPECT_EQ(result.launcher_error, result.message);
}

}  // namespace
}  // namespace accede::cli
