// What can be wrong with a list of hand-off blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace accede::firmware {

enum class HobErrorKind : std::uint8_t {
  // The list.
  kTruncated,         ///< it ends before its end marker, or inside a HOB
  kBadLength,         ///< a HOB whose length is no multiple of 8 or does not fit its type
  kReservedNotZero,   ///< a reserved field of a header
  kUnknownType,       ///< a HOB of a type that the specification does not have
  kMisplacedHandoff,  ///< no handoff HOB at the begin, or one elsewhere
  kBadVersion,        ///< a handoff HOB of another version than 9
  // What its resources say about memory.
  kUnknownResource,   ///< a resource type that has no meaning, or none in this dialect
  kUnknownAttribute,  ///< an attribute bit without a meaning
  kUnaligned,         ///< memory that does not consist of pages
  kWraps,             ///< a resource that ends beyond the address space
  kOverlap,           ///< two resources claim the same memory as different things
  kTooManyResources,  ///< more memory resources than there is room for
};
/// One phrase, without the offset.
[[nodiscard]] std::string_view to_string(HobErrorKind kind);

struct HobError {
  HobErrorKind kind;
  std::size_t offset;  ///< of the HOB that is wrong, in bytes from the begin of the list

  friend bool operator==(const HobError&, const HobError&) = default;
};

}  // namespace accede::firmware
