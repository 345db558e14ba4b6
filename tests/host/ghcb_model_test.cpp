// Random exits against the naive reference.
#include "tests/host/ghcb_actions.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace accede::host::test {
namespace {

TEST(GhcbModel, RandomExitsAgreeWithTheNaiveReference) {
  for (unsigned seed = 0; seed < 3000; ++seed) {
    std::mt19937 random{seed};
    std::vector<std::uint8_t> raw(4096);
    for (std::uint8_t& byte : raw) {
      byte = static_cast<std::uint8_t>(random());
    }
    ByteSource bytes{raw};
    GhcbActions actions{seed % 8 != 0};
    while (!bytes.empty()) {
      ASSERT_EQ(actions.step(bytes), "") << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace accede::host::test
