// /init of the guest: says that user space is up, runs the workload that the kernel command line
// asks for (accede.touch=all|BYTES), starts the kernel once more (accede.kexec=1), and leaves
// (accede.exit=poweroff|reboot|hang|panic). Lines and fields: docs/emulator.md.
#include "accede/base/text_buffer.hpp"
#include "accede/init/console.hpp"
#include "accede/init/guest_report.hpp"
#include "accede/init/kexec.hpp"
#include "accede/init/proc_files.hpp"
#include "accede/init/touch.hpp"

#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <string_view>

namespace {

using accede::init::Console;
using accede::init::JsonLine;
using accede::init::Request;

struct Mount {
  const char* type;
  const char* target;
};

/// What failed first; the console is only there once /dev is.
struct MountError {
  const char* target = nullptr;
  int error = 0;
};

MountError mount_all() {
  MountError failed;
  for (const Mount& mount_point :
       {Mount{"devtmpfs", "/dev"}, Mount{"proc", "/proc"}, Mount{"sysfs", "/sys"}}) {
    // EBUSY: the kernel mounted it already (CONFIG_DEVTMPFS_MOUNT).
    if (mount(mount_point.type, mount_point.target, mount_point.type, 0, nullptr) != 0 &&
        errno != EBUSY && failed.target == nullptr) {
      failed = {.target = mount_point.target, .error = errno};
    }
  }
  return failed;
}

void report_unknown(const Console& console, std::string_view word) {
  accede::TextBuffer<256> message;
  message.text(word.substr(0, 128)).text(": not understood");
  accede::TextBuffer<512> line;
  line.text(R"({"step":"error","message":)").quoted(message.view()).text("}");
  console.report(line.view());
}

void work(const Console& console, const Request& request) {
  static accede::init::TouchResult result;
  static JsonLine line;
  accede::init::touch_memory(request, result);
  accede::init::write_work(line, request.generation, result);
  console.report(line.view());
  console.wait_for_host();
}

/// Starts this kernel once more. Comes back only when that fails.
void kexec(const Console& console, const Request& request) {
  static accede::init::CommandLine command_line;
  static JsonLine line;
  accede::init::write_next_command_line(command_line, accede::init::read_file("/proc/cmdline"),
                                        request.generation + 1);
  // Loading takes memory, which may have to be accepted: the state is taken afterwards.
  if (const auto loaded = accede::init::load_next_kernel(command_line); !loaded) {
    console.report_error(loaded.error().what, loaded.error().error);
    return;
  }
  accede::init::write_kexec(line, request.generation);
  console.report(line.view());
  console.wait_for_host();
  const auto failed = accede::init::start_next_kernel();
  console.report_error(failed.what, failed.error);
}

constexpr std::string_view kOff = R"({"step":"off"})";

[[noreturn]] void leave(const Console& console, Request::Exit exit) {
  switch (exit) {
    case Request::Exit::kPanic:
      std::_Exit(1);  // the kernel panics when its first process ends: this was asked for
    case Request::Exit::kHang:
      break;
    case Request::Exit::kReboot:
      console.report(kOff);
      reboot(RB_AUTOBOOT);
      console.report_error("reboot", errno);
      break;
    case Request::Exit::kPowerOff:
      console.report(kOff);
      reboot(RB_POWER_OFF);
      console.report_error("power off", errno);
      reboot(RB_AUTOBOOT);
      break;
  }
  for (;;) {
    pause();
  }
}

}  // namespace

int main() {
  const MountError failed = mount_all();
  const Console console;
  if (failed.target != nullptr) {
    console.report_error(failed.target, failed.error);
  }

  const std::string_view command_line = accede::init::read_file("/proc/cmdline");
  const Request request = accede::init::parse_request(command_line);
  static accede::TextBuffer<256> unknown;
  unknown.text(accede::init::unknown_request(command_line));

  static JsonLine line;
  accede::init::write_up(line, request.generation);
  console.report(line.view());
  console.wait_for_host();

  if (!unknown.view().empty()) {
    report_unknown(console, unknown.view());
  }
  if (request.touch_all || request.touch_bytes != 0) {
    work(console, request);
  }
  if (request.kexec) {
    kexec(console, request);
  }
  leave(console, request.exit);
}
