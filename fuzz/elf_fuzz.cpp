// Any bytes as an ELF file: libelf is not led out of them.
#include "accede/base/assert.hpp"
#include "accede/inspect/elf_image.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

using namespace accede;
using namespace accede::inspect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span{data, size});
  const std::vector<std::byte> before{file.begin(), file.end()};
  const auto elf = parse_elf(file);
  ACCEDE_ASSERT(elf || !elf.error().empty());
  ACCEDE_ASSERT(!elf || is_elf(file));
  ACCEDE_ASSERT(std::ranges::equal(file, before));
  return 0;
}
