// Boots of SEV-SNP guests, line by line.
#include "accede/cli/boot_watcher.hpp"
#include "tests/cli/made_up_boot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace accede::cli {
namespace {

using test::finish;
using test::in_kernel;
using test::kUp;

constexpr const char* kTerminated =
    R"({"event":"fault","kind":"guest-termination","rip":"0x7","message":"terminated 1:2"})";

TEST(SnpWatcher, TakesTheEncryptionFeaturesFromTheKernelsLine) {
  BootWatcher watcher = in_kernel(false);
  watcher.console_line(2.1,
                       "[    0.1] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\r");
  watcher.console_line(5.0, kUp);
  watcher.measured(5.1, {});
  watcher.console_line(5.2, test::kOff);
  watcher.shutdown(5.3, {.reason = "guest-shutdown"});
  EXPECT_EQ(finish(watcher).encryption, "AMD SEV SEV-ES SEV-SNP");
}

TEST(SnpWatcher, AGuestThatAsksToBeEndedGaveUp) {
  BootWatcher watcher = in_kernel(false);
  watcher.report_line(3.0, kTerminated);
  const RunResult result = finish(watcher);
  EXPECT_EQ(result.outcome, Outcome::kPanic);
  EXPECT_EQ(result.message, "terminated 1:2");
  ASSERT_TRUE(result.fault);
  EXPECT_EQ(result.fault->kind, "guest-termination");
  EXPECT_EQ(exit_code(result), kExitTestedFailed);
}

TEST(SnpWatcher, AKernelPanicExplainsTheRequestToBeEndedAfterIt) {
  BootWatcher watcher = in_kernel(false);
  watcher.console_line(2.9, "[    1.0] Kernel panic - not syncing: no root");
  watcher.report_line(3.0, kTerminated);
  EXPECT_EQ(finish(watcher).message, "no root");
}

TEST(SnpWatcher, TheWordsOfOurKernelExplainItsRequestToBeEnded) {
  for (const bool words_first : {true, false}) {
    BootWatcher watcher = in_kernel(false);
    const char* const words = R"(ACCEDE-GUEST {"step":"fault","message":"touched a page"})";
    if (words_first) {
      watcher.console_line(2.9, words);
    }
    watcher.report_line(3.0, kTerminated);
    if (!words_first) {
      watcher.console_line(3.1, words);
    }
    const RunResult result = finish(watcher);
    EXPECT_EQ(result.outcome, Outcome::kPanic) << words_first;
    EXPECT_EQ(result.message, "touched a page") << words_first;
  }
}

TEST(SnpWatcher, TheLoadersLastWordsExplainItsRequestToBeEnded) {
  RunLabel label = test::made_up_snp_result().label;
  label.loader = LoaderKind::kAccede;
  BootWatcher watcher{label, {}};
  watcher.report_line(1.0, R"({"event":"takeover","report_gpa":"0x1000","report_bytes":8192})");
  watcher.report_line(1.2, R"({"event":"kernel-start"})");
  watcher.console_line(1.5, "accede-loader: the memory map changed");
  watcher.report_line(1.6, kTerminated);
  EXPECT_EQ(finish(watcher).message, "its last words: the memory map changed");
}

TEST(SnpWatcher, WhatTheLoaderSaidIsNoReasonForAKernelThatEndsItself) {
  BootWatcher watcher = in_kernel(false, LoaderKind::kAccede);
  watcher.console_line(1.5, "accede-loader: starts the kernel");
  watcher.report_line(3.0, kTerminated);
  EXPECT_EQ(finish(watcher).message, "terminated 1:2");
}

TEST(SnpWatcher, ABrokenRuleIsStillAFault) {
  BootWatcher watcher = in_kernel(false);
  watcher.report_line(3.0, R"({"event":"fault","kind":"bad-ghcb","message":"not registered"})");
  EXPECT_EQ(finish(watcher).outcome, Outcome::kGuestFault);
}

}  // namespace
}  // namespace accede::cli
