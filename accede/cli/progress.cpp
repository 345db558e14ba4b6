#include "accede/cli/progress.hpp"

#include <unistd.h>

namespace accede::cli {
namespace {

void write_text(std::string_view text) {
  [[maybe_unused]] const ssize_t done = write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

Progress::Progress(bool wanted) : visible_{wanted && isatty(STDERR_FILENO) == 1} {}

void Progress::show(std::string_view text) {
  if (visible_ && text != shown_) {
    shown_ = text;
    // Back to the left edge, text, erase what the last text left behind it.
    write_text("\r" + shown_ + "\x1b[K");
  }
}

void Progress::clear() {
  if (!shown_.empty()) {
    shown_.clear();
    write_text("\r\x1b[K");
  }
}

}  // namespace accede::cli
