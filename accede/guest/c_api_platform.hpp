// The platform of the C header: chosen at run time, one class for all.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/c_api.h"
#include "accede/guest/platform.hpp"
#include "accede/guest/snp_platform.hpp"
#include "accede/guest/tdx_platform.hpp"

#include <cstdint>
#include <optional>

namespace accede::guest::c_api {

/// The host, through the function pointers of the C header. Thread-safe if they are.
class CallbackTransport {
 public:
  explicit CallbackTransport(const accede_snp_transport& calls) : calls_{calls} {}

  std::uint64_t msr_exchange(std::uint64_t request) {
    return calls_.msr_exchange(calls_.context, request);
  }
  void page_exchange(PhysAddr ghcb) { calls_.page_exchange(calls_.context, ghcb.value()); }
  [[nodiscard]] GhcbRef claim_ghcb() {
    if (calls_.claim_ghcb == nullptr) {
      return {};
    }
    std::uint64_t address = 0;
    void* const page = calls_.claim_ghcb(calls_.context, &address);
    return {.page = static_cast<abi::ghcb::GhcbPage*>(page), .address = PhysAddr{address}};
  }
  void release_ghcb(GhcbRef ghcb) {
    calls_.release_ghcb(calls_.context, ghcb.page, ghcb.address.value());
  }

 private:
  accede_snp_transport calls_;
};
static_assert(PerCpuGhcbTransport<CallbackTransport>);

/// Any of the four platforms of the C header. A model of AcceptPlatform; thread-safe as they are.
class AnyPlatform {
 public:
  /// Precondition: check() found nothing. The TDX module is asked by start().
  AnyPlatform(const accede_platform& platform, PhysWindow window)
      : kind_{platform.kind}, callbacks_{platform.callbacks}, transport_{platform.snp} {
    if (kind_ == ACCEDE_PLATFORM_SNP) {
      snp_.emplace(transport_, window, SnpOptions{.evict_caches = !platform.snp.no_cache_eviction});
    }
  }
  AnyPlatform(const AnyPlatform&) = delete;
  AnyPlatform& operator=(const AnyPlatform&) = delete;

  /// ACCEDE_BAD_ARGUMENT: a callback is missing.
  [[nodiscard]] static accede_status check(const accede_platform& platform);
  [[nodiscard]] accede_status start();

  [[nodiscard]] PlatformResult accept(PhysRange range);
  [[nodiscard]] PlatformResult convert(PhysRange range, Visibility to);
  /// A platform of callbacks counts as TDX: all that matters is that there is one.
  [[nodiscard]] PlatformKind kind() const {
    return kind_ == ACCEDE_PLATFORM_NONE  ? PlatformKind::kNone
           : kind_ == ACCEDE_PLATFORM_SNP ? PlatformKind::kSnp
                                          : PlatformKind::kTdx;
  }
  [[nodiscard]] Bytes preferred_step() const {
    const std::uint64_t step = kind_ == ACCEDE_PLATFORM_CALLBACKS ? callbacks_.preferred_step : 0;
    return step == 0 ? 2_MiB : Bytes{step};
  }

 private:
  [[nodiscard]] static PlatformResult result_of(accede_status status, PhysRange range,
                                                std::uint64_t done_end, std::uint64_t word);

  accede_platform_kind kind_;
  accede_callback_platform callbacks_;
  CallbackTransport transport_;
  std::optional<TdxPlatform> tdx_;
  std::optional<SnpPlatform<CallbackTransport>> snp_;
};
static_assert(AcceptPlatform<AnyPlatform>);

}  // namespace accede::guest::c_api
