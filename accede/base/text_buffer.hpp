// Text of bounded length, for building JSON without a heap.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede {

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
    data_[size_] = '\0';
    return *this;
  }

  TextBuffer& number(std::unsigned_integral auto value) {
    std::array<char, 20> digits{};
    std::size_t first = digits.size();
    std::uint64_t rest = value;
    do {
      digits[--first] = static_cast<char>('0' + rest % 10);
      rest /= 10;
    } while (rest != 0);
    return text({digits.data() + first, digits.size() - first});
  }

  /// `value` as 0x and at least `digits` hexadecimal digits.
  TextBuffer& hex(std::uint64_t value, unsigned digits = 1) {
    text({"0x", 2});
    for (unsigned shift = 64; shift != 0;) {
      shift -= 4;
      if (shift / 4 < digits || value >> shift != 0) {
        text({&"0123456789abcdef"[value >> shift & 15], 1});
      }
    }
    return *this;
  }

  /// `hundredths` as a decimal fraction, e.g. 341 as 3.41.
  TextBuffer& hundredths(std::uint64_t value) {
    number(value / 100).text({".", 1});
    return number(value / 10 % 10).number(value % 10);
  }

  /// `value` as a JSON string: quoted, with everything that JSON does not allow replaced by '?'.
  TextBuffer& quoted(std::string_view value) {
    text({"\"", 1});
    for (const char c : value) {
      const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
      text({plain ? &c : "?", 1});
    }
    return text({"\"", 1});
  }

  [[nodiscard]] std::string_view view() const { return {data_.data(), size_}; }
  [[nodiscard]] const char* c_str() const { return data_.data(); }
  [[nodiscard]] bool overflowed() const { return overflowed_; }
  void clear() {
    size_ = 0;
    overflowed_ = false;
    data_[0] = '\0';
  }

 private:
  std::array<char, Capacity + 1> data_{};
  std::size_t size_ = 0;
  bool overflowed_ = false;
};

}  // namespace accede
