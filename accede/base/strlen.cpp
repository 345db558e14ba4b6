// strlen for freestanding programs that have none: clang calls it to make a string_view of a
// literal when it merged two of them. Weak, so that an embedder's own wins.

#include <cstddef>

extern "C" [[gnu::weak]] std::size_t strlen(const char* text) {
  std::size_t length = 0;
  while (text[length] != 0) {
    ++length;
    asm volatile("" : "+r"(length));  // keeps compilers from making this a call of strlen
  }
  return length;
}
