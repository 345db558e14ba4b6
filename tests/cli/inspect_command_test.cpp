#include "accede/cli/command.hpp"
#include "accede/cli/failure.hpp"
#include "tests/inspect/made_up.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

namespace fs = std::filesystem;
using inspect::test::ByteVector;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

struct Answer {
  int exit_code;
  std::string out;
  std::string err;

  /// Its lines, each an object.
  [[nodiscard]] std::vector<json> objects() const {
    std::vector<json> all;
    std::istringstream text{out};
    for (std::string line; std::getline(text, line);) {
      all.push_back(json::parse(line));
    }
    return all;
  }
};

class InspectCommand : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::path{testing::TempDir()} /
                 ("inspect-" + std::to_string(getpid()) + "-" +
                  testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string write(const std::string& name, const ByteVector& bytes) const {
    const fs::path path = directory_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream{path, std::ios::binary}.write(reinterpret_cast<const char*>(bytes.data()),
                                                static_cast<std::streamsize>(bytes.size()));
    return path.string();
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return (directory_ / name).string();
  }
  [[nodiscard]] std::string new_kernel() const { return write("new", inspect::test::bzimage({})); }
  [[nodiscard]] std::string old_kernel() const {
    return write("old", inspect::test::bzimage(inspect::test::old_features()));
  }

  static Answer ask(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"accede", "inspect"});
    std::vector<const char*> words;
    for (const std::string& argument : arguments) {
      words.push_back(argument.c_str());
    }
    std::ostringstream out;
    std::ostringstream err;
    const int code = run_command(static_cast<int>(words.size()), words.data(), out, err);
    return {.exit_code = code, .out = out.str(), .err = err.str()};
  }

 private:
  fs::path directory_;
};

std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream{path, std::ios::binary}.rdbuf();
  return text.str();
}

std::set<std::string> lines_of(const std::string& text) {
  std::set<std::string> lines;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);) {
    lines.insert(line);
  }
  return lines;
}

TEST_F(InspectCommand, ConcurrentJobsKeepTheOrderOfTheFiles) {
  std::vector<std::string> files;
  for (int i = 0; i < 8; ++i) {
    files.insert(files.end(), {new_kernel(), old_kernel()});
  }
  std::vector<std::string> arguments{"--json", "--jobs", "4"};
  arguments.insert(arguments.end(), files.begin(), files.end());
  const Answer answer = ask(arguments);
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_THAT(answer.err, IsEmpty());
  const auto objects = answer.objects();
  ASSERT_EQ(objects.size(), files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(objects[i]["file"], files[i]);
  }
}

TEST_F(InspectCommand, TheObjectIsThatOfTheContract) {
  const json object = ask({"--json", new_kernel()}).objects().at(0);
  EXPECT_EQ(object["kind"], "bzImage");
  EXPECT_EQ(object["version"], "6.12.1-made-up");
  EXPECT_THAT(object["uts_words"].get<std::vector<std::string>>(),
              ElementsAre("SMP", "PREEMPT_RT"));
  EXPECT_THAT(object["xloadflags"].get<std::vector<std::string>>(),
              ElementsAre("KERNEL_64", "ABOVE_4G", "EFI_KEXEC"));
  const json& accepts = object["capabilities"]["unaccepted_memory"];
  EXPECT_EQ(accepts["value"], true);
  EXPECT_EQ(accepts["confidence"], "certain");
  EXPECT_TRUE(accepts["evidence"][0]["offset"].is_number());
  EXPECT_TRUE(accepts["evidence"][0]["signal"].is_string());
  EXPECT_EQ(object["wrong_claims"], json::array());
  EXPECT_EQ(object["verdict"]["never"], "safe with lazy firmware");
}

TEST_F(InspectCommand, WhatIsNotKnownIsNull) {
  const auto file = write("vmlinux", inspect::test::vmlinux({.config = "CONFIG_KEXEC_CORE=y\n"}));
  const json object = ask({"--json", file}).objects().at(0);
  EXPECT_EQ(object["capabilities"]["tdx_guest"]["value"], nullptr);
  EXPECT_EQ(object["capabilities"]["tdx_guest"]["confidence"], nullptr);
}

TEST_F(InspectCommand, PrintsTextForPeople) {
  const Answer answer = ask({old_kernel()});
  EXPECT_THAT(answer.out, StartsWith(old_kernel() + ": bzImage, 6.1.1-made-up\n"));
  EXPECT_THAT(answer.out, HasSubstr("needs accept-all"));
  EXPECT_THAT(answer.out, HasSubstr("tdx_guest"));
}

TEST_F(InspectCommand, TextDoesNotDriveTheTerminal) {
  const auto file = write("x\x1B[31m", inspect::test::bzimage({}));
  EXPECT_THAT(ask({file}).out, Not(HasSubstr("\x1B")));
}

TEST_F(InspectCommand, ABadFileIsAnErrorAndTheOthersAreInspected) {
  const auto bad = write("bad", inspect::test::bytes_of("text"));
  const Answer answer = ask({"--json", bad, new_kernel(), path("new")});
  EXPECT_EQ(answer.exit_code, kExitUsage);
  EXPECT_EQ(answer.err, "accede inspect: " + bad + " is neither a kernel nor a firmware image\n");
  ASSERT_EQ(answer.objects().size(), 3U);
  EXPECT_EQ(answer.objects()[0]["error"], "is neither a kernel nor a firmware image");
  EXPECT_FALSE(answer.objects()[1].contains("error"));
}

TEST_F(InspectCommand, AFileThatIsNotThereIsAnErrorOfItsOwn) {
  const Answer answer = ask({"--json", path("absent"), new_kernel()});
  EXPECT_EQ(answer.exit_code, kExitUsage);
  EXPECT_EQ(answer.err,
            "accede inspect: " + path("absent") + " cannot be read: No such file or directory\n");
  EXPECT_EQ(answer.objects().size(), 2U);
}

TEST_F(InspectCommand, DirectoriesAreSearchedForImages) {
  write("images/b", inspect::test::bzimage({}));
  write("images/a/a", inspect::test::flash({}));
  write("images/readme", inspect::test::bytes_of("text"));
  const Answer answer = ask({"--json", path("images")});
  EXPECT_EQ(answer.exit_code, kExitDone);
  ASSERT_EQ(answer.objects().size(), 2U);
  EXPECT_EQ(answer.objects()[0]["file"], path("images/a/a"));
  EXPECT_EQ(answer.objects()[1]["file"], path("images/b"));
}

TEST_F(InspectCommand, ADamagedImageInADirectoryIsReported) {
  auto kernel = inspect::test::bzimage({});
  kernel.resize(kernel.size() / 2);
  write("images/half", kernel);
  const Answer answer = ask({path("images")});
  EXPECT_EQ(answer.exit_code, kExitUsage);
  EXPECT_THAT(answer.err, HasSubstr("is no sound bzImage"));
}

TEST_F(InspectCommand, WrongClaimsAreListed) {
  const auto arm = write("arm", inspect::test::zboot({}));
  const Answer answer = ask({"--json", "--claimed", "SEV_CAPABLE,GVNIC,ARM64", arm});
  EXPECT_EQ(answer.exit_code, kExitDone);
  const json object = answer.objects().at(0);
  EXPECT_THAT(object["wrong_claims"].get<std::vector<std::string>>(), ElementsAre("SEV_CAPABLE"));
  EXPECT_THAT(object["unproven_claims"].get<std::vector<std::string>>(), ElementsAre("GVNIC"));
  EXPECT_THAT(ask({"--claimed", "SEV_CAPABLE", arm}).out,
              HasSubstr("wrong claims          SEV_CAPABLE\n"));
}

TEST_F(InspectCommand, AMissingTagFailsTheRequirement) {
  EXPECT_EQ(ask({"--require", "TDX_CAPABLE", new_kernel()}).exit_code, kExitDone);
  const Answer answer = ask({"--require", "TDX_CAPABLE,X86_64", new_kernel(), old_kernel()});
  EXPECT_EQ(answer.exit_code, kExitTestedFailed);
  EXPECT_EQ(answer.err, "accede inspect: " + old_kernel() + " is not known to be TDX_CAPABLE\n");
}

TEST_F(InspectCommand, ACatalogueIsNotInspectedTwice) {
  const auto catalogue = path("catalogue");
  const Answer first = ask({"--json", "--resume", catalogue, new_kernel()});
  EXPECT_EQ(read_text(catalogue), first.out);
  const Answer second = ask({"--json", "--resume", catalogue, path("new"), old_kernel()});
  ASSERT_EQ(second.objects().size(), 1U);
  EXPECT_EQ(second.objects()[0]["file"], old_kernel());
  EXPECT_EQ(read_text(catalogue), first.out + second.out);
}

TEST_F(InspectCommand, AFileThatChangedIsInspectedAgain) {
  const auto catalogue = path("catalogue");
  const auto file = write("kernel", inspect::test::bzimage({}));
  EXPECT_EQ(ask({"--json", "--resume", catalogue, file}).objects().size(), 1U);
  write("kernel", inspect::test::vmlinux({}));
  EXPECT_EQ(ask({"--json", "--resume", catalogue, file}).objects().size(), 1U);
  EXPECT_EQ(ask({"--json", "--resume", catalogue, file}).objects().size(), 0U);
}

TEST_F(InspectCommand, ALineThatWasCutOffIsWrittenAgain) {
  const auto catalogue = path("catalogue");
  const Answer whole = ask({"--json", "--resume", catalogue, new_kernel(), old_kernel()});
  fs::resize_file(catalogue, read_text(catalogue).size() - 10);
  const Answer again = ask({"--json", "--resume", catalogue, path("new"), path("old")});
  EXPECT_EQ(again.objects().size(), 1U);
  EXPECT_EQ(read_text(catalogue), whole.out);
}

TEST_F(InspectCommand, WhatACatalogueKnowsCountsForRequirementsAndErrors) {
  const auto catalogue = path("catalogue");
  const auto bad = write("bad", inspect::test::bytes_of("text"));
  EXPECT_EQ(ask({"--resume", catalogue, old_kernel()}).exit_code, kExitDone);
  EXPECT_EQ(ask({"--resume", catalogue, "--require", "TDX_CAPABLE", path("old")}).exit_code,
            kExitTestedFailed);
  EXPECT_EQ(ask({"--resume", catalogue, bad}).exit_code, kExitUsage);
  EXPECT_EQ(ask({"--resume", catalogue, bad}).exit_code, kExitUsage);
}

TEST_F(InspectCommand, WhatACatalogueKnowsOfBootsCounts) {
  const auto catalogue = path("catalogue");
  ask({"--resume", catalogue, new_kernel()});
  json line = json::parse(read_text(catalogue));
  line["boot"] = {
      {"tags", {"EXTRA"}}, {"refuted", {"TDX_CAPABLE"}}, {"disagreements", json::array()}};
  std::ofstream{catalogue} << line << "\n";
  const auto code = [&](const char* tag) {
    return ask({"--resume", catalogue, "--require", tag, path("new")}).exit_code;
  };
  EXPECT_EQ(code("EXTRA"), kExitDone);
  EXPECT_EQ(code("TDX_CAPABLE"), kExitTestedFailed);
  line["boot"]["exit_code"] = 1;
  std::ofstream{catalogue} << line << "\n";
  EXPECT_EQ(code("EXTRA"), kExitTestedFailed);
}

TEST_F(InspectCommand, ADiskIsRecognisedWhateverItsSize) {
  ByteVector disk(512);
  disk[446 + 4] = std::byte{0x0C};
  disk[446 + 9] = std::byte{8};
  disk[510] = std::byte{0x55};
  disk[511] = std::byte{0xAA};
  const auto file = write("disk", disk);
  fs::resize_file(file, std::uintmax_t{20} << 30);
  const Answer answer = ask({"--json", file});
  EXPECT_EQ(answer.exit_code, kExitDone) << answer.err;
  const json object = answer.objects().at(0);
  EXPECT_EQ(object["kind"], "disk");
  EXPECT_EQ(object["tags"], json::array());
  EXPECT_EQ(object["capabilities"], json::object());
  EXPECT_EQ(object["notes"][0], "raw disk of 21474836480 bytes, MBR");
}

TEST_F(InspectCommand, ADiskThatNeedsAnotherFileIsAnError) {
  ByteVector disk = inspect::test::bytes_of("QFI\xFB");
  disk.resize(4096);
  disk[7] = std::byte{3};
  disk[15] = std::byte{1};
  const Answer answer = ask({write("disk", disk)});
  EXPECT_EQ(answer.exit_code, kExitUsage);
  EXPECT_THAT(answer.err, HasSubstr("is a qcow2 image that needs another file"));
}

/// Each machine has a part of the images and a catalogue of its own; their lines put together are
/// the catalogue of one that did everything.
TEST_F(InspectCommand, CataloguesOfSeveralMachinesMerge) {
  write("images/1", inspect::test::bzimage({}));
  write("images/2", inspect::test::vmlinux({}));
  write("images/3", inspect::test::zboot({}));
  write("images/4", inspect::test::flash({}));
  const Answer all = ask({"--json", path("images")});
  ask({"--json", "--resume", path("one"), path("images/1"), path("images/3")});
  ask({"--json", "--resume", path("two"), path("images/2"), path("images/4"), path("images/1")});
  const std::string merged = read_text(path("one")) + read_text(path("two"));
  EXPECT_EQ(lines_of(merged), lines_of(all.out));
  std::ofstream{path("merged")} << merged;
  EXPECT_THAT(ask({"--json", "--resume", path("merged"), path("images")}).out, IsEmpty());
}

TEST_F(InspectCommand, UsageErrorsAreOneLineOnStandardError) {
  const std::string kernel = new_kernel();
  const auto not_a_catalogue = write("text", inspect::test::bytes_of("no JSON\n"));
  for (const std::vector<std::string>& arguments : {
           std::vector<std::string>{},
           {path("absent")},
           {"--bogus", kernel},
           {"--platform", "tdx", kernel},
           {"--timeout", "10", kernel},
           {"--boot", "--platform", "none", kernel},
           {"--boot", "--timeout", "0", kernel},
           {"--jobs", "0", kernel},
           {"--jobs", "many", kernel},
           {"--claimed", "tdx", kernel},
           {"--require", "", kernel},
           {"--claimed", "TDX_CAPABLE", "--resume", path("catalogue"), kernel},
           {"--resume", not_a_catalogue, kernel},
           {"--resume", path("absent/catalogue"), kernel},
       }) {
    const Answer answer = ask(arguments);
    EXPECT_EQ(answer.exit_code, kExitUsage) << answer.err;
    EXPECT_EQ(std::ranges::count(answer.err, '\n'), 1) << answer.err;
    EXPECT_THAT(answer.err, StartsWith("accede inspect: "));
    EXPECT_THAT(answer.out, IsEmpty());
  }
}

TEST_F(InspectCommand, ACatalogueThatIsNoneIsNotTouched) {
  const auto text = write("text", inspect::test::bytes_of("precious"));
  EXPECT_EQ(ask({"--resume", text, new_kernel()}).exit_code, kExitUsage);
  EXPECT_EQ(read_text(text), "precious");
}

}  // namespace
}  // namespace accede::cli
