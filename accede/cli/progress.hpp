// One line that changes, for a person who waits.
#pragma once

#include <string>
#include <string_view>

namespace accede::cli {

/// Writes to standard error, only when `wanted` and when that is a terminal. Removes its line when
/// destroyed.
class Progress {
 public:
  explicit Progress(bool wanted);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  void show(std::string_view text);
  void clear();
  [[nodiscard]] bool visible() const { return visible_; }

 private:
  bool visible_;
  std::string shown_;
};

}  // namespace accede::cli
