#include "accede/guest/snp_platform.hpp"

namespace accede::guest {

namespace {

/// The seam at its smallest, so that the platform is compiled with the library whoever uses it.
struct NullTransport {
  std::uint64_t msr_exchange(std::uint64_t request) { return request; }
  void page_exchange(PhysAddr) {}
};
struct NullPerCpuTransport : NullTransport {
  GhcbRef claim_ghcb() { return {}; }
  void release_ghcb(GhcbRef) {}
};

static_assert(GhcbTransport<NullTransport> && !PerCpuGhcbTransport<NullTransport>);
static_assert(PerCpuGhcbTransport<NullPerCpuTransport>);
static_assert(AcceptPlatform<SnpPlatform<NullTransport>>);
static_assert(AcceptPlatform<SnpPlatform<NullPerCpuTransport>>);

}  // namespace

template class SnpPlatform<NullTransport>;
template class SnpPlatform<NullPerCpuTransport>;

}  // namespace accede::guest
