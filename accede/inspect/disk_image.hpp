// Disk images: what they are, not what is on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace accede::inspect {

enum class DiskFormat : std::uint8_t { kRaw, kQcow2 };

/// As QEMU names it.
[[nodiscard]] std::string_view to_string(DiskFormat format);

struct DiskImage {
  DiskFormat format = DiskFormat::kRaw;
  std::uint64_t bytes = 0;      ///< size of the disk
  std::string_view partitions;  ///< raw: "GPT" or "MBR"; else empty
};

/// Bytes that recognise_disk() wants to see, or all of a file that is shorter.
inline constexpr std::size_t kDiskHead = 4096;

/// `head`: the first kDiskHead bytes of a file of `file_size` bytes, any bytes. A raw disk is
/// recognised by its partitions. Nothing when the file is something else. The error, a phrase that
/// goes on from the file's name, is for a qcow2 image that cannot be used by itself or at all: one
/// that needs other files is refused, because it could name any file of the host.
[[nodiscard]] std::expected<std::optional<DiskImage>, std::string> recognise_disk(
    std::span<const std::byte> head, std::uint64_t file_size);

}  // namespace accede::inspect
