// One line of text and the end of the process, from anywhere: also from a signal handler.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::testbed {

/// A line that is put together without the heap. What does not fit is cut.
class LastWords {
 public:
  LastWords& text(std::string_view part);
  LastWords& hex(std::uint64_t value);
  LastWords& number(std::uint64_t value);

  [[nodiscard]] std::string_view view() const { return {line_.data(), used_}; }

  /// Writes the line to stderr and aborts. Async-signal-safe.
  [[noreturn]] void abort() const;

 private:
  std::array<char, 400> line_{};
  std::size_t used_ = 0;
};

}  // namespace accede::testbed
