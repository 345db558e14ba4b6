#include "accede/efi/boot_volume.hpp"

#include <algorithm>
#include <array>

namespace accede::efi {

using namespace std::string_view_literals;
using abi::efi::FileProtocol;
using abi::efi::Status;

Result<void> BootFile::read(std::span<std::byte> to) const {
  std::uint64_t got = to.size();
  const Status status = file_->read(file_, &got, to.data());
  if (is_error(status) || got != to.size()) {
    return std::unexpected{Failure{"a file cannot be read"sv, status}};
  }
  return {};
}

Result<BootVolume> BootVolume::open(const Firmware& firmware) {
  const auto loaded =
      firmware.protocol<abi::efi::LoadedImage>(firmware.image(), abi::efi::kLoadedImageProtocol);
  if (!loaded) {
    return std::unexpected{loaded.error()};
  }
  return open(firmware, (*loaded)->device_handle);
}

Result<BootVolume> BootVolume::open(const Firmware& firmware, abi::efi::Handle device) {
  const auto volume =
      firmware.protocol<abi::efi::SimpleFileSystem>(device, abi::efi::kSimpleFileSystemProtocol);
  if (!volume) {
    return std::unexpected{Failure{"the boot volume has no file system"sv, volume.error().status}};
  }
  FileProtocol* root = nullptr;
  if (const Status status = (*volume)->open_volume(*volume, &root); is_error(status)) {
    return std::unexpected{Failure{"the boot volume cannot be opened"sv, status}};
  }
  return BootVolume{root};
}

Result<BootFile> BootVolume::open_file(std::string_view path) const {
  std::array<abi::efi::Char16, kMostPath + 1> wide{};
  if (path.size() > kMostPath) {
    return std::unexpected{Failure{"a path is too long"sv}};
  }
  std::ranges::copy(path, wide.begin());
  FileProtocol* file = nullptr;
  Status status = root_->open(root_, &file, wide.data(), abi::efi::kFileModeRead, 0);
  if (is_error(status)) {
    return std::unexpected{Failure{"a file is missing on the boot volume"sv, status}};
  }
  // EFI_FILE_INFO ends with the file's name.
  alignas(8) std::array<std::byte, 1024> info{};
  std::uint64_t bytes = info.size();
  status = file->get_info(file, &abi::efi::kFileInfo, &bytes, info.data());
  if (is_error(status)) {
    file->close(file);
    return std::unexpected{Failure{"a file's size cannot be read"sv, status}};
  }
  return BootFile{file, *ByteReader{info}.read<std::uint64_t>(abi::efi::kFileInfoSizeOffset)};
}

}  // namespace accede::efi
