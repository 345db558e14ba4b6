#include "accede/efi/fw_cfg.hpp"

#include <algorithm>

namespace accede::efi {

using namespace std::string_view_literals;

std::string_view to_string(FwCfgError error) {
  switch (error) {
    case FwCfgError::kTooManyFiles:
      return "fw_cfg: the directory counts more files than there can be"sv;
    case FwCfgError::kBadName:
      return "fw_cfg: the directory has a file without a proper name"sv;
  }
  return "fw_cfg: unknown error"sv;
}

std::expected<std::uint32_t, FwCfgError> directory_count(std::array<std::uint8_t, 4> raw) {
  std::uint32_t count = 0;
  for (const std::uint8_t byte : raw) {
    count = count << 8 | byte;
  }
  if (count > abi::fw_cfg::kMostFiles) {
    return std::unexpected{FwCfgError::kTooManyFiles};
  }
  return count;
}

std::expected<std::string_view, FwCfgError> name_of(const abi::fw_cfg::DirectoryEntry& entry) {
  const auto end = std::ranges::find(entry.name, '\0');
  if (end == entry.name.begin() || end == entry.name.end()) {
    return std::unexpected{FwCfgError::kBadName};
  }
  return std::string_view{entry.name.data(), static_cast<std::size_t>(end - entry.name.begin())};
}

}  // namespace accede::efi
