#include "accede/host/linux_memory_file.hpp"

#include "accede/base/assert.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace accede::host {

namespace {

std::unexpected<std::string> refused(std::string_view what) {
  return std::unexpected{std::string{what} + ": " + std::strerror(errno)};
}

std::unexpected<BackingFailure> failed() {
  return std::unexpected{BackingFailure{errno}};
}

off_t offset_of(Bytes bytes) {
  return static_cast<off_t>(bytes.value());
}

std::span<std::byte> map_all(int fd, Bytes size) {
  void* const view =
      mmap(nullptr, size.value(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  return view == MAP_FAILED ? std::span<std::byte>{}
                            : std::span{static_cast<std::byte*>(view), std::size_t{size.value()}};
}

BackingResult call_fallocate(int fd, int mode, OffsetRange range) {
  int result = -1;
  do {
    result = fallocate(fd, mode, offset_of(range.begin()), offset_of(range.size()));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? BackingResult{} : failed();
}

}  // namespace

std::expected<LinuxMemoryFile, std::string> LinuxMemoryFile::memfd(Bytes size) {
  const int fd = memfd_create("accede-private-memory", MFD_CLOEXEC);
  if (fd < 0) {
    return refused("memfd_create");
  }
  if (ftruncate(fd, offset_of(size)) != 0) {
    const int code = errno;
    close(fd);
    errno = code;
    return refused("size of a memfd");
  }
  return take(fd, size, /*mapped=*/true);
}

std::expected<LinuxMemoryFile, std::string> LinuxMemoryFile::take(int fd, Bytes size, bool mapped) {
  LinuxMemoryFile file;
  file.fd_ = fd;
  file.size_ = size;
  if (mapped) {
    file.host_ = map_all(fd, size);
    file.guest_ = map_all(fd, size);
    if (file.host_.empty() || file.guest_.empty()) {
      return refused("mapping of private memory");
    }
  }
  return file;
}

LinuxMemoryFile::~LinuxMemoryFile() {
  for (const std::span<std::byte> view : {host_, guest_}) {
    if (!view.empty()) {
      munmap(view.data(), view.size());
    }
  }
  if (fd_ >= 0) {
    close(fd_);
  }
}

Bytes LinuxMemoryFile::backed() const {
  constexpr std::uint64_t kStatBlock = 512;
  struct stat status{};
  return fstat(fd_, &status) == 0 ? Bytes{static_cast<std::uint64_t>(status.st_blocks) * kStatBlock}
                                  : Bytes{0};
}

BackingResult LinuxMemoryFile::allocate(OffsetRange range) {
  return call_fallocate(fd_, FALLOC_FL_KEEP_SIZE, range);
}

BackingResult LinuxMemoryFile::discard(OffsetRange range) {
  return call_fallocate(fd_, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, range);
}

BackingResult LinuxMemoryFile::set_host_access(OffsetRange range, bool allowed) {
  if (host_.empty()) {
    return {};
  }
  ACCEDE_ASSERT(range.end() <= size_);
  const int access = allowed ? PROT_READ | PROT_WRITE : PROT_NONE;
  return mprotect(host_.data() + range.begin().value(), range.size().value(), access) == 0
             ? BackingResult{}
             : failed();
}

BackingResult LinuxMemoryFile::write(Bytes offset, std::span<const std::byte> content) {
  ACCEDE_ASSERT(content.size() <= size_.value() &&
                offset.value() <= size_.value() - content.size());
  while (!content.empty()) {
    const ssize_t written = pwrite(fd_, content.data(), content.size(), offset_of(offset));
    if (written > 0) {
      content = content.subspan(static_cast<std::size_t>(written));
      offset += Bytes{static_cast<std::uint64_t>(written)};
    } else if (written < 0 && errno == EINTR) {
      continue;
    } else if (written < 0 && errno != EINVAL && errno != ESPIPE) {
      return failed();
    } else if (!host_.empty()) {
      // A guest_memfd cannot be written to, but its mapping can.
      std::memcpy(host_.data() + offset.value(), content.data(), content.size());
      return {};
    } else {
      return std::unexpected{BackingFailure{EOPNOTSUPP}};
    }
  }
  return {};
}

}  // namespace accede::host
