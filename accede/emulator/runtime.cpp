// The four memory functions that compilers call on their own. Used by programs that have no C
// library; they work by `rep` instructions, which every x86-64 processor has in microcode.

#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* to, const void* from, std::size_t count) {
  void* const result = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  return result;
}

void* memset(void* to, int value, std::size_t count) {
  void* const result = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
  return result;
}

void* memmove(void* to, const void* from, std::size_t count) {
  if (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from) >= count) {
    return memcpy(to, from, count);
  }
  // The destination begins inside the source: copy from the end. An interrupt handler expects the
  // direction flag clear, so this is a loop and not `std; rep movsb`.
  auto* target = static_cast<unsigned char*>(to);
  const auto* source = static_cast<const unsigned char*>(from);
  while (count != 0) {
    --count;
    *static_cast<volatile unsigned char*>(target + count) = source[count];
  }
  return to;
}

int memcmp(const void* a, const void* b, std::size_t count) {
  const auto* left = static_cast<const volatile unsigned char*>(a);
  const auto* right = static_cast<const volatile unsigned char*>(b);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned char l = left[i];
    const unsigned char r = right[i];
    if (l != r) {
      return l < r ? -1 : 1;
    }
  }
  return 0;
}

}  // extern "C"
