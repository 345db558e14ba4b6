// Cutting the emulator's memory into its parts.
#pragma once

#include "accede/base/phys_range.hpp"

#include <cstddef>
#include <new>
#include <optional>
#include <span>
#include <utility>

namespace accede::emulator {

/// Hands out zeroed parts of one identity mapped range, never to be given back. Thread-compatible.
class Arena {
 public:
  explicit Arena(PhysRange range) : next_{range.begin()}, end_{range.end()} {}

  /// `bytes` zeroed bytes at a multiple of `alignment`, or an empty span when they do not fit.
  [[nodiscard]] std::span<std::byte> take(Bytes bytes, Bytes alignment) {
    const PhysAddr begin = next_.align_up(alignment);
    if (begin > end_ || end_ - begin < bytes) {
      return {};
    }
    next_ = begin + bytes;
    auto* const first = reinterpret_cast<std::byte*>(begin.value());
    __builtin_memset(first, 0, bytes.value());
    return {first, bytes.value()};
  }

  /// As take(), without touching the memory.
  [[nodiscard]] std::optional<PhysRange> take_range(Bytes bytes, Bytes alignment) {
    const PhysAddr begin = next_.align_up(alignment);
    if (begin > end_ || end_ - begin < bytes) {
      return std::nullopt;
    }
    next_ = begin + bytes;
    return PhysRange::make(begin, bytes);
  }

  /// A new object that lives for ever, or null.
  template <class T, class... Args>
  [[nodiscard]] T* create(Args&&... args) {
    const auto memory = take(Bytes{sizeof(T)}, Bytes{alignof(T)});
    return memory.empty() ? nullptr : new (memory.data()) T(std::forward<Args>(args)...);
  }

  [[nodiscard]] Bytes left() const { return end_ - next_; }

 private:
  PhysAddr next_;
  PhysAddr end_;
};

}  // namespace accede::emulator
