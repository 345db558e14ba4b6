// Reading and writing little-endian wire formats without ever casting an untrusted pointer.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

namespace accede {

/// A bounds-checked view of untrusted little-endian bytes. Every read names its offset; a read
/// that does not fit gives nothing. Thread-compatible, holds no ownership.
class ByteReader {
 public:
  constexpr explicit ByteReader(std::span<const std::byte> data) : data_{data} {}

  [[nodiscard]] constexpr std::size_t size() const { return data_.size(); }

  /// The integer at `offset`, or nothing when it does not lie wholly inside.
  template <std::unsigned_integral T>
  [[nodiscard]] constexpr std::optional<T> read(std::size_t offset) const {
    if (offset > data_.size() || data_.size() - offset < sizeof(T)) {
      return std::nullopt;
    }
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value | static_cast<T>(static_cast<T>(data_[offset + i]) << (8 * i)));
    }
    return value;
  }

  /// A copy of the trivially copyable wire struct at `offset`, whatever its alignment there.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] constexpr std::optional<T> read_struct(std::size_t offset) const {
    if (offset > data_.size() || data_.size() - offset < sizeof(T)) {
      return std::nullopt;
    }
    std::array<std::byte, sizeof(T)> raw{};
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      raw[i] = data_[offset + i];
    }
    return std::bit_cast<T>(raw);
  }

  /// The `size` bytes at `offset`, or nothing when they do not lie wholly inside.
  [[nodiscard]] constexpr std::optional<std::span<const std::byte>> slice(std::size_t offset,
                                                                          std::size_t size) const {
    if (offset > data_.size() || data_.size() - offset < size) {
      return std::nullopt;
    }
    return data_.subspan(offset, size);
  }

 private:
  std::span<const std::byte> data_;
};

}  // namespace accede
