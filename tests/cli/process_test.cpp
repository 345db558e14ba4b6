// The real command as a process, with a QEMU that plays a part.
#include "accede/cli/event_file.hpp"
#include "accede/cli/failure.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/temp_dir.hpp"
#include "tests/cli/made_up_kernel.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace accede::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using namespace std::chrono_literals;

std::string slurp(const fs::path& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// False for a process that is gone, or dead and not yet collected by its new parent.
bool is_alive(pid_t pid) {
  const std::string status = slurp("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t paren = status.rfind(')');
  return paren != std::string::npos && status.substr(paren + 2, 1) != "Z";
}

bool gone_soon(pid_t pid) {
  for (int i = 0; i < 500 && is_alive(pid); ++i) {
    std::this_thread::sleep_for(10ms);
  }
  return !is_alive(pid);
}

struct Answer {
  int exit_code = -1;
  std::string out;
  std::string err;
};

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::make("/tmp", "accede-test-");
    ASSERT_TRUE(made);
    directory_.emplace(std::move(*made));
    for (const char* const name : {"tmp", "lib", "cache"}) {
      fs::create_directory(path(name));
    }
    ASSERT_TRUE(write_text(path("lib/BOOTX64.EFI"), "launcher"));
    ASSERT_TRUE(write_text(path("lib/init.cpio"), "init"));
    ASSERT_TRUE(write_text(path("ovmf"), "firmware"));
    put_kernel(test::bz_image());
    environment_ = {{"PATH", "/usr/bin:/bin"},         {"HOME", path("home")},
                    {"TMPDIR", path("tmp")},           {"XDG_CACHE_HOME", path("cache")},
                    {"ACCEDE_LIB_DIR", path("lib")},   {"ACCEDE_OVMF", path("ovmf")},
                    {"ACCEDE_QEMU", ACCEDE_FAKE_QEMU}, {"ACCEDE_FAKE", "userspace"},
                    {"ACCEDE_FAKE_PID", path("pid")}};
  }

  [[nodiscard]] fs::path path(const std::string& name) const { return directory_->path() / name; }

  void put_kernel(const test::ImageBuilder& image) {
    const auto view = image.view();
    std::string text(view.size(), '\0');
    std::ranges::transform(view, text.begin(), [](std::byte b) { return static_cast<char>(b); });
    ASSERT_TRUE(write_text(path("kernel"), text));
  }

  pid_t start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {ACCEDE_COMMAND, "boot"});
    std::vector<std::string> variables;
    for (const auto& [name, value] : environment_) {
      variables.push_back(name + "=" + value);
    }
    const auto pointers = [](std::vector<std::string>& texts) {
      std::vector<char*> list;
      for (std::string& text : texts) {
        list.push_back(text.data());
      }
      list.push_back(nullptr);
      return list;
    };
    const std::vector<char*> argv = pointers(arguments);
    const std::vector<char*> envp = pointers(variables);
    const std::string out = path("out");
    const std::string err = path("err");
    std::fflush(nullptr);  // or the child would write the parent's text again
    const pid_t pid = fork();
    if (pid == 0) {
      if (freopen(out.c_str(), "w", stdout) == nullptr ||
          freopen(err.c_str(), "w", stderr) == nullptr) {
        _exit(126);
      }
      execve(argv[0], argv.data(), envp.data());
      _exit(127);
    }
    return pid;
  }

  Answer wait(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return {.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status),
            .out = slurp(path("out")),
            .err = slurp(path("err"))};
  }

  /// Boots the made-up kernel.
  Answer boot(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"--kernel", path("kernel")});
    return wait(start(std::move(arguments)));
  }

  Answer play(const std::string& scene, std::vector<std::string> arguments = {}) {
    environment_["ACCEDE_FAKE"] = scene;
    return boot(std::move(arguments));
  }

  /// Waits until the stand-in for QEMU runs.
  pid_t qemu_pid() {
    for (int i = 0; i < 1000 && !fs::exists(path("pid")); ++i) {
      std::this_thread::sleep_for(10ms);
    }
    return static_cast<pid_t>(std::strtol(slurp(path("pid")).c_str(), nullptr, 10));
  }

  void expect_nothing_left() {
    EXPECT_TRUE(fs::is_empty(path("tmp")));
    if (fs::exists(path("pid"))) {
      EXPECT_FALSE(is_alive(qemu_pid()));
    }
  }

  std::map<std::string, std::string> environment_;

 private:
  std::optional<TempDir> directory_;
};

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
  expect_nothing_left();
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

/// A distribution of shell scripts.
class KernelFetchTest : public ProcessTest {
 protected:
  void SetUp() override {
    ProcessTest::SetUp();
    fs::create_directory(path("bin"));
    script("apt-cache",
           "echo 'linux-image-6.12.1+made1-cloud-amd64-unsigned - new'\n"
           "echo 'linux-image-6.12.0+made1-cloud-amd64-unsigned - old'");
    script("apt-get",
           "for last; do :; done\necho \"$last\" >>\"$HOME/fetched\"\n"
           "echo deb >\"${last}_1_amd64.deb\"");
    script("dpkg-deb", "mkdir -p \"$3/boot\" && cp \"$HOME/kernel\" \"$3/boot/vmlinuz-6.12.1\"");
    environment_["PATH"] = path("bin").string() + ":/usr/bin:/bin";
    environment_["HOME"] = path("");
  }
  void script(const std::string& name, const std::string& text) {
    const fs::path file = path("bin") / name;
    ASSERT_TRUE(write_text(file, "#!/bin/sh\n" + text + "\n"));
    chmod(file.c_str(), 0755);
  }
  Answer boot_by_name(const std::string& name) { return wait(start({"--kernel", name})); }
  [[nodiscard]] std::string fetched() const { return slurp(path("fetched")); }
  [[nodiscard]] fs::path kernels() const { return path("cache/accede/kernels"); }
};

TEST_F(KernelFetchTest, FetchesTheNewestOnceAndKeepsIt) {
  for (const char* const name : {"debian-6.12", "linux", "debian-6.12"}) {
    const Answer answer = boot_by_name(name);
    EXPECT_EQ(answer.exit_code, kExitDone) << answer.err;
  }
  EXPECT_EQ(fetched(), "linux-image-6.12.1+made1-cloud-amd64-unsigned\n");
  EXPECT_TRUE(fs::exists(kernels() / "linux-image-6.12.1+made1-cloud-amd64-unsigned" / "vmlinuz"));
}

TEST_F(KernelFetchTest, NeedsNoDistributionTheNextTime) {
  EXPECT_EQ(boot_by_name("linux").exit_code, kExitDone);
  for (const char* const tool : {"apt-cache", "apt-get", "dpkg-deb"}) {
    script(tool, "exit 1");
  }
  EXPECT_EQ(boot_by_name("linux").exit_code, kExitDone);
}

TEST_F(KernelFetchTest, SaysWhatTheDistributionDoesNotOffer) {
  const Answer answer = boot_by_name("debian-6.1");
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("offers no package linux-image-6.1.*-cloud-amd64-unsigned"));
}

TEST_F(KernelFetchTest, SaysWhenThereAreNoPackageLists) {
  script("apt-cache", "true");
  const Answer answer = boot_by_name("linux");
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("apt-get update"));
}

TEST_F(KernelFetchTest, AFailedDownloadSaysWhyAndLeavesNothing) {
  script("apt-get", "echo partial >x.deb\necho 'W: odd' >&2\necho 'E: no network' >&2\nexit 100");
  const Answer answer = boot_by_name("linux");
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("failed: E: no network\n"));
  EXPECT_TRUE(fs::is_empty(kernels()));
}

TEST_F(KernelFetchTest, APackageWithoutKernelLeavesNothing) {
  script("dpkg-deb", "mkdir -p \"$3/boot\"");
  const Answer answer = boot_by_name("linux");
  EXPECT_EQ(answer.exit_code, kExitMissing);
  EXPECT_THAT(answer.err, HasSubstr("holds no boot/vmlinuz-*"));
  EXPECT_TRUE(fs::is_empty(kernels()));
}

TEST_F(KernelFetchTest, AnInterruptedDownloadLeavesNothing) {
  script("apt-get", "echo $$ >\"$HOME/pid.part\"; mv \"$HOME/pid.part\" \"$HOME/pid\"; sleep 600");
  const pid_t command = start({"--kernel", "linux"});
  const pid_t apt = qemu_pid();
  ASSERT_TRUE(is_alive(apt));
  kill(command, SIGINT);
  EXPECT_EQ(wait(command).exit_code, 130);
  EXPECT_TRUE(gone_soon(apt));
  EXPECT_TRUE(fs::is_empty(kernels()));
}

TEST_F(KernelFetchTest, SeveralProcessesDoNotDisturbEachOther) {
  script("apt-get", "for last; do :; done\nsleep 0.2\necho deb >\"${last}_1_amd64.deb\"");
  std::vector<pid_t> commands;
  for (int i = 0; i < 4; ++i) {
    commands.push_back(start({"--kernel", "linux"}));
  }
  for (const pid_t command : commands) {
    EXPECT_EQ(wait(command).exit_code, kExitDone);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator{kernels()}, {}), 1);
}

TEST_F(KernelFetchTest, RemovesWhatAKilledProcessLeftLongAgo) {
  fs::create_directories(kernels() / ".partial-old");
  fs::create_directories(kernels() / ".partial-new");
  fs::last_write_time(kernels() / ".partial-old", fs::file_time_type::clock::now() - 2h);
  EXPECT_EQ(boot_by_name("linux").exit_code, kExitDone);
  EXPECT_FALSE(fs::exists(kernels() / ".partial-old"));
  EXPECT_TRUE(fs::exists(kernels() / ".partial-new"));
}

}  // namespace
}  // namespace accede::cli
