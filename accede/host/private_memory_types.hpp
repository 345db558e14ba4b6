// What a VMM says and hears when it manages a guest's private memory: VM types, requirements,
// pages, errors.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/page_attributes.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::host {

enum class VmType : std::uint8_t { kTdx, kSnp, kSev, kSevEs, kCca, kPkvm };

/// What becomes of a page's content when the page is converted.
enum class ContentRule : std::uint8_t {
  kDestroyed,  ///< the page on the other side is new: zero, to be accepted again
  kPreserved,  ///< the same page with the same content
};

/// What distinguishes the types of VM for whoever manages their memory. Code asks these, never the
/// type.
struct VmProperties {
  std::string_view name;
  /// Shared and private pages lie in two memory objects. Else in one: converted in place.
  bool two_backings = false;
  ContentRule content = ContentRule::kDestroyed;
  /// A guest access to the other side reaches the host, which may convert the page then.
  bool implicit_to_private = false;
  bool implicit_to_shared = false;
  /// At launch the initial content may come from a buffer of its own. Else it is encrypted, or
  /// donated, in the very page where it was put.
  bool separate_source = false;
  /// The host cannot touch a page while it is private. Else only its ciphertext is there.
  bool host_loses_private = false;
};
/// Reference: SEV-SNP 6, 7; TDX 3.
[[nodiscard]] const VmProperties& properties_of(VmType type);

/// Properties that a consumer of private memory may need of the memory object, and that another
/// consumer may break by what it does. A set; a value type.
class Requirements {
 public:
  constexpr Requirements() = default;
  /// From a word of outside; bits that mean nothing are kept: unknown() tells.
  constexpr explicit Requirements(std::uint32_t bits) : bits_{bits} {}

  [[nodiscard]] static constexpr Requirements none() { return {}; }
  /// No process can read or write it. Broken by whoever maps it.
  [[nodiscard]] static constexpr Requirements user_inaccessible() { return Requirements{1U << 0}; }
  /// A page stays at its place in physical memory. Broken by migration and compaction.
  [[nodiscard]] static constexpr Requirements unmovable() { return Requirements{1U << 1}; }
  /// A page is not taken away to be brought back: no swapping. Broken by reclaim.
  [[nodiscard]] static constexpr Requirements unreclaimable() { return Requirements{1U << 2}; }

  [[nodiscard]] constexpr std::uint32_t bits() const { return bits_; }
  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
  [[nodiscard]] constexpr bool contains(Requirements other) const {
    return (bits_ & other.bits_) == other.bits_;
  }
  [[nodiscard]] constexpr bool unknown() const { return (bits_ & ~7U) != 0; }

  friend constexpr Requirements operator|(Requirements a, Requirements b) {
    return Requirements{a.bits_ | b.bits_};
  }
  friend constexpr Requirements operator&(Requirements a, Requirements b) {
    return Requirements{a.bits_ & b.bits_};
  }
  friend constexpr bool operator==(Requirements, Requirements) = default;

 private:
  std::uint32_t bits_ = 0;
};

/// A half-open range of offsets in a memory object. Invariant: begin <= end. A value type.
class OffsetRange {
 public:
  constexpr OffsetRange() = default;
  /// [begin, begin + size), or nothing when the end is not representable.
  [[nodiscard]] static constexpr std::optional<OffsetRange> make(Bytes begin, Bytes size) {
    if (size.value() > ~std::uint64_t{0} - begin.value()) {
      return std::nullopt;
    }
    OffsetRange range;
    range.begin_ = begin;
    range.end_ = begin + size;
    return range;
  }

  [[nodiscard]] constexpr Bytes begin() const { return begin_; }
  [[nodiscard]] constexpr Bytes end() const { return end_; }
  [[nodiscard]] constexpr Bytes size() const { return end_ - begin_; }
  [[nodiscard]] constexpr bool empty() const { return begin_ == end_; }
  [[nodiscard]] constexpr bool overlaps(OffsetRange other) const {
    return begin_ < other.end_ && other.begin_ < end_ && !empty() && !other.empty();
  }

  friend constexpr bool operator==(OffsetRange, OffsetRange) = default;

 private:
  Bytes begin_;
  Bytes end_;
};

/// A page of private memory as its consumers see it.
struct BackedPage {
  PhysAddr gpa;                   ///< aligned to `size`
  Bytes offset;                   ///< in the memory object of its side, congruent to `gpa` there
  PageSize size = PageSize::k4K;  ///< 4K or 2M

  friend bool operator==(const BackedPage&, const BackedPage&) = default;
};

enum class PrivateMemoryError : std::uint8_t {
  kWrongOrder,          ///< the order is slots, bind, populate, init, set private, launch
  kEmpty,               ///< a range without a page
  kUnaligned,           ///< not aligned to the granule
  kOutsideSlots,        ///< not wholly inside one slot
  kSlotOverlap,         ///< with an earlier slot
  kOutsideAttributes,   ///< a slot beyond the range whose attributes are kept
  kOutsideBacking,      ///< a binding beyond the end of the memory object
  kBindingOverlap,      ///< two slots, or both sides of one, would share memory
  kNotBound,            ///< a slot has no memory yet
  kTableFull,           ///< no room for another slot, populated range, consumer, hold or claim
  kSeparateSource,      ///< content from a buffer, where the page itself is encrypted in place
  kPopulated,           ///< populated before
  kMapped,              ///< mapped by the host
  kPinned,              ///< pinned by the host: a device may write to it
  kNotShared,           ///< to be pinned, but private
  kNotPrivate,          ///< to be launched or relinquished, but shared
  kBusy,                ///< another change or fault of an overlapping range is under way; try again
  kImplicitConversion,  ///< an access to the other side; this VM converts on request only
  kConsumerRefused,     ///< a registered consumer cannot let go of, or take, a page
  kBackingFailed,       ///< the memory object did; `code` is its error
  kUnknownFlag,         ///< a requirement that does not exist
  kContradiction,       ///< what one consumer needs is what another, or the same, breaks
  kNotGuaranteed,       ///< a requirement that the memory object does not meet
  kNotHeld,             ///< released what was not held, or unregistered what was not registered
};
[[nodiscard]] std::string_view name(PrivateMemoryError error);

/// Why a request changed nothing.
struct PrivateMemoryFailure {
  PrivateMemoryError error = PrivateMemoryError::kWrongOrder;
  PhysRange at;  ///< the part that failed, or what was asked for
  int code = 0;  ///< kBackingFailed: what the memory object said

  friend bool operator==(const PrivateMemoryFailure&, const PrivateMemoryFailure&) = default;
};

template <class T>
using PrivateMemoryResult = std::expected<T, PrivateMemoryFailure>;

}  // namespace accede::host
