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

namespace {

/// The controls from 0x80 to 0x9F, which some terminals obey: as a byte of its own, and as the two
/// bytes of UTF-8. `before`: the byte before, which tells the first from the rest of a character.
bool is_high_control(unsigned char before, unsigned char code) {
  return code >= 0x80 && code <= 0x9F && (before < 0x80 || before == 0xC2);
}

}  // namespace

std::string printable(std::string_view line) {
  std::string text;
  bool in_escape = false;
  unsigned char before = 0;
  for (const char c : line) {
    const auto code = static_cast<unsigned char>(c);
    const bool high_control = is_high_control(before, code);
    before = code;
    if (high_control) {
      if (text.ends_with('\xC2')) {
        text.pop_back();
      }
    } else if (code == 0x1B) {
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
