// Any bytes as a flash image: files that are found lie in the flash or in what was unpacked, and
// nothing is said to be absent where something could not be read.
#include "accede/base/assert.hpp"
#include "accede/inspect/firmware.hpp"
#include "accede/inspect/firmware_tables.hpp"
#include "accede/inspect/firmware_volume.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

using namespace accede;
using namespace accede::inspect;

namespace {

/// Sets the checksum of every volume's header: the fuzzer does not guess 16 bits.
void mend(std::vector<std::byte>& flash) {
  constexpr std::size_t kHeader = 0x48;
  constexpr std::size_t kChecksum = 50;
  for (std::size_t at = 0; at + kHeader <= flash.size(); at += 8) {
    if (std::memcmp(flash.data() + at + 40, "_FVH", 4) != 0) {
      continue;
    }
    flash[at + kChecksum] = flash[at + kChecksum + 1] = std::byte{0};
    unsigned sum = 0;
    for (std::size_t i = 0; i < kHeader; i += 2) {
      sum += std::to_integer<unsigned>(flash[at + i]) | std::to_integer<unsigned>(flash[at + i + 1])
                                                            << 8;
    }
    flash[at + kChecksum] = static_cast<std::byte>(0 - sum);
    flash[at + kChecksum + 1] = static_cast<std::byte>((0 - sum) >> 8);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  std::vector<std::byte> flash{bytes.begin(), bytes.end()};
  mend(flash);
  const FirmwareTables tables = read_firmware_tables(flash);
  for (const auto& metadata : {tables.sev, tables.tdx}) {
    ACCEDE_ASSERT(!metadata || metadata->offset < flash.size());
  }
  const FirmwareVolumes volumes{flash};
  for (const FirmwareFile& file : volumes.files()) {
    ACCEDE_ASSERT(file.place != "file" ||
                  file.content_offset + file.content.size() <= flash.size());
    ACCEDE_ASSERT(file.offset < file.content_offset);
  }
  const auto report = inspect_firmware(flash);
  if (report && *report && !volumes.problems().empty()) {
    for (const Feature feature : {Feature::kSevGuest, Feature::kHandshake}) {
      ACCEDE_ASSERT((**report)[feature].value != image::Knows::kNo);
    }
  }
  return 0;
}
