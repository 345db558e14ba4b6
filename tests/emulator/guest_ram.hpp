// Physical memory of a pretended machine.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"

#include <sys/mman.h>
#include <cstddef>
#include <cstdlib>

namespace accede::test {

/// Memory from physical address 0 on, all zero. The host backs only what is touched, so that a test
/// can put things at real addresses, far above what this machine has.
class GuestRam {
 public:
  explicit GuestRam(Bytes size) : size_{size} {
    base_ = mmap(nullptr, size.value(), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base_ == MAP_FAILED) {
      std::abort();
    }
  }
  ~GuestRam() { munmap(base_, size_.value()); }
  GuestRam(const GuestRam&) = delete;
  GuestRam& operator=(const GuestRam&) = delete;

  [[nodiscard]] PhysWindow window() const {
    return PhysWindow{reinterpret_cast<std::uintptr_t>(base_)};
  }
  template <class T>
  [[nodiscard]] T& at(PhysAddr address) const {
    return *window().pointer<T>(address);
  }

 private:
  void* base_;
  Bytes size_;
};

/// [begin, end) of addresses that the test knows to be in order.
[[nodiscard]] inline PhysRange range_of(std::uint64_t begin, std::uint64_t end) {
  return PhysRange::make(PhysAddr{begin}, PhysAddr{end}).value();
}

/// `count` pages of 4 KiB from `begin` on.
[[nodiscard]] inline PhysRange pages_at(std::uint64_t begin, std::uint64_t count) {
  return range_of(begin, begin + count * 4096);
}

}  // namespace accede::test
