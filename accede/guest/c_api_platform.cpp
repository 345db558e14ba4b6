#include "accede/guest/c_api_platform.hpp"

#include "accede/guest/c_api_state.hpp"
#include "accede/guest/detect.hpp"

#include <algorithm>

namespace accede::guest::c_api {

namespace {

CpuidResult read_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidResult result{.eax = leaf, .ebx = 0, .ecx = subleaf, .edx = 0};
  asm volatile("cpuid" : "+a"(result.eax), "=b"(result.ebx), "+c"(result.ecx), "=d"(result.edx));
  return result;
}

std::uint64_t read_sev_status() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xC0010131U));
  return std::uint64_t{high} << 32 | low;
}

}  // namespace

accede_status AnyPlatform::check(const accede_platform& platform) {
  const accede_snp_transport& snp = platform.snp;
  const accede_callback_platform& calls = platform.callbacks;
  const std::uint64_t step = calls.preferred_step;
  switch (platform.kind) {
    case ACCEDE_PLATFORM_NONE:
    case ACCEDE_PLATFORM_TDX:
      return ACCEDE_OK;
    case ACCEDE_PLATFORM_SNP: {
      const bool all =
          snp.claim_ghcb != nullptr && snp.page_exchange != nullptr && snp.release_ghcb != nullptr;
      const bool none =
          snp.claim_ghcb == nullptr && snp.page_exchange == nullptr && snp.release_ghcb == nullptr;
      return snp.msr_exchange != nullptr && (all || none) ? ACCEDE_OK : ACCEDE_BAD_ARGUMENT;
    }
    case ACCEDE_PLATFORM_CALLBACKS: {
      const bool good_step = step == 0 || (step >= 4096 && is_alignment(step));
      return calls.accept != nullptr && good_step ? ACCEDE_OK : ACCEDE_BAD_ARGUMENT;
    }
  }
  return ACCEDE_BAD_ARGUMENT;
}

accede_status AnyPlatform::start() {
  if (kind_ != ACCEDE_PLATFORM_TDX) {
    return ACCEDE_OK;
  }
  const auto tdx = TdxPlatform::make();
  if (!tdx) {
    return numbered(kTdxErrors, tdx.error());
  }
  tdx_ = *tdx;
  return ACCEDE_OK;
}

PlatformResult AnyPlatform::accept(PhysRange range) {
  if (tdx_) {
    return tdx_->accept(range);
  }
  if (snp_) {
    return snp_->accept(range);
  }
  if (kind_ == ACCEDE_PLATFORM_NONE) {
    return NoPlatform{}.accept(range);
  }
  std::uint64_t done_end = range.begin().value();
  std::uint64_t word = 0;
  const accede_status status = callbacks_.accept(callbacks_.context, range.begin().value(),
                                                 range.end().value(), &done_end, &word);
  return result_of(status, range, done_end, word);
}

PlatformResult AnyPlatform::convert(PhysRange range, Visibility to) {
  if (tdx_) {
    return tdx_->convert(range, to);
  }
  if (snp_) {
    return snp_->convert(range, to);
  }
  if (kind_ == ACCEDE_PLATFORM_NONE) {
    return NoPlatform{}.convert(range, to);
  }
  std::uint64_t done_end = range.begin().value();
  std::uint64_t word = 0;
  const accede_status status =
      callbacks_.convert == nullptr
          ? ACCEDE_UNSUPPORTED
          : callbacks_.convert(callbacks_.context, range.begin().value(), range.end().value(),
                               to == Visibility::kShared, &done_end, &word);
  return result_of(status, range, done_end, word);
}

/// What a callback says was done is held inside the request and to whole pages.
PlatformResult AnyPlatform::result_of(accede_status status, PhysRange range, std::uint64_t done_end,
                                      std::uint64_t word) {
  if (status == ACCEDE_OK) {
    return {};
  }
  const bool known = status >= ACCEDE_ALREADY_ACCEPTED && status <= ACCEDE_UNSUPPORTED;
  const PhysAddr done =
      std::clamp(PhysAddr{done_end}.align_down(4_KiB), range.begin(), range.end());
  return std::unexpected{
      PlatformFailure{.kind = known ? static_cast<FailureKind>(status - ACCEDE_ALREADY_ACCEPTED)
                                    : FailureKind::kRefused,
                      .status = word,
                      .at = done,
                      .size = PageSize::k4K,
                      .done_end = done}};
}

}  // namespace accede::guest::c_api

using namespace accede::guest;

accede_status accede_detect(accede_detection* out) {
  if (out == nullptr) {
    return ACCEDE_BAD_ARGUMENT;
  }
  const auto found = detect_platform(
      [](std::uint32_t leaf, std::uint32_t subleaf) { return c_api::read_cpuid(leaf, subleaf); },
      [] { return c_api::read_sev_status(); });
  if (!found) {
    return c_api::numbered(c_api::kDetectErrors, found.error());
  }
  static_assert(static_cast<unsigned>(PlatformKind::kTdx) == ACCEDE_PLATFORM_TDX);
  static_assert(static_cast<unsigned>(PlatformKind::kSnp) == ACCEDE_PLATFORM_SNP);
  *out = {.kind = static_cast<accede_platform_kind>(found->kind),
          .c_bit = found->c_bit,
          .coherency_sfw_no = found->coherency_sfw_no};
  return ACCEDE_OK;
}
