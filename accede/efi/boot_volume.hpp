// Files on the volume that a program was started from.
#pragma once

#include "accede/efi/firmware.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace accede::efi {

/// Open as long as the object lives.
class BootFile {
 public:
  BootFile(abi::efi::FileProtocol* file, std::uint64_t bytes) : file_{file}, bytes_{bytes} {}
  BootFile(BootFile&& other) noexcept
      : file_{std::exchange(other.file_, nullptr)}, bytes_{other.bytes_} {}
  BootFile& operator=(BootFile&&) = delete;
  ~BootFile() {
    if (file_ != nullptr) {
      file_->close(file_);
    }
  }

  /// Size of the file, as the firmware says it.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// The next bytes of the file, as many as `to` holds.
  [[nodiscard]] Result<void> read(std::span<std::byte> to) const;

 private:
  abi::efi::FileProtocol* file_;
  std::uint64_t bytes_;
};

/// The root of the volume, open as long as the object lives.
class BootVolume {
 public:
  static constexpr std::size_t kMostPath = 255;  ///< characters

  /// By the device that the program's own image came from.
  [[nodiscard]] static Result<BootVolume> open(const Firmware& firmware);
  /// The volume that `device` has.
  [[nodiscard]] static Result<BootVolume> open(const Firmware& firmware, abi::efi::Handle device);
  BootVolume(BootVolume&& other) noexcept : root_{std::exchange(other.root_, nullptr)} {}
  BootVolume& operator=(BootVolume&&) = delete;
  ~BootVolume() {
    if (root_ != nullptr) {
      root_->close(root_);
    }
  }

  /// The file at `path` (backslashes), for reading.
  [[nodiscard]] Result<BootFile> open_file(std::string_view path) const;

 private:
  explicit BootVolume(abi::efi::FileProtocol* root) : root_{root} {}

  abi::efi::FileProtocol* root_;
};

}  // namespace accede::efi
