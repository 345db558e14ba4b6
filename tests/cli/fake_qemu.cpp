// Stands in for QEMU where a test needs a VM that behaves in a particular way at once. Takes
// QEMU's arguments, finds its channels and memory size in them, and plays $ACCEDE_FAKE:
//   userspace fault panic reset hang silent launcher-error exit return work custom-init killed
//   guest kexec refusal
// Writes its process id to $ACCEDE_FAKE_PID when it runs.
#include "tests/cli/made_up_report.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

namespace {

using accede::emulator::Event;

constexpr std::size_t kTouched = 8U << 20;
constexpr std::array<Event, 1> kEvents{{{.tsc = 1,
                                         .gpa = 0x1'0000'0000,
                                         .pages = 512,
                                         .kind = accede::emulator::EventKind::kAccept,
                                         .detail = 1,
                                         .vcpu = 0}}};

long number(std::string_view text) {
  long value = -1;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// What follows `key` in the argument that contains it.
std::string_view find(std::span<char*> arguments, std::string_view key) {
  for (const std::string_view argument : arguments) {
    if (const std::size_t position = argument.find(key); position != std::string_view::npos) {
      return argument.substr(position + key.size());
    }
  }
  return "";
}

class FakeVm {
 public:
  explicit FakeVm(std::span<char*> arguments)
      : console_{static_cast<int>(number(find(arguments, "id=console,fd=")))},
        report_{static_cast<int>(number(find(arguments, "id=report,fd=")))},
        control_{static_cast<int>(number(find(arguments, "id=control,fd=")))},
        encryption_{find(arguments, "vendor=AuthenticAMD").empty() ? "Intel TDX"
                                                                   : "AMD SEV SEV-ES SEV-SNP"} {
    const auto bytes = static_cast<std::size_t>(number(find(arguments, "reserve=off,size="))) << 20;
    ram_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    madvise(ram_, bytes, MADV_NOHUGEPAGE);
    std::memset(ram_, 1, kTouched);
    send(control_, R"({"QMP":{"version":{},"capabilities":[]}})");
  }

  void report(const std::string& line) { send(report_, line); }
  void console(const std::string& line) { send(console_, line); }

  void boot() {
    report(R"({"event":"launcher","version":"fake"})");
    report(R"({"event":"takeover","report_gpa":"0x1000","report_bytes":16384})");
    report("not JSON");
    report(R"({"event":"kernel-start"})");
    report(R"({"event":"boot-services-exited"})");
    console("[    0.000000] Linux version 6.12.1-made-up");
    console(std::string{"[    0.100000] Memory Encryption Features active: "} + encryption_);
  }
  void up() {
    console(R"(ACCEDE-INIT {"step":"up","uptime_seconds":1.5,"release":"6.12.1-made-up",)"
            R"("ram_bytes":4273995776,"meminfo":{"MemTotal":4106096640,"MemFree":4000000000,)"
            R"("Unaccepted":1478656000}})");
  }
  void shutdown(const char* reason) {
    send(control_,
         std::string{R"({"event":"SHUTDOWN","data":{"guest":true,"reason":")"} + reason + "\"}}");
  }
  /// Answers the control channel until the console sends something.
  void wait_for_host() { serve(true); }
  /// Answers the control channel until killed.
  [[noreturn]] void stay() {
    for (;;) {
      serve(false);
      pause();
    }
  }

 private:
  static void send(int fd, const std::string& line) {
    const std::string text = line + "\n";
    [[maybe_unused]] const ssize_t done = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  }

  void serve(bool until_console) {
    std::array<pollfd, 2> fds{{{control_, POLLIN, 0}, {console_, POLLIN, 0}}};
    const nfds_t count = until_console ? 2 : 1;
    while (poll(fds.data(), count, -1) > 0) {
      if (until_console && fds[1].revents != 0) {
        char discarded = 0;
        [[maybe_unused]] const ssize_t done = read(console_, &discarded, 1);
        return;
      }
      std::array<char, 4096> buffer{};
      const ssize_t got = read(control_, buffer.data(), buffer.size());
      if (got <= 0) {
        return;
      }
      answer({buffer.data(), static_cast<std::size_t>(got)});
    }
  }

  void answer(std::string_view lines) {
    while (!lines.empty()) {
      const std::string_view line = lines.substr(0, lines.find('\n'));
      lines.remove_prefix(std::min(line.size() + 1, lines.size()));
      const auto command = nlohmann::json::parse(line, nullptr, false);
      if (command.is_object() && command.value("execute", "") == "pmemsave") {
        save(command["arguments"]["filename"]);
      }
      send(control_, R"({"return":{},"id":)" + std::to_string(command.value("id", 0)) + "}");
    }
  }

  static void save(const std::string& path) {
    const auto area = accede::cli::test::made_up_area(accede::cli::test::made_up_header(), kEvents);
    std::ofstream file{path, std::ios::binary};
    for (const std::byte byte : area) {
      file.put(static_cast<char>(byte));
    }
  }

  int console_;
  int report_;
  int control_;
  const char* encryption_;  ///< what a kernel says that runs on this processor
  void* ram_ = nullptr;
};

/// Our own kernel.
void play_guest(FakeVm& vm) {
  vm.console(R"(ACCEDE-GUEST {"step":"ready","generation":1,"release":"accede-guest 0.1.0",)"
             R"("used_bytes":4096,"meminfo":{"MemTotal":9000,"MemFree":8000,"Unaccepted":1000}})");
  vm.wait_for_host();
  vm.console(R"(ACCEDE-GUEST {"step":"off"})");
  vm.shutdown("guest-shutdown");
}

/// A Linux that has started its init and starts itself again.
void play_kexec(FakeVm& vm) {
  vm.up();
  vm.wait_for_host();
  vm.console(R"(ACCEDE-INIT {"step":"kexec","meminfo":{"MemTotal":9000,"Unaccepted":900}})");
  vm.wait_for_host();
  vm.console(R"(ACCEDE-INIT {"step":"up","generation":2,"meminfo":{"Unaccepted":800}})");
  vm.wait_for_host();
  vm.console(R"(ACCEDE-INIT {"step":"off"})");
  vm.shutdown("guest-shutdown");
}

void play(FakeVm& vm, std::string_view scene) {
  if (scene == "silent") {
    return;
  }
  if (scene == "launcher-error") {
    vm.report(R"({"event":"error","message":"this processor has no SVM"})");
    return;
  }
  if (scene == "refusal") {
    vm.report(R"({"event":"launcher","version":"fake"})");
    vm.report(R"({"event":"kernel-start"})");
    vm.console("accede-loader: the kernel is truncated");
    vm.report(R"({"event":"kernel-returned","status":9223372036854775809})");
    return;
  }
  vm.boot();
  if (scene == "guest") {
    play_guest(vm);
  } else if (scene == "kexec") {
    play_kexec(vm);
  } else if (scene == "fault") {
    vm.report(R"({"event":"fault","kind":"unaccepted-access","gpa":"0x100200000",)"
              R"("rip":"0xffffffff81000000","state":"pending","message":"accept it first"})");
  } else if (scene == "panic") {
    vm.console("[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs");
    vm.shutdown("guest-reset");
  } else if (scene == "reset") {
    vm.shutdown("guest-reset");
  } else if (scene == "return") {
    vm.report(R"({"event":"kernel-returned","status":0})");
  } else if (scene == "killed") {
    std::raise(SIGKILL);
  } else if (scene == "custom-init") {
    vm.console("[    2.0] Run /init as init process");
    vm.wait_for_host();
    vm.shutdown("guest-shutdown");
  } else if (scene == "userspace" || scene == "work") {
    vm.up();
    vm.wait_for_host();
    if (scene == "work") {
      vm.console(R"(ACCEDE-INIT {"step":"work","touched_bytes":8192,"first_touch_ns":{"count":2,)"
                 R"("p50":100,"p99":200,"p999":300,"p9999":400,"max":500,"histogram":[]}})");
      vm.wait_for_host();
    }
    vm.console(R"(ACCEDE-INIT {"step":"off"})");
    vm.shutdown("guest-shutdown");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* const scene = std::getenv("ACCEDE_FAKE");
  if (const char* const file = std::getenv("ACCEDE_FAKE_PID")) {
    std::ofstream{std::string{file} + ".partial"} << getpid() << "\n";
    std::rename((std::string{file} + ".partial").c_str(), file);
  }
  if (scene == nullptr || std::string_view{scene} == "exit") {
    std::cerr << "qemu: could not set up host memory\n";
    return 1;
  }
  FakeVm vm{std::span{argv, static_cast<std::size_t>(argc)}};
  play(vm, scene);
  vm.stay();
}
