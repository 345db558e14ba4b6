// The pure parts of the guest's init.
#include "accede/base/latency_histogram.hpp"
#include "accede/init/proc_files.hpp"
#include "accede/base/text_buffer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace accede::init {
namespace {

TEST(LatencyHistogram, BucketsHoldTheirBounds) {
  for (std::size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
    const std::uint64_t bound = LatencyHistogram::upper_bound(bucket);
    EXPECT_EQ(LatencyHistogram::bucket_of(bound), bucket);
    if (bound != ~0ULL) {
      EXPECT_EQ(LatencyHistogram::bucket_of(bound + 1), bucket + 1);
    }
  }
}

TEST(LatencyHistogram, QuantilesAreAtMostASixteenthTooHigh) {
  constexpr unsigned kSeed = 7;
  std::mt19937_64 random{kSeed};
  LatencyHistogram histogram;
  std::vector<std::uint64_t> all;
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t value = random() >> (1 + random() % 63);
    histogram.add(value);
    all.push_back(value);
  }
  std::ranges::sort(all);
  for (const std::uint64_t quantile : {1U, 5'000U, 9'900U, 9'990U, 9'999U, 10'000U}) {
    const std::uint64_t exact = all[(all.size() * quantile + 9'999) / 10'000 - 1];
    EXPECT_GE(histogram.quantile(quantile), exact) << "seed " << kSeed;
    EXPECT_LE(histogram.quantile(quantile), exact + exact / 16 + 1) << "seed " << kSeed;
  }
  EXPECT_EQ(histogram.quantile(10'000), all.back());
  EXPECT_EQ(histogram.max(), all.back());
  EXPECT_EQ(histogram.count(), all.size());
}

TEST(LatencyHistogram, EmptyIsZero) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.quantile(9'999), 0U);
  EXPECT_EQ(histogram.max(), 0U);
}

TEST(LatencyHistogram, OneValueIsEveryQuantile) {
  LatencyHistogram histogram;
  histogram.add(1'000'003);
  for (const std::uint64_t quantile : {1U, 5'000U, 10'000U}) {
    EXPECT_EQ(histogram.quantile(quantile), 1'000'003U);
  }
}

TEST(ProcFiles, ReadsFiguresInKibibytes) {
  const auto figure = parse_figure("MemTotal:        4009860 kB");
  ASSERT_TRUE(figure);
  EXPECT_EQ(figure->name, "MemTotal");
  EXPECT_EQ(figure->bytes, 4009860ULL * 1024);
  EXPECT_EQ(parse_figure("Node 0 Unaccepted:     12 kB")->name, "Node 0 Unaccepted");
}

TEST(ProcFiles, LeavesOutOtherLines) {
  for (const char* const line : {"", "HugePages_Total:       0", "MemTotal: x kB", "MemTotal 12 kB",
                                 "MemTotal: 12 MB", "MemTotal:"}) {
    EXPECT_FALSE(parse_figure(line)) << line;
  }
}

TEST(ProcFiles, TakesLines) {
  std::string_view text = "a\n\nb";
  EXPECT_EQ(take_line(text), "a");
  EXPECT_EQ(take_line(text), "");
  EXPECT_EQ(take_line(text), "b");
  EXPECT_EQ(text, "");
}

TEST(InitRequest, ReadsTheKernelCommandLine) {
  const Request request = parse_request("console=ttyS0 accede.touch=3G accede.exit=reboot quiet\n");
  EXPECT_EQ(request.touch_bytes, 3ULL << 30);
  EXPECT_FALSE(request.touch_all);
  EXPECT_EQ(request.exit, Request::Exit::kReboot);
}

TEST(InitRequest, TheLastOfSeveralWins) {
  const Request request = parse_request("accede.touch=1G accede.touch=all");
  EXPECT_TRUE(request.touch_all);
  EXPECT_EQ(request.touch_bytes, 0U);
  EXPECT_EQ(parse_request("accede.touch=all accede.touch=4096").touch_bytes, 4096U);
}

TEST(InitRequest, NothingAskedIsNothingDone) {
  const Request request = parse_request("root=/dev/vda1");
  EXPECT_EQ(request.touch_bytes, 0U);
  EXPECT_FALSE(request.touch_all);
  EXPECT_EQ(request.exit, Request::Exit::kPowerOff);
}

TEST(InitRequest, NamesWhatItDoesNotUnderstand) {
  EXPECT_EQ(unknown_request("a accede.touch=all accede.exit=panic b"), "");
  EXPECT_EQ(unknown_request("a accede.touch=some b"), "accede.touch=some");
  EXPECT_EQ(unknown_request("accede.exit=never"), "accede.exit=never");
  EXPECT_EQ(unknown_request("accede.dance=1"), "accede.dance=1");
  EXPECT_EQ(unknown_request("accede.touch=99999999999T"), "accede.touch=99999999999T");
}

TEST(TextBuffer, BuildsJson) {
  TextBuffer<64> text;
  text.quoted("a\"b\\c\n\xFF").text(",").number(42U).text(",").hundredths(341);
  EXPECT_EQ(text.view(), "\"a?b?c??\",42,3.41");
  EXPECT_FALSE(text.overflowed());
}

TEST(TextBuffer, DropsWhatDoesNotFit) {
  TextBuffer<4> text;
  text.text("abc").text("def");
  EXPECT_EQ(text.view(), "abcd");
  EXPECT_TRUE(text.overflowed());
}

}  // namespace
}  // namespace accede::init
