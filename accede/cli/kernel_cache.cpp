#include "accede/cli/kernel_cache.hpp"

#include "accede/cli/host_tools.hpp"
#include "accede/cli/kernel_packages.hpp"
#include "accede/cli/run_tool.hpp"
#include "accede/cli/temp_dir.hpp"

#include <pwd.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <system_error>
#include <vector>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPartialPrefix = ".partial-";
constexpr const char* kKernelFile = "vmlinuz";

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path home_directory() {
  if (const std::string home = environment("HOME"); !home.empty()) {
    return home;
  }
  const passwd* const user = getpwuid(getuid());
  return user != nullptr ? user->pw_dir : "/tmp";
}

std::vector<std::string> cached_packages(const fs::path& directory) {
  std::vector<std::string> packages;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{directory, error}) {
    if (fs::is_regular_file(entry.path() / kKernelFile, error)) {
      packages.push_back(entry.path().filename());
    }
  }
  return packages;
}

/// What processes left that were killed while they fetched.
void remove_old_partials(const fs::path& directory) {
  std::error_code error;
  const auto limit = fs::file_time_type::clock::now() - std::chrono::hours{1};
  std::vector<fs::path> old;
  for (const auto& entry : fs::directory_iterator{directory, error}) {
    const bool partial = entry.path().filename().string().starts_with(kPartialPrefix);
    if (partial && entry.last_write_time(error) < limit && !error) {
      old.push_back(entry.path());
    }
  }
  for (const fs::path& path : old) {
    fs::remove_all(path, error);
  }
}

std::string distribution_name() {
  std::ifstream file{"/etc/os-release"};
  std::string line;
  constexpr std::string_view kKey = "PRETTY_NAME=";
  while (std::getline(file, line)) {
    if (line.starts_with(kKey)) {
      std::erase(line, '"');
      return line.substr(kKey.size());
    }
  }
  return "this distribution";
}

/// The last line of a program's complaints.
std::string last_line(std::string text) {
  while (text.ends_with('\n')) {
    text.pop_back();
  }
  const std::size_t begin = text.rfind('\n');
  return begin == std::string::npos ? text : text.substr(begin + 1);
}

std::unexpected<Failure> not_offered(std::string_view name, bool lists_empty) {
  const std::string kernel = "kernel " + std::string{name} + ": ";
  if (lists_empty) {
    return std::unexpected{missing(kernel +
                                   "apt knows no kernel packages: run 'apt-get update', or give a "
                                   "kernel file with --kernel PATH")};
  }
  return std::unexpected{missing(kernel + distribution_name() + " offers no package " +
                                 wanted_package(name) + "; give a kernel file with --kernel PATH")};
}

std::expected<std::string, Failure> offered_package(std::string_view name, SignalWatch& signals) {
  if (!find_program("apt-cache") || !find_program("apt-get") || !find_program("dpkg-deb")) {
    return std::unexpected{missing("kernel " + std::string{name} +
                                   ": fetching needs apt and dpkg, which are not here; give a "
                                   "kernel file with --kernel PATH")};
  }
  const auto listed =
      run_tool({"apt-cache", "search", "--names-only", "^linux-image-"}, "", signals);
  if (!listed) {
    return std::unexpected{listed.error()};
  }
  const std::vector<std::string> packages = parse_package_list(listed->out);
  if (auto package = choose_kernel_package(name, packages)) {
    return *package;
  }
  return not_offered(name, packages.empty());
}

std::expected<void, Failure> run_step(const std::vector<std::string>& arguments,
                                      const fs::path& directory, SignalWatch& signals) {
  const auto output = run_tool(arguments, directory, signals);
  if (!output) {
    return std::unexpected{output.error()};
  }
  if (output->status != 0) {
    return std::unexpected{
        missing(arguments.front() + " " + arguments.back() + " failed: " + last_line(output->err))};
  }
  return {};
}

/// The one file in `directory` whose name starts and ends this way.
std::optional<fs::path> find_file(const fs::path& directory, std::string_view prefix,
                                  std::string_view suffix) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{directory, error}) {
    const std::string file = entry.path().filename();
    if (file.starts_with(prefix) && file.ends_with(suffix)) {
      return entry.path();
    }
  }
  return std::nullopt;
}

/// Downloads and unpacks `package` inside `work`; the result is work/ready/vmlinuz.
std::expected<fs::path, Failure> fetch(const std::string& package, const fs::path& work,
                                       SignalWatch& signals) {
  // apt as root would drop to a user that cannot write here, and warn about it.
  if (auto done = run_step({"apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package},
                           work, signals);
      !done) {
    return std::unexpected{done.error()};
  }
  const auto archive = find_file(work, "linux-image-", ".deb");
  if (!archive) {
    return std::unexpected{missing("apt-get download " + package + " left no package")};
  }
  if (auto done = run_step({"dpkg-deb", "--extract", *archive, work / "unpacked"}, work, signals);
      !done) {
    return std::unexpected{done.error()};
  }
  const auto kernel = find_file(work / "unpacked" / "boot", "vmlinuz-", "");
  if (!kernel) {
    return std::unexpected{missing("the package " + package + " holds no boot/vmlinuz-*")};
  }
  fs::create_directory(work / "ready");
  fs::rename(*kernel, work / "ready" / kKernelFile);
  fs::permissions(work / "ready" / kKernelFile, fs::perms{0644});
  return work / "ready";
}

}  // namespace

fs::path kernel_cache_directory() {
  const fs::path base = environment("XDG_CACHE_HOME");
  // Relative paths in this variable are to be ignored (XDG base directory specification).
  return (base.is_absolute() ? base : home_directory() / ".cache") / "accede" / "kernels";
}

std::expected<fs::path, Failure> find_or_fetch_kernel(
    std::string_view name, const fs::path& directory, SignalWatch& signals,
    const std::function<void(std::string_view)>& progress) {
  if (const auto package = choose_kernel_package(name, cached_packages(directory))) {
    return directory / *package / kKernelFile;
  }
  const auto package = offered_package(name, signals);
  if (!package) {
    return std::unexpected{package.error()};
  }
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    return std::unexpected{missing("cannot make " + directory.string() + ": " + error.message())};
  }
  remove_old_partials(directory);
  const auto work = TempDir::make(directory, kPartialPrefix);
  if (!work) {
    return std::unexpected{work.error()};
  }
  progress("fetching " + *package);
  const auto ready = fetch(*package, work->path(), signals);
  if (!ready) {
    return std::unexpected{ready.error()};
  }
  const fs::path target = directory / *package;
  fs::rename(*ready, target, error);
  // Another process may have been faster: its copy is as good.
  if (error && !fs::is_regular_file(target / kKernelFile)) {
    return std::unexpected{missing("cannot keep " + target.string() + ": " + error.message())};
  }
  return target / kKernelFile;
}

}  // namespace accede::cli
