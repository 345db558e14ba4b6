// Images as the shim finds them: kernels, and a unified kernel image as LoadImage placed it.
#pragma once

#include "tests/image/made_up_kernel.hpp"
#include "tests/image/made_up_pe.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace accede::efi::test {

using image::test::MadeUpImage;
using image::test::MadeUpPe;

/// Accepts on both platforms and knows both.
inline std::vector<std::byte> accepting_kernel() {
  MadeUpImage kernel = image::test::new_kernel();
  kernel.put(image::test::kFree, "IntelTDX");
  return kernel.file();
}
/// Knows SEV-SNP, accepts nothing.
inline std::vector<std::byte> old_kernel() {
  return image::test::old_kernel().file();
}
/// Of which nothing can be said.
inline std::vector<std::byte> unknown_kernel() {
  return MadeUpImage{}.file();
}
inline std::vector<std::byte> boot_loader() {
  return MadeUpPe{.sections = {{.name = ".text", .content = image::test::noise(0x800)}}}.file();
}

/// `kernel` in a unified kernel image, at another place in memory than in the file.
inline std::vector<std::byte> unified(const std::vector<std::byte>& kernel) {
  constexpr std::size_t kAddress = 0x5000;
  MadeUpPe pe{.sections = {{.name = ".osrel", .content = image::test::noise(100)},
                           {.name = ".linux", .content = kernel}}};
  std::vector<std::byte> placed = pe.file();
  placed.resize(MadeUpPe::kHeadersEnd);
  const auto address = static_cast<std::uint32_t>(kAddress);
  std::memcpy(&placed[MadeUpPe::kHeadersEnd - 40 + 12], &address, sizeof address);
  placed.resize(kAddress);
  placed.insert(placed.end(), kernel.begin(), kernel.end());
  return placed;
}

}  // namespace accede::efi::test
