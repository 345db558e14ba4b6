#include "accede/efi/loader/volume_file.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace accede::efi::loader {

using namespace std::string_view_literals;
namespace {

using abi::efi::FileProtocol;
using abi::efi::Status;

constexpr std::size_t kMostPath = 255;
constexpr std::size_t kBufferBytes = 1 << 20;
/// Larger than any memory; sizes up to here can be rounded and added without a thought.
constexpr std::uint64_t kMostFileBytes = 1ULL << 46;

Result<FileProtocol*> open_volume(const Firmware& firmware) {
  const auto loaded =
      firmware.protocol<abi::efi::LoadedImage>(firmware.image(), abi::efi::kLoadedImageProtocol);
  if (!loaded) {
    return std::unexpected{loaded.error()};
  }
  const auto volume = firmware.protocol<abi::efi::SimpleFileSystem>(
      (*loaded)->device_handle, abi::efi::kSimpleFileSystemProtocol);
  if (!volume) {
    return std::unexpected{Failure{"the boot volume has no file system"sv, volume.error().status}};
  }
  FileProtocol* root = nullptr;
  if (const Status status = (*volume)->open_volume(*volume, &root); is_error(status)) {
    return std::unexpected{Failure{"the boot volume cannot be opened"sv, status}};
  }
  return root;
}

Result<std::uint64_t> size_of(FileProtocol* file) {
  alignas(8) std::array<std::byte, 1024> info{};
  std::uint64_t bytes = info.size();
  const Status status = file->get_info(file, &abi::efi::kFileInfo, &bytes, info.data());
  if (is_error(status)) {
    return std::unexpected{Failure{"a file's size cannot be read"sv, status}};
  }
  return *ByteReader{info}.read<std::uint64_t>(abi::efi::kFileInfoSizeOffset);
}

}  // namespace

Outcome<VolumeFile> VolumeFile::open(const Firmware& firmware, std::string_view path) {
  std::array<abi::efi::Char16, kMostPath + 1> wide{};
  if (path.size() > kMostPath) {
    return problem(Status::kInvalidParameter, "a path is too long"sv, path.substr(0, 64));
  }
  std::ranges::copy(path, wide.begin());
  const auto root = open_volume(firmware);
  if (!root) {
    return problem(Status::kLoadError, root.error());
  }
  FileProtocol* file = nullptr;
  const Status status = (*root)->open(*root, &file, wide.data(), abi::efi::kFileModeRead, 0);
  (*root)->close(*root);
  if (is_error(status)) {
    return problem(Status::kLoadError, Failure{"a file is missing on the boot volume"sv, status},
                   path);
  }
  const auto size = size_of(file);
  if (!size) {
    file->close(file);
    return problem(Status::kLoadError, size.error(), path);
  }
  if (*size == 0 || *size > kMostFileBytes) {
    file->close(file);
    return problem(Status::kLoadError,
                   *size == 0 ? "the file is empty"sv : "the file is larger than any memory"sv,
                   path);
  }
  return VolumeFile{file, Bytes{*size}, path};
}

VolumeFile::VolumeFile(VolumeFile&& other) noexcept
    : file_{std::exchange(other.file_, nullptr)}, size_{other.size_}, path_{other.path_} {}

VolumeFile::~VolumeFile() {
  if (file_ != nullptr) {
    file_->close(file_);
  }
}

Outcome<void> VolumeFile::read(const Firmware& firmware, std::span<std::byte> memory) const {
  const auto buffer = firmware.allocate(kBufferBytes);
  if (!buffer) {
    return problem(Status::kOutOfResources, buffer.error(), path_);
  }
  auto result = read_through(*buffer, memory);
  firmware.boot().free_pool(buffer->data());
  return result;
}

Outcome<void> VolumeFile::read_through(std::span<std::byte> buffer,
                                       std::span<std::byte> memory) const {
  ACCEDE_ASSERT(memory.size() >= size_.value());
  std::span<std::byte> rest = memory.first(size_.value());
  while (!rest.empty()) {
    const std::uint64_t wanted = std::min(rest.size(), buffer.size());
    std::uint64_t got = wanted;
    const Status status = file_->read(file_, &got, buffer.data());
    if (is_error(status) || got != wanted) {
      return problem(Status::kLoadError, Failure{"a file cannot be read"sv, status}, path_);
    }
    std::ranges::copy(buffer.first(wanted), rest.begin());
    rest = rest.subspan(wanted);
  }
  return {};
}

}  // namespace accede::efi::loader
