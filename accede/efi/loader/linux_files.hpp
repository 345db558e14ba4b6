// The kernel and its initrd, checked before anything is done with them.
#pragma once

#include "accede/efi/loader/memory.hpp"
#include "accede/efi/loader/options.hpp"
#include "accede/efi/loader/problem.hpp"
#include "accede/efi/loader/volume_file.hpp"
#include "accede/firmware/linux_setup.hpp"
#include "accede/guest/platform.hpp"
#include "accede/image/bzimage.hpp"
#include "accede/image/unaccepted_support.hpp"

#include <optional>
#include <string_view>

namespace accede::efi::loader {

/// The files, checked. The initrd is read when its place is ready: it may be larger than what the
/// firmware has room for.
struct Linux {
  image::BzImage image;
  firmware::LinuxSetup setup;
  image::Knows accepts = image::Knows::kUnknown;
  std::optional<VolumeFile> initrd;

  /// As uname -r shows it; empty when the image does not tell.
  [[nodiscard]] std::string_view release() const;
};

/// Reads the kernel, opens the initrd, checks the command line. `platform`: where the kernel will
/// have to accept. Errors: LoadError, InvalidParameter.
[[nodiscard]] Outcome<Linux> read_linux(const Firmware& firmware, LoaderMemory& memory,
                                        const LoaderOptions& options, guest::PlatformKind platform);

}  // namespace accede::efi::loader
