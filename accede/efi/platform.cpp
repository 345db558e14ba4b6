#include "accede/efi/platform.hpp"

#include "accede/emulator/cpu.hpp"

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

guest::CpuidResult read_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  const auto answer = emulator::cpu::cpuid(leaf, subleaf);
  return {.eax = answer.eax, .ebx = answer.ebx, .ecx = answer.ecx, .edx = answer.edx};
}

constexpr std::uint32_t kSevStatusMsr = 0xC001'0131;

}  // namespace

std::expected<MachinePlatform, std::string_view> MachinePlatform::detect() {
  const auto found =
      guest::detect_platform(read_cpuid, [] { return emulator::cpu::read_msr(kSevStatusMsr); });
  if (!found) {
    return std::unexpected{guest::to_string(found.error())};
  }
  MachinePlatform platform;
  switch (found->kind) {
    case guest::PlatformKind::kTdx: {
      const auto tdx = guest::TdxPlatform::make();
      if (!tdx) {
        return std::unexpected{guest::to_string(tdx.error())};
      }
      platform.tdx_.emplace(*tdx);
      break;
    }
    case guest::PlatformKind::kSnp:
      return std::unexpected{"SEV-SNP is not supported by this program yet"sv};
    case guest::PlatformKind::kNone:
      break;
  }
  return platform;
}

guest::PlatformResult MachinePlatform::accept(PhysRange range) {
  return tdx_ ? tdx_->accept(range) : none_.accept(range);
}

guest::PlatformResult MachinePlatform::convert(PhysRange range, guest::Visibility to) {
  return tdx_ ? tdx_->convert(range, to) : none_.convert(range, to);
}

guest::PlatformKind MachinePlatform::kind() const {
  return tdx_ ? guest::PlatformKind::kTdx : guest::PlatformKind::kNone;
}

}  // namespace accede::efi
