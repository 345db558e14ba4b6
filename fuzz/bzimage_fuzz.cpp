// Any bytes as a kernel image: what BzImage::parse gives lies inside them, and so does every signal
// of acceptance; a verdict is never given on less than it needs.
#include "accede/base/assert.hpp"
#include "accede/image/bzimage.hpp"
#include "accede/image/unaccepted_support.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

using namespace accede;
using namespace accede::image;
namespace boot = abi::linux_boot;

namespace {

bool inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  const std::less_equal<> not_above;
  return part.empty() || (not_above(whole.data(), part.data()) &&
                          not_above(part.data() + part.size(), whole.data() + whole.size()));
}

void check(const BzImage& image, std::span<const std::byte> file) {
  ACCEDE_ASSERT(inside(image.setup_header_bytes(), file));
  ACCEDE_ASSERT(boot::kSetupHeaderOffset + image.setup_header_bytes().size() <=
                BzImage::kSetupHeaderLimit);
  ACCEDE_ASSERT(inside(image.protected_mode(), file));
  ACCEDE_ASSERT(image.protected_mode().size() > boot::kEntry64Offset);
  ACCEDE_ASSERT(inside(image.payload(), image.protected_mode()));
  ACCEDE_ASSERT(inside(std::as_bytes(std::span{image.version_text()}), file));
  ACCEDE_ASSERT(image.init_size() >= Bytes{image.protected_mode().size()});
  ACCEDE_ASSERT(image.preferred_address() + image.init_size() >= image.preferred_address());
  ACCEDE_ASSERT(image.preferred_address().is_aligned(image.alignment()));
}

void check(const UnacceptedSupport& support, std::size_t size) {
  const bool needed = support.table_reader && support.acceptor && support.table_guid;
  ACCEDE_ASSERT(needed || support.accepts != Knows::kYes);
  ACCEDE_ASSERT(!support.table_reader || support.accepts != Knows::kNo);
  ACCEDE_ASSERT(support.accepts == Knows::kYes || support.handshake == support.accepts);
  for (const auto& offset :
       {support.table_reader, support.acceptor, support.table_guid, support.handshake_text,
        support.handshake_guid, support.tdx_accept, support.table_builder, support.sev_snp}) {
    ACCEDE_ASSERT(!offset || *offset < size);
  }
}

/// The fuzzer does not guess two magic numbers at their places.
void mend(std::vector<std::byte>& file) {
  if (file.size() > 0x206) {
    file[0x1FE] = std::byte{0x55};
    file[0x1FF] = std::byte{0xAA};
    std::ranges::copy(std::as_bytes(std::span{"HdrS", 4}), file.begin() + 0x202);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const auto bytes = std::as_bytes(std::span{data + 1, size - 1});
  std::vector<std::byte> file{bytes.begin(), bytes.end()};
  if ((data[0] & 1) != 0) {
    mend(file);
  }
  const auto image = BzImage::parse(file);
  if (image) {
    check(*image, file);
  } else {
    ACCEDE_ASSERT(image.error().offset <= file.size());
  }
  check(find_unaccepted_support(file), file.size());
  return 0;
}
