// Included by bulk_conversion.hpp: ranges and MapGPA.
#pragma once

#include "accede/base/assert.hpp"
#include "accede/host/bulk_conversion.hpp"
#include "accede/host/map_gpa_request.hpp"

#include <algorithm>

namespace accede::host {

template <PrivateMemoryBacking Memory>
BulkConversion<Memory>::BulkConversion(PrivateMemory<Memory>& memory, const BulkLimits& limits)
    : memory_{memory}, limits_{limits} {
  ACCEDE_ASSERT(limits.step >= 2_MiB && limits.step % 2_MiB == Bytes{0});
  ACCEDE_ASSERT(limits.most >= limits.step);
}

/// The pages at the front of `gpas` that lie in one slot, or in none (`slot` null). Precondition:
/// not empty.
template <PrivateMemoryBacking Memory>
PhysRange BulkConversion<Memory>::front(PhysRange gpas, const MemorySlot*& slot) const {
  slot = nullptr;
  PhysAddr end = gpas.end();
  for (const MemorySlot& each : memory_.slots()) {
    if (each.gpas.contains(gpas.begin())) {
      slot = &each;
      return gpas.intersect(each.gpas);
    }
    if (each.gpas.begin() > gpas.begin()) {
      end = std::min(end, each.gpas.begin());
    }
  }
  return *PhysRange::make(gpas.begin(), end);
}

/// What forbids the conversion whatever the state of the pages.
template <PrivateMemoryBacking Memory>
std::optional<PrivateMemoryFailure> BulkConversion<Memory>::cannot(PhysRange gpas,
                                                                   PageAttribute to) const {
  if (gpas.empty()) {
    return PrivateMemoryFailure{PrivateMemoryError::kEmpty, gpas};
  }
  if (!gpas.begin().is_aligned(memory_.granule()) || !gpas.end().is_aligned(memory_.granule())) {
    return PrivateMemoryFailure{PrivateMemoryError::kUnaligned, gpas};
  }
  const MemorySlot* slot = nullptr;
  for (PhysRange rest = gpas; to == PageAttribute::kPrivate && !rest.empty();) {
    const PhysRange part = front(rest, slot);
    if (slot == nullptr) {
      return PrivateMemoryFailure{PrivateMemoryError::kOutsideSlots, part};
    }
    rest = *PhysRange::make(part.end(), gpas.end());
  }
  return std::nullopt;
}

/// One conversion, as soon as nobody else is at it.
template <PrivateMemoryBacking Memory>
PrivateMemoryResult<Conversion> BulkConversion<Memory>::convert_step(PhysRange part,
                                                                     PageAttribute to, Exit& exit) {
  // A conversion takes some milliseconds at most. Past this count something is wrong.
  constexpr unsigned kBusyTries = 1U << 16;
  for (unsigned tries = 0;; ++tries) {
    auto done = memory_.convert(part, to);
    if (done) {
      exit.spend(part.size());
    }
    if (done || done.error().error != PrivateMemoryError::kBusy || tries == kBusyTries ||
        (exit.begun && exit.must_return())) {
      return done;
    }
    __builtin_ia32_pause();
  }
}

template <PrivateMemoryBacking Memory>
BulkProgress BulkConversion<Memory>::convert(PhysRange gpas, PageAttribute to, Exit& exit) {
  if (const auto failure = cannot(gpas, to)) {
    return {.next = gpas.begin(), .failure = failure};
  }
  for (PhysAddr at = gpas.begin(); at < gpas.end();) {
    const MemorySlot* slot = nullptr;
    PhysRange part = front(*PhysRange::make(at, gpas.end()), slot);
    if (slot != nullptr) {
      if (!exit.may_go_on()) {
        return {.next = at, .failure = std::nullopt};
      }
      // Between 2 MiB pages, so that no step splits one.
      if (part.size() > limits_.step) {
        part = *PhysRange::make(at, (at + limits_.step).align_down(2_MiB));
      }
      if (const auto done = convert_step(part, to, exit); !done) {
        return {.next = at, .failure = done.error()};
      }
    }
    at = part.end();
  }
  return {.next = gpas.end(), .failure = std::nullopt};
}

template <PrivateMemoryBacking Memory>
BulkProgress BulkConversion<Memory>::convert(PhysRange gpas, PageAttribute to,
                                             MustReturn must_return) {
  Exit exit{.must_return = must_return, .left = limits_.most};
  return convert(gpas, to, exit);
}

template <PrivateMemoryBacking Memory>
MapGpaAnswer BulkConversion<Memory>::map_gpa(std::uint64_t start, std::uint64_t size,
                                             std::uint64_t shared_bit, MustReturn must_return) {
  using abi::tdx::VmcallStatus;
  const auto request = map_gpa_request(start, size, shared_bit);
  if (!request) {
    return {.r10 = request.error(), .r11 = start};
  }
  const BulkProgress progress = convert(request->gpas, request->to, must_return);
  if (progress.next == request->gpas.end()) {
    return {};
  }
  const bool passes = !progress.failure || progress.failure->error == PrivateMemoryError::kBusy;
  return {.r10 = passes ? VmcallStatus::kRetry : VmcallStatus::kInvalidOperand,
          .r11 = progress.next.value() | (start & shared_bit)};
}

}  // namespace accede::host
