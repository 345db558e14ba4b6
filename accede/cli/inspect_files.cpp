#include "accede/cli/inspect_files.hpp"

#include "accede/cli/file_text.hpp"
#include "accede/cli/json_fields.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::uintmax_t kMostCatalogue = 4ULL << 30;

std::string error_text(const std::string& path, int error) {
  return path + ": " + std::strerror(error);
}

Failure no_catalogue(const std::string& path) {
  return usage("--resume " + path + ": not a catalogue of accede inspect");
}

std::expected<void, Failure> add_directory(const std::string& path,
                                           std::vector<FileToInspect>& files) {
  std::error_code error;
  std::vector<std::string> found;
  constexpr auto kOptions = fs::directory_options::skip_permission_denied;
  fs::recursive_directory_iterator entry{path, kOptions, error};
  for (; !error && entry != fs::recursive_directory_iterator{}; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) {
      found.push_back(entry->path().string());
    }
  }
  if (error) {
    return std::unexpected{usage(error_text(path, error.value()))};
  }
  std::ranges::sort(found);
  for (std::string& file : found) {
    files.push_back({.path = std::move(file), .named = false});
  }
  return {};
}

}  // namespace

std::expected<std::vector<FileToInspect>, Failure> find_files(
    const std::vector<std::string>& paths) {
  std::vector<FileToInspect> files;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) {
      files.push_back({.path = path, .named = true});
    } else if (const auto added = add_directory(path, files); !added) {
      return std::unexpected{added.error()};
    }
  }
  return files;
}

InspectedFile describe_file(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) {
    return {.path = path};
  }
  return {.path = path,
          .bytes = static_cast<std::uint64_t>(status.st_size),
          .modified = status.st_mtim.tv_sec};
}

std::expected<Catalogue, Failure> Catalogue::open(const std::string& path) {
  UniqueFd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644)};
  if (fd.get() < 0) {
    return std::unexpected{usage("--resume " + error_text(path, errno))};
  }
  const auto bytes = read_bytes(path, kMostCatalogue);
  if (!bytes) {
    return std::unexpected{usage("--resume " + path + ": " + bytes.error())};
  }
  const std::string_view text{reinterpret_cast<const char*>(bytes->data()), bytes->size()};
  const std::size_t whole = text.rfind('\n') + 1;  // 0 when there is no whole line
  if (!text.empty() && !text.starts_with('{')) {
    return std::unexpected{no_catalogue(path)};
  }
  Catalogue catalogue{path, std::move(fd)};
  for (auto rest = text.substr(0, whole); !rest.empty();) {
    const std::size_t end = rest.find('\n');
    const auto line = parse_object(rest.substr(0, end));
    if (!line || !line->contains("file") || !(*line)["file"].is_string()) {
      return std::unexpected{no_catalogue(path)};
    }
    catalogue.by_path_[(*line)["file"].get<std::string>()] = *line;
    rest.remove_prefix(end + 1);
  }
  if (whole != text.size() && ftruncate(catalogue.fd_.get(), static_cast<off_t>(whole)) != 0) {
    return std::unexpected{usage("--resume " + error_text(path, errno))};
  }
  return catalogue;
}

const nlohmann::json* Catalogue::find(const InspectedFile& file) const {
  const auto found = by_path_.find(file.path);
  if (found == by_path_.end()) {
    return nullptr;
  }
  const nlohmann::json& line = found->second;
  const bool same = number_field(line, "bytes") == file.bytes &&
                    line.value("modified", std::int64_t{-1}) == file.modified;
  return same ? &line : nullptr;
}

std::expected<void, Failure> Catalogue::append(const std::string& line) {
  std::string_view rest{line};
  while (!rest.empty()) {
    const ssize_t done = write(fd_.get(), rest.data(), rest.size());
    if (done < 0 && errno == EINTR) {
      continue;
    }
    if (done <= 0) {
      return std::unexpected{missing("cannot write " + error_text(path_, errno))};
    }
    rest.remove_prefix(static_cast<std::size_t>(done));
  }
  return {};
}

}  // namespace accede::cli
