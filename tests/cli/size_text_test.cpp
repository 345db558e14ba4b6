#include "accede/cli/size_text.hpp"

#include <gtest/gtest.h>

#include <string>

namespace accede::cli {
namespace {

using std::chrono::nanoseconds;

TEST(SizeText, ReadsBytesAndBinarySuffixes) {
  EXPECT_EQ(parse_size("4096"), Bytes{4096});
  EXPECT_EQ(parse_size("4K"), Bytes{4096});
  EXPECT_EQ(parse_size("512M"), Bytes{512ULL << 20});
  EXPECT_EQ(parse_size("4G"), Bytes{4ULL << 30});
  EXPECT_EQ(parse_size("4g"), Bytes{4ULL << 30});
  EXPECT_EQ(parse_size("1TiB"), Bytes{1ULL << 40});
  EXPECT_EQ(parse_size("16GB"), Bytes{16ULL << 30});
  EXPECT_EQ(parse_size("0"), Bytes{0});
}

TEST(SizeText, RefusesWhatIsNotASize) {
  for (const char* const text :
       {"", "G", "-1", "+1", "1.5G", "4X", "4GG", "4Gib", "4 G", " 4G", "4G ", "0x10", "4iB", "1e9",
        "99999999999999999999", "18446744073709551616", "16777216T"}) {
    EXPECT_FALSE(parse_size(text)) << text;
  }
}

TEST(SizeText, ReadsTheLargestSize) {
  EXPECT_EQ(parse_size("18446744073709551615"), Bytes{~0ULL});
  EXPECT_EQ(parse_size("16777215T"), Bytes{16777215ULL << 40});
}

TEST(SizeText, ReadsDurations) {
  EXPECT_EQ(parse_duration("700ns"), nanoseconds{700});
  EXPECT_EQ(parse_duration("1400us"), nanoseconds{1'400'000});
  EXPECT_EQ(parse_duration("1.4ms"), nanoseconds{1'400'000});
  EXPECT_EQ(parse_duration("2s"), nanoseconds{2'000'000'000});
  EXPECT_EQ(parse_duration("0.000000001s"), nanoseconds{1});
  EXPECT_EQ(parse_duration("0ns"), nanoseconds{0});
  EXPECT_EQ(parse_duration("3600s"), nanoseconds{3'600'000'000'000});
}

TEST(SizeText, RefusesWhatIsNotADuration) {
  for (const char* const text :
       {"", "us", "14", "-1us", "1400 us", "1.us", ".5us", "1.4.2ms", "3601s", "0.1ns", "1h",
        "1.0000000001s", "99999999999999999999ns", "1US"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(SizeText, PrintsThreeSignificantDigits) {
  EXPECT_EQ(format_size(Bytes{0}), "0");
  EXPECT_EQ(format_size(Bytes{1023}), "1023 B");
  EXPECT_EQ(format_size(Bytes{4096}), "4 KiB");
  EXPECT_EQ(format_size(Bytes{4ULL << 30}), "4 GiB");
  EXPECT_EQ(format_size(Bytes{4106096640}), "3.82 GiB");
  EXPECT_EQ(format_size(Bytes{12542976000}), "11.7 GiB");
  EXPECT_EQ(format_size(Bytes{(123ULL << 20) + 400'000}), "123 MiB");
  EXPECT_EQ(format_size(Bytes{(1ULL << 30) - 1}), "1.00 GiB");
  EXPECT_EQ(format_size(Bytes{~0ULL}), "16777216 TiB");
}

TEST(SizeText, PrintsSecondsAndHexadecimal) {
  EXPECT_EQ(format_seconds(3.414), "3.41 s");
  EXPECT_EQ(format_seconds(std::nullopt), "-");
  EXPECT_EQ(format_hex(0), "0x0");
  EXPECT_EQ(format_hex(0xABC), "0xabc");
  EXPECT_EQ(format_hex(~0ULL), "0xffffffffffffffff");
}

}  // namespace
}  // namespace accede::cli
