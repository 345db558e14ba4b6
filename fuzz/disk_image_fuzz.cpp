// Any bytes as the head of a disk image: what is recognised is whole, and opens no other file.
#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"
#include "accede/inspect/disk_image.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

using namespace accede;
using namespace accede::inspect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto head = std::as_bytes(std::span{data, size});
  const std::uint64_t file_size = std::uint64_t{size} << 20;
  const auto disk = recognise_disk(head, file_size);
  if (!disk) {
    ACCEDE_ASSERT(!disk.error().empty());
    return 0;
  }
  if (!*disk) {
    return 0;
  }
  const ByteReader reader{head};
  if ((*disk)->format == DiskFormat::kRaw) {
    ACCEDE_ASSERT((*disk)->bytes == file_size && !(*disk)->partitions.empty());
    return 0;
  }
  ACCEDE_ASSERT(*reader.read<std::uint64_t>(8) == 0);  // no backing file
  const std::uint32_t version = std::byteswap(*reader.read<std::uint32_t>(4));
  ACCEDE_ASSERT(version == 2 || (std::byteswap(*reader.read<std::uint64_t>(72)) & 4) == 0);
  return 0;
}
