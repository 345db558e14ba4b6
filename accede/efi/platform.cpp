#include "accede/efi/platform.hpp"

#include "accede/abi/sev.hpp"

#include <utility>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

/// The version that our GHCB pages and page-state lists have.
constexpr std::uint16_t kGhcbVersion = 2;

std::expected<void, std::string_view> check_host(GhcbMsr& host) {
  using namespace abi::ghcb;
  const auto info = sev_info_of(host.msr_exchange(msr_word(MsrCode::kSevInfoRequest)));
  if (!info || info->min_version > kGhcbVersion || info->max_version < kGhcbVersion) {
    return std::unexpected{"the host does not speak version 2 of the GHCB protocol"sv};
  }
  const std::uint64_t features = host.msr_exchange(msr_word(MsrCode::kHvFeaturesRequest));
  if (code_of(features) != MsrCode::kHvFeaturesResponse ||
      (MsrWord::Payload::get(features) & kHvFeatureSnp) == 0) {
    return std::unexpected{"the host does not offer SEV-SNP's page state changes"sv};
  }
  return {};
}

}  // namespace

guest::CpuidResult read_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  const auto answer = emulator::cpu::cpuid(leaf, subleaf);
  return {.eax = answer.eax, .ebx = answer.ebx, .ecx = answer.ecx, .edx = answer.edx};
}

MachinePlatform::MachinePlatform(Key, const guest::Detection& snp)
    : snp_{std::in_place, ghcb_msr_, PhysWindow{},
           guest::SnpOptions{.evict_caches = !snp.coherency_sfw_no, .ghcb_version = kGhcbVersion}},
      private_mask_{1ULL << snp.c_bit} {}

std::expected<MachinePlatform, std::string_view> MachinePlatform::detect() {
  using Detected = std::expected<MachinePlatform, std::string_view>;
  const auto found = guest::detect_platform(
      read_cpuid, [] { return emulator::cpu::read_msr(abi::sev::kMsrSevStatus); });
  if (!found) {
    return Detected{std::unexpect, guest::to_string(found.error())};
  }
  switch (found->kind) {
    case guest::PlatformKind::kTdx: {
      const auto tdx = guest::TdxPlatform::make();
      if (!tdx) {
        return Detected{std::unexpect, guest::to_string(tdx.error())};
      }
      return Detected{std::in_place, Key{}, *tdx};
    }
    case guest::PlatformKind::kSnp: {
      GhcbMsr host;
      if (const auto good = check_host(host); !good) {
        return Detected{std::unexpect, good.error()};
      }
      return Detected{std::in_place, Key{}, *found};
    }
    case guest::PlatformKind::kNone:
      break;
  }
  return Detected{std::in_place, Key{}};
}

guest::PlatformResult MachinePlatform::accept(PhysRange range) {
  return tdx_ ? tdx_->accept(range) : snp_ ? snp_->accept(range) : none_.accept(range);
}

guest::PlatformResult MachinePlatform::convert(PhysRange range, guest::Visibility to) {
  return tdx_   ? tdx_->convert(range, to)
         : snp_ ? snp_->convert(range, to)
                : none_.convert(range, to);
}

guest::PlatformKind MachinePlatform::kind() const {
  return tdx_   ? guest::PlatformKind::kTdx
         : snp_ ? guest::PlatformKind::kSnp
                : guest::PlatformKind::kNone;
}

Bytes MachinePlatform::preferred_step() const {
  return tdx_ ? tdx_->preferred_step() : snp_ ? snp_->preferred_step() : none_.preferred_step();
}

void MachinePlatform::use_ghcb(abi::ghcb::GhcbPage* page, PhysAddr address) {
  ACCEDE_ASSERT(snp_.has_value());
  snp_->use_ghcb(page, address);
}

}  // namespace accede::efi
