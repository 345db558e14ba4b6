#include "tests/image/made_up_kernel.hpp"
#include "tests/image/made_up_pe.hpp"
#include "tests/inspect/made_up.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace accede::inspect::test {
namespace {

using namespace std::string_literals;

/// The least dictionary: unpackers reserve as much. Methods without levels stay as they are.
bool fastest(archive* out) {
  return archive_write_set_filter_option(out, nullptr, "compression-level", "1") >= ARCHIVE_FAILED;
}

/// Through the library's own writers.
ByteVector pack_by_library(std::span<const std::byte> bytes, int (*filter)(archive*)) {
  ByteVector packed(bytes.size() * 2 + 4096);
  std::size_t used = 0;
  archive* const out = archive_write_new();
  archive_entry* const entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_pathname(entry, "kernel");
  const bool done =
      filter(out) == ARCHIVE_OK && fastest(out) &&
      archive_write_set_format_raw(out) == ARCHIVE_OK &&
      archive_write_set_bytes_per_block(out, 0) == ARCHIVE_OK &&
      archive_write_open_memory(out, packed.data(), packed.size(), &used) == ARCHIVE_OK &&
      archive_write_header(out, entry) == ARCHIVE_OK &&
      archive_write_data(out, bytes.data(), bytes.size()) ==
          static_cast<la_ssize_t>(bytes.size()) &&
      archive_write_close(out) == ARCHIVE_OK;
  archive_entry_free(entry);
  archive_write_free(out);
  if (!done) {
    throw std::runtime_error{"cannot pack"};
  }
  packed.resize(used);
  return packed;
}

/// The legacy frame that Linux uses, with one block of literals only.
ByteVector store_lz4(std::span<const std::byte> bytes) {
  ByteVector block;
  append_number(block, bytes.size() < 15 ? bytes.size() << 4 : 0xF0, 1);
  if (bytes.size() >= 15) {
    std::size_t rest = bytes.size() - 15;
    for (; rest >= 255; rest -= 255) {
      append_number(block, 255, 1);
    }
    append_number(block, rest, 1);
  }
  append(block, bytes);
  ByteVector frame;
  append_number(frame, 0x184C2102, 4);
  append_number(frame, block.size(), 4);
  append(frame, block);
  return frame;
}

void append_big(ByteVector& bytes, std::uint32_t value, int size) {
  for (int i = size - 1; i >= 0; --i) {
    append_number(bytes, value >> (8 * i) & 0xFF, 1);
  }
}

ByteVector store_lzo(std::span<const std::byte> bytes) {
  ByteVector file = bytes_of("\x89LZO\0\r\n\x1A\n"s);
  append_big(file, 0x1040, 2);  // version, library, needed; method, level
  append_big(file, 0x20A0, 2);
  append_big(file, 0x0940, 2);
  append_big(file, 0x0109, 2);
  append_big(file, 0x0001, 4);  // flags: checksum of the plain bytes
  append_big(file, 0, 4);       // mode, times
  append_big(file, 0, 4);
  append_big(file, 0, 4);
  append_big(file, 0, 1);  // name, checksum
  append_big(file, 0, 4);
  append_big(file, static_cast<std::uint32_t>(bytes.size()), 4);
  append_big(file, static_cast<std::uint32_t>(bytes.size()), 4);
  append_big(file, 0, 4);
  append(file, bytes);
  append_big(file, 0, 4);
  return file;
}

template <class T>
void append_struct(ByteVector& bytes, const T& value) {
  append(bytes, std::as_bytes(std::span{&value, 1}));
}

}  // namespace

ByteVector bytes_of(std::string_view text) {
  ByteVector bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

void append(ByteVector& bytes, std::span<const std::byte> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

void append_number(ByteVector& bytes, std::uint64_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) {
    bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
}

ByteVector pack(std::span<const std::byte> bytes, Compression method) {
  switch (method) {
    case Compression::kGzip:
      return pack_by_library(bytes, archive_write_add_filter_gzip);
    case Compression::kBzip2:
      return pack_by_library(bytes, archive_write_add_filter_bzip2);
    case Compression::kLzma:
      return pack_by_library(bytes, archive_write_add_filter_lzma);
    case Compression::kXz:
      return pack_by_library(bytes, archive_write_add_filter_xz);
    case Compression::kZstd:
      return pack_by_library(bytes, archive_write_add_filter_zstd);
    case Compression::kLz4:
      return store_lz4(bytes);
    case Compression::kLzo:
      return store_lzo(bytes);
  }
  return {};
}

ByteVector kernel_texts(const Features& features) {
  std::string text = "Linux version " + features.release + " (b@h) #1 SMP PREEMPT_RT today\n\0"s;
  text += "nr_free_pages\0Kernel command line: %s\n\0kexec_core: Starting new kernel\n\0"s;
  if (features.sev) {
    text += "\1c SEV\0\1c SEV-ES\0"s;
  }
  if (features.snp) {
    text += "\1c SEV-SNP\0SNP guest platform device initialized.\n\0"s;
  }
  if (features.tdx) {
    text += "tdx: Guest detected\n\0IntelTDX    \0"s;
  }
  if (features.unaccepted) {
    text += "nr_unaccepted\0Unaccepted:     \0"s;
    const auto& guid = image::test::kTableGuid;
    text.append(guid.begin(), guid.end());
    text += features.tdx ? "TDX: Failed to accept memory\n\0"s : ""s;
  }
  ByteVector bytes = bytes_of(text);
  if (!features.config.empty()) {
    append(bytes, bytes_of("IKCFG_ST"));
    append(bytes, pack(bytes_of(features.config), Compression::kGzip));
    append(bytes, bytes_of("IKCFG_ED"));
  }
  return bytes;
}

ByteVector vmlinux(const Features& features) {
  const ByteVector texts = kernel_texts(features);
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phoff = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  std::vector<ByteVector> contents;
  for (const auto& content :
       {ByteVector(features.zeros_before), texts, ByteVector(features.zeros_behind)}) {
    if (!content.empty()) {
      contents.push_back(content);
    }
  }
  header.e_phnum = static_cast<Elf64_Half>(contents.size());
  ByteVector file;
  append_struct(file, header);
  std::size_t offset = sizeof(header) + contents.size() * sizeof(Elf64_Phdr);
  for (const ByteVector& content : contents) {
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_offset = offset;
    segment.p_filesz = content.size();
    segment.p_memsz = content.size();
    append_struct(file, segment);
    offset += content.size();
  }
  for (const ByteVector& content : contents) {
    append(file, content);
  }
  return file;
}

ByteVector bzimage(const Features& features, Compression method) {
  using image::test::MadeUpImage;
  MadeUpImage image = image::test::old_kernel();
  if (features.unaccepted) {
    image::test::add_acceptance(image);
    image::test::add_handshake(image);
    if (!features.tdx) {
      image::test::blot(image, image::test::kTextsAt + 4 * image::test::kTextsApart, 16);
    }
  }
  const ByteVector kernel = vmlinux(features);
  ByteVector payload = pack(kernel, method);
  if (method != Compression::kGzip) {
    append_number(payload, kernel.size(), 4);
  }
  if (payload.size() > MadeUpImage::kPayloadEnd - MadeUpImage::kPayload) {
    throw std::runtime_error{"the kernel is too large"};
  }
  std::ranges::copy(payload, image.bytes.begin() + MadeUpImage::kPayload);
  image.header.payload_length = static_cast<std::uint32_t>(payload.size());
  image.header.xloadflags |= abi::linux_boot::kXlfEfiKexec;
  const std::string version = features.release + " (b@h) #1 SMP PREEMPT_RT today\0"s;
  image.put(MadeUpImage::kVersion, version);
  // The headers of an EFI program, up to the setup header.
  image::test::MadeUpPe pe;
  pe.sections.push_back({.name = ".text", .content = {}});
  std::ranges::copy(pe.file(), image.bytes.begin());
  return image.file();
}

ByteVector flat_image(const Features& features, std::uint16_t machine) {
  image::test::MadeUpPe pe{.machine = machine};
  pe.sections.push_back({.name = ".text", .content = kernel_texts(features)});
  ByteVector file = pe.file();
  std::ranges::copy(bytes_of("ARMd"), file.begin() + 0x38);
  return file;
}

ByteVector zboot(const Features& features, std::uint16_t machine) {
  const ByteVector packed = pack(kernel_texts(features), Compression::kGzip);
  image::test::MadeUpPe pe{.machine = machine};
  pe.sections.push_back({.name = ".gzdata", .content = packed});
  ByteVector file = pe.file();
  ByteVector header = bytes_of("zimg");
  append_number(header, file.size() - packed.size(), 4);
  append_number(header, packed.size(), 4);
  std::ranges::copy(header, file.begin() + 4);
  return file;
}

ByteVector uki(const ByteVector& linux, std::string_view command_line) {
  image::test::MadeUpPe pe;
  pe.sections.push_back({.name = ".osrel", .content = bytes_of("ID=made-up\n")});
  pe.sections.push_back({.name = ".cmdline", .content = bytes_of(command_line)});
  pe.sections.push_back({.name = ".uname", .content = bytes_of("6.12.1-made-up")});
  pe.sections.push_back({.name = ".linux", .content = linux});
  return pe.file();
}

}  // namespace accede::inspect::test
