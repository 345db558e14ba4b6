// Storage of the planner of TDMRs: arrays, one after the other, in memory that somebody else owns.
#pragma once

#include "accede/base/assert.hpp"

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>

namespace accede::host {

/// Hands out arrays until its storage is used up. Thread-compatible.
class TdmrWorkspace {
 public:
  /// Precondition: 8-byte aligned.
  explicit TdmrWorkspace(std::span<std::byte> storage) : left_{storage} {
    ACCEDE_ASSERT(reinterpret_cast<std::uintptr_t>(storage.data()) % kAlignment == 0);
  }

  /// Bytes that take<T>(count) uses.
  template <class T>
  [[nodiscard]] static constexpr std::size_t bytes_for(std::size_t count) {
    return (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }

  /// `count` elements, value-initialised. Precondition: there is room.
  template <class T>
    requires(std::is_trivially_destructible_v<T> && alignof(T) <= 8)
  [[nodiscard]] std::span<T> take(std::size_t count) {
    const std::size_t bytes = bytes_for<T>(count);
    ACCEDE_ASSERT(bytes <= left_.size());
    T* const first = reinterpret_cast<T*>(left_.data());
    for (std::size_t i = 0; i < count; ++i) {
      ::new (static_cast<void*>(first + i)) T{};
    }
    left_ = left_.subspan(bytes);
    return {first, count};
  }

 private:
  static constexpr std::size_t kAlignment = 8;
  std::span<std::byte> left_;
};

/// A list in an array of fixed size. Thread-compatible.
template <class T>
class TdmrList {
 public:
  explicit TdmrList(std::span<T> storage) : storage_{storage} {}

  /// Precondition: there is room.
  T& add(const T& element) {
    ACCEDE_ASSERT(count_ < storage_.size());
    return storage_[count_++] = element;
  }
  /// Forgets the last `count` elements. Precondition: there are as many.
  void shrink(std::size_t count) {
    ACCEDE_ASSERT(count <= count_);
    count_ -= count;
  }

  [[nodiscard]] std::span<T> all() const { return storage_.first(count_); }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] T& last() const { return storage_[count_ - 1]; }

 private:
  std::span<T> storage_;
  std::size_t count_ = 0;
};

}  // namespace accede::host
