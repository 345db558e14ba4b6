#include "accede/init/kexec.hpp"

#include <fcntl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>

namespace accede::init {
namespace {

constexpr const char* kKernel = "/boot/vmlinuz";
constexpr const char* kInitrd = "/boot/initrd";

/// A file open for reading; closed when it goes out of scope.
class OpenFile {
 public:
  explicit OpenFile(const char* path)
      : fd_{open(path, O_RDONLY | O_CLOEXEC)}, error_{fd_ < 0 ? errno : 0} {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  [[nodiscard]] int fd() const { return fd_; }
  /// 0, or the errno of opening.
  [[nodiscard]] int error() const { return error_; }

 private:
  int fd_;
  int error_;
};

}  // namespace

std::expected<void, KexecError> load_next_kernel(const CommandLine& command_line) {
  if (command_line.overflowed()) {
    return std::unexpected{KexecError{.what = "command line of the next kernel", .error = E2BIG}};
  }
  const OpenFile kernel{kKernel};
  if (kernel.error() != 0) {
    return std::unexpected{KexecError{.what = kKernel, .error = kernel.error()}};
  }
  const OpenFile initrd{kInitrd};
  if (initrd.error() != 0) {
    return std::unexpected{KexecError{.what = kInitrd, .error = initrd.error()}};
  }
  // The length counts the zero at the end, which the kernel insists on. glibc has no wrapper.
  const unsigned long length = command_line.view().size() + 1;
  constexpr unsigned long kNoFlags = 0;
  if (syscall(SYS_kexec_file_load, kernel.fd(), initrd.fd(), length, command_line.c_str(),
              kNoFlags) != 0) {
    return std::unexpected{KexecError{.what = "kexec_file_load", .error = errno}};
  }
  return {};
}

KexecError start_next_kernel() {
  sync();
  reboot(RB_KEXEC);  // LINUX_REBOOT_CMD_KEXEC
  return {.what = "jump into the next kernel", .error = errno};
}

}  // namespace accede::init
