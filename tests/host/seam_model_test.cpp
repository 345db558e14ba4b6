#include "tests/host/seam_actions.hpp"
#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace accede::host {
namespace {

class SeamModel : public testing::TestWithParam<std::uint64_t> {};

/// To repeat a failure: ACCEDE_TEST_SEED=<seed printed>.
TEST_P(SeamModel, MatchesANaiveReferenceUnderRandomCalls) {
  const std::uint64_t seed = test::seed_from_environment(GetParam());
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random{seed};
  test::SeamActions actions;
  std::vector<std::uint8_t> bytes(128);
  for (unsigned i = 0; i < 6000; ++i) {
    for (std::uint8_t& byte : bytes) {
      byte = static_cast<std::uint8_t>(random());
    }
    test::ByteSource source{bytes};
    const std::string problem = actions.step(source);
    ASSERT_EQ(problem, "") << "step " << i << ", ACCEDE_TEST_SEED=" << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SeamModel, testing::Range<std::uint64_t>(1, 7));

}  // namespace
}  // namespace accede::host
