// Which files `accede inspect` looks at, and the catalogue of those that it has looked at.
#pragma once

#include "accede/cli/failure.hpp"
#include "accede/cli/inspect_output.hpp"
#include "accede/cli/unique_fd.hpp"

#include <expected>
#include <map>
#include <string>
#include <vector>

namespace accede::cli {

struct FileToInspect {
  std::string path;
  /// Named by the user, who wants to hear of it whatever it is. Files of a directory are passed
  /// over when they are no images.
  bool named = true;
};

/// The files, and those in the directories, in the order of the paths and sorted within each
/// directory. Links to directories are not followed. Errors: a directory that cannot be read.
[[nodiscard]] std::expected<std::vector<FileToInspect>, Failure> find_files(
    const std::vector<std::string>& paths);

/// Size and time of a file; 0 both when it cannot be asked.
[[nodiscard]] InspectedFile describe_file(const std::string& path);

/// Lines of JSON of earlier runs, to which this run adds its own. One process writes to a
/// catalogue at a time; catalogues of several are merged by putting their lines together.
class Catalogue {
 public:
  /// Opens or creates it. A last line without an end, of a run that was stopped, is cut off.
  [[nodiscard]] static std::expected<Catalogue, Failure> open(const std::string& path);

  /// What it says of a file with this path, size and time; nullptr: nothing.
  [[nodiscard]] const nlohmann::json* find(const InspectedFile& file) const;

  /// `line` has its end.
  [[nodiscard]] std::expected<void, Failure> append(const std::string& line);

 private:
  Catalogue(std::string path, UniqueFd fd) : path_{std::move(path)}, fd_{std::move(fd)} {}

  std::string path_;
  UniqueFd fd_;
  std::map<std::string, nlohmann::json> by_path_;
};

}  // namespace accede::cli
