// A private directory that goes away with its owner.
#pragma once

#include "accede/cli/failure.hpp"

#include <expected>
#include <filesystem>
#include <string_view>
#include <utility>

namespace accede::cli {

/// Owns a directory that only this user can read; removes it and all in it when destroyed.
class TempDir {
 public:
  /// A new directory `parent`/`prefix`XXXXXX.
  [[nodiscard]] static std::expected<TempDir, Failure> make(const std::filesystem::path& parent,
                                                            std::string_view prefix);

  /// $TMPDIR, or /tmp.
  [[nodiscard]] static std::filesystem::path default_parent();

  TempDir(TempDir&& other) noexcept : path_{std::exchange(other.path_, {})} {}
  TempDir& operator=(TempDir&&) = delete;
  ~TempDir();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit TempDir(std::filesystem::path path) : path_{std::move(path)} {}

  std::filesystem::path path_;
};

}  // namespace accede::cli
