// The table of GUIDs at the end of a flash image, and the SEV and TDX metadata that it leads to.
//
// Source: edk2 OvmfPkg/ResetVector; Intel TDX Virtual Firmware Design Guide 11 (reference: boot
// flow 6.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace accede::inspect {

/// A section of either metadata: what it is for, by number.
struct MetadataSection {
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  std::uint32_t type = 0;
};

struct FirmwareMetadata {
  std::size_t offset = 0;  ///< of its signature, in the file
  std::vector<MetadataSection> sections;

  [[nodiscard]] bool has(std::uint32_t type) const;
};

// Types of sections.
inline constexpr std::uint32_t kSevSecretsPage = 2;
inline constexpr std::uint32_t kSevCpuidPage = 3;
inline constexpr std::uint32_t kSevSvsmCallingArea = 4;
inline constexpr std::uint32_t kSevKernelHashes = 0x10;
inline constexpr std::uint32_t kTdxBootVolume = 0;
inline constexpr std::uint32_t kTdxHob = 2;

struct FirmwareTables {
  std::optional<std::size_t> footer;        ///< the table's own GUID
  std::optional<std::size_t> sev_es_reset;  ///< entries: where their data begins
  std::optional<std::size_t> igvm;
  std::optional<FirmwareMetadata> sev;
  std::optional<FirmwareMetadata> tdx;
  std::vector<std::string> problems;  ///< one line each; what they concern is left out
};

/// Any bytes.
[[nodiscard]] FirmwareTables read_firmware_tables(std::span<const std::byte> flash);

}  // namespace accede::inspect
