// Random page state change lists, in bulk, against the naive reference.
#include "tests/host/psc_actions.hpp"

#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace accede::host::test {
namespace {

TEST(PscModel, RandomListsInBulkAgreeWithANaiveMapAndKvmsWords) {
  const std::uint64_t first = seed_from_environment(0);
  for (std::uint64_t seed = first; seed < first + 400; ++seed) {
    std::mt19937_64 random{seed};
    std::vector<std::uint8_t> raw(8192);
    for (std::uint8_t& byte : raw) {
      byte = static_cast<std::uint8_t>(random());
    }
    ByteSource bytes{raw};
    PscActions actions;
    while (!bytes.empty()) {
      ASSERT_EQ(actions.step(bytes), "") << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace accede::host::test
