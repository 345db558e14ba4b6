#include "accede/inspect/inspect.hpp"

#include "accede/inspect/firmware.hpp"
#include "accede/inspect/kernel_file.hpp"

#include <utility>

namespace accede::inspect {

std::expected<Report, InspectError> inspect(std::span<const std::byte> file) {
  if (auto kernel = inspect_kernel(file)) {
    return *std::move(kernel);
  }
  if (auto firmware = inspect_firmware(file)) {
    return *std::move(firmware);
  }
  return std::unexpected{InspectError{
      .message = file.empty() ? "is empty" : "is neither a kernel nor a firmware image",
      .recognised = false}};
}

Report report_of_disk(const DiskImage& disk) {
  constexpr const char* kUnknown = "unknown: what is on the disk was not looked into; boot it";
  Report report{.kind = ImageKind::kDisk,
                .disk = disk,
                .verdict = {.accept_all = kUnknown, .handshake = kUnknown, .never = kUnknown}};
  report.notes.push_back(std::string{to_string(disk.format)} + " disk of " +
                         std::to_string(disk.bytes) + " bytes" +
                         (disk.partitions.empty() ? "" : ", " + std::string{disk.partitions}));
  return report;
}

}  // namespace accede::inspect
