// Every status of a command to the SEV firmware on the security processor, with the vendor's name
// (SNP firmware ABI: status codes). rmp.hpp has those that the page states cause.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::abi::rmp {

/// A status and the vendor's name of it.
struct FirmwareStatusName {
  std::uint32_t code;
  std::string_view name;
};

/// In ascending order. From 0x30 on: attestation over SPDM and trusted devices, newer firmware.
inline constexpr auto kFirmwareStatusNames = std::to_array<FirmwareStatusName>({
    {0x00, "SUCCESS"},
    {0x01, "INVALID_PLATFORM_STATE"},
    {0x02, "INVALID_GUEST_STATE"},
    {0x03, "INVALID_CONFIG"},
    {0x04, "INVALID_LENGTH"},
    {0x05, "ALREADY_OWNED"},
    {0x06, "INVALID_CERTIFICATE"},
    {0x07, "POLICY_FAILURE"},
    {0x08, "INACTIVE"},
    {0x09, "INVALID_ADDRESS"},
    {0x0A, "BAD_SIGNATURE"},
    {0x0B, "BAD_MEASUREMENT"},
    {0x0C, "ASID_OWNED"},
    {0x0D, "INVALID_ASID"},
    {0x0E, "WBINVD_REQUIRED"},
    {0x0F, "DFFLUSH_REQUIRED"},
    {0x10, "INVALID_GUEST"},
    {0x11, "INVALID_COMMAND"},
    {0x12, "ACTIVE"},
    {0x13, "HWERROR_PLATFORM"},
    {0x14, "HWERROR_UNSAFE"},
    {0x15, "UNSUPPORTED"},
    {0x16, "INVALID_PARAM"},
    {0x17, "RESOURCE_LIMIT"},
    {0x18, "SECURE_DATA_INVALID"},
    {0x19, "INVALID_PAGE_SIZE"},
    {0x1A, "INVALID_PAGE_STATE"},
    {0x1B, "INVALID_MDATA_ENTRY"},
    {0x1C, "INVALID_PAGE_OWNER"},
    {0x1D, "AEAD_OFLOW"},
    {0x1F, "EXIT_RING_BUFFER"},
    {0x20, "RMP_INIT_REQUIRED"},
    {0x21, "BAD_SVN"},
    {0x22, "BAD_VERSION"},
    {0x23, "SHUTDOWN_REQUIRED"},
    {0x24, "UPDATE_FAILED"},
    {0x25, "RESTORE_REQUIRED"},
    {0x26, "RMP_INITIALIZATION_FAILED"},
    {0x27, "INVALID_KEY"},
    {0x28, "SHUTDOWN_INCOMPLETE"},
    {0x30, "INCORRECT_BUFFER_LENGTH"},
    {0x31, "EXPAND_BUFFER_LENGTH_REQUEST"},
    {0x32, "SPDM_REQUEST"},
    {0x33, "SPDM_ERROR"},
    {0x35, "ERR_IN_DEV_CONN"},
    {0x36, "INVALID_DEV_CTX"},
    {0x37, "INVALID_TDI_CTX"},
    {0x38, "INVALID_TDI"},
    {0x39, "RECLAIM_REQUIRED"},
    {0x3A, "IN_USE"},
    {0x3B, "INVALID_DEV_STATE"},
    {0x3C, "INVALID_TDI_STATE"},
    {0x3D, "DEV_CERT_CHANGED"},
    {0x3E, "RESYNC_REQ"},
    {0x3F, "RESPONSE_TOO_LARGE"},
});

/// Nothing for a status without a name.
[[nodiscard]] constexpr std::optional<std::string_view> firmware_status_name(std::uint64_t code) {
  for (const FirmwareStatusName& entry : kFirmwareStatusNames) {
    if (entry.code == code) {
      return entry.name;
    }
  }
  return std::nullopt;
}

}  // namespace accede::abi::rmp
