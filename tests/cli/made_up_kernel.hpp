// Kernel files that hold nothing but the headers that the firmware and the command look at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace accede::cli::test {

/// A byte image whose fields tests set one by one.
class ImageBuilder {
 public:
  explicit ImageBuilder(std::size_t size) : bytes_(size) {}

  template <class T>
  ImageBuilder& put(std::size_t offset, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      bytes_.at(offset + i) = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
    }
    return *this;
  }
  ImageBuilder& text(std::size_t offset, const std::string& value) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      bytes_.at(offset + i) = static_cast<std::byte>(value[i]);
    }
    return *this;
  }

  [[nodiscard]] std::span<const std::byte> view() const { return bytes_; }
  [[nodiscard]] std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

inline constexpr std::size_t kPe = 0x40;
inline constexpr std::size_t kOptionalSize = 0xA0;
inline constexpr std::size_t kSections = kPe + 24 + kOptionalSize;
inline constexpr std::size_t kSectionEntry = 40;

/// One PE section: [0x600, 0x800).
inline ImageBuilder efi_program() {
  ImageBuilder image{0x800};
  image.put<std::uint16_t>(0, 0x5A4D).put<std::uint32_t>(0x3C, kPe);
  image.put<std::uint32_t>(kPe, 0x4550).put<std::uint16_t>(kPe + 4, 0x8664);
  image.put<std::uint16_t>(kPe + 6, 1).put<std::uint16_t>(kPe + 20, kOptionalSize);
  image.put<std::uint16_t>(kPe + 24, 0x20B).put<std::uint16_t>(kPe + 24 + 68, 10);
  image.text(kSections, ".text");
  image.put<std::uint32_t>(kSections + 16, 0x200).put<std::uint32_t>(kSections + 20, 0x600);
  return image;
}

inline constexpr const char* kMadeUpVersion = "6.12.1-made-up";

/// A bzImage: one setup sector after the boot sector, then 0x400 bytes of "kernel".
inline ImageBuilder bz_image() {
  ImageBuilder image = efi_program();
  image.put<std::uint8_t>(0x1F1, 1).put<std::uint32_t>(0x1F4, 0x40);
  image.put<std::uint16_t>(0x1FE, 0xAA55).put<std::uint32_t>(0x202, 0x53726448);
  image.put<std::uint16_t>(0x206, 0x20F).put<std::uint16_t>(0x236, 0x3F);
  image.put<std::uint16_t>(0x20E, 0x300 - 0x200);
  image.text(0x300, std::string{kMadeUpVersion} + " (builder@host) #1 SMP");
  return image;
}

}  // namespace accede::cli::test
