#include "accede/efi/loader/linux_files.hpp"

#include <algorithm>
#include <utility>

namespace accede::efi::loader {

using namespace std::string_view_literals;
using abi::efi::Status;
using firmware::LinuxSetup;
using guest::PlatformKind;
using image::BzImage;
using image::Knows;

namespace {

Knows accepts_on(PlatformKind platform, const image::UnacceptedSupport& support) {
  switch (platform) {
    case PlatformKind::kTdx:
      return support.accepts_on_tdx();
    case PlatformKind::kSnp:
      return support.accepts_on_snp();
    case PlatformKind::kNone:
      break;
  }
  return support.accepts;
}

}  // namespace

std::string_view Linux::release() const {
  const std::string_view version = image.version_text();
  const auto end = std::ranges::find(version, ' ');
  return version.substr(0, static_cast<std::size_t>(end - version.begin()));
}

Outcome<Linux> read_linux(const Firmware& firmware, LoaderMemory& memory,
                          const LoaderOptions& options, PlatformKind platform) {
  const auto file = memory.read_file(options.kernel);
  if (!file) {
    return std::unexpected{file.error()};
  }
  const auto parsed = BzImage::parse(*file);
  if (!parsed) {
    Problem result{.status = Status::kLoadError};
    result.line.text(options.kernel).text(": "sv).text(to_string(parsed.error().kind));
    result.line.text(" (offset "sv).number(parsed.error().offset).text(")"sv);
    return std::unexpected{result};
  }
  const auto setup =
      LinuxSetup::parse(parsed->setup_header_bytes(), Bytes{parsed->protected_mode().size()});
  if (!setup) {
    return problem(Status::kLoadError, setup.error(), options.kernel);
  }
  if (const auto good = setup->check_command_line(options.command_line); !good) {
    return problem(Status::kInvalidParameter, good.error());
  }
  Linux linux_files{.image = *parsed,
                    .setup = *setup,
                    .accepts = accepts_on(platform, image::find_unaccepted_support(*file)),
                    .initrd = std::nullopt};
  if (!options.initrd.empty()) {
    auto initrd = VolumeFile::open(firmware, options.initrd);
    if (!initrd) {
      return std::unexpected{initrd.error()};
    }
    linux_files.initrd.emplace(std::move(*initrd));
  }
  return linux_files;
}

}  // namespace accede::efi::loader
