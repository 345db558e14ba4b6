// The files in a flash image's firmware volumes, compressed volumes unpacked.
//
// Source: UEFI PI specification 1.8, volume 3 (reference: boot flow 6.2).
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/image/pe.hpp"

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accede::inspect {

struct FirmwareFile {
  abi::efi::Guid name;
  std::uint8_t type = 0;
  /// With its sections; what is compressed in them is not part of it.
  std::span<const std::byte> content;
  /// Where `offset` counts from: "file", or the section that was unpacked.
  std::string place;
  std::uint64_t offset = 0;          ///< of the file's header
  std::uint64_t content_offset = 0;  ///< of `content`
  /// Of the first PE image among its sections.
  std::optional<image::PeMachine> machine;
};

/// Thread-compatible; views the flash, which outlives it.
class FirmwareVolumes {
 public:
  /// Walks every volume of `flash`, any bytes. Nests and unpacks within limits (kMostDepth,
  /// kMostUnpacked); what is beyond them, or not sound, is left out and named in problems().
  explicit FirmwareVolumes(std::span<const std::byte> flash);

  FirmwareVolumes(const FirmwareVolumes&) = delete;
  FirmwareVolumes& operator=(const FirmwareVolumes&) = delete;

  [[nodiscard]] const std::vector<FirmwareFile>& files() const { return files_; }
  /// The first of that name.
  [[nodiscard]] const FirmwareFile* find(const abi::efi::Guid& name) const;
  /// Where the first volume begins in the flash.
  [[nodiscard]] std::optional<std::size_t> first_volume() const { return first_volume_; }
  /// Where a volume begins that the flash does not hold to its end.
  [[nodiscard]] std::optional<std::size_t> truncated_volume() const { return truncated_volume_; }
  /// Empty: every file of every volume was seen. One line each.
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

  static constexpr unsigned kMostDepth = 8;

 private:
  /// Bytes that are looked at: a part of the flash or of something unpacked.
  struct Part {
    std::span<const std::byte> bytes;
    std::string_view place;
    std::uint64_t base = 0;  ///< of `bytes` in the place
    unsigned depth = 0;

    [[nodiscard]] Part sub(std::size_t offset, std::size_t size) const {
      return {bytes.subspan(offset, size), place, base + offset, depth};
    }
  };

  void walk_volumes(const Part& part);
  void walk_volume(const Part& volume);
  /// The bytes that the file at the start of `rest` takes; 0 when there is none.
  std::size_t read_file(const Part& rest, bool large_files);
  void walk_sections(const Part& sections);
  void walk_section(const Part& section, std::uint8_t type, std::size_t header);
  void walk_guided_section(const Part& section, std::size_t header);
  void unpack(const Part& section, std::size_t data);
  void problem(const Part& where, std::string_view what);

  std::vector<FirmwareFile> files_;
  std::list<std::vector<std::byte>> unpacked_;
  std::list<std::string> places_;
  std::size_t unpacked_size_ = 0;
  std::optional<std::size_t> first_volume_;
  std::optional<std::size_t> truncated_volume_;
  std::vector<std::string> problems_;
};

}  // namespace accede::inspect
