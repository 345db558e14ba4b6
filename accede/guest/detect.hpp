// Which confidential platform this code runs on.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/guest/platform.hpp"

#include <cstdint>
#include <expected>
#include <string_view>

namespace accede::guest {

/// What the CPUID instruction left in its registers.
struct CpuidResult {
  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
};

/// Executes CPUID for a leaf and a subleaf.
using ReadCpuid = FunctionRef<CpuidResult(std::uint32_t leaf, std::uint32_t subleaf)>;
/// Reads the MSR SEV_STATUS (C0010131). Called only where CPUID claims SEV-SNP: elsewhere it need
/// not exist.
using ReadSevStatus = FunctionRef<std::uint64_t()>;

struct Detection {
  PlatformKind kind = PlatformKind::kNone;
  unsigned c_bit = 0;             ///< kSnp: position of the encryption bit in page-table entries
  bool coherency_sfw_no = false;  ///< kSnp: pages need no reads after PVALIDATE

  friend bool operator==(const Detection&, const Detection&) = default;
};

enum class DetectError : std::uint8_t {
  kBothClaimed,  ///< CPUID claims TDX and SEV-SNP at once
};
[[nodiscard]] std::string_view to_string(DetectError error);

/// Looks at CPUID as any VM may: maximum leaves first (CPUID answers with something for a leaf that
/// it does not have), then leaf 0x21 "IntelTDX    " and leaf 0x8000001F EAX[4].
///
/// Each leaf is read once and everything is decided from that reading, so that a host whose answers
/// change between reads gets one consistent decision, if a wrong one: it gains a stopped guest. In
/// a TD leaf 0x21 is the module's and not the host's; on SNP the MSR is the hardware's.
///
/// Without the MSR, CPUID alone says kSnp also on an SNP-capable machine that runs no SNP guest:
/// use this form where the caller knows that it runs in a VM and the MSR was read already.
[[nodiscard, gnu::cold]] std::expected<Detection, DetectError> detect_platform(ReadCpuid cpuid);
/// With the MSR: kSnp needs SEV_STATUS bit 2 too.
[[nodiscard, gnu::cold]] std::expected<Detection, DetectError> detect_platform(
    ReadCpuid cpuid, ReadSevStatus sev_status);

}  // namespace accede::guest
