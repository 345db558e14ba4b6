#include "accede/efi/disk_start.hpp"

#include "accede/efi/boot_volume.hpp"

#include <algorithm>
#include <array>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::DevicePath;
using abi::efi::Handle;
using abi::efi::Status;

constexpr std::uint8_t kEndType = 0x7F;
constexpr DevicePath kEnd{.type = kEndType, .sub_type = 0xFF, .length = {4, 0}};

std::size_t length_of(const DevicePath& node) {
  return node.length[0] | static_cast<std::size_t>(node.length[1]) << 8;
}

/// Bytes of `path` without its end node.
std::size_t length_before_end(const DevicePath* path) {
  const auto* const begin = reinterpret_cast<const std::byte*>(path);
  const auto* at = path;
  while (at->type != kEndType && length_of(*at) >= sizeof(DevicePath)) {
    at = reinterpret_cast<const DevicePath*>(reinterpret_cast<const std::byte*>(at) +
                                             length_of(*at));
  }
  return static_cast<std::size_t>(reinterpret_cast<const std::byte*>(at) - begin);
}

/// The path of the device `volume` and of the file in it.
Result<const DevicePath*> path_to(const Firmware& firmware, Handle volume, std::string_view file) {
  const auto device = firmware.protocol<DevicePath>(volume, abi::efi::kDevicePathProtocol);
  if (!device) {
    return std::unexpected{device.error()};
  }
  const std::size_t name_bytes = (file.size() + 1) * sizeof(abi::efi::Char16);
  const std::size_t node_bytes = sizeof(DevicePath) + name_bytes;
  const std::size_t device_bytes = length_before_end(*device);
  const auto buffer = firmware.allocate(device_bytes + node_bytes + sizeof(DevicePath));
  if (!buffer) {
    return std::unexpected{buffer.error()};
  }
  std::byte* const to = buffer->data();
  std::copy_n(reinterpret_cast<const std::byte*>(*device), device_bytes, to);
  new (to + device_bytes) DevicePath{.type = 4,      // media
                                     .sub_type = 4,  // a file
                                     .length = {static_cast<std::uint8_t>(node_bytes & 0xFF),
                                                static_cast<std::uint8_t>(node_bytes >> 8)}};
  std::byte* name = to + device_bytes + sizeof(DevicePath);
  for (const char c : file) {
    *name++ = static_cast<std::byte>(c);
    *name++ = std::byte{0};
  }
  *name++ = std::byte{0};
  *name++ = std::byte{0};
  new (name) DevicePath{kEnd};
  return reinterpret_cast<const DevicePath*>(to);
}

bool has_file(const Firmware& firmware, Handle device, std::string_view path) {
  const auto volume = BootVolume::open(firmware, device);
  return volume && volume->open_file(path);
}

}  // namespace

Result<Handle> load_from_other_volume(const Firmware& firmware, std::string_view path) {
  const auto own =
      firmware.protocol<abi::efi::LoadedImage>(firmware.image(), abi::efi::kLoadedImageProtocol);
  if (!own) {
    return std::unexpected{own.error()};
  }
  std::uint64_t count = 0;
  Handle* volumes = nullptr;
  Status status = firmware.boot().locate_handle_buffer(
      abi::efi::kLocateByProtocol, &abi::efi::kSimpleFileSystemProtocol, nullptr, &count, &volumes);
  if (is_error(status)) {
    return std::unexpected{Failure{"there is no volume"sv, status}};
  }
  const std::span all{volumes, static_cast<std::size_t>(count)};
  const auto found = std::ranges::find_if(all, [&](Handle volume) {
    return volume != (*own)->device_handle && has_file(firmware, volume, path);
  });
  if (found == all.end()) {
    return std::unexpected{Failure{"no volume of the disk has an EFI\\BOOT\\BOOTX64.EFI"sv}};
  }
  const auto where = path_to(firmware, *found, path);
  if (!where) {
    return std::unexpected{where.error()};
  }
  Handle image = nullptr;
  status = firmware.boot().load_image(0, firmware.image(), *where, nullptr, 0, &image);
  if (is_error(status)) {
    return std::unexpected{Failure{"the firmware does not take the disk's EFI image"sv, status}};
  }
  return image;
}

}  // namespace accede::efi
