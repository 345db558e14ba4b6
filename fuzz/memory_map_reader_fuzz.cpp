// Any bytes as a memory map, CMRs, memmap= options or a SRAT: an answer that keeps its promises, or
// an error of one line.
#include "tests/memory_map/reader_check.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  accede::memory_map::test::check_readers(std::as_bytes(std::span{data, size}));
  return 0;
}
