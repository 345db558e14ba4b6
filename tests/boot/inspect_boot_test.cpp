// `accede inspect --boot`: what stock kernels, unified images and disks say, against what they do.
#include "accede/cli/kernel_cache.hpp"
#include "tests/boot/accede_run.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace accede::test {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
constexpr const char* kQuiet = " no_timer_check cryptomgr.notests swiotlb=16384";

std::string read_text(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream{path, std::ios::binary}.rdbuf();
  return text.str();
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream{path, std::ios::binary} << text;
}

std::string quoted(const fs::path& path) {
  return "'" + path.string() + "'";
}

/// sfdisk lies where the path of a plain user does not lead.
int shell(const std::string& command) {
  const int status = std::system(("PATH=$PATH:/usr/sbin; " + command).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// A kernel of `series` in the command's cache, where `accede boot` leaves it.
std::optional<fs::path> cached_kernel(const std::string& series) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{cli::kernel_cache_directory(), error}) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("linux-image-" + series + ".") && name.find("cloud") != name.npos &&
        fs::is_regular_file(entry.path() / "vmlinuz")) {
      return entry.path() / "vmlinuz";
    }
  }
  return std::nullopt;
}

class InspectBoot : public testing::Test {
 protected:
  struct Answer {
    int exit_code = -1;
    Json object;
    std::string errors;

    [[nodiscard]] std::vector<std::string> words(const char* field) const {
      return object.at("boot").at(field).get<std::vector<std::string>>();
    }
    [[nodiscard]] std::vector<std::string> subjects() const {
      std::vector<std::string> subjects;
      for (const Json& one : object.at("boot").at("disagreements")) {
        subjects.push_back(one.at("subject").get<std::string>());
      }
      return subjects;
    }
  };

  /// Inspects and boots `file`, with more options.
  [[nodiscard]] Answer ask(const fs::path& file, const std::string& options = "") const {
    const fs::path out = scratch_ / "out";
    const fs::path err = scratch_ / "err";
    const int code =
        shell("timeout 500 " + quoted(ACCEDE_COMMAND) + " inspect --boot --json " + options + " " +
              quoted(file) + " >" + quoted(out) + " 2>" + quoted(err) + " </dev/null");
    const std::string line = read_text(out);
    return {.exit_code = code,
            .object = line.empty() ? Json{} : Json::parse(line),
            .errors = read_text(err)};
  }

  /// A unified image of the kernel, our init and a command line; false when a tool is missing.
  [[nodiscard]] bool make_unified(const fs::path& kernel, const std::string& command_line,
                                  const fs::path& to) const {
    if (!fs::exists(kStub) || shell("command -v objcopy >/dev/null") != 0) {
      return false;
    }
    const fs::path words = scratch_ / "cmdline";
    write_text(words, command_line);
    const auto section = [](const char* name, const fs::path& file, const char* address) {
      return std::string{" --add-section "} + name + "=" + quoted(file) + " --change-section-vma " +
             name + "=" + address;
    };
    return shell("objcopy" + section(".cmdline", words, "0x30000") +
                 section(".linux", kernel, "0x2000000") +
                 section(".initrd", fs::path{ACCEDE_ARTIFACTS} / "init.cpio", "0x4000000") + " " +
                 kStub + " " + quoted(to)) == 0;
  }

  /// A disk of 64 MiB with a GPT and an EFI system partition that boots `program`; nothing on the
  /// partition without one. False when a tool is missing.
  [[nodiscard]] bool make_disk(const fs::path& program, const fs::path& to) const {
    if (shell("(command -v mformat && command -v mcopy && command -v sfdisk) >/dev/null") != 0) {
      return false;
    }
    write_text(to, "");
    fs::resize_file(to, 64 * kMiB);
    const std::string volume = " -i " + quoted(to) + "@@1M ";
    std::string script = "set -e; printf 'label: gpt\\nstart=2048, type=uefi\\n' | sfdisk -q " +
                         quoted(to) + "; mformat" + volume + "-T 126976 -h 64 -s 32 ::";
    if (!program.empty()) {
      script += "; mmd" + volume + "::/EFI ::/EFI/BOOT; mcopy" + volume + quoted(program) +
                " ::/EFI/BOOT/BOOTX64.EFI";
    }
    return shell(script) == 0;
  }

  Scratch scratch_;
};

#define ACCEDE_CACHED_KERNEL(variable, series)                                                  \
  const auto variable##_file = cached_kernel(series);                                           \
  if (!variable##_file) {                                                                       \
    GTEST_SKIP() << "no kernel " series "; accede boot --kernel debian-" series " fetches one"; \
  }                                                                                             \
  const fs::path& variable = *variable##_file

TEST_F(InspectBoot, AKernelThatAcceptsDoesWhatItSays) {
  ACCEDE_CACHED_KERNEL(kernel, "6.12");
  const Answer answer = ask(kernel, "--require TDX_CAPABLE,SEV_SNP_CAPABLE,UNACCEPTED_MEMORY");
  ASSERT_EQ(answer.exit_code, 0) << answer.errors << answer.object;
  EXPECT_THAT(answer.subjects(), IsEmpty());
  EXPECT_THAT(answer.words("tags"),
              ElementsAre("KERNEL_6_12", "SEV_CAPABLE", "SEV_SNP_CAPABLE", "TDX_CAPABLE",
                          "UEFI_COMPATIBLE", "UNACCEPTED_MEMORY", "X86_64"));
  EXPECT_EQ(answer.object["tags"], answer.object["boot"]["tags"]);
  EXPECT_EQ(answer.object["boot"]["runs"].size(), 2U) << "one for each platform is enough";
}

TEST_F(InspectBoot, AKernelThatDoesNotAcceptDoesWhatItSays) {
  ACCEDE_CACHED_KERNEL(kernel, "6.1");
  const Answer answer = ask(kernel);
  ASSERT_EQ(answer.exit_code, 0) << answer.errors << answer.object;
  EXPECT_THAT(answer.subjects(), IsEmpty());
  EXPECT_THAT(answer.words("refuted"), ElementsAre("TDX_CAPABLE", "UNACCEPTED_MEMORY"));
  EXPECT_THAT(answer.words("tags"), Contains("SEV_SNP_CAPABLE"));
  const Json& runs = answer.object["boot"]["runs"];
  ASSERT_EQ(runs.size(), 4U);
  EXPECT_LT(runs[0]["lost_bytes"], 64 * kMiB);
  EXPECT_GT(runs[1]["lost_bytes"], kGiB) << "nobody accepted for it";
}

TEST_F(InspectBoot, AHeaderThatLiesAboutTheReleaseIsFoundOut) {
  ACCEDE_CACHED_KERNEL(kernel, "6.12");
  std::string bytes = read_text(kernel);
  const std::size_t release = bytes.find("6.12.");
  ASSERT_NE(release, bytes.npos);
  bytes[release + 3] = '9';
  write_text(scratch_ / "liar", bytes);
  const Answer answer = ask(scratch_ / "liar", "--platform tdx --claimed KERNEL_6_19");
  EXPECT_EQ(answer.exit_code, 1) << answer.errors;
  EXPECT_THAT(answer.subjects(), ElementsAre("version"));
  EXPECT_TRUE(answer.object["version"].get<std::string>().starts_with("6.19."));
  EXPECT_TRUE(answer.object["boot"]["version"].get<std::string>().starts_with("6.12."));
  EXPECT_EQ(answer.object["wrong_claims"], Json::array({"KERNEL_6_19"}));
}

TEST_F(InspectBoot, AnImageWhoseCommandLineGivesMemoryAwayIsFoundOut) {
  ACCEDE_CACHED_KERNEL(kernel, "6.12");
  const fs::path image = scratch_ / "uki.efi";
  if (!make_unified(kernel, std::string{"console=ttyS0 mem=2G"} + kQuiet, image)) {
    GTEST_SKIP() << "needs the packages systemd-boot-efi and binutils";
  }
  const Answer answer = ask(image, "--platform tdx");
  EXPECT_EQ(answer.exit_code, 1) << answer.errors << answer.object;
  EXPECT_THAT(answer.subjects(), Contains("boot (tdx, handshake)"));
  EXPECT_THAT(answer.object["boot"]["disagreements"].dump(), HasSubstr("does not see"));
}

TEST_F(InspectBoot, ASilentImageShowsWhatTheEmulatorCounts) {
  ACCEDE_CACHED_KERNEL(kernel, "6.12");
  const fs::path image = scratch_ / "uki.efi";
  if (!make_unified(kernel, std::string{"console=ttyS1"} + kQuiet, image)) {
    GTEST_SKIP() << "needs the packages systemd-boot-efi and binutils";
  }
  const Answer answer = ask(image, "--platform tdx");
  EXPECT_EQ(answer.exit_code, 0) << answer.errors << answer.object;
  EXPECT_THAT(answer.words("tags"), Contains("TDX_CAPABLE"));
  EXPECT_THAT(answer.words("tags"), Contains("UNACCEPTED_MEMORY"));
}

TEST_F(InspectBoot, ADiskBootsItselfAndIsNotWritten) {
  ACCEDE_CACHED_KERNEL(kernel, "6.12");
  const fs::path disk = scratch_ / "disk";
  if (!make_unified(kernel, std::string{"console=ttyS0"} + kQuiet, scratch_ / "uki.efi") ||
      !make_disk(scratch_ / "uki.efi", disk)) {
    GTEST_SKIP() << "needs the packages systemd-boot-efi, binutils, mtools and fdisk";
  }
  const std::string before = read_text(disk);
  fs::permissions(disk, fs::perms::owner_read);
  const Answer answer = ask(disk, "--require TDX_CAPABLE,SEV_SNP_CAPABLE,KERNEL_6_12");
  ASSERT_EQ(answer.exit_code, 0) << answer.errors << answer.object;
  EXPECT_EQ(answer.object["kind"], "disk");
  EXPECT_EQ(answer.object["tags"], Json::array()) << "nobody looked into it";
  EXPECT_THAT(answer.words("tags"), Contains("UNACCEPTED_MEMORY"));
  EXPECT_TRUE(before == read_text(disk));
}

TEST_F(InspectBoot, ADiskThatBootsNothingIsABadFile) {
  const fs::path disk = scratch_ / "disk";
  if (!make_disk({}, disk)) {
    GTEST_SKIP() << "needs the packages mtools and fdisk";
  }
  const Answer answer = ask(disk, "--platform tdx");
  EXPECT_EQ(answer.exit_code, 2) << answer.errors;
  EXPECT_THAT(answer.object["boot"]["problem"].get<std::string>(),
              HasSubstr("no volume of the disk has an EFI\\BOOT\\BOOTX64.EFI"));
}

TEST_F(InspectBoot, WhatCannotBeBootedIsStillInspected) {
  const fs::path firmware = "/usr/share/ovmf/OVMF.fd";
  if (!fs::exists(firmware)) {
    GTEST_SKIP() << "no firmware; the package is ovmf";
  }
  const Answer answer = ask(firmware);
  EXPECT_EQ(answer.exit_code, 0) << answer.errors;
  EXPECT_EQ(answer.object["boot"]["problem"], "firmware is not started");
  EXPECT_EQ(answer.object["boot"]["runs"], Json::array());
}

}  // namespace
}  // namespace accede::test
