#include "accede/efi/shim/target.hpp"

#include "accede/efi/shim/device_path.hpp"

#include <algorithm>
#include <array>

namespace accede::efi::shim {

using namespace std::string_view_literals;
namespace {

using abi::efi::LoadedImage;
using abi::efi::Status;

constexpr std::string_view kConfiguration = "accede-shim.cfg"sv;
constexpr std::uint64_t kMostConfigurationBytes = 64 << 10;

/// Where boot loaders lie that chain the shim: the first of its own directory.
constexpr std::array<std::string_view, 10> kDefaultPaths{
    "accede-image.efi"sv,           "\\EFI\\systemd\\systemd-bootx64.efi"sv,
    "\\EFI\\debian\\shimx64.efi"sv, "\\EFI\\debian\\grubx64.efi"sv,
    "\\EFI\\ubuntu\\shimx64.efi"sv, "\\EFI\\fedora\\shimx64.efi"sv,
    "\\EFI\\redhat\\shimx64.efi"sv, "\\EFI\\centos\\shimx64.efi"sv,
    "\\EFI\\opensuse\\shim.efi"sv,  "\\EFI\\opensuse\\grubx64.efi"sv};

Result<LoadedImage*> loaded_image(const Firmware& firmware, abi::efi::Handle image) {
  return firmware.protocol<LoadedImage>(image, abi::efi::kLoadedImageProtocol);
}

std::unexpected<Failure> fail(OptionsError error) {
  return std::unexpected{Failure{to_string(error), Status::kInvalidParameter}};
}

/// The text of the configuration; empty when there is none.
Result<std::string_view> read_configuration(const Firmware& firmware, std::string_view directory) {
  const auto path = resolve(directory, kConfiguration);
  const auto volume = BootVolume::open(firmware);
  if (!path || !volume) {
    return ""sv;
  }
  const auto file = volume->open_file(path->view());
  if (!file) {
    return ""sv;
  }
  if (file->bytes() > kMostConfigurationBytes) {
    return std::unexpected{
        Failure{"accede-shim.cfg is larger than 64 KiB"sv, Status::kInvalidParameter}};
  }
  const auto memory = firmware.allocate(file->bytes());
  if (!memory) {
    return std::unexpected{memory.error()};
  }
  if (const auto read = file->read(*memory); !read) {
    return std::unexpected{Failure{"accede-shim.cfg cannot be read"sv, read.error().status}};
  }
  return std::string_view{reinterpret_cast<const char*>(memory->data()), memory->size()};
}

Result<std::span<const Char16>> widen(const Firmware& firmware, std::string_view text) {
  const auto wide = firmware.allocate_array<Char16>(text.size());
  if (!wide) {
    return std::unexpected{wide.error()};
  }
  std::ranges::transform(text, wide->begin(),
                         [](char c) -> Char16 { return static_cast<unsigned char>(c); });
  return *wide;
}

Result<Target> choose_from_volume(const Firmware& firmware, std::string_view directory,
                                  std::span<const Char16> options) {
  const auto text = read_configuration(firmware, directory);
  if (!text) {
    return std::unexpected{text.error()};
  }
  const auto configuration = parse_configuration(*text);
  if (!configuration) {
    return fail(configuration.error());
  }
  Target target{.options = options};
  if (options.empty() && !configuration->options.empty()) {
    const auto wide = widen(firmware, configuration->options);
    if (!wide) {
      return std::unexpected{wide.error()};
    }
    target.options = *wide;
  }
  if (!configuration->image.empty()) {
    const auto path = resolve(directory, configuration->image);
    if (!path) {
      return fail(path.error());
    }
    target.path = *path;
    return target;
  }
  const auto volume = BootVolume::open(firmware);
  if (!volume) {
    return std::unexpected{volume.error()};
  }
  for (const std::string_view name : kDefaultPaths) {
    const auto path = resolve(directory, name);
    if (path && volume->open_file(path->view())) {
      target.path = *path;
      return target;
    }
  }
  return std::unexpected{Failure{
      "nothing to start: no image= in the load options, no accede-shim.cfg, no known loader"sv,
      Status::kNotFound}};
}

}  // namespace

Result<Target> choose_target(const Firmware& firmware) {
  const auto own = loaded_image(firmware, firmware.image());
  if (!own) {
    return std::unexpected{own.error()};
  }
  const auto* const bytes = static_cast<const std::byte*>((*own)->load_options);
  const std::size_t size = bytes == nullptr ? 0 : (*own)->load_options_bytes;
  const auto options = parse_load_options({bytes, size});
  if (!options) {
    return fail(options.error());
  }
  if (!options->image.view().empty()) {
    return Target{.path = options->image, .options = options->options};
  }
  return choose_from_volume(firmware, directory_of((*own)->file_path).view(), options->options);
}

Result<std::span<std::byte>> read_target(const Firmware& firmware, const Target& target) {
  return firmware.read_file(target.path.view());
}

Result<abi::efi::Handle> load_target(const Firmware& firmware, const Target& target,
                                     std::span<const std::byte> file) {
  const auto own = loaded_image(firmware, firmware.image());
  if (!own) {
    return std::unexpected{own.error()};
  }
  const auto path = make_file_path(firmware, (*own)->device_handle, target.path.view());
  if (!path) {
    return std::unexpected{path.error()};
  }
  abi::efi::Handle image = nullptr;
  const Status status =
      firmware.boot().load_image(0, firmware.image(), *path, file.data(), file.size(), &image);
  if (is_error(status)) {
    return std::unexpected{Failure{"the firmware does not take it"sv, status}};
  }
  const auto loaded = loaded_image(firmware, image);
  const auto options = firmware.allocate_array<Char16>(target.options.size() + 1);
  if (!loaded || !options) {
    firmware.boot().unload_image(image);
    return std::unexpected{loaded ? options.error() : loaded.error()};
  }
  std::ranges::copy(target.options, options->begin());
  (*loaded)->load_options = options->data();
  (*loaded)->load_options_bytes = static_cast<std::uint32_t>(options->size_bytes());
  if (*path == nullptr) {
    // Loaded from memory, it has no volume of its own: ours is where its files are.
    (*loaded)->device_handle = (*own)->device_handle;
  }
  return image;
}

}  // namespace accede::efi::shim
