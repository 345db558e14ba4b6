// The pure parts of the guest's init.
#include "accede/base/latency_histogram.hpp"
#include "accede/base/text_buffer.hpp"
#include "accede/init/proc_files.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
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

TEST(InitRequest, KexecIsAskedForByOne) {
  EXPECT_FALSE(parse_request("quiet").kexec);
  EXPECT_TRUE(parse_request("accede.kexec=1 quiet").kexec);
  EXPECT_FALSE(parse_request("accede.kexec=1 accede.kexec=0").kexec);
  EXPECT_EQ(unknown_request("accede.kexec=1"), "");
  EXPECT_EQ(unknown_request("accede.kexec=yes"), "accede.kexec=yes");
  EXPECT_EQ(unknown_request("accede.kexec="), "accede.kexec=");
}

TEST(InitRequest, TheFirstGenerationNeedsNoWord) {
  EXPECT_EQ(parse_request("quiet").generation, 1U);
  EXPECT_EQ(parse_request("accede.generation=2").generation, 2U);
}

TEST(InitRequest, AGenerationIsANumberFromOneOn) {
  for (const char* const word :
       {"accede.generation=0", "accede.generation=", "accede.generation=x", "accede.generation=-1",
        "accede.generation=99999999999999999999", "accede.generation=4294967297"}) {
    EXPECT_EQ(unknown_request(word), word);
    EXPECT_EQ(parse_request(word).generation, 1U) << word;
  }
}

std::string next_command_line(std::string_view current, unsigned generation = 2) {
  CommandLine next;
  write_next_command_line(next, current, generation);
  EXPECT_FALSE(next.overflowed());
  return std::string{next.view()};
}

TEST(NextCommandLine, IsTheOldOneWithoutTheRequestForKexec) {
  EXPECT_EQ(next_command_line("console=ttyS0 accede.kexec=1 accede.touch=1G quiet\n"),
            "console=ttyS0 accede.touch=1G quiet accede.generation=2");
  EXPECT_EQ(next_command_line("accede.kexec=1\n"), "accede.generation=2");
  EXPECT_EQ(next_command_line(""), "accede.generation=2");
}

TEST(NextCommandLine, ReplacesTheGeneration) {
  EXPECT_EQ(next_command_line("accede.generation=2 a accede.generation=7", 3),
            "a accede.generation=3");
}

TEST(NextCommandLine, AsksForNoThirdKernel) {
  const std::string next = next_command_line("accede.kexec=1 accede.kexec=1 root=/dev/vda");
  EXPECT_FALSE(parse_request(next).kexec);
  EXPECT_EQ(parse_request(next).generation, 2U);
  EXPECT_EQ(unknown_request(next), "");
}

TEST(NextCommandLine, SaysThatItIsLongerThanAKernelTakes) {
  CommandLine next;
  const std::string tail = " accede.generation=2";
  write_next_command_line(next, std::string(kMaxCommandLine - tail.size(), 'a'), 2);
  EXPECT_FALSE(next.overflowed());
  EXPECT_EQ(next.view().size(), kMaxCommandLine);
  next.clear();
  write_next_command_line(next, std::string(kMaxCommandLine - tail.size() + 1, 'a'), 2);
  EXPECT_TRUE(next.overflowed());
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
