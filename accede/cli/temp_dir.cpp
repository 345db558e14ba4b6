#include "accede/cli/temp_dir.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

namespace accede::cli {

std::expected<TempDir, Failure> TempDir::make(const std::filesystem::path& parent,
                                              std::string_view prefix) {
  std::string name = (parent / prefix).string() + "XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    return std::unexpected{
        missing("cannot make a directory in " + parent.string() + ": " + std::strerror(errno))};
  }
  return TempDir{name};
}

std::filesystem::path TempDir::default_parent() {
  const char* const chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/tmp";
}

TempDir::~TempDir() {
  if (!path_.empty()) {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
}

}  // namespace accede::cli
