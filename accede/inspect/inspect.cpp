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

}  // namespace accede::inspect
