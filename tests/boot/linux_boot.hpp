// Stock Linux kernels as guests: booting one, and what holds for each.
#pragma once

#include "tests/boot/accede_run.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

/// Ends the test as skipped when the distribution does not offer the kernel.
#define ACCEDE_SKIP_WITHOUT_KERNEL(boot)                            \
  do {                                                              \
    if (const auto reason = ::accede::test::missing_kernel(boot)) { \
      GTEST_SKIP() << *reason;                                      \
    }                                                               \
  } while (false)

namespace accede::test {

/// Linux's accept step, and so the exactness of every sum.
inline constexpr double kBlock = 4.0 * kMiB;

/// Boots; a failed test unless user space came up. The kernel may be missing: see the macro.
Boot linux_boot(const std::vector<std::string>& options, Seconds most = Seconds{180});

/// The emulator's count against the guest's own: what was pending and is not "Unaccepted" any more
/// was accepted, to the block.
void expect_sums_to_agree(const Boot& result);

/// No rule broken, not even one that does not end the guest.
void expect_a_clean_guest(const Boot& result);

}  // namespace accede::test
