// Resident memory that stands for a VM's.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace accede::bench {

/// Memory that is mapped and backed from the start, seen at guest physical 4 GiB. Owns it.
class Arena {
 public:
  static constexpr PhysAddr kBase{4ULL << 30};

  explicit Arena(Bytes size) : size_{size} {
    memory_ = mmap(nullptr, size.value(), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) {
      throw std::bad_alloc{};
    }
    madvise(memory_, size.value(), MADV_HUGEPAGE);
    madvise(memory_, size.value(), MADV_POPULATE_WRITE);
  }
  ~Arena() { munmap(memory_, size_.value()); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] PhysRange range() const { return *PhysRange::make(kBase, size_); }
  [[nodiscard]] PhysWindow window() const {
    return PhysWindow{reinterpret_cast<std::uintptr_t>(memory_) - kBase.value()};
  }

 private:
  Bytes size_;
  void* memory_;
};

}  // namespace accede::bench
