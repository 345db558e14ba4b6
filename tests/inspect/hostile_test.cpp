// Files that were cut off or damaged end in an error or an answer.
#include "accede/inspect/claims.hpp"
#include "accede/inspect/inspect.hpp"
#include "tests/inspect/made_up.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace accede::inspect {
namespace {

using test::ByteVector;

struct Sample {
  std::string name;
  ByteVector file;
};

std::vector<Sample> samples() {
  const std::string config = "CONFIG_INTEL_TDX_GUEST=y\nCONFIG_AMD_MEM_ENCRYPT=y\n";
  const ByteVector flash =
      test::flash({test::driver(test::kAmdSevDxe, {abi::efi::kMemoryAcceptProtocol}),
                   test::driver(test::kTdxDxe, {abi::efi::kMemoryAcceptProtocol})});
  return {
      {"bzimage_gzip", test::bzimage({.config = config})},
      {"bzimage_lzo", test::bzimage({}, Compression::kLzo)},
      {"bzimage_lzma", test::bzimage({}, Compression::kLzma)},
      {"bzimage_zstd", test::bzimage({}, Compression::kZstd)},
      {"vmlinux", test::vmlinux({.config = config})},
      {"uki", test::uki(test::bzimage({}))},
      {"zboot", test::zboot({.config = config})},
      {"flash", flash},
  };
}

class Hostile : public testing::TestWithParam<Sample> {};

void expect_an_answer(std::span<const std::byte> file) {
  const auto report = inspect(file);
  if (!report) {
    EXPECT_FALSE(report.error().message.empty());
    return;
  }
  EXPECT_FALSE(report->verdict.never.empty());
  for (std::size_t i = 0; i < kFeatureCount; ++i) {
    const Capability& capability = (*report)[static_cast<Feature>(i)];
    if (capability.value != image::Knows::kUnknown) {
      EXPECT_FALSE(capability.evidence.empty()) << to_string(static_cast<Feature>(i));
    }
  }
  EXPECT_LE(tags_of(*report).size(), 8U);
}

TEST_P(Hostile, EveryPrefixGivesAnErrorOrAnAnswer) {
  const auto& file = GetParam().file;
  for (std::size_t size = 0; size <= file.size(); ++size) {
    // On the heap and of that size, so that a byte too far is seen.
    const ByteVector prefix(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    expect_an_answer(prefix);
  }
}

TEST_P(Hostile, TenThousandMutationsGiveAnErrorOrAnAnswer) {
  const auto& file = GetParam().file;
  std::mt19937 random{20'000};
  for (int round = 0; round < 10'000; ++round) {
    ByteVector damaged = file;
    const std::size_t changes = 1 + random() % 4;
    // Half of them near the beginning, where the headers are.
    const std::size_t range = round % 2 == 0 ? damaged.size() : std::size_t{0x800};
    for (std::size_t i = 0; i < changes; ++i) {
      const std::size_t at = random() % std::min(range, damaged.size());
      damaged[at] = static_cast<std::byte>(random() % 3 == 0 ? 0xFF : random());
    }
    SCOPED_TRACE("round " + std::to_string(round));
    expect_an_answer(damaged);
  }
}

INSTANTIATE_TEST_SUITE_P(Images, Hostile, testing::ValuesIn(samples()),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace accede::inspect
