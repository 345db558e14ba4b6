#include "tests/host/sept_actions.hpp"
#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <random>

namespace accede::host {
namespace {

/// Plays `steps` random actions. To repeat a failure: ACCEDE_TEST_SEED=<seed printed>.
void play(std::uint64_t seed, Bytes storage, unsigned steps) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random{seed};
  test::SeptActions actions{storage, true};
  std::vector<std::uint8_t> bytes(12288);
  for (unsigned i = 0; i < steps; ++i) {
    for (std::uint8_t& byte : bytes) {
      byte = static_cast<std::uint8_t>(random());
    }
    test::ByteSource source{bytes};
    const std::string problem = actions.step(source);
    ASSERT_EQ(problem, "") << "step " << i << ", ACCEDE_TEST_SEED=" << seed;
  }
}

class SecureEptModel : public testing::TestWithParam<std::uint64_t> {};

TEST_P(SecureEptModel, MatchesANaiveReferenceUnderRandomActions) {
  play(test::seed_from_environment(GetParam()), 1_MiB, 800);
}

TEST_P(SecureEptModel, MatchesItWithHardlyAnyStorage) {
  for (const std::uint64_t tables : {1ULL, 3ULL, 6ULL, 9ULL}) {
    play(test::seed_from_environment(GetParam()) + 1000 * tables, 4_KiB * tables, 200);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SecureEptModel, testing::Range<std::uint64_t>(1, 7));

}  // namespace
}  // namespace accede::host
