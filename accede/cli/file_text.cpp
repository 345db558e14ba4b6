#include "accede/cli/file_text.hpp"

#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <system_error>

namespace accede::cli {
namespace fs = std::filesystem;
namespace {

std::string too_large(std::uintmax_t most) {
  return "is larger than " + std::to_string(most >> 20) + " MiB";
}

}  // namespace

std::expected<void, std::string> check_readable(const fs::path& path, std::uintmax_t most) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return std::unexpected{std::strerror(error ? error.value() : ENOENT)};
  }
  if (fs::is_directory(status)) {
    return std::unexpected{"is a directory"};
  }
  if (!fs::is_regular_file(status)) {
    return std::unexpected{"is not a regular file"};
  }
  if (access(path.c_str(), R_OK) != 0) {
    return std::unexpected{std::strerror(errno)};
  }
  if (fs::file_size(path, error) > most || error) {
    return std::unexpected{too_large(most)};
  }
  return {};
}

std::expected<std::vector<std::byte>, std::string> read_bytes(const fs::path& path,
                                                              std::uintmax_t most) {
  if (const auto readable = check_readable(path, most); !readable) {
    return std::unexpected{readable.error()};
  }
  // A file in /proc says that it has no bytes: the size is where to begin, not how much there is.
  std::error_code error;
  constexpr std::size_t kLeast = 64UZ << 10;
  std::vector<std::byte> bytes(std::min<std::uintmax_t>(fs::file_size(path, error), most) + 1);
  std::ifstream file{path, std::ios::binary};
  std::size_t got = 0;
  while (file && got <= most) {
    if (got == bytes.size()) {
      bytes.resize(std::min<std::uintmax_t>(std::max(2 * got, kLeast), most + 1));
    }
    file.read(reinterpret_cast<char*>(bytes.data() + got),
              static_cast<std::streamsize>(bytes.size() - got));
    got += static_cast<std::size_t>(file.gcount());
  }
  if (got > most) {
    return std::unexpected{too_large(most)};
  }
  if (!file.eof()) {
    return std::unexpected{"cannot be read"};
  }
  bytes.resize(got);
  return bytes;
}

std::expected<std::vector<std::byte>, std::string> read_head(const fs::path& path,
                                                             std::size_t most) {
  constexpr auto kAnySize = std::numeric_limits<std::uintmax_t>::max();
  if (const auto readable = check_readable(path, kAnySize); !readable) {
    return std::unexpected{readable.error()};
  }
  std::vector<std::byte> bytes(most);
  std::ifstream file{path, std::ios::binary};
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (file.bad()) {
    return std::unexpected{"cannot be read"};
  }
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

std::expected<void, std::string> write_text(const fs::path& path, std::string_view text) {
  std::ofstream file{path, std::ios::binary};
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (!file) {
    return std::unexpected{"cannot write " + path.string() + ": " + std::strerror(errno)};
  }
  return {};
}

}  // namespace accede::cli
