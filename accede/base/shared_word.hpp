// Words of memory that somebody else writes at the same time.
#pragma once

#include <atomic>

namespace accede {

/// One load, never more: the next one may find another value.
template <class T>
[[nodiscard]] T load_shared(T& word) {
  return std::atomic_ref{word}.load(std::memory_order_relaxed);
}
template <class T>
void store_shared(T& word, T value) {
  std::atomic_ref{word}.store(value, std::memory_order_relaxed);
}

}  // namespace accede
