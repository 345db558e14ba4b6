#include "accede/efi/last_words.hpp"

#include "accede/efi/ghcb_msr.hpp"
#include "accede/efi/kernel/console.hpp"

namespace accede::efi {

using namespace std::string_view_literals;

void LastWords::say_and_stop(std::string_view who, std::string_view what) const {
  using guest::PlatformKind;
  // An SNP program has no GHCB here that port I/O could go through.
  const bool is_tdx = platform_ == PlatformKind::kTdx;
  const kernel::HostLink host{.kind = is_tdx ? PlatformKind::kTdx : PlatformKind::kNone};
  const kernel::Console console{kernel::PortIo{host}};
  console.init();
  for (const std::string_view part : {"\n"sv, who, what, "\n"sv}) {
    console.write(part);
  }
  if (platform_ == PlatformKind::kSnp) {
    GhcbMsr{}.terminate(abi::ghcb::kTerminateGeneral);
  }
  firmware_.power_off();
}

}  // namespace accede::efi
