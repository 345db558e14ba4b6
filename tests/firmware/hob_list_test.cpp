#include "accede/firmware/hob_list.hpp"

#include "tests/firmware/made_up_hobs.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string_view>
#include <vector>

namespace accede::firmware {
namespace {

using abi::hob::Resource;
using test::HobBytes;
using test::hobs;
using test::offset_of;

HobError error_of(std::span<const std::byte> bytes) {
  const auto list = HobList::parse(bytes);
  EXPECT_FALSE(list.has_value());
  return list ? HobError{} : list.error();
}

TEST(HobList, GivesItsResourcesInOrder) {
  HobBytes bytes;
  bytes.add({Resource::kMemoryUnaccepted, 0x1000, 0x2000});
  bytes.add_other(4, 40);
  bytes.add({Resource::kSystemMemory, 0x8000, 0x1000, 3}).end();
  const auto list = HobList::parse(bytes);
  ASSERT_TRUE(list.has_value());
  const auto first = list->next_resource(0);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->offset, 56U);
  EXPECT_EQ(first->descriptor.resource, 7U);
  EXPECT_EQ(first->descriptor.physical_start, 0x1000U);
  EXPECT_EQ(first->descriptor.bytes, 0x2000U);
  const auto second = list->next_resource(HobList::after(*first));
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->offset, 56U + 48 + 40);
  EXPECT_EQ(second->descriptor.attributes, 3U);
  EXPECT_FALSE(list->next_resource(HobList::after(*second)).has_value());
}

TEST(HobList, EndsAtItsEndMarkerWhateverFollows) {
  HobBytes bytes = hobs({});
  const std::size_t size = bytes.size();
  bytes.add_other(0x1234, 16);
  const auto list = HobList::parse(bytes);
  ASSERT_TRUE(list.has_value());
  EXPECT_EQ(list->bytes().size(), size);
}

TEST(HobList, KnowsWhetherAResourceIsCalledUnaccepted) {
  const HobBytes with =
      hobs({{Resource::kSystemMemory, 0, 0x1000}, {Resource::kMemoryUnaccepted, 0x1000, 0x1000}});
  const HobBytes without = hobs({{Resource::kSystemMemory, 0, 0x1000}});
  EXPECT_TRUE(HobList::parse(with)->names_unaccepted());
  EXPECT_FALSE(HobList::parse(without)->names_unaccepted());
}

TEST(HobList, EveryPrefixOfAListIsTruncated) {
  HobBytes bytes;
  bytes.add({Resource::kSystemMemory, 0, 0x1000}).add_other(5, 24).end();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const HobError error = error_of(bytes.bytes().first(size));
    ASSERT_EQ(error.kind, HobErrorKind::kTruncated) << size;
    ASSERT_LE(error.offset, size);
  }
}

TEST(HobList, TakesEveryTypeOfTheSpecification) {
  HobBytes bytes;
  bytes.add_other(2, 48).add_other(2, 64).add_other(4, 24).add_other(4, 4096);
  bytes.add_other(5, 24).add_other(6, 16).add_other(7, 8).add_other(9, 56);
  bytes.add_other(0xC, 64).add_other(0xFFFE, 8).add_other(0xFFFE, 80).end();
  EXPECT_TRUE(HobList::parse(bytes).has_value());
}

TEST(HobList, RefusesATypeThatTheSpecificationDoesNotHave) {
  for (const std::uint16_t type : std::vector<std::uint16_t>{0, 8, 0xA, 0xB, 0xD, 0x100, 0xFFFD}) {
    const HobBytes bytes = HobBytes{}.add_other(type, 8).end();
    EXPECT_EQ(error_of(bytes), (HobError{HobErrorKind::kUnknownType, 56})) << type;
  }
}

TEST(HobList, RefusesALengthThatDoesNotFitTheType) {
  struct Case {
    std::uint16_t type;
    std::uint16_t length;
  };
  for (const Case& given : std::vector<Case>{{2, 40},
                                             {2, 52},
                                             {3, 40},
                                             {3, 56},
                                             {4, 16},
                                             {4, 28},
                                             {5, 32},
                                             {6, 24},
                                             {7, 12},
                                             {9, 64},
                                             {0xC, 72},
                                             {0xFFFE, 12},
                                             {0xFFFF, 16}}) {
    const HobBytes bytes = HobBytes{}.add_other(given.type, given.length).end();
    EXPECT_EQ(error_of(bytes), (HobError{HobErrorKind::kBadLength, 56}))
        << given.type << ", " << given.length;
  }
}

TEST(HobList, RefusesALengthOfZeroInsteadOfWalkingInPlace) {
  for (const std::uint16_t type : std::vector<std::uint16_t>{2, 3, 4, 7, 0xFFFE, 0xFFFF}) {
    HobBytes bytes;
    bytes.append(abi::hob::Header{type, 0, 0}).end();
    EXPECT_EQ(error_of(bytes), (HobError{HobErrorKind::kBadLength, 56}));
  }
}

TEST(HobList, RefusesAReservedFieldThatIsNotZero) {
  HobBytes bytes = hobs({{Resource::kSystemMemory, 0, 0x1000}});
  bytes.put(offset_of(0) + 4, std::uint32_t{1});
  EXPECT_EQ(error_of(bytes), (HobError{HobErrorKind::kReservedNotZero, offset_of(0)}));
}

TEST(HobList, BeginsWithItsOnlyHandoffHob) {
  HobBytes second = HobBytes{}.add_other(1, 56).end();
  EXPECT_EQ(error_of(second), (HobError{HobErrorKind::kMisplacedHandoff, 56}));
  const auto headless = hobs({{Resource::kSystemMemory, 0, 0x1000}});
  EXPECT_EQ(error_of(headless.bytes().subspan(56)), (HobError{HobErrorKind::kMisplacedHandoff, 0}));
}

TEST(HobList, RefusesAHandoffHobOfAnotherVersion) {
  for (const std::uint32_t version : {0U, 8U, 10U, ~0U}) {
    HobBytes bytes = hobs({});
    bytes.put(8, version);
    EXPECT_EQ(error_of(bytes), (HobError{HobErrorKind::kBadVersion, 0}));
  }
}

TEST(HobList, EveryErrorHasItsOwnText) {
  std::set<std::string_view> texts;
  for (int kind = 0; kind <= static_cast<int>(HobErrorKind::kTooManyResources); ++kind) {
    texts.insert(to_string(static_cast<HobErrorKind>(kind)));
  }
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(HobErrorKind::kTooManyResources) + 1);
  EXPECT_FALSE(texts.contains(to_string(static_cast<HobErrorKind>(255))));
}

}  // namespace
}  // namespace accede::firmware
