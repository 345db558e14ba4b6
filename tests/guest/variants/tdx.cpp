// A kernel for Intel TDX alone. `scripts/check guest-variants` links it and sees that nothing of
// another platform came along.
#include "accede/guest/tdx_platform.hpp"
#include "tests/guest/variants/program.hpp"

extern "C" [[noreturn]] void _start() {
  auto platform = accede::guest::TdxPlatform::make();
  if (platform) {
    example::use_memory(*platform);
  }
  for (;;) {
  }
}
