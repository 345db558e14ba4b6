// Bytes from a channel of the VM, as lines.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace accede::cli {

/// Cuts a byte stream into lines. A line longer than the limit is cut there and the rest of it
/// dropped, so that a guest cannot make the host use memory. Carriage returns and NULs are left
/// out. Thread-compatible.
class LineSplitter {
 public:
  explicit LineSplitter(std::size_t max_line) : max_line_{max_line} {}

  /// The lines that `bytes` completes, without their line ends.
  [[nodiscard]] std::vector<std::string> feed(std::string_view bytes);

  /// What came after the last line end.
  [[nodiscard]] const std::string& partial() const { return partial_; }

 private:
  std::size_t max_line_;
  std::string partial_;
};

/// `line` fit for a terminal: escape sequences and other control characters left out.
[[nodiscard]] std::string printable(std::string_view line);

}  // namespace accede::cli
