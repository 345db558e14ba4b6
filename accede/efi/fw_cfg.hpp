// What the host tells the firmware through QEMU's firmware configuration device.
#pragma once

#include "accede/abi/fw_cfg.hpp"
#include "accede/firmware/negotiation.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::efi {

enum class FwCfgError : std::uint8_t {
  kTooManyFiles,  ///< the directory counts more files than there are selectors
  kBadName,       ///< a name is empty (so is what lies behind the directory) or has no end
};
[[nodiscard]] std::string_view to_string(FwCfgError error);

/// The device's two ports.
template <class Ports>
concept FwCfgPorts = requires(const Ports& ports, std::uint16_t item) {
  ports.select(item);
  { ports.next_byte() } -> std::same_as<std::uint8_t>;
};

/// The number that the directory begins with. Errors: kTooManyFiles.
[[nodiscard]] std::expected<std::uint32_t, FwCfgError> directory_count(
    std::array<std::uint8_t, 4> raw);

/// The name of a file. Errors: kBadName.
[[nodiscard]] std::expected<std::string_view, FwCfgError> name_of(
    const abi::fw_cfg::DirectoryEntry& entry);

/// Reads the device. A total function of what the host answers: every directory ends, in at most
/// abi::fw_cfg::kMostFiles entries. Thread-compatible.
template <FwCfgPorts Ports>
class FwCfg {
 public:
  explicit FwCfg(Ports ports) : ports_{ports} {}

  /// There is such a device.
  [[nodiscard]] bool is_present() const {
    ports_.select(abi::fw_cfg::kSignatureItem);
    bool same = true;
    for (const char expected : abi::fw_cfg::kSignature) {
      same = ports_.next_byte() == static_cast<std::uint8_t>(expected) && same;
    }
    return same;
  }

  /// Whether there is a file of that name. The whole directory is read: it is right or it is not.
  /// Precondition: is_present(). Errors: all of FwCfgError.
  [[nodiscard]] std::expected<bool, FwCfgError> has_file(std::string_view wanted) const {
    ports_.select(abi::fw_cfg::kDirectoryItem);
    std::array<std::uint8_t, 4> raw{};
    read(raw);
    const auto count = directory_count(raw);
    if (!count) {
      return std::unexpected{count.error()};
    }
    bool found = false;
    for (std::uint32_t i = 0; i < *count; ++i) {
      const abi::fw_cfg::DirectoryEntry entry = next_entry();
      const auto name = name_of(entry);
      if (!name) {
        return std::unexpected{name.error()};
      }
      found = found || *name == wanted;
    }
    return found;
  }

 private:
  void read(std::span<std::uint8_t> to) const {
    for (std::uint8_t& byte : to) {
      byte = ports_.next_byte();
    }
  }
  [[nodiscard]] abi::fw_cfg::DirectoryEntry next_entry() const {
    abi::fw_cfg::DirectoryEntry entry{};
    read(entry.size);
    read(entry.selector);
    read(entry.reserved);
    for (char& letter : entry.name) {
      letter = static_cast<char>(ports_.next_byte());
    }
    return entry;
  }

  Ports ports_;
};

/// What the host wants of the firmware's acceptance. It can only ask for more: the file counts
/// whatever it holds, and a directory that makes no sense counts as one with the file. Without the
/// device, or without the file, nothing is asked for.
template <FwCfgPorts Ports>
[[nodiscard]] firmware::HostWish read_host_wish(Ports ports) {
  const FwCfg device{ports};
  if (!device.is_present()) {
    return firmware::HostWish::kNone;
  }
  return device.has_file(abi::fw_cfg::kForceAcceptFile).value_or(true)
             ? firmware::HostWish::kForceAcceptAll
             : firmware::HostWish::kNone;
}

}  // namespace accede::efi
