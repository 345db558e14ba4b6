// Every EFI_STATUS with its name (UEFI appendix D). efi.hpp has those that programs here compare
// with.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::abi::efi {

/// Set in errors; warnings have small numbers.
inline constexpr std::uint64_t kStatusError = 1ULL << 63;

/// A status of 64-bit firmware and its name.
struct StatusName {
  std::uint64_t code;
  std::string_view name;
};

/// Success, warnings, errors; each in ascending order.
inline constexpr auto kStatusNames = std::to_array<StatusName>({
    {0, "EFI_SUCCESS"},
    {1, "EFI_WARN_UNKNOWN_GLYPH"},
    {2, "EFI_WARN_DELETE_FAILURE"},
    {3, "EFI_WARN_WRITE_FAILURE"},
    {4, "EFI_WARN_BUFFER_TOO_SMALL"},
    {5, "EFI_WARN_STALE_DATA"},
    {6, "EFI_WARN_FILE_SYSTEM"},
    {7, "EFI_WARN_RESET_REQUIRED"},
    {kStatusError | 1, "EFI_LOAD_ERROR"},
    {kStatusError | 2, "EFI_INVALID_PARAMETER"},
    {kStatusError | 3, "EFI_UNSUPPORTED"},
    {kStatusError | 4, "EFI_BAD_BUFFER_SIZE"},
    {kStatusError | 5, "EFI_BUFFER_TOO_SMALL"},
    {kStatusError | 6, "EFI_NOT_READY"},
    {kStatusError | 7, "EFI_DEVICE_ERROR"},
    {kStatusError | 8, "EFI_WRITE_PROTECTED"},
    {kStatusError | 9, "EFI_OUT_OF_RESOURCES"},
    {kStatusError | 10, "EFI_VOLUME_CORRUPTED"},
    {kStatusError | 11, "EFI_VOLUME_FULL"},
    {kStatusError | 12, "EFI_NO_MEDIA"},
    {kStatusError | 13, "EFI_MEDIA_CHANGED"},
    {kStatusError | 14, "EFI_NOT_FOUND"},
    {kStatusError | 15, "EFI_ACCESS_DENIED"},
    {kStatusError | 16, "EFI_NO_RESPONSE"},
    {kStatusError | 17, "EFI_NO_MAPPING"},
    {kStatusError | 18, "EFI_TIMEOUT"},
    {kStatusError | 19, "EFI_NOT_STARTED"},
    {kStatusError | 20, "EFI_ALREADY_STARTED"},
    {kStatusError | 21, "EFI_ABORTED"},
    {kStatusError | 22, "EFI_ICMP_ERROR"},
    {kStatusError | 23, "EFI_TFTP_ERROR"},
    {kStatusError | 24, "EFI_PROTOCOL_ERROR"},
    {kStatusError | 25, "EFI_INCOMPATIBLE_VERSION"},
    {kStatusError | 26, "EFI_SECURITY_VIOLATION"},
    {kStatusError | 27, "EFI_CRC_ERROR"},
    {kStatusError | 28, "EFI_END_OF_MEDIA"},
    {kStatusError | 31, "EFI_END_OF_FILE"},
    {kStatusError | 32, "EFI_INVALID_LANGUAGE"},
    {kStatusError | 33, "EFI_COMPROMISED_DATA"},
    {kStatusError | 34, "EFI_IP_ADDRESS_CONFLICT"},
    {kStatusError | 35, "EFI_HTTP_ERROR"},
});

/// Nothing for a status without a name.
[[nodiscard]] constexpr std::optional<std::string_view> status_name(std::uint64_t code) {
  for (const StatusName& entry : kStatusNames) {
    if (entry.code == code) {
      return entry.name;
    }
  }
  return std::nullopt;
}

}  // namespace accede::abi::efi
