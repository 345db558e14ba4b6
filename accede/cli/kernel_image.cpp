#include "accede/cli/kernel_image.hpp"

#include "accede/base/byte_reader.hpp"
#include "accede/cli/file_text.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace accede::cli {
namespace {

// Linux boot protocol (Documentation/arch/x86/boot.rst): the setup header.
constexpr std::size_t kSetupSects = 0x1F1;
constexpr std::size_t kSysSize = 0x1F4;
constexpr std::size_t kBootFlag = 0x1FE;
constexpr std::size_t kHdrS = 0x202;
constexpr std::size_t kProtocolVersion = 0x206;
constexpr std::size_t kKernelVersion = 0x20E;
constexpr std::size_t kLoadFlagsX = 0x236;
constexpr std::uint16_t kBootFlagMagic = 0xAA55;
constexpr std::uint32_t kHdrSMagic = 0x53726448;
constexpr std::uint16_t kFirst64Bit = 0x020C;  // the first with xloadflags
constexpr std::uint16_t kXlfKernel64 = 1;
constexpr std::size_t kSector = 512;
constexpr std::size_t kParagraph = 16;

// PE/COFF.
constexpr std::uint16_t kMz = 0x5A4D;
constexpr std::uint32_t kPe = 0x0000'4550;
constexpr std::size_t kPeOffset = 0x3C;
constexpr std::uint16_t kAmd64 = 0x8664;
constexpr std::uint16_t kPe32Plus = 0x020B;
constexpr std::uint16_t kEfiApplication = 10;
constexpr std::size_t kSectionEntry = 40;
constexpr std::uint16_t kMaxSections = 96;  // PE format: the loader's limit

using Error = std::unexpected<std::string>;

Error not_a_kernel(std::string_view why) {
  return Error{"is not a kernel: " + std::string{why}};
}
Error truncated(std::uint64_t needed, std::size_t size) {
  return Error{"is truncated: its header says at least " + std::to_string(needed) +
               " bytes, the file has " + std::to_string(size)};
}

/// What the first bytes of some other kind of file give away.
std::string_view describe_foreign(const ByteReader& file) {
  const std::uint32_t first = file.read<std::uint32_t>(0).value_or(0);
  if (file.size() == 0) {
    return "the file is empty";
  }
  if (first == 0x464C'457F) {
    return "an ELF file; give the bzImage (arch/x86/boot/bzImage), not vmlinux";
  }
  if ((first & 0xFFFF) == 0x8B1F || first == 0xFD2F'B528) {
    return "a compressed file; give the image as the firmware starts it";
  }
  return "neither a bzImage nor an EFI program";
}

std::string_view machine_name(std::uint16_t machine) {
  switch (machine) {
    case 0x014C:
      return "32-bit x86";
    case 0xAA64:
      return "AArch64";
    case 0x5064:
      return "RISC-V";
    case 0x6264:
      return "LoongArch";
    default:
      return "another machine";
  }
}

/// Printable text up to a NUL, at most `limit` bytes.
std::string text_at(const ByteReader& file, std::size_t offset, std::size_t limit) {
  std::string text;
  for (std::size_t i = 0; i < limit; ++i) {
    const auto c = file.read<std::uint8_t>(offset + i);
    if (!c || *c < 0x20 || *c > 0x7E) {
      break;
    }
    text.push_back(static_cast<char>(*c));
  }
  return text;
}

struct Section {
  std::string name;
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
};

struct PeImage {
  std::vector<Section> sections;
};

std::expected<PeImage, std::string> parse_pe(const ByteReader& file) {
  const auto pe = file.read<std::uint32_t>(kPeOffset);
  if (!pe) {
    return truncated(kPeOffset + sizeof(std::uint32_t), file.size());
  }
  // Signature, COFF header, and the optional header up to the subsystem.
  constexpr std::size_t kCoff = 24;
  constexpr std::size_t kSubsystem = 68;
  const std::size_t coff = *pe;
  if (!file.slice(coff, kCoff + kSubsystem + 2)) {
    return truncated(coff + kCoff + kSubsystem + 2, file.size());
  }
  if (file.read<std::uint32_t>(coff) != kPe) {
    return not_a_kernel("a DOS program, not an EFI program");
  }
  if (const auto machine = *file.read<std::uint16_t>(coff + 4); machine != kAmd64) {
    return not_a_kernel("an EFI program for " + std::string{machine_name(machine)} +
                        ", not for x86-64");
  }
  const auto section_count = *file.read<std::uint16_t>(coff + 6);
  const auto optional_size = *file.read<std::uint16_t>(coff + 20);
  if (*file.read<std::uint16_t>(coff + kCoff) != kPe32Plus ||
      *file.read<std::uint16_t>(coff + kCoff + kSubsystem) != kEfiApplication) {
    return not_a_kernel("not an EFI application");
  }
  if (section_count == 0 || section_count > kMaxSections) {
    return not_a_kernel("an EFI program with " + std::to_string(section_count) + " sections");
  }
  PeImage image;
  for (std::size_t i = 0; i < section_count; ++i) {
    const std::size_t entry = coff + kCoff + optional_size + i * kSectionEntry;
    if (!file.slice(entry, kSectionEntry)) {
      return truncated(entry + kSectionEntry, file.size());
    }
    const Section section{.name = text_at(file, entry, 8),
                          .begin = *file.read<std::uint32_t>(entry + 20),
                          .size = *file.read<std::uint32_t>(entry + 16)};
    if (section.begin + section.size > file.size()) {
      return truncated(section.begin + section.size, file.size());
    }
    image.sections.push_back(section);
  }
  return image;
}

/// True when `file` has a Linux setup header.
bool has_setup_header(const ByteReader& file) {
  return file.read<std::uint16_t>(kBootFlag) == kBootFlagMagic &&
         file.read<std::uint32_t>(kHdrS) == kHdrSMagic;
}

std::string first_word(const std::string& text) {
  return text.substr(0, text.find(' '));
}

std::expected<KernelImage, std::string> parse_bzimage(const ByteReader& file) {
  const auto flags = file.read<std::uint16_t>(kLoadFlagsX);
  if (!flags) {
    return truncated(kLoadFlagsX + sizeof(std::uint16_t), file.size());
  }
  const std::size_t setup_sects = *file.read<std::uint8_t>(kSetupSects);
  const std::size_t setup = ((setup_sects == 0 ? 4 : setup_sects) + 1) * kSector;
  const std::uint64_t size =
      setup + static_cast<std::uint64_t>(*file.read<std::uint32_t>(kSysSize)) * kParagraph;
  if (size > file.size()) {
    return truncated(size, file.size());
  }
  if (*file.read<std::uint16_t>(kProtocolVersion) < kFirst64Bit || (*flags & kXlfKernel64) == 0) {
    return not_a_kernel("a Linux that is not 64-bit");
  }
  KernelImage image{.kind = KernelKind::kLinux, .version = {}};
  const std::size_t version = *file.read<std::uint16_t>(kKernelVersion);
  constexpr std::size_t kMaxVersion = 256;
  if (version != 0 && version + kSector < setup) {
    image.version = first_word(text_at(file, version + kSector, kMaxVersion));
  }
  return image;
}

}  // namespace

std::expected<KernelImage, std::string> parse_kernel_image(std::span<const std::byte> bytes) {
  const ByteReader file{bytes};
  if (file.read<std::uint16_t>(0) != kMz) {
    return has_setup_header(file) ? not_a_kernel("a Linux without EFI stub (CONFIG_EFI_STUB)")
                                  : not_a_kernel(describe_foreign(file));
  }
  const auto pe = parse_pe(file);
  if (!pe) {
    return std::unexpected{pe.error()};
  }
  if (has_setup_header(file)) {
    return parse_bzimage(file);
  }
  KernelImage image;
  for (const Section& section : pe->sections) {
    if (section.name == ".linux") {
      image.kind = KernelKind::kUnified;
    } else if (section.name == ".uname") {
      image.version = first_word(text_at(file, section.begin, section.size));
    }
  }
  return image;
}

std::expected<KernelImage, Failure> check_kernel_file(const std::filesystem::path& path) {
  const auto bytes = read_bytes(path, kMaxBootFile);
  if (!bytes) {
    return std::unexpected{usage("kernel " + path.string() + ": " + bytes.error())};
  }
  auto image = parse_kernel_image(*bytes);
  if (!image) {
    return std::unexpected{usage("kernel " + path.string() + " " + image.error())};
  }
  return *image;
}

}  // namespace accede::cli
