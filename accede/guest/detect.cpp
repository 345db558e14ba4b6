#include "accede/guest/detect.hpp"

#include "accede/abi/sev.hpp"
#include "accede/abi/tdx.hpp"

namespace accede::guest {

namespace {

constexpr std::uint32_t kBasicLeaves = 0;
constexpr std::uint32_t kExtendedLeaves = 0x8000'0000;

bool claims_tdx(ReadCpuid cpuid) {
  if (cpuid(kBasicLeaves, 0).eax < abi::tdx::kCpuidLeaf) {
    return false;
  }
  const CpuidResult leaf = cpuid(abi::tdx::kCpuidLeaf, 0);
  return leaf.ebx == abi::tdx::kCpuidEbx && leaf.edx == abi::tdx::kCpuidEdx &&
         leaf.ecx == abi::tdx::kCpuidEcx;
}

/// Leaf 0x8000001F, or zeros where there is none. A processor without extended leaves answers
/// 0x80000000 with some other leaf's data: that has no 0x8000 on top.
CpuidResult sev_leaf(ReadCpuid cpuid) {
  const std::uint32_t max = cpuid(kExtendedLeaves, 0).eax;
  if (max >> 16 != kExtendedLeaves >> 16 || max < abi::sev::kCpuidLeaf) {
    return {};
  }
  return cpuid(abi::sev::kCpuidLeaf, 0);
}

std::expected<Detection, DetectError> detect(ReadCpuid cpuid, const ReadSevStatus* sev_status) {
  using EbxFields = abi::sev::CpuidEbx;
  const bool tdx = claims_tdx(cpuid);
  const CpuidResult sev = sev_leaf(cpuid);
  const bool snp = (sev.eax & abi::sev::kEaxSevSnp) != 0;
  if (tdx && snp) {
    return std::unexpected{DetectError::kBothClaimed};
  }
  if (tdx) {
    return Detection{.kind = PlatformKind::kTdx};
  }
  if (!snp || (sev_status != nullptr && ((*sev_status)() & abi::sev::kStatusSevSnp) == 0)) {
    return Detection{};
  }
  return Detection{.kind = PlatformKind::kSnp,
                   .c_bit = EbxFields::CBitPosition::get(sev.ebx),
                   .coherency_sfw_no = EbxFields::CoherencySfwNo::get(sev.ebx) != 0};
}

}  // namespace

std::string_view to_string(DetectError error) {
  switch (error) {
    case DetectError::kBothClaimed:
      return "CPUID claims Intel TDX and AMD SEV-SNP at once"sv;
  }
  return "unknown detection error"sv;
}

std::expected<Detection, DetectError> detect_platform(ReadCpuid cpuid) {
  return detect(cpuid, nullptr);
}

std::expected<Detection, DetectError> detect_platform(ReadCpuid cpuid, ReadSevStatus sev_status) {
  return detect(cpuid, &sev_status);
}

}  // namespace accede::guest
