#include "accede/firmware/hob_error.hpp"

namespace accede::firmware {

using namespace std::string_view_literals;

std::string_view to_string(HobErrorKind kind) {
  using enum HobErrorKind;
  switch (kind) {
    case kTruncated:
      return "the HOB list is cut off"sv;
    case kBadLength:
      return "a HOB has a length that does not fit its type"sv;
    case kReservedNotZero:
      return "a reserved field of a HOB is not zero"sv;
    case kUnknownType:
      return "a HOB has a type that nobody knows"sv;
    case kMisplacedHandoff:
      return "the handoff HOB is not the first, or not the only one"sv;
    case kBadVersion:
      return "the handoff HOB has another version than 9"sv;
    case kUnknownResource:
      return "a resource HOB has a resource type without a meaning"sv;
    case kUnknownAttribute:
      return "a resource HOB has an attribute without a meaning"sv;
    case kUnaligned:
      return "a resource HOB describes memory that is not page aligned"sv;
    case kWraps:
      return "a resource HOB ends beyond the address space"sv;
    case kOverlap:
      return "two resource HOBs claim the same memory as different things"sv;
    case kTooManyResources:
      return "the HOB list has more memory resources than there is room for"sv;
  }
  return "unknown error of the HOB list"sv;
}

}  // namespace accede::firmware
