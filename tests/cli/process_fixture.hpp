// Runs the real command as a process, in an environment of its own, with stand-ins for QEMU, the
// firmware and the launcher.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/file_text.hpp"
#include "accede/cli/temp_dir.hpp"
#include "tests/cli/made_up_kernel.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#ifndef ACCEDE_COMMAND
#define ACCEDE_COMMAND ""  // the build says where it lies
#endif
#ifndef ACCEDE_FAKE_QEMU
#define ACCEDE_FAKE_QEMU ""  // the build says where it lies
#endif

namespace accede::cli::test {

namespace fs = std::filesystem;

inline std::string slurp(const fs::path& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// False for a process that is gone, or dead and not yet collected by its new parent.
inline bool is_alive(pid_t pid) {
  const std::string status = slurp("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t paren = status.rfind(')');
  return paren != std::string::npos && status.substr(paren + 2, 1) != "Z";
}

inline bool gone_soon(pid_t pid) {
  for (int i = 0; i < 500 && is_alive(pid); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  return !is_alive(pid);
}

struct Answer {
  int exit_code = -1;
  std::string out;
  std::string err;
};

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::make("/tmp", "accede-test-");
    ASSERT_TRUE(made);
    directory_.emplace(std::move(*made));
    for (const char* const name : {"tmp", "lib", "cache"}) {
      fs::create_directory(path(name));
    }
    ASSERT_TRUE(write_text(path("lib/BOOTX64.EFI"), "launcher"));
    ASSERT_TRUE(write_text(path("lib/init.cpio"), "init"));
    ASSERT_TRUE(write_text(path("ovmf"), "firmware"));
    put_kernel(bz_image());
    put_image("lib/accede-guest.efi", efi_program());
    put_image("lib/accede-loader.efi", efi_program());
    environment_ = {{"PATH", "/usr/bin:/bin"},         {"HOME", path("home")},
                    {"TMPDIR", path("tmp")},           {"XDG_CACHE_HOME", path("cache")},
                    {"ACCEDE_LIB_DIR", path("lib")},   {"ACCEDE_OVMF", path("ovmf")},
                    {"ACCEDE_QEMU", ACCEDE_FAKE_QEMU}, {"ACCEDE_FAKE", "userspace"},
                    {"ACCEDE_FAKE_PID", path("pid")}};
  }

  [[nodiscard]] fs::path path(const std::string& name) const { return directory_->path() / name; }

  void put_kernel(const ImageBuilder& image) { put_image("kernel", image); }
  void put_image(const std::string& name, const ImageBuilder& image) {
    const auto view = image.view();
    std::string text(view.size(), '\0');
    std::ranges::transform(view, text.begin(), [](std::byte b) { return static_cast<char>(b); });
    ASSERT_TRUE(write_text(path(name), text));
  }

  pid_t start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {ACCEDE_COMMAND, command_});
    std::vector<std::string> variables;
    for (const auto& [name, value] : environment_) {
      variables.push_back(name + "=" + value);
    }
    const auto pointers = [](std::vector<std::string>& texts) {
      std::vector<char*> list;
      for (std::string& text : texts) {
        list.push_back(text.data());
      }
      list.push_back(nullptr);
      return list;
    };
    const std::vector<char*> argv = pointers(arguments);
    const std::vector<char*> envp = pointers(variables);
    const std::string out = path("out");
    const std::string err = path("err");
    std::fflush(nullptr);  // or the child would write the parent's text again
    const pid_t pid = fork();
    if (pid == 0) {
      if (freopen(out.c_str(), "w", stdout) == nullptr ||
          freopen(err.c_str(), "w", stderr) == nullptr) {
        _exit(126);
      }
      execve(argv[0], argv.data(), envp.data());
      _exit(127);
    }
    return pid;
  }

  Answer wait(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return {.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status),
            .out = slurp(path("out")),
            .err = slurp(path("err"))};
  }

  /// Boots the made-up kernel.
  Answer boot(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"--kernel", path("kernel")});
    return wait(start(std::move(arguments)));
  }

  Answer play(const std::string& scene, std::vector<std::string> arguments = {}) {
    environment_["ACCEDE_FAKE"] = scene;
    return boot(std::move(arguments));
  }

  /// Waits until the stand-in for QEMU runs.
  pid_t qemu_pid() {
    for (int i = 0; i < 1000 && !fs::exists(path("pid")); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    return static_cast<pid_t>(std::strtol(slurp(path("pid")).c_str(), nullptr, 10));
  }

  void expect_nothing_left() {
    EXPECT_TRUE(fs::is_empty(path("tmp")));
    if (fs::exists(path("pid"))) {
      EXPECT_FALSE(is_alive(qemu_pid()));
    }
  }

  std::string command_ = "boot";
  std::map<std::string, std::string> environment_;

 private:
  std::optional<TempDir> directory_;
};

}  // namespace accede::cli::test
