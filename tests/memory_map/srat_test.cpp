#include "accede/memory_map/srat.hpp"
#include "tests/memory_map/samples.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace accede::memory_map {
namespace {

using abi::srat::kEnabled;
using abi::srat::kHotPluggable;
using test::between;
using test::message_of;
using test::SratBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Srat, GivesEnabledRangesInAscendingOrder) {
  const auto ranges = read_srat(SratBuilder{}
                                    .memory(between(0x8000, 0x9000), 1, kEnabled | kHotPluggable)
                                    .other(0, 14)
                                    .memory(between(0x1000, 0x2000), 7)
                                    .memory(between(0x2000, 0x3000), 3, 0)
                                    .memory(between(0x4000, 0x4000), 4)
                                    .other(2, 22)
                                    .finish());
  ASSERT_TRUE(ranges) << message_of(ranges);
  EXPECT_THAT(*ranges, ElementsAre(NodeRange{between(0x1000, 0x2000), 7, false},
                                   NodeRange{between(0x8000, 0x9000), 1, true}));
}

TEST(Srat, BytesBehindTheTableDoNotCount) {
  auto table = SratBuilder{}.memory(between(0x1000, 0x2000), 0).finish();
  table.resize(table.size() + 100, std::byte{0xff});
  EXPECT_TRUE(read_srat(table));
}

TEST(Srat, EveryChangedByteIsNoticed) {
  const auto table = test::example_srat();
  ASSERT_TRUE(read_srat(table));
  for (std::size_t i = 0; i < table.size(); ++i) {
    auto damaged = table;
    damaged[i] ^= std::byte{0x10};
    EXPECT_FALSE(read_srat(damaged)) << i;
  }
}

TEST(Srat, StructuresThatDoNotFitAreNamedByTheirOffset) {
  EXPECT_EQ(message_of(read_srat(SratBuilder{}.raw({1}).finish())),
            "a structure leaves the table at offset 48");
  EXPECT_EQ(message_of(read_srat(SratBuilder{}.raw({0, 0}).finish())),
            "a structure leaves the table at offset 48");
  EXPECT_EQ(message_of(read_srat(SratBuilder{}.other(0, 6).raw({1, 40}).finish())),
            "a structure leaves the table at offset 56");
  EXPECT_EQ(message_of(read_srat(SratBuilder{}.other(1, 10).finish())),
            "a memory range is too short at offset 48");
}

TEST(Srat, ARangeThatWrapsIsAnError) {
  auto table = SratBuilder{}.memory(between(0x1000, 0xffff'ffff'ffff'f000), 0);
  EXPECT_TRUE(read_srat(table.finish()));
  // The base of the range: 0x0800... makes it end beyond 2^64; the checksum is set right again.
  auto bytes = table.finish();
  bytes[48 + 8 + 7] = std::byte{0x08};
  bytes[9] = static_cast<std::byte>(std::to_integer<unsigned>(bytes[9]) - 0x08U);
  EXPECT_EQ(message_of(read_srat(bytes)), "a memory range wraps at offset 48");
}

TEST(Srat, OverlapsOfDifferentNodesAreErrors) {
  EXPECT_EQ(message_of(read_srat(SratBuilder{}
                                     .memory(between(0x1000, 0x3000), 0)
                                     .memory(between(0x2000, 0x4000), 1)
                                     .finish())),
            "0x1000-0x2fff and 0x2000-0x3fff overlap and are of different nodes");
}

TEST(Srat, OverlapsOfOneNodeAreOneRange) {
  const auto nodes = read_srat(
      SratBuilder{}.memory(between(0x1000, 0x3000), 1).memory(between(0x2000, 0x4000), 1).finish());
  ASSERT_TRUE(nodes);
  ASSERT_EQ(nodes->size(), 1U);
  EXPECT_EQ(nodes->front().range, between(0x1000, 0x4000));
}

TEST(Srat, WithTooManyRangesIsRefused) {
  SratBuilder table;
  for (std::uint64_t i = 0; i <= kMostRanges; ++i) {
    table.memory(between(i * 0x1000, (i + 1) * 0x1000), 0);
  }
  EXPECT_EQ(message_of(read_srat(table.finish())), "more than 16384 ranges");
}

TEST(Srat, TheTableOfTheExampleIsWhatIsWrittenHere) {
  std::ifstream file{std::string{ACCEDE_EXAMPLES} + "/srat.bin", std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{file}, {}};
  const auto table = test::example_srat();
  const auto example = test::bytes_of(bytes);
  EXPECT_EQ((std::vector<std::byte>{example.begin(), example.end()}), table);
}

}  // namespace
}  // namespace accede::memory_map
