// The headers of a PE image: an EFI program as it lies in a file.
//
// Source: Microsoft PE/COFF specification; UEFI 2.10 2.1.1 (reference: boot flow 5.2, 5.4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::image {

enum class PeErrorKind : std::uint8_t {
  kNotPe,        ///< no "MZ", or no PE signature where it points
  kTruncated,    ///< headers that the file does not hold
  kNotPe32Plus,  ///< an optional header of another kind, or too short for a subsystem
  kBadSections,  ///< no sections, or more than a loader takes
};

[[nodiscard]] std::string_view to_string(PeErrorKind kind);

struct PeError {
  PeErrorKind kind;
  std::size_t offset = 0;  ///< in the file: of what is wrong

  friend bool operator==(const PeError&, const PeError&) = default;
};

enum class PeMachine : std::uint16_t {
  kI386 = 0x014C,
  kRiscv64 = 0x5064,
  kLoongArch64 = 0x6264,
  kX86_64 = 0x8664,
  kArm64 = 0xAA64,
};

struct PeSection {
  std::string_view name;  ///< eight characters at most, up to the first NUL; may be any bytes
  std::size_t offset;     ///< in the file
  /// What the section holds: its virtual size, when the file has that much of it.
  std::span<const std::byte> content;
};

/// A view of a PE32+ image whose headers and section table lie inside the file. Sections need not:
/// they are checked one by one. Thread-compatible; holds no ownership: the file outlives it.
class PeImage {
 public:
  /// Any bytes. Errors: every PeErrorKind.
  [[nodiscard]] static std::expected<PeImage, PeError> parse(std::span<const std::byte> file);

  /// Any value: PeMachine names those that Linux has an EFI stub for.
  [[nodiscard]] PeMachine machine() const { return machine_; }
  [[nodiscard]] bool is_efi_application() const { return subsystem_ == kEfiApplication; }
  /// In the file: of the field that machine() comes from.
  [[nodiscard]] std::size_t machine_offset() const { return coff_ + 4; }

  [[nodiscard]] std::size_t section_count() const { return section_count_; }
  /// Nothing when its content does not lie in the file. `index` < section_count().
  [[nodiscard]] std::optional<PeSection> section(std::size_t index) const;
  /// Where the last section ends that the file should hold; a file that is shorter was cut off.
  [[nodiscard]] std::uint64_t extent() const;
  /// The first section of that name whose content lies in the file.
  [[nodiscard]] std::optional<PeSection> find_section(std::string_view name) const;
  /// The same for an image as LoadImage placed it, that parse() was given in place of a file: the
  /// section lies at its virtual address, which `offset` is then.
  [[nodiscard]] std::optional<PeSection> find_placed_section(std::string_view name) const;

 private:
  static constexpr std::uint16_t kEfiApplication = 10;

  [[nodiscard]] std::string_view section_name(std::size_t index) const;

  PeImage() = default;

  std::span<const std::byte> file_;
  std::size_t coff_ = 0;  ///< of the PE signature, which the COFF header follows
  std::size_t sections_ = 0;
  std::size_t section_count_ = 0;
  PeMachine machine_{};
  std::uint16_t subsystem_ = 0;
};

}  // namespace accede::image
