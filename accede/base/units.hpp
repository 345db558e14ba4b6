// Units of the project: every address, size and count is a type of its own, so that a page number
// can never be passed where a byte count is meant.
#pragma once

#include "accede/base/assert.hpp"

#include <bit>
#include <compare>
#include <cstdint>
#include <limits>

namespace accede {

/// A size in bytes. Arithmetic wraps nowhere silently: overflow is a caller bug and asserts.
class Bytes {
 public:
  constexpr Bytes() = default;
  constexpr explicit Bytes(std::uint64_t value) : value_{value} {}

  [[nodiscard]] constexpr std::uint64_t value() const { return value_; }

  friend constexpr Bytes operator+(Bytes a, Bytes b) {
    ACCEDE_ASSERT(b.value_ <= std::numeric_limits<std::uint64_t>::max() - a.value_);
    return Bytes{a.value_ + b.value_};
  }
  friend constexpr Bytes operator-(Bytes a, Bytes b) {
    ACCEDE_ASSERT(b.value_ <= a.value_);
    return Bytes{a.value_ - b.value_};
  }
  friend constexpr Bytes operator*(Bytes a, std::uint64_t factor) {
    ACCEDE_ASSERT(factor == 0 || a.value_ <= std::numeric_limits<std::uint64_t>::max() / factor);
    return Bytes{a.value_ * factor};
  }
  /// How often `b` fits into `a`. Precondition: `b` is not zero.
  friend constexpr std::uint64_t operator/(Bytes a, Bytes b) {
    ACCEDE_ASSERT(b.value_ != 0);
    return a.value_ / b.value_;
  }
  friend constexpr Bytes operator%(Bytes a, Bytes b) {
    ACCEDE_ASSERT(b.value_ != 0);
    return Bytes{a.value_ % b.value_};
  }
  constexpr Bytes& operator+=(Bytes b) { return *this = *this + b; }
  constexpr Bytes& operator-=(Bytes b) { return *this = *this - b; }

  friend constexpr auto operator<=>(Bytes, Bytes) = default;

 private:
  std::uint64_t value_ = 0;
};

inline namespace literals {
consteval Bytes operator""_B(unsigned long long n) {
  return Bytes{n};
}
consteval Bytes operator""_KiB(unsigned long long n) {
  return Bytes{n} * (1ULL << 10);
}
consteval Bytes operator""_MiB(unsigned long long n) {
  return Bytes{n} * (1ULL << 20);
}
consteval Bytes operator""_GiB(unsigned long long n) {
  return Bytes{n} * (1ULL << 30);
}
consteval Bytes operator""_TiB(unsigned long long n) {
  return Bytes{n} * (1ULL << 40);
}
}  // namespace literals

/// The three page sizes of x86-64 long mode. The numbers are the TDX levels (reference: TDX
/// module, SEPT level encoding): 0 = 4 KiB, 1 = 2 MiB, 2 = 1 GiB.
enum class PageSize : std::uint8_t { k4K = 0, k2M = 1, k1G = 2 };

/// Number of address bits below a page of this size: 12, 21 or 30.
[[nodiscard]] constexpr unsigned page_shift(PageSize size) {
  return 12U + 9U * static_cast<unsigned>(size);
}

[[nodiscard]] constexpr Bytes bytes(PageSize size) {
  return Bytes{1ULL << page_shift(size)};
}

/// A count of 4 KiB pages.
class PageCount {
 public:
  constexpr PageCount() = default;
  constexpr explicit PageCount(std::uint64_t value) : value_{value} {}

  [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
  [[nodiscard]] constexpr Bytes bytes() const { return Bytes{4096} * value_; }

  friend constexpr auto operator<=>(PageCount, PageCount) = default;

 private:
  std::uint64_t value_ = 0;
};

/// A physical address: a guest physical address (GPA) inside a VM, a host physical address (HPA)
/// on the host side. The declaration that uses it says which.
class PhysAddr {
 public:
  constexpr PhysAddr() = default;
  constexpr explicit PhysAddr(std::uint64_t value) : value_{value} {}

  [[nodiscard]] constexpr std::uint64_t value() const { return value_; }

  /// True when the address is a multiple of `alignment`. Here and below: `alignment` must be a
  /// power of two.
  [[nodiscard]] constexpr bool is_aligned(Bytes alignment) const {
    ACCEDE_ASSERT(std::has_single_bit(alignment.value()));
    return (value_ & (alignment.value() - 1)) == 0;
  }
  [[nodiscard]] constexpr PhysAddr align_down(Bytes alignment) const {
    ACCEDE_ASSERT(std::has_single_bit(alignment.value()));
    return PhysAddr{value_ & ~(alignment.value() - 1)};
  }
  /// Precondition: the rounded address is representable.
  [[nodiscard]] constexpr PhysAddr align_up(Bytes alignment) const {
    ACCEDE_ASSERT(std::has_single_bit(alignment.value()));
    ACCEDE_ASSERT(value_ <= std::numeric_limits<std::uint64_t>::max() - (alignment.value() - 1));
    return PhysAddr{value_ + (alignment.value() - 1)}.align_down(alignment);
  }

  friend constexpr PhysAddr operator+(PhysAddr a, Bytes b) {
    ACCEDE_ASSERT(b.value() <= std::numeric_limits<std::uint64_t>::max() - a.value_);
    return PhysAddr{a.value_ + b.value()};
  }
  friend constexpr PhysAddr operator-(PhysAddr a, Bytes b) {
    ACCEDE_ASSERT(b.value() <= a.value_);
    return PhysAddr{a.value_ - b.value()};
  }
  friend constexpr Bytes operator-(PhysAddr a, PhysAddr b) {
    ACCEDE_ASSERT(b.value_ <= a.value_);
    return Bytes{a.value_ - b.value_};
  }
  constexpr PhysAddr& operator+=(Bytes b) { return *this = *this + b; }

  friend constexpr auto operator<=>(PhysAddr, PhysAddr) = default;

 private:
  std::uint64_t value_ = 0;
};

}  // namespace accede
