// What holds the pages of a guest's private memory: a concept that memfd and guest_memfd model.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/private_memory_types.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace accede::host {

/// What a memory object said instead of doing it.
struct BackingFailure {
  int code = 0;  ///< errno of a Linux backing

  friend bool operator==(const BackingFailure&, const BackingFailure&) = default;
};
using BackingResult = std::expected<void, BackingFailure>;

/// How often a backing was called: for each, one call is one range and at most one system call.
struct BackingCalls {
  std::uint64_t allocate = 0;
  std::uint64_t discard = 0;
  std::uint64_t host_access = 0;
  std::uint64_t write = 0;

  [[nodiscard]] constexpr std::uint64_t total() const {
    return allocate + discard + host_access + write;
  }
  friend bool operator==(const BackingCalls&, const BackingCalls&) = default;
};

/// The memory of a VM: an object for shared pages and one for private pages, or one for both (then
/// each member means that one, whatever its side). Offsets are multiples of 4 KiB.
///
/// Every call is for one range and all or nothing: a failure has changed nothing. Calls may come
/// from several threads at once; those for overlapping ranges do not.
///
/// - size(side): of the object.
/// - in_place(): both sides are one object.
/// - guarantees(): the requirements that the objects meet.
/// - allocate(side, range): every page is there afterwards; new ones are zero, others unchanged.
/// - discard(side, range): no page is there afterwards; their content and memory are gone.
/// - set_host_access(side, range, allowed): whether the host's own mapping of the range can be
///   touched. Content is unchanged. An object that the host never maps does nothing.
/// - write(side, offset, bytes): initial content, before launch. Host access must be allowed.
/// - calls(): how many of those calls were made since the start, also failed ones.
template <class B>
concept PrivateMemoryBacking =
    requires(B& backing, const B& looked_at, PageAttribute side, OffsetRange range, Bytes offset,
             std::span<const std::byte> content, bool allowed) {
      { looked_at.size(side) } -> std::same_as<Bytes>;
      { looked_at.in_place() } -> std::same_as<bool>;
      { looked_at.guarantees() } -> std::same_as<Requirements>;
      { backing.allocate(side, range) } -> std::same_as<BackingResult>;
      { backing.discard(side, range) } -> std::same_as<BackingResult>;
      { backing.set_host_access(side, range, allowed) } -> std::same_as<BackingResult>;
      { backing.write(side, offset, content) } -> std::same_as<BackingResult>;
      { looked_at.calls() } -> std::same_as<BackingCalls>;
    };

}  // namespace accede::host
