#include "accede/efi/kernel/kernel_report.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace accede::efi::kernel {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kPrefix = "ACCEDE-GUEST ";

Json parse(std::string_view line) {
  EXPECT_TRUE(line.starts_with(kPrefix)) << line;
  EXPECT_EQ(std::ranges::find(line, '\n'), line.end());
  const Json json = Json::parse(line.substr(kPrefix.size()), nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << line;
  return json;
}

KernelState sample_state() {
  return {.generation = 2,
          .uptime_ns = 1'239'999'999,
          .policy = PolicyName::kBackground,
          .memory = {.ram = 12_GiB,
                     .total = 11_GiB,
                     .free = 10_GiB,
                     .unaccepted = 9_GiB,
                     .page_info = 36_MiB,
                     .accepted = 8_MiB,
                     .table = guest::HandOverRoute::kHandOver}};
}

void expect_state(const Json& json) {
  EXPECT_EQ(json["generation"], 2);
  EXPECT_TRUE(std::string{json["release"]}.starts_with("accede-guest "));
  EXPECT_EQ(json["uptime_seconds"], 1.23);
  EXPECT_EQ(json["policy"], "background");
  EXPECT_EQ(json["ram_bytes"], 12ULL << 30);
  EXPECT_EQ(json["meminfo"]["MemTotal"], 11ULL << 30);
  EXPECT_EQ(json["meminfo"]["MemFree"], 10ULL << 30);
  EXPECT_EQ(json["meminfo"]["MemAvailable"], 10ULL << 30);
  EXPECT_EQ(json["meminfo"]["Unaccepted"], 9ULL << 30);
  EXPECT_EQ(json["used_bytes"], 2ULL << 30);
  EXPECT_EQ(json["page_info_bytes"], 36ULL << 20);
  EXPECT_EQ(json["accepted_bytes"], 8ULL << 20);
  EXPECT_EQ(json["table"], "hand-over");
}

std::uint64_t ten_ns(std::uint64_t ticks) {
  return ticks * 10;
}

TEST(KernelReport, SaysWhenTheKernelIsReady) {
  const auto line = std::make_unique<ReportLine>();
  line->text("left over");
  write_ready(*line, sample_state(), std::nullopt);
  Json json = parse(line->view());
  EXPECT_EQ(json["step"], "ready");
  expect_state(json);
  EXPECT_FALSE(json.contains("marked_page"));
  for (const bool kept : {true, false}) {
    write_ready(*line, sample_state(), kept);
    EXPECT_EQ(parse(line->view())["marked_page"], kept ? "kept" : "lost");
  }
}

TEST(KernelReport, NamesWhereTheTableCameFrom) {
  const auto line = std::make_unique<ReportLine>();
  std::set<std::string> names;
  for (const auto route :
       {guest::HandOverRoute::kNone, guest::HandOverRoute::kEfi, guest::HandOverRoute::kHandOver}) {
    KernelState state = sample_state();
    state.memory.table = route;
    write_ready(*line, state, std::nullopt);
    names.insert(parse(line->view())["table"]);
  }
  EXPECT_EQ(names, (std::set<std::string>{"none", "efi", "hand-over"}));
}

TEST(KernelReport, SaysWhatTheWorkloadMeasured) {
  const auto line = std::make_unique<ReportLine>();
  const auto result = std::make_unique<WorkResult>();
  result->kind = WorkKind::kRandom;
  result->touched = 3_GiB;
  result->wrong_pages = 7;
  result->elapsed_ticks = 123;
  result->stopped = "accepted";
  for (int i = 0; i < 99; ++i) {
    result->latency.add(5);
  }
  result->latency.add(1000);
  write_work(*line, sample_state(), *result, ten_ns);
  const Json json = parse(line->view());
  EXPECT_EQ(json["step"], "work");
  expect_state(json);
  EXPECT_EQ(json["workload"], "random");
  EXPECT_EQ(json["touched_bytes"], 3ULL << 30);
  EXPECT_EQ(json["wrong_pages"], 7);
  EXPECT_EQ(json["touch_ns"], 1230);
  EXPECT_EQ(json["stopped"], "accepted");
  const Json& touch = json["first_touch_ns"];
  EXPECT_EQ(touch["count"], 100);
  EXPECT_EQ(touch["p50"], 50);
  EXPECT_EQ(touch["p99"], 50);
  EXPECT_EQ(touch["p999"], 10'000);
  EXPECT_EQ(touch["p9999"], 10'000);
  EXPECT_EQ(touch["max"], 10'000);
  ASSERT_EQ(touch["histogram"].size(), 2U);
  EXPECT_EQ(touch["histogram"][0], Json::array({50, 99}));
  EXPECT_EQ(touch["histogram"][1][1], 1);
}

TEST(KernelReport, HasRoomForAFullHistogramOfTheLongestNumbers) {
  const auto line = std::make_unique<ReportLine>();
  const auto result = std::make_unique<WorkResult>();
  for (std::size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    for (int i = 0; i < 1000; ++i) {
      result->latency.add(LatencyHistogram::upper_bound(bucket));
    }
  }
  result->stopped = "the memory that could be taken is not what was counted as free";
  KernelState state = sample_state();
  state.memory.ram = Bytes{~0ULL};
  state.uptime_ns = ~0ULL;
  write_work(*line, state, *result, [](std::uint64_t) { return ~std::uint64_t{0}; });
  EXPECT_FALSE(line->overflowed());
  EXPECT_EQ(parse(line->view())["first_touch_ns"]["histogram"].size(), LatencyHistogram::kBuckets);
}

TEST(KernelReport, SaysThatNothingWasMeasured) {
  const auto line = std::make_unique<ReportLine>();
  const auto result = std::make_unique<WorkResult>();
  result->stopped = "memory";
  write_work(*line, sample_state(), *result, ten_ns);
  const Json json = parse(line->view());
  EXPECT_EQ(json["first_touch_ns"]["count"], 0);
  EXPECT_EQ(json["first_touch_ns"]["histogram"], Json::array());
}

TEST(KernelReport, SaysThatTheNextKernelIsAboutToRun) {
  const auto line = std::make_unique<ReportLine>();
  write_kexec(*line, sample_state());
  const Json json = parse(line->view());
  EXPECT_EQ(json["step"], "kexec");
  expect_state(json);
}

TEST(KernelReport, KeepsMessagesValidWhateverTheyHold) {
  std::string every;
  for (int c = 0; c < 256; ++c) {
    every.push_back(static_cast<char>(c));
  }
  for (const std::string& message : {std::string{"memory: it is gone (0x1000)"}, std::string{},
                                     every, std::string(10'000, '"'), std::string(10'000, 'x')}) {
    EXPECT_EQ(parse(error_line(message).view())["step"], "error");
    EXPECT_EQ(parse(fault_line(message).view())["step"], "fault");
    EXPECT_FALSE(error_line(message).overflowed());
    EXPECT_FALSE(fault_line(message).overflowed());
  }
  EXPECT_EQ(parse(error_line("it is gone").view())["message"], "it is gone");
}

TEST(KernelReport, NamesAWordThatWasNotUnderstood) {
  std::string word = "accede.touch=";
  word.append(5'000, '9');
  const Json json = parse(error_line(OptionProblem{.word = word, .why = "too large"}).view());
  const std::string message = json["message"];
  EXPECT_TRUE(message.starts_with("accede.touch=999"));
  EXPECT_TRUE(message.ends_with(": too large"));
}

TEST(KernelReport, SaysGoodbye) {
  EXPECT_EQ(parse(off_line().view()), (Json{{"step", "off"}}));
}

}  // namespace
}  // namespace accede::efi::kernel
