/* What every kernel has already, so that the examples link: an entry, and the four functions that
 * compilers call. */
#include <stddef.h>
#include <stdint.h>

int example_main(const void* efi_map, size_t bytes, size_t stride, uint64_t kernel_begin,
                 uint64_t kernel_end);
void* memcpy(void* to, const void* from, size_t size);
void* memmove(void* to, const void* from, size_t size);
void* memset(void* to, int value, size_t size);
int memcmp(const void* a, const void* b, size_t size);
void _start(void);

void* memcpy(void* to, const void* from, size_t size) {
  void* at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size)::"memory");
  return to;
}

void* memmove(void* to, const void* from, size_t size) {
  if ((uintptr_t)to - (uintptr_t)from >= size) {
    return memcpy(to, from, size);
  }
  for (volatile char* out = to; size-- > 0;) {
    out[size] = ((const char*)from)[size];
  }
  return to;
}

void* memset(void* to, int value, size_t size) {
  void* at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
  return to;
}

int memcmp(const void* a, const void* b, size_t size) {
  const volatile unsigned char* left = a;
  const volatile unsigned char* right = b;
  for (size_t i = 0; i < size; ++i) {
    if (left[i] != right[i]) {
      return left[i] < right[i] ? -1 : 1;
    }
  }
  return 0;
}

/* A kernel gets the map from its loader. */
void _start(void) {
  static const unsigned char no_map[1];
  example_main(no_map, 0, 40, 0, 0);
  for (;;) {
    __asm__ volatile("hlt");
  }
}
