// Any bytes as an EFI program: sections that PeImage gives lie inside the file.
#include "accede/base/assert.hpp"
#include "accede/image/pe.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

using namespace accede;
using namespace accede::image;

namespace {

bool inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  const std::less_equal<> not_above;
  return part.empty() || (not_above(whole.data(), part.data()) &&
                          not_above(part.data() + part.size(), whole.data() + whole.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span{data, size});
  const auto image = PeImage::parse(file);
  if (!image) {
    ACCEDE_ASSERT(image.error().offset <= file.size());
    return 0;
  }
  ACCEDE_ASSERT(image->machine_offset() < file.size());
  for (std::size_t i = 0; i < image->section_count(); ++i) {
    const auto section = image->section(i);
    if (section) {
      ACCEDE_ASSERT(inside(section->content, file));
      ACCEDE_ASSERT(section->offset + section->content.size() <= file.size());
      ACCEDE_ASSERT(image->find_section(section->name).has_value());
    }
  }
  return 0;
}
