// A kernel for ordinary machines alone. `scripts/check guest-variants` links it and sees that
// nothing of another platform came along.
#include "accede/guest/platform.hpp"
#include "tests/guest/variants/program.hpp"

extern "C" [[noreturn]] void _start() {
  accede::guest::NoPlatform platform;
  example::use_memory(platform);
  for (;;) {
  }
}
