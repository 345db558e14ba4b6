// Text of bounded length, for building JSON without a heap.
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::init {

/// Collects text; what does not fit is dropped and `overflowed` says so. Not thread-safe.
template <std::size_t Capacity>
class TextBuffer {
 public:
  TextBuffer& text(std::string_view piece) {
    const std::size_t room = Capacity - size_;
    overflowed_ = overflowed_ || piece.size() > room;
    for (const char c : piece.substr(0, room)) {
      data_[size_++] = c;
    }
    return *this;
  }

  TextBuffer& number(std::unsigned_integral auto value) {
    std::array<char, 24> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    return text({digits.data(), static_cast<std::size_t>(end - digits.data())});
  }

  /// `hundredths` as a decimal fraction, e.g. 341 as 3.41.
  TextBuffer& hundredths(std::uint64_t value) {
    number(value / 100).text(".");
    return number(value / 10 % 10).number(value % 10);
  }

  /// `value` as a JSON string: quoted, with everything that JSON does not allow replaced by '?'.
  TextBuffer& quoted(std::string_view value) {
    text("\"");
    for (const char c : value) {
      const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
      text({plain ? &c : "?", 1});
    }
    return text("\"");
  }

  [[nodiscard]] std::string_view view() const { return {data_.data(), size_}; }
  [[nodiscard]] const char* c_str() const { return data_.data(); }
  [[nodiscard]] bool overflowed() const { return overflowed_; }

 private:
  std::array<char, Capacity + 1> data_{};  // the last byte stays zero
  std::size_t size_ = 0;
  bool overflowed_ = false;
};

/// Room for the longest line: meminfo, or a full latency histogram.
using JsonLine = TextBuffer<std::size_t{48} * 1024>;

}  // namespace accede::init
