// What the page allocator keeps for every page.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/units.hpp"

#include <atomic>
#include <compare>
#include <cstdint>
#include <string_view>

namespace accede::guest {

using namespace std::string_view_literals;

/// A block of 2^order pages of 4 KiB, aligned to its size.
class Order {
 public:
  constexpr Order() = default;
  /// Precondition: value <= kMaxOrder's value.
  constexpr explicit Order(unsigned value) : value_{static_cast<std::uint8_t>(value)} {
    ACCEDE_ASSERT(value <= 10);
  }
  [[nodiscard]] constexpr unsigned value() const { return value_; }
  [[nodiscard]] constexpr PageCount pages() const { return PageCount{std::uint64_t{1} << value_}; }
  [[nodiscard]] constexpr Bytes bytes() const { return pages().bytes(); }

  friend constexpr auto operator<=>(Order, Order) = default;

 private:
  std::uint8_t value_ = 0;
};

/// The largest block: 4 MiB, as in Linux on x86.
inline constexpr Order kMaxOrder{10};

/// What the head of a block says about the block. Only heads have a state: every other page of a
/// block says kNone, whatever the block is.
enum class PageState : std::uint8_t {
  kNone,        ///< not a head, or no memory that this allocator manages
  kFree,        ///< accepted and free, on a list of the zone
  kUnaccepted,  ///< free and to be accepted before use, on a list of the zone
  kAccepting,   ///< being accepted, on no list
  kCached,      ///< accepted and free, in a CPU's cache
  kAllocated,   ///< with a caller
  kTakenOut,    ///< unaccepted memory that was taken out of use
  kRefused,     ///< as kUnaccepted, but the last attempt to accept it failed: tried last
};

[[nodiscard]] constexpr std::string_view to_string(PageState state) {
  switch (state) {
    case PageState::kNone:
      return "not a block"sv;
    case PageState::kFree:
      return "free"sv;
    case PageState::kUnaccepted:
      return "unaccepted"sv;
    case PageState::kAccepting:
      return "being accepted"sv;
    case PageState::kCached:
      return "in a CPU cache"sv;
    case PageState::kAllocated:
      return "allocated"sv;
    case PageState::kTakenOut:
      return "taken out of use"sv;
    case PageState::kRefused:
      return "unaccepted, refused by the platform"sv;
  }
  return "unknown"sv;
}

/// State and size of a block, as its head holds them.
struct BlockHead {
  PageState state = PageState::kNone;
  Order order;

  friend bool operator==(BlockHead, BlockHead) = default;
};

/// A page of a zone by its number from the zone's base. A zone spans at most 16 TiB.
enum class Frame : std::uint32_t {};
inline constexpr Frame kNoFrame{~std::uint32_t{0}};

[[nodiscard]] constexpr std::uint32_t number(Frame frame) {
  return static_cast<std::uint32_t>(frame);
}
[[nodiscard]] constexpr Frame operator+(Frame frame, PageCount pages) {
  return static_cast<Frame>(number(frame) + static_cast<std::uint32_t>(pages.value()));
}

/// Twelve bytes a page, 0.3 % of the memory.
///
/// `next` and `previous` belong to the zone and are read and written under its lock. The head is
/// atomic: its owner (the zone for kFree, kUnaccepted, kRefused and kAccepting; whoever holds the
/// page for the rest) changes it while others look whether it can be merged with.
class PageInfo {
 public:
  Frame next = kNoFrame;
  Frame previous = kNoFrame;

  [[nodiscard]] BlockHead head() const { return unpack(head_.load(std::memory_order_relaxed)); }
  void set_head(BlockHead head) { head_.store(pack(head), std::memory_order_relaxed); }
  /// Replaces the head if it is `from`; false, and nothing changed, when it is not.
  [[nodiscard]] bool change_head(BlockHead from, BlockHead to) {
    std::uint32_t seen = pack(from);
    return head_.compare_exchange_strong(seen, pack(to), std::memory_order_acq_rel,
                                         std::memory_order_relaxed);
  }

 private:
  [[nodiscard]] static constexpr std::uint32_t pack(BlockHead head) {
    return static_cast<std::uint32_t>(head.state) | (head.order.value() << 8);
  }
  [[nodiscard]] static constexpr BlockHead unpack(std::uint32_t word) {
    return {.state = static_cast<PageState>(word & 0xFF), .order = Order{(word >> 8) & 0xF}};
  }

  std::atomic<std::uint32_t> head_ = 0;
};
static_assert(sizeof(PageInfo) == 12);

}  // namespace accede::guest
