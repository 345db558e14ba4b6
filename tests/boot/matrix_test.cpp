// The whole matrix of a platform, booted by the command: every cell, and what it says of them.

#include "tests/boot/accede_run.hpp"
#include "tests/boot/linux_boot.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

namespace accede::test {
namespace {

/// Firmware, kernel.
using Place = std::pair<std::string, std::string>;

constexpr double k37GiB = 3.7 * kGiB;
/// Both platforms shall take nine minutes together; a busy machine gets them for one.
constexpr Seconds kMost{540};

/// The table of the discussion, written down once more.
const std::map<Place, std::string> kPredicted{
    {{"accept-all", "unenlightened"}, "slow boot"},
    {{"accept-all", "enlightened"}, "slow boot"},
    {{"accept-all", "handshake dropped"}, "slow boot"},
    {{"handshake", "unenlightened"}, "slow boot"},
    {{"handshake", "enlightened"}, "fast boot"},
    {{"handshake", "handshake dropped"}, "slow boot"},
    {{"never", "unenlightened"}, "limited RAM"},
    {{"never", "enlightened"}, "fast boot"},
    {{"never", "handshake dropped"}, "fast boot"},
};

/// Cells that exist without the emulator: firmware that was released, with a kernel that was
/// released and knows the platform.
const std::map<std::string, std::set<Place>> kShipped{
    {"tdx", {{"accept-all", "enlightened"}, {"never", "enlightened"}}},
    {"snp",
     {{"accept-all", "unenlightened"},
      {"accept-all", "enlightened"},
      {"handshake", "unenlightened"},
      {"handshake", "enlightened"}}},
};

class Matrix : public ::testing::TestWithParam<const char*> {
 protected:
  static std::uint64_t bytes(const Json& cell, const char* field) {
    const Json& value = cell.at(field);
    EXPECT_TRUE(value.is_number_unsigned()) << field << " of " << cell;
    return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
  }

  static void expect_whole(const Json& cell) {
    EXPECT_GT(static_cast<double>(bytes(cell, "mem_total_bytes")), k37GiB) << cell;
    EXPECT_LT(bytes(cell, "lost_bytes"), 64 * kMiB) << cell;
  }

  /// The figures behind the outcome.
  static void expect_figures(const Json& cell) {
    const std::uint64_t pending = bytes(cell, "unaccepted_at_start_bytes");
    const std::uint64_t by_firmware = bytes(cell, "accepted_by_firmware_bytes");
    const std::uint64_t by_kernel = bytes(cell, "accepted_by_kernel_bytes");
    EXPECT_EQ(pending, 2 * kGiB) << cell;
    if (cell.at("outcome") == "slow boot") {
      EXPECT_EQ(by_firmware, pending) << cell;
      EXPECT_LT(by_kernel, 4 * kMiB) << "shared pages that it takes back\n" << cell;
      expect_whole(cell);
    } else if (cell.at("outcome") == "fast boot") {
      EXPECT_EQ(by_firmware, 0U) << cell;
      EXPECT_GT(by_kernel, 256 * kMiB) << cell;
      EXPECT_LT(by_kernel, kGiB) << cell;
      expect_whole(cell);
    } else {
      EXPECT_EQ(by_firmware, 0U) << cell;
      EXPECT_LT(by_kernel, 4 * kMiB) << "shared pages that it takes back\n" << cell;
      EXPECT_NEAR(static_cast<double>(bytes(cell, "lost_bytes")), 2.0 * kGiB, 64.0 * kMiB) << cell;
      EXPECT_LT(bytes(cell, "mem_total_bytes"), 2 * kGiB) << cell;
    }
  }

  static void expect_cell(const Json& cell, const Place& place) {
    EXPECT_EQ(cell.at("platform"), GetParam());
    EXPECT_EQ(cell.at("outcome"), kPredicted.at(place)) << cell;
    EXPECT_EQ(cell.at("predicted"), kPredicted.at(place)) << cell;
    EXPECT_EQ(cell.at("holds"), true) << cell;
    EXPECT_EQ(cell.at("broken_rules"), 0) << cell;
    const std::string kernel = cell.at("kernel").get<std::string>();
    EXPECT_TRUE(kernel.starts_with(place.second == "unenlightened" ? "6.1." : "6.12.")) << cell;
    const bool shipped = kShipped.at(GetParam()).contains(place);
    EXPECT_EQ(cell.at("fidelity") == "as shipped", shipped) << cell;
    expect_figures(cell);
  }
};

/// Effect, part, and where the step ends.
using Step = std::tuple<std::string, std::string, Place>;

Step step_of(const Json& upgrade) {
  const Json& to = upgrade.at("to");
  return {upgrade.at("effect"), upgrade.at("part"), Place{to.at("firmware"), to.at("kernel_kind")}};
}

TEST_P(Matrix, EveryCellIsAsPredictedAndTwoUpgradesHurt) {
  const Boot result = matrix({"--platform", GetParam()}, kMost);
  ACCEDE_SKIP_WITHOUT_KERNEL(result);
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  std::set<Place> seen;
  for (const Json& cell : result.at("/cells")) {
    const Place place{cell.at("firmware"), cell.at("kernel_kind")};
    SCOPED_TRACE(place.first + ", " + place.second);
    ASSERT_TRUE(kPredicted.contains(place));
    EXPECT_TRUE(seen.insert(place).second) << "twice";
    expect_cell(cell, place);
  }
  EXPECT_EQ(seen.size(), kPredicted.size());

  std::set<Step> steps;
  for (const Json& upgrade : result.at("/upgrades")) {
    steps.insert(step_of(upgrade));
  }
  const std::set<Step> hurt{
      {"smaller", "firmware", {"never", "unenlightened"}},
      {"slower", "kernel", {"handshake", "handshake dropped"}},
  };
  EXPECT_EQ(steps, hurt);

  const Json scarce = result.at("/scarce/0");
  ASSERT_TRUE(scarce.is_object()) << result.json;
  EXPECT_EQ(scarce.at("out_of_memory"), true) << scarce;
  EXPECT_LT(bytes(scarce, "mem_total_bytes"), 512 * kMiB) << scarce;
  EXPECT_LT(bytes(scarce, "touched_bytes"), bytes(scarce, "wanted_bytes")) << scarce;
}

INSTANTIATE_TEST_SUITE_P(Platforms, Matrix, ::testing::Values("tdx", "snp"),
                         [](const auto& test) { return std::string{test.param}; });

}  // namespace
}  // namespace accede::test
