// What `accede tdmr` says, and how it ends.
#include "accede/cli/failure.hpp"
#include "tests/cli/tdmr_fixture.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace accede::cli::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

TEST_F(TdmrCommandTest, PrintsAPlanForAPerson) {
  const TdmrRun run = plan();
  EXPECT_EQ(run.exit_code, kExitDone);
  EXPECT_THAT(run.err, IsEmpty());
  EXPECT_THAT(run.out, StartsWith("A plan: "));
  EXPECT_THAT(run.out, AllOf(HasSubstr("TDMR 0  0x0-"), HasSubstr("PAMT 4K  0x"),
                             HasSubstr("not convertible"), HasSubstr("numactl --membind=0"),
                             HasSubstr("Linux (one TDMR for each region of RAM)")));
}

TEST_F(TdmrCommandTest, SaysWhenNoNodeIsKnown) {
  constexpr const char* kWords = "No node is known (--srat): all memory counts as node 0.";
  EXPECT_THAT(plan().out, HasSubstr(kWords));
  file("memory", R"([{"base":"0x100000000","size":"0xf80000000","node":3}])");
  EXPECT_THAT(plan().out, AllOf(Not(HasSubstr(kWords)), HasSubstr("numactl --membind=3")));
}

TEST_F(TdmrCommandTest, TheExampleIsAnsweredWithEveryNode) {
  const std::string examples = ACCEDE_EXAMPLES;
  const TdmrRun run =
      run_tdmr({"--cmr", examples + "/cmrs.json", "--memory", examples + "/iomem.txt", "--srat",
                examples + "/srat.bin", "--policy", "no-cxl", "--json"});
  EXPECT_EQ(run.exit_code, kExitDone);
  const json document = run.json();
  EXPECT_EQ(document["nodes_known"], true);
  ASSERT_EQ(document["nodes"].size(), 2U);
  EXPECT_EQ(document["nodes"][1]["node"], 1U);
  EXPECT_EQ(document["tdmrs"].back()["node"], 1U);
}

TEST_F(TdmrCommandTest, TheJsonKeepsTheContract) {
  const TdmrRun run = plan({"--json"});
  EXPECT_EQ(run.exit_code, kExitDone);
  const json document = run.json();
  ASSERT_TRUE(document.is_object()) << run.out;
  EXPECT_TRUE(document["problems"].empty());
  ASSERT_FALSE(document["tdmrs"].empty());
  std::uint64_t pamt = 0;
  for (const json& tdmr : document["tdmrs"]) {
    constexpr std::uint64_t kGiB = 1ULL << 30;
    EXPECT_EQ(tdmr["base"].get<std::uint64_t>() % kGiB, 0U);
    EXPECT_EQ(tdmr["size"].get<std::uint64_t>() % kGiB, 0U);
    EXPECT_EQ(tdmr["node"], 0U);
    std::uint64_t last = 0;
    for (const json& area : tdmr["reserved"]) {
      ASSERT_EQ(area.size(), 2U);
      EXPECT_GE(area[0].get<std::uint64_t>(), last);
      last = area[0].get<std::uint64_t>() + area[1].get<std::uint64_t>();
      EXPECT_LE(last, tdmr["size"].get<std::uint64_t>());
    }
    EXPECT_EQ(tdmr["reserved"].size(), tdmr["reserved_because"].size());
    for (const char* const size : {"4k", "2m", "1g"}) {
      pamt += tdmr["pamt"][size]["size"].get<std::uint64_t>();
    }
  }
  EXPECT_EQ(document["pamt_bytes"], pamt);
}

TEST_F(TdmrCommandTest, RamOutsideEveryCmrIsAProblemAndFails) {
  const std::string memory = std::string{kOneSocketIomem} + "1100000000-117fffffff : System RAM\n";
  file("memory", memory);
  const TdmrRun run = plan();
  EXPECT_EQ(run.exit_code, kExitTestedFailed);
  EXPECT_THAT(run.out, StartsWith("No plan that makes all RAM TD memory"));
  EXPECT_THAT(run.out, HasSubstr("RAM at 0x1100000000-0x117fffffff (2 GiB) is in no CMR"));
  EXPECT_THAT(run.out, HasSubstr("memmap=0x80000000$0x1100000000"));
  const json document = plan({"--json"}).json();
  EXPECT_FALSE(document["feasible"]);
  EXPECT_EQ(document["problems"][0]["kind"], "not-convertible");
  EXPECT_EQ(document["problems"][0]["base"], 0x1100000000U);
}

TEST_F(TdmrCommandTest, TheSmallestChangeMakesAPlan) {
  file("memory", std::string{kOneSocketIomem} + "1100000000-117fffffff : System RAM\n");
  EXPECT_EQ(plan({"--memmap", "0x80000000$0x1100000000"}).exit_code, kExitDone);
}

TEST_F(TdmrCommandTest, BestEffortPlansWithoutRamThatIsInNoCmr) {
  file("memory", std::string{kOneSocketIomem} + "1100000000-117fffffff : System RAM\n");
  const TdmrRun run = plan({"--policy", "best-effort", "--json"});
  EXPECT_EQ(run.exit_code, kExitDone);
  EXPECT_EQ(run.json()["not_convertible"][0]["size"], 0x80000000U);
}

TEST_F(TdmrCommandTest, WithoutRamInACmrThereIsNoPlanAtAll) {
  file("memory", "8000000000-80ffffffff : System RAM\n");
  const TdmrRun run = plan();
  EXPECT_EQ(run.exit_code, kExitTestedFailed);
  EXPECT_THAT(run.out, StartsWith("No plan.\n"));
}

TEST_F(TdmrCommandTest, HolesOfTheMapTakeReservedAreasOnRequest) {
  const auto areas = [&](const char* policy) {
    return plan({"--policy", policy, "--json"}).json()["reserved_areas"].get<std::size_t>();
  };
  EXPECT_GT(areas("map-holes"), areas("cmr-holes"));
}

TEST_F(TdmrCommandTest, AnExcludedRangeIsNeverTdMemory) {
  const auto td_memory = [&](std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    return plan(std::move(arguments)).json()["nodes"][0]["td_memory_bytes"].get<std::uint64_t>();
  };
  const std::uint64_t all = td_memory({});
  const std::uint64_t without =
      td_memory({"--policy", "best-effort,exclude=8G+1G,exclude=0x200000000-0x23fffffff"});
  EXPECT_NEAR(static_cast<double>(all - without), static_cast<double>(1ULL << 30), 64 << 20);
}

TEST_F(TdmrCommandTest, DynamicPamtCostsLess) {
  const auto pamt = [&](std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    return plan(std::move(arguments)).json()["pamt_bytes"].get<std::uint64_t>();
  };
  EXPECT_LT(pamt({"--policy", "dynamic-pamt"}) * 10, pamt({}));
}

TEST_F(TdmrCommandTest, PersistentMemoryCountsOnlyWhenItIsAskedFor) {
  file("memory", std::string{kOneSocketIomem} +
                     "1080000000-10ffffffff : Persistent Memory\n"
                     "  1080000000-10ffffffff : dax0.0\n"
                     "    1080000000-10ffffffff : System RAM (kmem)\n");
  EXPECT_EQ(plan().exit_code, kExitDone);
  EXPECT_EQ(plan({"--policy", "pmem"}).exit_code, kExitTestedFailed);
}

TEST_F(TdmrCommandTest, MemoryOfCxlDevicesCountsUnlessItIsLeftOut) {
  file("memory", std::string{kOneSocketIomem} +
                     "1080000000-10ffffffff : CXL Window 0\n"
                     "  1080000000-10ffffffff : System RAM (kmem)\n");
  EXPECT_EQ(plan().exit_code, kExitTestedFailed);
  EXPECT_EQ(plan({"--policy", "no-cxl"}).exit_code, kExitDone);
}

TEST_F(TdmrCommandTest, MemoryThatIsAddedLaterIsJudged) {
  const auto outcome = [&](const char* policy) {
    return plan({"--policy", policy, "--hot-add", "0x2000000000+64G", "--hot-add", "8G+1G",
                 "--json"})
        .json()["hot_add"];
  };
  const json promised = outcome("every-page");
  EXPECT_EQ(promised[0]["outcome"], "refused");
  EXPECT_EQ(promised[0]["first_bad"], "0x2000000000");
  EXPECT_EQ(promised[1]["outcome"], "usable");
  EXPECT_FALSE(promised[1].contains("aug_status"));
  const json after_the_fact = outcome("best-effort");
  EXPECT_EQ(after_the_fact[0]["outcome"], "kills-td");
  EXPECT_THAT(after_the_fact[0]["aug_status"].get<std::string>(), StartsWith("0xc0000101"));
  EXPECT_THAT(plan({"--policy", "best-effort", "--hot-add", "128G+64G"}).out,
              AllOf(HasSubstr("kills a TD that is given one of its pages"),
                    HasSubstr("OPERAND_ADDR_RANGE_ERROR")));
}

TEST_F(TdmrCommandTest, ReadsFilesWhoseSizeTheKernelDoesNotKnow) {
  // What it says depends on the machine and on who asks.
  const TdmrRun run = run_tdmr({"--cmr", path("cmrs"), "--memory", "/proc/iomem"});
  EXPECT_THAT(run.err, Not(HasSubstr("is empty")));
}

/// Whether a document is well-formed, as far as our pictures go: elements nest, attributes are
/// quoted, text has no bare sign of markup.
bool well_formed(std::string_view xml) {
  std::vector<std::string> open;
  bool root_seen = false;
  while (!xml.empty()) {
    const auto tag = xml.find('<');
    const std::string_view text = xml.substr(0, tag);
    if (text.find_first_of("&>") != std::string_view::npos ||
        (open.empty() && text.find_first_not_of("\n") != std::string_view::npos)) {
      return false;
    }
    if (tag == std::string_view::npos) {
      break;
    }
    const auto end = xml.find('>', tag);
    if (end == std::string_view::npos) {
      return false;
    }
    std::string_view inside = xml.substr(tag + 1, end - tag - 1);
    xml.remove_prefix(end + 1);
    if (inside.starts_with("?") && inside.ends_with("?")) {
      continue;
    }
    if (inside.starts_with("/")) {
      if (open.empty() || open.back() != inside.substr(1)) {
        return false;
      }
      open.pop_back();
      continue;
    }
    if (inside.find('<') != std::string_view::npos ||
        std::ranges::count(inside, '"') != 2 * std::ranges::count(inside, '=') ||
        (open.empty() && root_seen)) {
      return false;
    }
    root_seen = true;
    if (!inside.ends_with("/")) {
      open.emplace_back(inside.substr(0, inside.find(' ')));
    }
  }
  return root_seen && open.empty();
}

TEST_F(TdmrCommandTest, ThePictureIsWellFormedAndShowsEveryTdmr) {
  const std::string svg = path("layout.svg");
  const json document = plan({"--svg", svg, "--json"}).json();
  std::ifstream in{svg};
  const std::string picture{std::istreambuf_iterator<char>{in}, {}};
  EXPECT_TRUE(well_formed(picture)) << picture;
  EXPECT_FALSE(well_formed(picture.substr(0, picture.size() - 3)));
  for (std::size_t i = 0; i < document["tdmrs"].size(); ++i) {
    EXPECT_THAT(picture, HasSubstr("TDMR " + std::to_string(i) + ": "));
  }
}

// The memory of an Emerald Rapids host as it was reported, in the form of its kernel's log.
TEST_F(TdmrCommandTest, Regression_CanonicalTdx135_AHostThatLinuxCannotInitializeHasAPlan) {
  file("cmrs",
       "[   10.444059] virt/tdx: CMR: [0x100000, 0x6f800000)\n"
       "[   10.444061] virt/tdx: CMR: [0x100000000, 0x107a000000)\n"
       "[   10.444061] virt/tdx: CMR: [0x1080000000, 0x207c000000)\n"
       "[   10.444062] virt/tdx: CMR: [0x2080000000, 0x307c000000)\n"
       "[   10.444063] virt/tdx: CMR: [0x3080000000, 0x407c000000)\n");
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> usable{{0x0, 0x9efff},
                                                                    {0x100000, 0x5d168fff},
                                                                    {0x5d22b000, 0x5d3cefff},
                                                                    {0x5d46a000, 0x5e5b2fff},
                                                                    {0x5e5c3000, 0x5e5d2fff},
                                                                    {0x5e5e5000, 0x5eb57fff},
                                                                    {0x61358000, 0x6172afff},
                                                                    {0x61795000, 0x617fefff},
                                                                    {0x61913000, 0x61998fff},
                                                                    {0x619e0000, 0x619e1fff},
                                                                    {0x619ea000, 0x61a26fff},
                                                                    {0x61baf000, 0x623c2fff},
                                                                    {0x62472000, 0x62823fff},
                                                                    {0x63a25000, 0x63d57fff},
                                                                    {0x64158000, 0x64158fff},
                                                                    {0x64195000, 0x6e9cefff},
                                                                    {0x6f7ff000, 0x6f7fffff},
                                                                    {0x100000000, 0x1079ffffff},
                                                                    {0x1080000000, 0x207bffffff},
                                                                    {0x2080000000, 0x307bffffff},
                                                                    {0x3080000000, 0x407bffffff}};
  std::ostringstream log;
  for (std::size_t i = 0; i < usable.size(); ++i) {
    log << std::hex << "[    0.000000] BIOS-e820: [mem 0x" << usable[i].first << "-0x"
        << usable[i].second << "] usable\n";
    if (i + 1 < usable.size() && usable[i].second + 1 < usable[i + 1].first) {
      log << "[    0.000000] BIOS-e820: [mem 0x" << usable[i].second + 1 << "-0x"
          << usable[i + 1].first - 1 << "] reserved\n";
    }
  }
  file("memory", log.str());
  const TdmrRun run = plan();
  EXPECT_EQ(run.exit_code, kExitDone);
  EXPECT_THAT(run.out, HasSubstr("Linux (one TDMR for each region of RAM) fails with \"TDMR "
                                 "reserved areas exhausted\": the TDMR 0x0-0x7fffffff needs 17"));
  const json like_linux = plan({"--policy", "map-holes", "--json"}).json();
  for (const json& tdmr : like_linux["tdmrs"]) {
    EXPECT_LE(tdmr["reserved"].size(), 16U);
  }
}

}  // namespace
}  // namespace accede::cli::test
