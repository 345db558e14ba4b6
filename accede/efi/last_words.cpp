#include "accede/efi/last_words.hpp"

#include "accede/efi/ghcb_msr.hpp"
#include "accede/efi/kernel/console.hpp"

namespace accede::efi {

using namespace std::string_view_literals;

void LastWords::say_and_stop(std::string_view who, std::string_view what) const {
  const kernel::Console console{kernel::PortIo{platform_ == guest::PlatformKind::kTdx}};
  console.init();
  for (const std::string_view part : {"\n"sv, who, what, "\n"sv}) {
    console.write(part);
  }
  if (platform_ == guest::PlatformKind::kSnp) {
    GhcbMsr{}.terminate(abi::ghcb::kTerminateGeneral);
  }
  firmware_.power_off();
}

}  // namespace accede::efi
