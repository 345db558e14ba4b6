#include "accede/cli/line_splitter.hpp"

namespace accede::cli {

std::vector<std::string> LineSplitter::feed(std::string_view bytes) {
  std::vector<std::string> lines;
  for (const char c : bytes) {
    if (c == '\n') {
      lines.push_back(std::move(partial_));
      partial_.clear();
    } else if (c != '\r' && c != '\0' && partial_.size() < max_line_) {
      partial_.push_back(c);
    }
  }
  return lines;
}

std::string printable(std::string_view line) {
  std::string text;
  bool in_escape = false;
  for (const char c : line) {
    const auto code = static_cast<unsigned char>(c);
    if (code == 0x1B) {
      in_escape = true;
    } else if (in_escape) {
      // A control sequence ends with a letter or one of @ ~; the bracket opens it.
      in_escape = c == '[' || code < 0x40 || code > 0x7E;
    } else if (code >= 0x20 && code != 0x7F) {
      text.push_back(c);
    } else if (c == '\t') {
      text.push_back(' ');
    }
  }
  return text;
}

}  // namespace accede::cli
