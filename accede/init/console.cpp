#include "accede/init/console.hpp"

#include "accede/base/text_buffer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/klog.h>
#include <termios.h>
#include <unistd.h>
#include <cstddef>
#include <cstring>

namespace accede::init {
namespace {

constexpr int kWaitMilliseconds = 10'000;

// syslog(2) actions; glibc names none of them.
constexpr int kKernelMessagesOff = 6;
constexpr int kKernelMessagesOn = 7;

/// The first serial port, whatever the command line made the console: the host listens there.
int open_console() {
  const int serial = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC);
  termios mode{};
  if (serial >= 0 && tcgetattr(serial, &mode) == 0) {
    mode.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(serial, TCSANOW, &mode);
    return serial;
  }
  return open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t done = write(fd, text.data(), text.size());
    if (done <= 0) {
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(done));
  }
}

}  // namespace

Console::Console() : fd_{open_console()} {}

Console::~Console() {
  if (fd_ >= 0) {
    close(fd_);
  }
}

void Console::report(std::string_view json) const {
  klogctl(kKernelMessagesOff, nullptr, 0);
  // The leading line end closes a line that the kernel or another program left open.
  write_all(fd_, "\nACCEDE-INIT ");
  write_all(fd_, json);
  write_all(fd_, "\n");
  tcdrain(fd_);
  klogctl(kKernelMessagesOn, nullptr, 0);
}

void Console::report_error(std::string_view what, int error) const {
  TextBuffer<512> message;
  message.text(what).text(": ").text(std::strerror(error));
  TextBuffer<640> line;
  line.text(R"({"step":"error","message":)").quoted(message.view()).text("}");
  report(line.view());
}

void Console::wait_for_host() const {
  pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, kWaitMilliseconds) == 1) {
    char discarded[64];
    [[maybe_unused]] const ssize_t count = read(fd_, discarded, sizeof discarded);
  }
}

}  // namespace accede::init
