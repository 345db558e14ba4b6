// Who accepts what right now, so that no unit is accepted twice.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/spin_lock.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>

namespace accede::guest {

class Claim;

/// The ranges that are being accepted, one a CPU at most, as a list of Claim objects on the stacks
/// of those who accept; and where units stand that failed part way. Thread-safe; the lock is held
/// for one walk over the list.
class Claims {
 public:
  /// The first part of `units` that can be given to the platform at once: its whole units, and the
  /// address to start from, which lies inside the first unit when an earlier attempt failed there.
  /// Never empty. Precondition: the caller holds a claim on `units`, which are not empty.
  struct Piece {
    PhysRange units;
    PhysAddr from;
  };
  [[nodiscard]] Piece first_piece(PhysRange units) {
    Piece piece{.units = units, .from = units.begin()};
    if (remembered_.load(std::memory_order_relaxed) == 0) {
      return piece;
    }
    const SpinGuard guard{lock_};
    PhysAddr end = units.end();
    for (PhysRange& part : parts_) {
      if (part.empty() || !units.contains(part.begin())) {
        continue;
      }
      if (part.begin() == units.begin()) {
        piece.from = part.end();
        part = PhysRange{};
      } else {
        end = std::min(end, part.begin());
      }
    }
    const auto kept = std::remove_if(parts_.begin(), parts_.end(),
                                     [](const PhysRange& part) { return part.empty(); });
    std::fill(kept, parts_.end(), PhysRange{});
    remembered_.store(static_cast<std::size_t>(kept - parts_.begin()), std::memory_order_relaxed);
    piece.units = *PhysRange::make(units.begin(), end);
    return piece;
  }

  /// Keeps that the unit of `done_end` is accepted up to there. When more units have failed than
  /// there is room for, the oldest is forgotten: trying it again ends in "already accepted".
  void remember(PhysAddr done_end, Bytes unit) {
    if (done_end.is_aligned(unit)) {
      return;
    }
    const SpinGuard guard{lock_};
    std::size_t count = remembered_.load(std::memory_order_relaxed);
    if (count == parts_.size()) {
      std::rotate(parts_.begin(), parts_.begin() + 1, parts_.end());
      --count;
    }
    parts_[count] = *PhysRange::make(done_end.align_down(unit), done_end);
    remembered_.store(count + 1, std::memory_order_relaxed);
  }

 private:
  friend class Claim;

  SpinLock lock_;
  Claim* first_ = nullptr;
  std::array<PhysRange, 8> parts_{};  ///< oldest first; the empty ones last
  std::atomic<std::size_t> remembered_ = 0;
};

/// A claim on a range for the life of the object. Ranges are half-open: neighbours do not meet.
class Claim {
 public:
  Claim(Claims& claims, PhysRange range) : claims_{claims}, range_{range} {
    const SpinGuard guard{claims_.lock_};
    for (const Claim* other = claims_.first_; other != nullptr; other = other->next_) {
      if (other->range_.overlaps(range_)) {
        return;
      }
    }
    next_ = claims_.first_;
    if (next_ != nullptr) {
      next_->previous_ = this;
    }
    claims_.first_ = this;
    granted_ = true;
  }
  ~Claim() {
    if (!granted_) {
      return;
    }
    const SpinGuard guard{claims_.lock_};
    (previous_ != nullptr ? previous_->next_ : claims_.first_) = next_;
    if (next_ != nullptr) {
      next_->previous_ = previous_;
    }
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  /// False: another claim overlaps; this one holds nothing.
  [[nodiscard]] bool granted() const { return granted_; }

 private:
  Claims& claims_;
  PhysRange range_;
  Claim* next_ = nullptr;
  Claim* previous_ = nullptr;
  bool granted_ = false;
};

}  // namespace accede::guest
