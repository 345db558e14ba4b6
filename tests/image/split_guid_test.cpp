#include "accede/image/unaccepted_support.hpp"
#include "tests/image/made_up_kernel.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

namespace accede::image {
namespace {

using namespace test;

/// The two halves of a GUID as compilers place them into code.
class SplitGuid : public testing::TestWithParam<bool> {
 protected:
  /// An old kernel with the halves of `guid` beginning `distance` apart, the later one first when
  /// the parameter says so.
  static std::vector<std::byte> image(const GuidBytes& guid, std::size_t distance) {
    MadeUpImage image = old_kernel();
    const auto low = std::span{guid}.first(8);
    const auto high = std::span{guid}.last(8);
    image.put(kFree, GetParam() ? high : low);
    image.put(kFree + distance, GetParam() ? low : high);
    return image.file();
  }
};
INSTANTIATE_TEST_SUITE_P(Order, SplitGuid, testing::Bool(), [](const auto& instance) {
  return instance.param ? "HighFirst" : "LowFirst";
});

TEST_P(SplitGuid, CountsUpToTheLimit) {
  for (std::size_t distance = 8; distance <= kMostHalvesApart; ++distance) {
    const auto table = find_unaccepted_support(image(kTableGuid, distance));
    EXPECT_EQ(table.table_guid, kFree) << distance;
    EXPECT_EQ(table.handshake_guid, std::nullopt) << distance;
    const auto handshake = find_unaccepted_support(image(kHandshakeGuid, distance));
    EXPECT_EQ(handshake.handshake_guid, kFree) << distance;
    EXPECT_EQ(handshake.table_guid, std::nullopt) << distance;
  }
}

TEST_P(SplitGuid, BeyondTheLimitIsNoGuidButNoNoEither) {
  for (const auto& guid : {kTableGuid, kHandshakeGuid}) {
    const auto file = image(guid, kMostHalvesApart + 1);
    const auto support = find_unaccepted_support(file);
    EXPECT_EQ(support.table_guid, std::nullopt);
    EXPECT_EQ(support.handshake_guid, std::nullopt);
    expect_verdict(file, Knows::kUnknown, Knows::kUnknown);
  }
}

TEST_P(SplitGuid, IsEnoughForAKernelThatAccepts) {
  MadeUpImage image = new_kernel();
  for (const std::size_t at : {kTableGuidAt, kHandshakeGuidAt}) {
    // Each half as the operand of a movabs, 10 bytes from the other.
    const std::vector<std::byte> whole(image.bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                       image.bytes.begin() + static_cast<std::ptrdiff_t>(at + 16));
    const auto begin = image.bytes.begin() + static_cast<std::ptrdiff_t>(at);
    std::copy_n(whole.begin(), 8, begin + (GetParam() ? 10 : 0));
    std::copy_n(whole.begin() + 8, 8, begin + (GetParam() ? 0 : 10));
  }
  expect_verdict(image.file(), Knows::kYes, Knows::kYes);
}

TEST(SplitGuids, HalvesOfDifferentGuidsMakeNone) {
  MadeUpImage image = old_kernel();
  image.put(kFree, std::span{kTableGuid}.first(8));
  image.put(kFree + 8, std::span{kHandshakeGuid}.last(8));
  const auto support = find_unaccepted_support(image.file());
  EXPECT_EQ(support.table_guid, std::nullopt);
  EXPECT_EQ(support.handshake_guid, std::nullopt);
}

}  // namespace
}  // namespace accede::image
