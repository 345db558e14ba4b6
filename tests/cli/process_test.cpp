// The real command as a process, with a QEMU that plays a part.
#include "accede/cli/event_file.hpp"
#include "tests/cli/process_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::gone_soon;
using test::is_alive;
using test::slurp;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Answer = test::Answer;
using ProcessTest = test::ProcessTest;

TEST_F(ProcessTest, ABootThatReachesUserSpaceIsDone) {
  const Answer answer = play("userspace", {"--json"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_THAT(answer.err, IsEmpty());
  const json document = json::parse(answer.out);
  EXPECT_EQ(document["outcome"], "userspace");
  EXPECT_EQ(document["kernel"], test::kMadeUpVersion);
  EXPECT_EQ(document["guest"]["unaccepted_bytes"], 1478656000);
  EXPECT_EQ(document["guest"]["memory_encryption"], "Intel TDX");
  EXPECT_EQ(document["accept"]["calls"]["2m"], 288);
  EXPECT_EQ(document["host"]["backed_bytes"], 8 << 20);
  EXPECT_EQ(document["events"]["count"], 1);
  EXPECT_THAT(document["warnings"], IsEmpty());
  expect_nothing_left();
}

TEST_F(ProcessTest, AnSnpGuestRunsOnAProcessorOfItsVendor) {
  const Answer answer = play("userspace", {"--platform", "snp", "--json"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  const json document = json::parse(answer.out);
  EXPECT_EQ(document["platform"], "snp");
  EXPECT_EQ(document["firmware"], "handshake");
  EXPECT_EQ(document["guest"]["memory_encryption"], "AMD SEV SEV-ES SEV-SNP");
  expect_nothing_left();
}

TEST_F(ProcessTest, TwoModesAreTwoRuns) {
  const Answer answer = play("userspace", {"--accept", "lazy,eager", "--json"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  const json document = json::parse(answer.out);
  ASSERT_EQ(document["runs"].size(), 2U);
  EXPECT_EQ(document["runs"][0]["accept_mode"], "lazy");
  EXPECT_EQ(document["runs"][1]["accept_mode"], "eager");
  EXPECT_TRUE(document["speedup"].is_number());
  expect_nothing_left();
}

TEST_F(ProcessTest, PrintsATableForAPerson) {
  const Answer answer = play("userspace", {"--accept", "lazy,eager"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_THAT(answer.out, HasSubstr("eager / lazy"));
  EXPECT_THAT(answer.out, HasSubstr("protects nothing"));
  EXPECT_THAT(answer.err, IsEmpty());
}

TEST_F(ProcessTest, AWorkloadIsMeasuredToo) {
  const json document = json::parse(play("work", {"--touch", "8K", "--json"}).out);
  EXPECT_EQ(document["outcome"], "userspace");
  EXPECT_EQ(document["first_touch_ns"]["p9999"], 400);
  EXPECT_EQ(document["work"]["accept_bytes"], 576 << 20);
}

TEST_F(ProcessTest, AForeignInitrdIsMeasuredWhenItsInitStarts) {
  // The stand-in waits for a line on its console, which a foreign init is told, too.
  const Answer answer = play("custom-init", {"--json", "--initrd", path("lib/init.cpio")});
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_EQ(json::parse(answer.out)["outcome"], "userspace");
}

TEST_F(ProcessTest, AnEfiProgramThatReturnsIsReady) {
  put_kernel(test::efi_program());
  const Answer answer = play("return", {"--json"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_EQ(json::parse(answer.out)["outcome"], "ready");
  EXPECT_EQ(json::parse(answer.out)["kernel"], "kernel");
}

TEST_F(ProcessTest, WhatWasTestedAndFailedExitsWithOne) {
  for (const auto& [scene, outcome] : std::map<std::string, std::string>{{"fault", "guest-fault"},
                                                                         {"panic", "panic"},
                                                                         {"reset", "reset"},
                                                                         {"return", "panic"},
                                                                         {"killed", "reset"}}) {
    const Answer answer = play(scene, {"--json"});
    EXPECT_EQ(answer.exit_code, kExitTestedFailed) << scene;
    EXPECT_EQ(json::parse(answer.out)["outcome"], outcome) << scene;
    expect_nothing_left();
  }
}

TEST_F(ProcessTest, AFaultIsExplained) {
  const Answer answer = play("fault");
  EXPECT_THAT(answer.out, HasSubstr("what to look at         accept it first"));
}

TEST_F(ProcessTest, ALauncherThatCannotGoOnSaysWhy) {
  const Answer answer = play("launcher-error");
  EXPECT_EQ(answer.exit_code, kExitTestedFailed);
  EXPECT_EQ(answer.err, "accede boot: the launcher cannot go on: this processor has no SVM\n");
  EXPECT_THAT(answer.out, IsEmpty());
  expect_nothing_left();
}

TEST_F(ProcessTest, ALauncherThatCannotGoOnGivesADocument) {
  const Answer answer = play("launcher-error", {"--json", "--accept", "lazy,eager"});
  EXPECT_EQ(answer.exit_code, kExitTestedFailed);
  EXPECT_EQ(answer.err, "accede boot: the launcher cannot go on: this processor has no SVM\n");
  // Two runs were asked for, so the form is theirs.
  const json document = json::parse(answer.out)["runs"][0];
  EXPECT_EQ(document["outcome"], "reset");
  EXPECT_EQ(document["message"], "the launcher cannot go on: this processor has no SVM");
}

TEST_F(ProcessTest, OurOwnKernelIsChosenByItsName) {
  environment_["ACCEDE_FAKE"] = "guest";
  const Answer answer = wait(start({"--kernel", "guest", "--accept", "lazy,background", "--json"}));
  EXPECT_EQ(answer.exit_code, kExitDone) << answer.err;
  const json document = json::parse(answer.out);
  ASSERT_EQ(document["runs"].size(), 2U);
  const json& run = document["runs"][1];
  EXPECT_EQ(run["accept_mode"], "background");
  EXPECT_EQ(run["kernel"], "accede-guest");
  EXPECT_EQ(run["outcome"], "ready");
  EXPECT_EQ(run["guest"]["used_bytes"], 4096);
  expect_nothing_left();
}

TEST_F(ProcessTest, AKexecIsReported) {
  const Answer answer = play("kexec", {"--kexec", "--json", "--steps"});
  EXPECT_EQ(answer.exit_code, kExitDone) << answer.err << answer.out;
  const json document = json::parse(answer.out);
  EXPECT_EQ(document["outcome"], "userspace");
  EXPECT_EQ(document["kexec"]["unaccepted_before_bytes"], 900);
  EXPECT_EQ(document["kexec"]["unaccepted_after_bytes"], 800);
  EXPECT_EQ(document["kexec"]["double_accepts"], 0);
  EXPECT_TRUE(document["steps"].is_array());
  expect_nothing_left();
}

TEST_F(ProcessTest, AKexecThatNeverCameFails) {
  const Answer answer = play("userspace", {"--kexec"});
  EXPECT_EQ(answer.exit_code, kExitTestedFailed);
  EXPECT_THAT(answer.out, HasSubstr("the guest did not jump into a second kernel"));
}

TEST_F(ProcessTest, ALoaderThatRefusesSaysWhy) {
  const Answer answer = play("refusal", {"--loader", "accede"});
  EXPECT_EQ(answer.exit_code, kExitTestedFailed);
  EXPECT_THAT(answer.out, HasSubstr("the kernel did not start: the loader refused it: the kernel "
                                    "is truncated\n"));
}

TEST_F(ProcessTest, StepsStandBelowTheTable) {
  const Answer answer = play("userspace", {"--steps"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_THAT(answer.out, HasSubstr("EFI stub: "));
  EXPECT_GT(answer.out.size(), play("userspace").out.size());
}

TEST_F(ProcessTest, AGuestThatHangsTimesOut) {
  const Answer answer = play("hang", {"--timeout", "1"});
  EXPECT_EQ(answer.exit_code, kExitTimedOut);
  EXPECT_THAT(answer.out, HasSubstr("| [    0.000000] Linux version 6.12.1-made-up"));
  expect_nothing_left();
}

TEST_F(ProcessTest, AVmThatSaysNothingTimesOut) {
  const Answer answer = play("silent", {"--timeout", "1", "--json"});
  EXPECT_EQ(answer.exit_code, kExitTimedOut);
  EXPECT_EQ(json::parse(answer.out)["outcome"], "timeout");
}

TEST_F(ProcessTest, AQemuThatCannotStartIsMissing) {
  const Answer answer = play("exit");
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_EQ(answer.err,
            "accede boot: QEMU could not run the VM (exit code 1): "
            "qemu: could not set up host memory\n");
  expect_nothing_left();
}

TEST_F(ProcessTest, SignalsLeaveNothingBehind) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    fs::remove(path("pid"));
    environment_["ACCEDE_FAKE"] = "hang";
    const pid_t command = start({"--kernel", path("kernel"), "--json"});
    const pid_t qemu = qemu_pid();
    ASSERT_TRUE(is_alive(qemu));
    EXPECT_FALSE(fs::is_empty(path("tmp")));
    kill(command, signal);
    const Answer answer = wait(command);
    EXPECT_EQ(answer.exit_code, 128 + signal);
    EXPECT_THAT(answer.out, IsEmpty());
    EXPECT_TRUE(gone_soon(qemu));
    expect_nothing_left();
  }
}

TEST_F(ProcessTest, ChildrenOfQemuDieWithIt) {
  const fs::path script = path("qemu.sh");
  ASSERT_TRUE(write_text(script,
                         "#!/bin/sh\nsleep 600 &\necho $! >\"$ACCEDE_FAKE_PID\".part\n"
                         "mv \"$ACCEDE_FAKE_PID\".part \"$ACCEDE_FAKE_PID\"\nwait\n"));
  chmod(script.c_str(), 0755);
  environment_["ACCEDE_QEMU"] = script;
  const pid_t command = start({"--kernel", path("kernel")});
  const pid_t sleeper = qemu_pid();
  ASSERT_TRUE(is_alive(sleeper));
  kill(command, SIGINT);
  EXPECT_EQ(wait(command).exit_code, 130);
  EXPECT_TRUE(gone_soon(sleeper));
  EXPECT_TRUE(fs::is_empty(path("tmp")));
}

TEST_F(ProcessTest, QemuDiesWithACommandThatWasKilled) {
  environment_["ACCEDE_FAKE"] = "hang";
  const pid_t command = start({"--kernel", path("kernel")});
  const pid_t qemu = qemu_pid();
  ASSERT_TRUE(is_alive(qemu));
  kill(command, SIGKILL);
  wait(command);
  EXPECT_TRUE(gone_soon(qemu));
}

TEST_F(ProcessTest, BadFilesAreUsageErrorsInOneLine) {
  ASSERT_TRUE(write_text(path("text"), "hello"));
  std::string cut = slurp(path("kernel"));
  cut.resize(cut.size() - 1);
  ASSERT_TRUE(write_text(path("cut"), cut));
  const std::string kernel = path("kernel");
  for (const std::vector<std::string>& arguments : {
           std::vector<std::string>{"--kernel", path("text")},
           {"--kernel", path("cut")},
           {"--kernel", path("none")},
           {"--kernel", path("tmp")},
           {"--kernel", "nonsense"},
           {"--kernel", kernel, "--initrd", path("none")},
           {"--kernel", kernel, "--initrd", path("tmp")},
           {"--kernel", kernel, "--console", path("none/console")},
           {"--kernel", kernel, "--events", path("none/events")},
           {"--kernel", kernel, "--memory", "512M"},
           {"--kernel", kernel, "--accept", "background"},
           {"--kernel", path("lib/accede-guest.efi"), "--loader", "accede"},
           {"--kernel", path("lib/accede-guest.efi"), "--kexec"},
           {"--kernel", "guest", "--loader", "accede"},
           {"--kernel", kernel, "--memory", "501G"},
           {"--kernel", kernel, "--memory", "500G", "--accept", "eager"},
       }) {
    const Answer answer = wait(start(arguments));
    EXPECT_EQ(answer.exit_code, kExitUsage) << answer.err;
    EXPECT_EQ(std::ranges::count(answer.err, '\n'), 1) << answer.err;
    EXPECT_THAT(answer.out, IsEmpty());
    EXPECT_FALSE(fs::exists(path("pid"))) << "a VM was started";
  }
}

TEST_F(ProcessTest, WhatIsMissingIsNamedWithItsPackage) {
  environment_["ACCEDE_QEMU"] = "/none/qemu";
  Answer answer = boot();
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("install the package qemu-system-x86\n"));

  environment_["ACCEDE_QEMU"] = ACCEDE_FAKE_QEMU;
  environment_["ACCEDE_OVMF"] = "/none/ovmf";
  answer = boot();
  EXPECT_EQ(answer.exit_code, kExitMissing);

  environment_["ACCEDE_OVMF"] = path("ovmf");
  fs::remove(path("lib/BOOTX64.EFI"));
  answer = boot();
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("BOOTX64.EFI is missing"));
}

TEST_F(ProcessTest, OnlyWhatABootNeedsHasToBeThere) {
  fs::remove(path("lib/accede-guest.efi"));
  fs::remove(path("lib/accede-loader.efi"));
  fs::remove(path("lib/accede-shim.efi"));
  EXPECT_EQ(boot().exit_code, kExitDone);
  Answer answer = wait(start({"--kernel", "guest"}));
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("accede-guest.efi is missing"));
  answer = boot({"--loader", "accede"});
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("accede-loader.efi is missing"));
  answer = boot({"--shim"});
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("accede-shim.efi is missing"));
}

TEST_F(ProcessTest, SavesTheConsole) {
  EXPECT_EQ(play("userspace", {"--console", path("console")}).exit_code, kExitDone);
  EXPECT_THAT(slurp(path("console")), HasSubstr("Memory Encryption Features active: Intel TDX"));
  EXPECT_THAT(play("userspace", {"--console", "-"}).err, HasSubstr("Linux version"));
}

TEST_F(ProcessTest, SavesTheEventsOfEveryRun) {
  EXPECT_EQ(play("userspace", {"--events", path("events"), "--accept", "lazy,eager"}).exit_code,
            kExitDone);
  const auto bytes = read_bytes(path("events"), kMaxBootFile);
  ASSERT_TRUE(bytes);
  const auto sections = parse_event_file(*bytes);
  ASSERT_TRUE(sections) << sections.error();
  ASSERT_EQ(sections->size(), 2U);
  EXPECT_EQ((*sections)[1].events.size(), 1U);
  EXPECT_EQ(json::parse((*sections)[1].description)["accept_mode"], "eager");
}

TEST_F(ProcessTest, AFullStandardOutputIsAFailure) {
  std::string line = "env";
  for (const auto& [name, value] : environment_) {
    line += " '" + name + "=" + value + "'";
  }
  line += " '" ACCEDE_COMMAND "' boot --kernel '" + path("kernel").string() + "' >/dev/full";
  const int status = std::system(line.c_str());
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), kExitMissing);
  EXPECT_TRUE(fs::is_empty(path("tmp")));
}

}  // namespace
}  // namespace accede::cli
