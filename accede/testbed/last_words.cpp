#include "accede/testbed/last_words.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace accede::testbed {

LastWords& LastWords::text(std::string_view part) {
  // One place stays free for the line's end.
  const std::size_t room = line_.size() - 1 - used_;
  const std::size_t size = std::min(room, part.size());
  std::copy_n(part.data(), size, line_.data() + used_);
  used_ += size;
  return *this;
}

LastWords& LastWords::hex(std::uint64_t value) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16).ptr;
  return text("0x").text({digits.data(), end});
}

LastWords& LastWords::number(std::uint64_t value) {
  std::array<char, 20> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return text({digits.data(), end});
}

void LastWords::abort() const {
  std::array<char, sizeof(line_)> line = line_;
  line[used_] = '\n';
  // Nothing can be done about a stderr that takes no text.
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), used_ + 1);
  std::abort();
}

}  // namespace accede::testbed
