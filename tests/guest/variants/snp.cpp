// A kernel for AMD SEV-SNP alone. `scripts/check guest-variants` links it and sees that nothing of
// another platform came along.
#include "accede/guest/snp_platform.hpp"
#include "tests/guest/variants/program.hpp"

#include <cstdint>

namespace {
struct Transport {
  std::uint64_t msr_exchange(std::uint64_t request) { return request; }
  void page_exchange(accede::PhysAddr) {}
};
}  // namespace

extern "C" [[noreturn]] void _start() {
  Transport transport;
  accede::guest::SnpPlatform platform{transport, accede::PhysWindow{}};
  example::use_memory(platform);
  for (;;) {
  }
}
