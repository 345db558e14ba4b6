// EFI programs that hold nothing but headers and sections.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace accede::image::test {

/// A PE32+ image: headers at kHeaders, then the sections one after the other.
struct MadeUpPe {
  static constexpr std::size_t kHeaders = 0x40;
  static constexpr std::size_t kOptionalSize = 112;
  /// With the table of two sections.
  static constexpr std::size_t kHeadersEnd = kHeaders + 24 + kOptionalSize + 2 * 40;

  struct Section {
    std::string name;
    std::vector<std::byte> content;
    std::optional<std::uint32_t> virtual_size{};  ///< that of the content unless set
    std::optional<std::uint32_t> raw_size{};
  };

  std::uint16_t machine = 0x8664;
  std::uint16_t magic = 0x20B;
  std::uint16_t subsystem = 10;
  std::vector<Section> sections{};

  [[nodiscard]] std::vector<std::byte> file() const {
    const std::size_t table = kHeaders + 24 + kOptionalSize;
    std::vector<std::byte> bytes(table + sections.size() * 40);
    put(bytes, 0, 0x5A4D, 2);
    put(bytes, 0x3C, kHeaders, 4);
    put(bytes, kHeaders, 0x4550, 4);
    put(bytes, kHeaders + 4, machine, 2);
    put(bytes, kHeaders + 6, sections.size(), 2);
    put(bytes, kHeaders + 20, kOptionalSize, 2);
    put(bytes, kHeaders + 24, magic, 2);
    put(bytes, kHeaders + 24 + 68, subsystem, 2);
    std::size_t at = table;
    for (const Section& section : sections) {
      for (std::size_t i = 0; i < section.name.size(); ++i) {
        put(bytes, at + i, static_cast<unsigned char>(section.name[i]), 1);
      }
      const std::size_t size = section.content.size();
      const std::size_t raw_size = section.raw_size.value_or(size);
      put(bytes, at + 8, section.virtual_size.value_or(size), 4);
      put(bytes, at + 16, raw_size, 4);
      put(bytes, at + 20, bytes.size(), 4);
      bytes.insert(bytes.end(), section.content.begin(), section.content.end());
      bytes.resize(bytes.size() + (raw_size > size ? raw_size - size : 0));
      at += 40;
    }
    return bytes;
  }

 private:
  static void put(std::vector<std::byte>& bytes, std::size_t at, std::uint64_t value,
                  std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
      bytes.at(at + i) = static_cast<std::byte>(value >> (8 * i));
    }
  }
};

}  // namespace accede::image::test
