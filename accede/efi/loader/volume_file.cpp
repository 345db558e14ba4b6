#include "accede/efi/loader/volume_file.hpp"

#include <algorithm>
#include <utility>

namespace accede::efi::loader {

using namespace std::string_view_literals;
namespace {

using abi::efi::Status;

constexpr std::size_t kBufferBytes = 1 << 20;
/// Larger than any memory; sizes up to here can be rounded and added without a thought.
constexpr std::uint64_t kMostFileBytes = 1ULL << 46;

}  // namespace

Outcome<VolumeFile> VolumeFile::open(const Firmware& firmware, std::string_view path) {
  if (path.size() > BootVolume::kMostPath) {
    return problem(Status::kInvalidParameter, "a path is too long"sv, path.substr(0, 64));
  }
  const auto volume = BootVolume::open(firmware);
  if (!volume) {
    return problem(Status::kLoadError, volume.error());
  }
  auto file = volume->open_file(path);
  if (!file) {
    return problem(Status::kLoadError, file.error(), path);
  }
  if (file->bytes() == 0 || file->bytes() > kMostFileBytes) {
    return problem(
        Status::kLoadError,
        file->bytes() == 0 ? "the file is empty"sv : "the file is larger than any memory"sv, path);
  }
  return VolumeFile{std::move(*file), path};
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
  ACCEDE_ASSERT(memory.size() >= size().value());
  std::span<std::byte> rest = memory.first(size().value());
  while (!rest.empty()) {
    const auto part = buffer.first(std::min(rest.size(), buffer.size()));
    if (const auto read = file_.read(part); !read) {
      return problem(Status::kLoadError, read.error(), path_);
    }
    std::ranges::copy(part, rest.begin());
    rest = rest.subspan(part.size());
  }
  return {};
}

}  // namespace accede::efi::loader
