#include "accede/memory_map/recognise.hpp"
#include "tests/memory_map/samples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace accede::memory_map {
namespace {

using test::between;
using test::bytes_of;
using test::message_of;
using test::region;
using ::testing::ElementsAre;
using ::testing::StartsWith;

TEST(Recognise, AMemoryMapIsKnownByItsContent) {
  for (const auto& [text, regions] : std::vector<std::pair<std::string_view, std::size_t>>{
           {test::kIomem, 8}, {test::kDmesg, 6}, {test::kJson, 2}}) {
    const auto read = read_memory_map(bytes_of(text));
    ASSERT_TRUE(read) << message_of(read);
    EXPECT_EQ(read->size(), regions) << text;
  }
}

TEST(Recognise, ALogThatBeginsInTheMiddleIsALog) {
  const auto read = read_memory_map(
      bytes_of("[    0.000000] BIOS-e820: [mem 0x0000000000001000-0x0000000000001fff] usable\n"));
  ASSERT_TRUE(read) << message_of(read);
  EXPECT_THAT(*read, ElementsAre(region(0x1000, 0x2000)));
}

TEST(Recognise, AJsonMapIsSortedAndItsOverlapsAreErrors) {
  const auto read = read_memory_map(
      bytes_of(R"([{"base":8192,"size":4096,"kind":"reserved"},{"base":0,"size":4096}])"));
  ASSERT_TRUE(read) << message_of(read);
  EXPECT_THAT(*read, ElementsAre(region(0, 0x1000), region(0x2000, 0x3000, RegionKind::kReserved)));
  EXPECT_EQ(
      message_of(read_memory_map(bytes_of(R"([{"base":0,"size":4096},{"base":1,"size":1}])"))),
      "0x0-0xfff and 0x1-0x1 overlap");
}

TEST(Recognise, WhatIsNoMapIsSaid) {
  using namespace std::string_view_literals;
  for (const auto& [text, message] : std::vector<std::pair<std::string_view, std::string>>{
           {"", "is empty"},
           {" \r\n\t\n", "is empty"},
           {"\0\1\2"sv, "binary data"},
           {"hello\n", "neither JSON, nor /proc/iomem, nor a kernel log with an E820 map"},
           {"[    0.000000] Linux version 6.12\n", "neither JSON"},
           {"face the music\n", "neither JSON"},
           {"[]", "there is no memory in it"},
           {"fec00000-fec003ff : IOAPIC 0\n", "there is no memory in it"}}) {
    EXPECT_THAT(message_of(read_memory_map(bytes_of(text))), StartsWith(message)) << text;
  }
}

TEST(Recognise, CmrsAreJsonOrLinesOfALog) {
  const auto json = read_cmrs(bytes_of(R"([{"base":"0x100000","size":"0x1000"}])"));
  ASSERT_TRUE(json) << message_of(json);
  EXPECT_THAT(*json, ElementsAre(between(0x100000, 0x101000)));
  const auto log = read_cmrs(bytes_of(test::kCmrLines));
  ASSERT_TRUE(log) << message_of(log);
  EXPECT_EQ(log->size(), 2U);
}

TEST(Recognise, WhatHasNoCmrsIsSaid) {
  using namespace std::string_view_literals;
  for (const auto& [text, message] : std::vector<std::pair<std::string_view, std::string>>{
           {"", "is empty"},
           {"a\0"sv, "binary data"},
           {"hello\n", "neither JSON nor a line with `CMR:"},
           {"[]", "there is no CMR in it"},
           {"[{}]", "element 0 needs"}}) {
    EXPECT_THAT(message_of(read_cmrs(bytes_of(text))), StartsWith(message)) << text;
  }
}

}  // namespace
}  // namespace accede::memory_map
