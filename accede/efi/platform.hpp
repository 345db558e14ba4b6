// The confidential platform that a UEFI program finds itself on, decided at run time.
#pragma once

#include "accede/guest/detect.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/tdx_platform.hpp"

#include <expected>
#include <optional>
#include <string_view>

namespace accede::efi {

/// TDX, or none. A model of AcceptPlatform. Thread-safe.
class MachinePlatform {
 public:
  /// What this processor says. Errors: a phrase for the user.
  [[nodiscard]] static std::expected<MachinePlatform, std::string_view> detect();

  [[nodiscard]] guest::PlatformResult accept(PhysRange range);
  [[nodiscard]] guest::PlatformResult convert(PhysRange range, guest::Visibility to);
  [[nodiscard]] guest::PlatformKind kind() const;
  [[nodiscard]] Bytes preferred_step() const { return 2_MiB; }

  [[nodiscard]] bool is_tdx() const { return tdx_.has_value(); }

 private:
  MachinePlatform() = default;

  std::optional<guest::TdxPlatform> tdx_;
  [[no_unique_address]] guest::NoPlatform none_;
};
static_assert(guest::AcceptPlatform<MachinePlatform>);

}  // namespace accede::efi
