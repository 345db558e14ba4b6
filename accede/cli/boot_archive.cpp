#include "accede/cli/boot_archive.hpp"

#include "accede/cli/file_text.hpp"
#include "accede/cli/unique_fd.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

// Linux: init/initramfs.c skips zeros between archives and wants the next one at a multiple of 4.
constexpr std::size_t kArchiveAlignment = 4;

/// What went wrong with the output, in words that follow "cannot write FILE: ".
using Written = std::expected<void, std::string>;

struct ArchiveDeleter {
  void operator()(archive* open) const { archive_write_free(open); }
};
struct EntryDeleter {
  void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};

Written write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = write(fd, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) {
      continue;
    }
    if (done <= 0) {
      return std::unexpected{std::strerror(done == 0 ? ENOSPC : errno)};
    }
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
  return {};
}

/// A cpio archive (newc, the only form that Linux unpacks) on a file descriptor.
class CpioWriter {
 public:
  explicit CpioWriter(int fd) : archive_{archive_write_new()} {
    // Without this libarchive pads to 10 KiB.
    constexpr int kNoPadding = 1;
    opened_ = archive_ != nullptr &&
              archive_write_set_format_cpio_newc(archive_.get()) == ARCHIVE_OK &&
              archive_write_set_bytes_in_last_block(archive_.get(), kNoPadding) == ARCHIVE_OK &&
              archive_write_open_fd(archive_.get(), fd) == ARCHIVE_OK;
  }

  Written directory(const char* name) { return add(name, AE_IFDIR, 0755, {}); }
  Written file(const char* name, std::span<const std::byte> bytes) {
    return add(name, AE_IFREG, 0644, bytes);
  }
  /// Writes the end of the archive.
  Written close() {
    return opened_ && archive_write_close(archive_.get()) == ARCHIVE_OK ? Written{} : failed();
  }

 private:
  Written add(const char* name, unsigned type, unsigned mode, std::span<const std::byte> bytes) {
    const std::unique_ptr<archive_entry, EntryDeleter> entry{archive_entry_new()};
    if (!opened_ || entry == nullptr) {
      return failed();
    }
    archive_entry_set_pathname(entry.get(), name);
    archive_entry_set_filetype(entry.get(), type);
    archive_entry_set_perm(entry.get(), static_cast<mode_t>(mode));
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(bytes.size()));
    archive_entry_set_mtime(entry.get(), 0, 0);
    const bool written = archive_write_header(archive_.get(), entry.get()) == ARCHIVE_OK &&
                         archive_write_data(archive_.get(), bytes.data(), bytes.size()) ==
                             static_cast<la_ssize_t>(bytes.size()) &&
                         archive_write_finish_entry(archive_.get()) == ARCHIVE_OK;
    return written ? Written{} : failed();
  }

  [[nodiscard]] Written failed() const {
    const int error = archive_ == nullptr ? ENOMEM : archive_errno(archive_.get());
    if (error > 0) {
      return std::unexpected{std::strerror(error)};
    }
    const char* const text = archive_ == nullptr ? nullptr : archive_error_string(archive_.get());
    return std::unexpected{text == nullptr ? "cannot make a cpio archive" : text};
  }

  std::unique_ptr<archive, ArchiveDeleter> archive_;
  bool opened_ = false;
};

Written write_boot_files(int fd, std::span<const std::byte> init,
                         std::span<const std::byte> kernel) {
  CpioWriter cpio{fd};
  Written written = cpio.directory("boot");
  if (written) {
    written = cpio.file("boot/vmlinuz", kernel);
  }
  if (written) {
    written = cpio.file("boot/initrd", init);
  }
  return written ? cpio.close() : written;
}

Written write_archives(int fd, std::span<const std::byte> init, std::span<const std::byte> kernel) {
  constexpr std::array<std::byte, kArchiveAlignment> kZeros{};
  const std::size_t over = init.size() % kArchiveAlignment;
  const std::size_t padding = over == 0 ? 0 : kArchiveAlignment - over;
  if (const Written written = write_all(fd, init); !written) {
    return written;
  }
  if (const Written written = write_all(fd, std::span{kZeros}.first(padding)); !written) {
    return written;
  }
  return write_boot_files(fd, init, kernel);
}

std::expected<std::vector<std::byte>, Failure> read_input(const fs::path& path) {
  auto bytes = read_bytes(path, kMaxBootFile);
  if (!bytes) {
    return std::unexpected{usage(path.string() + ": " + bytes.error())};
  }
  return std::move(*bytes);
}

}  // namespace

std::expected<void, Failure> write_boot_archive(const fs::path& init_cpio, const fs::path& kernel,
                                                const fs::path& to) {
  const auto init = read_input(init_cpio);
  if (!init) {
    return std::unexpected{init.error()};
  }
  const auto image = read_input(kernel);
  if (!image) {
    return std::unexpected{image.error()};
  }
  const UniqueFd fd{open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  const Written written = fd.get() < 0 ? Written{std::unexpected{std::strerror(errno)}}
                                       : write_archives(fd.get(), *init, *image);
  if (!written) {
    std::error_code ignored;
    if (fd.get() >= 0 && fs::is_regular_file(to, ignored)) {
      fs::remove(to, ignored);
    }
    return std::unexpected{missing("cannot write " + to.string() + ": " + written.error())};
  }
  return {};
}

}  // namespace accede::cli
