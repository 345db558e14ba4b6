#include "accede/inspect/elf_image.hpp"

#include "accede/base/byte_reader.hpp"

#include <gelf.h>
#include <libelf.h>
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>

namespace accede::inspect {
namespace {

struct ElfDeleter {
  void operator()(Elf* elf) const { elf_end(elf); }
};
using ElfHandle = std::unique_ptr<Elf, ElfDeleter>;

Machine machine_of(const GElf_Ehdr& header) {
  switch (header.e_machine) {
    case EM_X86_64:
      return Machine::kX86_64;
    case EM_AARCH64:
      return Machine::kArm64;
    case EM_RISCV:
      return header.e_ident[EI_CLASS] == ELFCLASS64 ? Machine::kRiscv64 : Machine::kOther;
    case 258:  // EM_LOONGARCH; elf.h of Debian 12 does not name it
      return header.e_ident[EI_CLASS] == ELFCLASS64 ? Machine::kLoongArch64 : Machine::kOther;
    default:
      return Machine::kOther;
  }
}

bool inside(std::uint64_t offset, std::uint64_t size, std::size_t file_size) {
  return offset <= file_size && size <= file_size - offset;
}

/// What is wrong with the places of segments and sections; nothing when all is well.
std::optional<std::string> check_places(Elf* elf, std::size_t file_size) {
  std::size_t segments = 0;
  if (elf_getphdrnum(elf, &segments) != 0) {
    return "has no sound table of segments";
  }
  for (std::size_t i = 0; i < segments; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf, static_cast<int>(i), &segment) == nullptr) {
      return "has no sound table of segments";
    }
    if (!inside(segment.p_offset, segment.p_filesz, file_size)) {
      return "ends inside segment " + std::to_string(i);
    }
  }
  for (Elf_Scn* section = elf_nextscn(elf, nullptr); section != nullptr;
       section = elf_nextscn(elf, section)) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr) {
      return "has no sound table of sections";
    }
    if (header.sh_type != SHT_NOBITS && header.sh_type != SHT_NULL &&
        !inside(header.sh_offset, header.sh_size, file_size)) {
      return "ends inside section " + std::to_string(elf_ndxscn(section));
    }
  }
  return std::nullopt;
}

}  // namespace

bool is_elf(std::span<const std::byte> file) {
  constexpr std::array kMagic{std::byte{0x7F}, std::byte{'E'}, std::byte{'L'}, std::byte{'F'}};
  return file.size() >= kMagic.size() && std::ranges::equal(file.first(kMagic.size()), kMagic);
}

std::expected<ElfImage, std::string> parse_elf(std::span<const std::byte> file) {
  if (!is_elf(file) || elf_version(EV_CURRENT) == EV_NONE) {
    return std::unexpected{"is no ELF file"};
  }
  // The library takes no constant bytes, and changes none unless it is told to.
  auto* const bytes = const_cast<char*>(reinterpret_cast<const char*>(file.data()));
  const ElfHandle elf{elf_memory(bytes, file.size())};
  GElf_Ehdr header;
  if (elf == nullptr || elf_kind(elf.get()) != ELF_K_ELF ||
      gelf_getehdr(elf.get(), &header) == nullptr) {
    return std::unexpected{"has no sound ELF header"};
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return std::unexpected{"is an ELF file that cannot be executed"};
  }
  if (auto problem = check_places(elf.get(), file.size())) {
    return std::unexpected{*std::move(problem)};
  }
  return ElfImage{.machine = machine_of(header)};
}

std::optional<std::size_t> end_of_first_segment(std::span<const std::byte> beginning,
                                                std::size_t file_size) {
  const ByteReader reader{beginning};
  const auto header = reader.read_struct<Elf64_Ehdr>(0);
  if (!header || !is_elf(beginning) || header->e_ident[EI_CLASS] != ELFCLASS64 ||
      header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_phentsize != sizeof(Elf64_Phdr) ||
      !inside(header->e_shoff, std::uint64_t{header->e_shnum} * header->e_shentsize, file_size) ||
      !inside(header->e_phoff, std::uint64_t{header->e_phnum} * sizeof(Elf64_Phdr),
              beginning.size())) {
    return std::nullopt;
  }
  std::optional<std::size_t> end;
  for (std::size_t i = 0; i < header->e_phnum; ++i) {
    const auto segment = *reader.read_struct<Elf64_Phdr>(header->e_phoff + i * sizeof(Elf64_Phdr));
    if (!inside(segment.p_offset, segment.p_filesz, file_size)) {
      return std::nullopt;
    }
    if (!end && segment.p_type == PT_LOAD) {
      end = segment.p_offset + segment.p_filesz;
    }
  }
  return end;
}

}  // namespace accede::inspect
