// Any bytes as a Linux unaccepted-memory table: the parser either names the field that is wrong or
// gives a header whose bitmap lies inside the bytes.
#include "accede/abi/linux_unaccepted.hpp"
#include "accede/base/assert.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

using namespace accede;
using namespace accede::abi::linux_unaccepted;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  const auto header = parse_header(bytes);
  if (!header) {
    ACCEDE_ASSERT(header.error().offset < sizeof(TableHeader));
    return 0;
  }
  ACCEDE_ASSERT(ByteReader{bytes}.slice(sizeof(TableHeader), header->bitmap_size.value()));
  ACCEDE_ASSERT(header->unit_size >= kMinUnitSize);
  ACCEDE_ASSERT(header->covered.begin().is_aligned(header->unit_size));
  ACCEDE_ASSERT(header->covered.size() == header->unit_size * 8 * header->bitmap_size.value());
  return 0;
}
