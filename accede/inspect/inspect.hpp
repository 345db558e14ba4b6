// What an image can do: kernels and firmware, recognised by their content.
#pragma once

#include "accede/inspect/report.hpp"

#include <cstddef>
#include <expected>
#include <span>
#include <string>

namespace accede::inspect {

struct InspectError {
  /// One line that goes on from the file's name: "is neither ...", "ends inside ...".
  std::string message;
  /// False: no kind of image at all, and a search through a directory passes it over.
  bool recognised = true;
};

/// Inspects `file`, any bytes. Allocates at most kMostUnpacked beyond small amounts, and no more
/// than a small multiple of what the compressed data really unpacks to. Thread-safe.
[[nodiscard]] std::expected<Report, InspectError> inspect(std::span<const std::byte> file);

/// The report about a disk, into which nobody looks: every capability is unknown.
[[nodiscard]] Report report_of_disk(const DiskImage& disk);

/// Most that a kernel, or all volumes of a firmware together, may unpack to.
inline constexpr std::size_t kMostUnpacked = std::size_t{512} << 20;

}  // namespace accede::inspect
