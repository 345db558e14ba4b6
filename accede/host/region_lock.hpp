// Internal to accede/host. The lock of a 2M region: any number of faults, or one conversion.
#pragma once

#include <atomic>
#include <cstdint>

namespace accede::host::internal {

/// Bit 31 of a region's word: a conversion; below: faults inside.
inline constexpr std::uint32_t kConversion = 1U << 31;

/// One of any number of faults in a region. Never waits.
class FaultScope {
 public:
  explicit FaultScope(std::atomic<std::uint32_t>& region) : region_{region} {
    entered_ = (region_.fetch_add(1, std::memory_order_acquire) & kConversion) == 0;
  }
  ~FaultScope() { region_.fetch_sub(1, std::memory_order_release); }
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;

  [[nodiscard]] bool entered() const { return entered_; }

 private:
  std::atomic<std::uint32_t>& region_;
  bool entered_;
};

/// The one conversion in a region. Waits for another one, then for the faults that are inside.
class ConversionScope {
 public:
  explicit ConversionScope(std::atomic<std::uint32_t>& region) : region_{region} {
    while ((region_.fetch_or(kConversion, std::memory_order_acquire) & kConversion) != 0) {
      __builtin_ia32_pause();
    }
    while (region_.load(std::memory_order_acquire) != kConversion) {
      __builtin_ia32_pause();
    }
  }
  ~ConversionScope() { region_.fetch_and(~kConversion, std::memory_order_release); }
  ConversionScope(const ConversionScope&) = delete;
  ConversionScope& operator=(const ConversionScope&) = delete;

 private:
  std::atomic<std::uint32_t>& region_;
};

}  // namespace accede::host::internal
