#include "accede/memory_map/json_ranges.hpp"
#include "tests/memory_map/samples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace accede::memory_map {
namespace {

using test::message_of;
using test::region;
using ::testing::ElementsAre;
using ::testing::StartsWith;

TEST(JsonRanges, NumbersMayBeTexts) {
  const auto regions = read_json_ranges(test::kJson);
  ASSERT_TRUE(regions) << message_of(regions);
  Region first = region(0x100000000, 0x1100000000);
  first.node = 1;
  EXPECT_THAT(*regions,
              ElementsAre(first, region(0x2000000000, 0x2000001000, RegionKind::kPersistentRam)));
}

TEST(JsonRanges, EveryKindHasAWord) {
  const std::vector<std::pair<std::string, RegionKind>> kinds{
      {"ram", RegionKind::kRam},
      {"reserved", RegionKind::kReserved},
      {"pmem", RegionKind::kPersistent},
      {"pmem-ram", RegionKind::kPersistentRam},
      {"specific-purpose", RegionKind::kSpecificPurpose},
      {"cxl-ram", RegionKind::kCxlRam}};
  for (const auto& [word, kind] : kinds) {
    const auto regions = read_json_ranges(R"([{"base":0,"size":1,"kind":")" + word + R"("}])");
    ASSERT_TRUE(regions) << word;
    EXPECT_EQ(regions->front().kind, kind) << word;
  }
}

TEST(JsonRanges, ErrorsNameTheElement) {
  const std::vector<std::pair<std::string, std::string>> wrong{
      {R"([{"base":0,"size":1}, 5])", "element 1 is no object"},
      {R"([{"size":1}])", "element 0 needs"},
      {R"([{"base":-1,"size":1}])", "element 0 needs"},
      {R"([{"base":1.5,"size":1}])", "element 0 needs"},
      {R"([{"base":"0x","size":1}])", "element 0 needs"},
      {R"([{"base":"12 MiB","size":1}])", "element 0 needs"},
      {R"([{"base":"0x10000000000000000","size":1}])", "element 0 needs"},
      {R"([{"base":"0xffffffffffffffff","size":2}])", "element 0 wraps"},
      {R"([{"base":0,"size":1,"node":4294967296}])", "element 0 has a \"node\""},
      {R"([{"base":0,"size":1,"node":null}])", "element 0 has a \"node\""},
      {R"([{"base":0,"size":1,"kind":"moon"}])", "element 0 has an unknown \"kind\""},
      {R"([{"base":0,"size":1,"kind":1}])", "element 0 has an unknown \"kind\""},
      {R"({"base":0,"size":1})", "no JSON array of ranges"},
      {R"([{"base":0,"size":1})", "no JSON array of ranges"}};
  for (const auto& [text, message] : wrong) {
    EXPECT_THAT(message_of(read_json_ranges(text)), StartsWith(message)) << text;
  }
}

TEST(JsonRanges, UnknownFieldsAreIgnored) {
  const auto regions =
      read_json_ranges(R"([{"base":0,"x":[[{"size":[5]}]],"\\\"[[":"[","size":1}])");
  ASSERT_TRUE(regions) << message_of(regions);
  EXPECT_THAT(*regions, ElementsAre(region(0, 1)));
}

TEST(JsonRanges, ATowerIsRefused) {
  const auto tower = [](std::size_t levels) {
    return R"([{"base":0,"size":1,"x":)" + std::string(levels, '[') + std::string(levels, ']') +
           "}]";
  };
  EXPECT_EQ(message_of(read_json_ranges(tower(62))), "");
  EXPECT_EQ(message_of(read_json_ranges(tower(63))), "JSON of more than 64 levels");
}

TEST(JsonRanges, TooManyAreRefused) {
  std::string text = "[";
  for (std::size_t i = 0; i <= kMostRanges; ++i) {
    text += std::string{i == 0 ? "" : ","} + R"({"base":0,"size":0})";
  }
  EXPECT_EQ(message_of(read_json_ranges(text + "]")), "more than 16384 ranges");
}

}  // namespace
}  // namespace accede::memory_map
