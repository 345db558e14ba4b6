// Whole files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// Most of a file that goes on the EFI system partition, which holds 504 MiB.
inline constexpr std::uintmax_t kMaxBootFile = 480ULL << 20;

/// The bytes of a regular file. The error says why not, in words that follow "FILE: ".
[[nodiscard]] std::expected<std::vector<std::byte>, std::string> read_bytes(
    const std::filesystem::path& path, std::uintmax_t most);

/// The first `most` bytes of a regular file of any size, or all of a shorter one.
[[nodiscard]] std::expected<std::vector<std::byte>, std::string> read_head(
    const std::filesystem::path& path, std::size_t most);

/// Like `read_bytes`, without reading.
[[nodiscard]] std::expected<void, std::string> check_readable(const std::filesystem::path& path,
                                                              std::uintmax_t most);

/// Creates or replaces `path`. The error says why not.
[[nodiscard]] std::expected<void, std::string> write_text(const std::filesystem::path& path,
                                                          std::string_view text);

}  // namespace accede::cli
