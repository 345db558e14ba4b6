// Fetching kernels by name, from a distribution made of shell scripts.
#include "tests/cli/process_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <chrono>
#include <csignal>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using test::gone_soon;
using test::is_alive;
using test::slurp;
using ::testing::HasSubstr;

using Answer = test::Answer;
using ProcessTest = test::ProcessTest;

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
