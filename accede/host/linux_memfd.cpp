#include "accede/host/linux_memfd.hpp"

#include <utility>

namespace accede::host {

std::expected<LinuxFileBacking, std::string> linux_memfd(VmType type, Bytes size) {
  auto shared = LinuxMemoryFile::memfd(size);
  if (!shared) {
    return std::unexpected{std::move(shared.error())};
  }
  if (!properties_of(type).two_backings) {
    return std::expected<LinuxFileBacking, std::string>{std::in_place, std::move(*shared),
                                                        Requirements::user_inaccessible()};
  }
  auto inside = LinuxMemoryFile::memfd(size);
  if (!inside) {
    return std::unexpected{std::move(inside.error())};
  }
  return std::expected<LinuxFileBacking, std::string>{
      std::in_place, std::move(*shared), std::move(*inside), Requirements::user_inaccessible()};
}

}  // namespace accede::host
