// Boots in which Linux starts itself again.
#include "tests/cli/made_up_boot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::cli {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(KexecWatcher, LinuxStartsItselfAgain) {
  BootWatcher watcher = in_kernel(true);
  watcher.console_line(2.1, "[    0.1] Memory: 3000K/4000K available");
  at(watcher, 5.0, kUp, measurement(1));
  at(watcher, 6.0, kKexec, measurement(2));
  watcher.console_line(6.1, "[    0.1] Memory: 30K/40K available");
  at(watcher, 9.0, kSecond, measurement(3));
  watcher.console_line(9.1, kOff);
  watcher.shutdown(9.2, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kUserspace);
  EXPECT_EQ(exit_code(result), kExitDone);
  EXPECT_EQ(result.up->unaccepted, Bytes{1000});
  EXPECT_EQ(result.kexec_state->unaccepted, Bytes{900});
  EXPECT_EQ(result.second->unaccepted, Bytes{800});
  EXPECT_EQ(result.console_ram, Bytes{4'096'000});
  EXPECT_FALSE(result.marked_page);
  EXPECT_DOUBLE_EQ(*kexec_seconds(result), 3.0);
}

TEST(KexecWatcher, MemoryThatIsAcceptedTwiceFails) {
  BootWatcher watcher = in_kernel(true);
  at(watcher, 5.0, kUp, measurement(1));
  at(watcher, 6.0, kKexec, measurement(2, 1));
  at(watcher, 9.0, kSecond, measurement(3, 1));
  watcher.console_line(9.1, kOff);
  watcher.shutdown(9.2, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher, measurement(3, 3));
  EXPECT_EQ(double_accepts(result), 2U);
  EXPECT_EQ(exit_code(result), kExitTestedFailed);
}

TEST(KexecWatcher, WrongPagesOfTheSecondKernelFail) {
  BootWatcher watcher = in_kernel(true);
  at(watcher, 5.0, kUp, measurement(1));
  at(watcher, 6.0, kKexec, measurement(2));
  at(watcher, 9.0, kSecond, measurement(3));
  watcher.console_line(9.1, R"(ACCEDE-INIT {"step":"work","wrong_pages":2,"meminfo":{}})");
  watcher.console_line(9.1, kOff);
  watcher.shutdown(9.2, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher);
  EXPECT_FALSE(result.work);
  EXPECT_EQ(exit_code(result), kExitTestedFailed);
}

/// A Linux as far as its jump.
BootWatcher jumped() {
  BootWatcher watcher = in_kernel(true);
  at(watcher, 5.0, kUp, measurement(1));
  at(watcher, 6.0, kKexec, measurement(2));
  return watcher;
}

TEST(KexecWatcher, AResetAfterTheJumpSaysSo) {
  BootWatcher watcher = jumped();
  watcher.shutdown(6.1, {.reason = "guest-reset"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kReset);
  EXPECT_THAT(result.message, HasSubstr("after the jump into the second kernel: the VM reset"));
}

TEST(KexecWatcher, AFaultAfterTheJumpSaysSo) {
  BootWatcher watcher = jumped();
  watcher.report_line(6.1, R"({"event":"fault","kind":"unaccepted-access","message":"m"})");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kGuestFault);
  EXPECT_EQ(result.message, "after the jump into the second kernel: m");
  EXPECT_EQ(result.fault->message, "m");
}

TEST(KexecWatcher, APanicAfterTheJumpSaysSo) {
  BootWatcher watcher = jumped();
  watcher.console_line(6.1, "[    0.1] Kernel panic - not syncing: bad table");
  watcher.shutdown(6.2, {.reason = "guest-reset"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_EQ(result.message, "after the jump into the second kernel: bad table");
}

TEST(KexecWatcher, ASecondKernelThatHangsSaysSo) {
  BootWatcher watcher = jumped();
  watcher.timed_out(20.0, "");
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kTimeout);
  EXPECT_EQ(result.message, "after the jump into the second kernel: no end after 20 s");
}

TEST(KexecWatcher, QemuEndingAfterTheJumpSaysSo) {
  BootWatcher watcher = jumped();
  watcher.vm_ended(7.0, "signal 9");
  EXPECT_THAT(watcher.take_result().message, HasSubstr("after the jump"));
}

TEST(KexecWatcher, AFaultOfTheRunningSecondKernelSaysWhose) {
  BootWatcher watcher = jumped();
  at(watcher, 9.0, kSecond, measurement(3));
  watcher.report_line(9.1, R"({"event":"fault","kind":"unaccepted-access","message":"m"})");
  EXPECT_EQ(finish(watcher).message, "in the second kernel: m");
}

TEST(KexecWatcher, AJumpThatWasAskedForAndNeverCameFails) {
  BootWatcher watcher = in_kernel(true);
  at(watcher, 5.0, kUp, measurement(1));
  watcher.console_line(5.1, R"(ACCEDE-INIT {"step":"error","message":"kexec_file_load: ENOSYS"})");
  watcher.console_line(5.2, kOff);
  watcher.shutdown(5.3, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kReset);
  EXPECT_EQ(result.message, "the guest did not jump into a second kernel");
  EXPECT_EQ(exit_code(result), kExitTestedFailed);
  EXPECT_THAT(result.warnings, ElementsAre("the guest says: kexec_file_load: ENOSYS"));
}

TEST(KexecWatcher, ASecondKernelThatPowersOffSilentlyFails) {
  BootWatcher watcher = jumped();
  watcher.console_line(7.0, kOff);
  watcher.shutdown(7.1, {.reason = "guest-shutdown"});
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kReset);
  EXPECT_EQ(result.message, "the second kernel did not come up after the jump");
}

TEST(KexecWatcher, RepeatedLinesCountOnce) {
  BootWatcher watcher = jumped();
  watcher.console_line(6.5, kKexec);
  EXPECT_FALSE(watcher.wants_measurement());
  at(watcher, 9.0, kSecond, measurement(3));
  watcher.console_line(9.5, kSecond);
  EXPECT_FALSE(watcher.wants_measurement());
  watcher.timed_out(20.0, "");
  const RunResult result = finish(watcher);
  EXPECT_DOUBLE_EQ(*result.kexec_at, 6.0);
  EXPECT_DOUBLE_EQ(*result.second_at, 9.0);
}

}  // namespace
}  // namespace accede::cli
