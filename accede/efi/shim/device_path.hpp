// Device paths: which file on which device.
//
// Source: UEFI specification 2.10 10.2, 10.3.
#pragma once

#include "accede/efi/firmware.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::efi::shim {

/// One node of a device path, without its end.
class DevicePathNode {
 public:
  explicit DevicePathNode(std::span<const std::byte> bytes) : bytes_{bytes} {}

  /// A piece of a file's path.
  [[nodiscard]] bool is_file() const {
    return bytes_[0] == std::byte{4} && bytes_[1] == std::byte{4};
  }
  /// Of a file node: UTF-16 characters, a zero at the end or not.
  [[nodiscard]] std::size_t characters() const { return (bytes_.size() - kHeader) / 2; }
  /// Precondition: index < characters().
  [[nodiscard]] abi::efi::Char16 character(std::size_t index) const;
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  static constexpr std::size_t kHeader = sizeof(abi::efi::DevicePath);

 private:
  std::span<const std::byte> bytes_;
};

/// Reads a device path, which does not say how long it is: up to its end, to the first node that
/// cannot be one, or to kMostBytes.
class DevicePathReader {
 public:
  /// `path`: nullptr or a device path of the firmware's.
  explicit DevicePathReader(const abi::efi::DevicePath* path)
      : at_{reinterpret_cast<const std::byte*>(path)} {}

  [[nodiscard]] std::optional<DevicePathNode> next();

  static constexpr std::size_t kMostBytes = 4096;

 private:
  const std::byte* at_;
  std::size_t used_ = 0;
};

/// The device path of the file `path` on `device`, in pool memory; nullptr when the device has
/// none.
[[nodiscard]] Result<abi::efi::DevicePath*> make_file_path(const Firmware& firmware,
                                                           abi::efi::Handle device,
                                                           std::string_view path);

}  // namespace accede::efi::shim
