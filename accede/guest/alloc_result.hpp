// What the page allocator is asked and what it answers.
#pragma once

#include "accede/base/units.hpp"
#include "accede/guest/acceptor.hpp"

#include <cstdint>
#include <string_view>

namespace accede::guest {

using namespace std::string_view_literals;

enum class AllocErrorKind : std::uint8_t {
  kOutOfMemory,   ///< no free memory of that size, accepted or not
  kWouldAccept,   ///< a no-wait request found only unaccepted memory: try again when one may wait
  kAcceptFailed,  ///< the platform failed; `accept` says how. The memory stays unaccepted and free
};
[[nodiscard]] constexpr std::string_view to_string(AllocErrorKind kind) {
  switch (kind) {
    case AllocErrorKind::kOutOfMemory:
      return "out of memory"sv;
    case AllocErrorKind::kWouldAccept:
      return "free memory is left, but it would have to be accepted first"sv;
    case AllocErrorKind::kAcceptFailed:
      return "free memory could not be accepted"sv;
  }
  return "unknown allocation error"sv;
}

struct AllocError {
  AllocErrorKind kind;
  AcceptError accept{};
};

enum class FreeError : std::uint8_t {
  kNotOurs,     ///< the address lies in no zone or is not page aligned
  kWrongState,  ///< not the head of an allocated block: freed twice, never allocated, a part of one
  kWrongOrder,  ///< allocated with another order
};
[[nodiscard]] constexpr std::string_view to_string(FreeError error) {
  switch (error) {
    case FreeError::kNotOurs:
      return "the page that is freed belongs to no zone"sv;
    case FreeError::kWrongState:
      return "the page that is freed is not allocated"sv;
    case FreeError::kWrongOrder:
      return "the page that is freed was allocated with another order"sv;
  }
  return "unknown error of free"sv;
}

/// How a request may be served.
struct AllocOptions {
  static constexpr unsigned kOwnNode = ~0U;
  unsigned node = kOwnNode;  ///< tried first; the others follow
  bool no_wait = false;      ///< never accept and never wait for another CPU's accept
};

/// What /proc/meminfo shows: free memory includes what is unaccepted, what is being accepted, and
/// what CPU caches hold.
struct MemoryCounters {
  Bytes total;
  Bytes free;
  Bytes unaccepted;
};

}  // namespace accede::guest
