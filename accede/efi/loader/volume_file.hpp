// A file on the volume that the loader was started from, read without a second copy in memory.
#pragma once

#include "accede/efi/boot_volume.hpp"
#include "accede/efi/loader/problem.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace accede::efi::loader {

/// Open as long as the object lives. The path outlives it.
class VolumeFile {
 public:
  /// Errors: LoadError (an empty file too), InvalidParameter.
  [[nodiscard]] static Outcome<VolumeFile> open(const Firmware& firmware, std::string_view path);

  [[nodiscard]] Bytes size() const { return Bytes{file_.bytes()}; }
  [[nodiscard]] std::string_view path() const { return path_; }

  /// The whole file into `memory`, through a buffer of the firmware's: its drivers need not be able
  /// to reach `memory`. Once. Errors: LoadError, OutOfResources.
  /// Precondition: `memory` has size() bytes.
  [[nodiscard]] Outcome<void> read(const Firmware& firmware, std::span<std::byte> memory) const;

 private:
  VolumeFile(BootFile file, std::string_view path) : file_{std::move(file)}, path_{path} {}

  [[nodiscard]] Outcome<void> read_through(std::span<std::byte> buffer,
                                           std::span<std::byte> memory) const;

  BootFile file_;
  std::string_view path_;
};

}  // namespace accede::efi::loader
