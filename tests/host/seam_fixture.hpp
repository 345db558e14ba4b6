// Shared by the tests of SeamModule: a host, and what its calls answer.
#pragma once

#include "accede/host/seam_module.hpp"

#include "tests/host/seam_host.hpp"
#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

namespace accede::host::test {

/// The status word of a call that the model could do.
inline std::uint64_t word(const SeamCall& call) {
  EXPECT_TRUE(call.has_value()) << (call.has_value() ? "" : name(call.error()));
  return call.has_value() ? call->status : ~std::uint64_t{0};
}

}  // namespace accede::host::test
