// What `accede tdmr` refuses: one line, exit code 2, nothing on standard output.
#include "accede/cli/tdmr_options.hpp"
#include "accede/cli/failure.hpp"
#include "tests/cli/tdmr_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace accede::cli::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

void expect_refused(const TdmrRun& run, const std::string& words) {
  EXPECT_EQ(run.exit_code, kExitUsage);
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err, HasSubstr(words));
  EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
}

TEST_F(TdmrCommandTest, NeedsCmrsAndAMap) {
  expect_refused(run_tdmr({"--memory", path("memory")}), "--cmr FILE and --memory FILE are needed");
  expect_refused(run_tdmr({"--cmr", path("cmrs")}), "--cmr FILE and --memory FILE are needed");
}

TEST_F(TdmrCommandTest, FilesThatCannotBeReadAreNamed) {
  const std::string here = path(".");
  const std::string gone = path("gone");
  const std::string empty = file("empty", "");
  for (const char* const option : {"--cmr", "--memory", "--srat"}) {
    SCOPED_TRACE(option);
    const auto with = [&](const std::string& name) {
      return run_tdmr(option == std::string{"--cmr"}
                          ? std::vector<std::string>{"--cmr", name, "--memory", path("memory")}
                      : option == std::string{"--memory"}
                          ? std::vector<std::string>{"--cmr", path("cmrs"), "--memory", name}
                          : std::vector<std::string>{"--cmr", path("cmrs"), "--memory",
                                                     path("memory"), "--srat", name});
    };
    expect_refused(with(here), option + std::string{" "} + here + ": is a directory");
    expect_refused(with(gone), option + std::string{" "} + gone + ": No such file or directory");
    expect_refused(with("/dev/null"), "is not a regular file");
    expect_refused(with(empty), option + std::string{" "} + empty + ": ");
  }
}

TEST_F(TdmrCommandTest, AFileThatIsTooLargeIsRefused) {
  const std::string large = file("large", "");
  std::filesystem::resize_file(large, (16U << 20) + 1);
  expect_refused(run_tdmr({"--cmr", large, "--memory", path("memory")}), "is larger than 16 MiB");
}

TEST_F(TdmrCommandTest, ALineThatIsWrongIsNamedByItsNumber) {
  file("memory", "00001000-0009ffff : System RAM\nmoon\n");
  expect_refused(plan(), "memory: line 2: no line of /proc/iomem");
}

TEST_F(TdmrCommandTest, AMapOfMoreRangesThanThePlannerTakesIsRefused) {
  std::ostringstream map;
  for (std::uint64_t i = 0; i <= host::kMostMemoryRanges; ++i) {
    const std::uint64_t first = (1ULL << 32) + i * 8192;
    map << std::hex << first << "-" << first + 4095 << " : System RAM\n";
  }
  file("memory", map.str());
  expect_refused(plan(), "8192 at most");
}

TEST_F(TdmrCommandTest, WhatAnErrorQuotesIsPrintable) {
  expect_refused(plan({"--memmap", "1G\x1b[31m"}), "is no memmap option");
  EXPECT_THAT(plan({"--memmap", "1G\x1b[31m"}).err, Not(HasSubstr("\x1b")));
  EXPECT_THAT(plan({"--policy", "\x1b[31m"}).err, Not(HasSubstr("\x1b")));
  EXPECT_THAT(plan({"--hot-add", "\x1b[31m"}).err, Not(HasSubstr("\x1b")));
}

TEST_F(TdmrCommandTest, CmrsThatTheModuleWouldNotReportAreRefused) {
  for (const char* const cmrs :
       {R"([{"base":"0x100000000","size":4096},{"base":"0x100000","size":4096}])",
        R"([{"base":"0x100000","size":8192},{"base":"0x101000","size":4096}])",
        R"([{"base":"0x100001","size":4096}])"}) {
    file("cmrs", cmrs);
    expect_refused(plan(), "accede tdmr: ");
  }
}

TEST_F(TdmrCommandTest, MemoryBeyondTheWidthOfAddressesIsRefused) {
  expect_refused(plan({"--physical-bits", "42", "--key-bits", "6"}), "");
  EXPECT_EQ(plan({"--physical-bits", "46", "--key-bits", "6"}).exit_code, kExitDone);
}

TEST_F(TdmrCommandTest, WidthsAreNumbersOfBits) {
  for (const char* const text : {"", "x", "35", "53", "46x", "-1"}) {
    expect_refused(plan({std::string{"--physical-bits="} + text}), "--physical-bits");
  }
  expect_refused(plan({"--key-bits", "16"}), "--key-bits '16': a number from 0 to 15");
  expect_refused(plan({"--physical-bits", "36", "--key-bits", "6"}), "leave no memory");
}

TEST_F(TdmrCommandTest, RangesAreChecked) {
  for (const char* const text : {"x", "4G", "4G+", "4G+0", "4G-3G", "0x2000-0x1fff", "4G+1Gx",
                                 "0xffffffffffffffff+1", "0x0-0xffffffffffffffff"}) {
    expect_refused(plan({"--hot-add", text}), "--hot-add '" + std::string{text} + "': a range is");
    expect_refused(plan({"--policy", "exclude=" + std::string{text}}), "a range is");
  }
  expect_refused(plan({"--hot-add", "0x400000000000+4K"}), "ends beyond the 46 bits");
}

TEST_F(TdmrCommandTest, PoliciesThatContradictAreRefused) {
  for (const auto& [first, second] :
       std::vector<std::pair<std::string, std::string>>{{"every-page", "best-effort"},
                                                        {"cmr-holes", "map-holes"},
                                                        {"least-pamt", "fewest-areas"},
                                                        {"pmem", "no-pmem"},
                                                        {"cxl", "no-cxl"}}) {
    const std::string words = first + " and " + second + " contradict each other";
    expect_refused(plan({"--policy", first + "," + second}), words);
    expect_refused(plan({"--policy", first, "--policy", second}), words);
  }
  EXPECT_EQ(plan({"--policy", "no-cxl,no-cxl"}).exit_code, kExitDone);
}

TEST_F(TdmrCommandTest, AnUnknownPolicyIsRefused) {
  expect_refused(plan({"--policy", "no-cxl,moon"}), "--policy 'moon' is unknown");
}

TEST_F(TdmrCommandTest, APictureThatCannotBeWrittenIsAnError) {
  expect_refused(plan({"--svg", path("gone/layout.svg")}), "--svg: cannot write ");
  expect_refused(plan({"--svg", path(".")}), "Is a directory");
}

TEST(TdmrPolicy, TheHelpCallsTheDefaultsOfThePlannerDefaults) {
  const host::TdmrPolicy policy;
  const auto is_default = [](const std::string& word) {
    const std::string words = policy_words();
    const auto at = words.find("\n  " + word + " ");
    const std::string line = words.substr(at + 1, words.find('\n', at + 1) - at - 1);
    return line.find("(default") != std::string::npos;
  };
  EXPECT_EQ(is_default("best-effort"), policy.promise == host::TdmrPromise::kBestEffort);
  EXPECT_EQ(is_default("cmr-holes"), policy.holes == host::TdmrHoles::kOfCmrs);
  EXPECT_EQ(is_default("map-holes"), policy.holes == host::TdmrHoles::kOfMemoryMap);
  EXPECT_EQ(is_default("least-pamt"), policy.goal == host::TdmrGoal::kPamt);
  EXPECT_EQ(is_default("fewest-areas"), policy.goal == host::TdmrGoal::kReservedAreas);
  EXPECT_EQ(is_default("pmem"), policy.pmem == host::MemoryUse::kInclude);
  EXPECT_EQ(is_default("no-pmem"), policy.pmem == host::MemoryUse::kExclude);
  EXPECT_EQ(is_default("cxl"), policy.cxl == host::MemoryUse::kInclude);
  EXPECT_EQ(is_default("no-cxl"), policy.cxl == host::MemoryUse::kExclude);
}

}  // namespace
}  // namespace accede::cli::test
