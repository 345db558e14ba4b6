// Errors of the C header: their numbers, their texts.
#include "accede/abi/linux_unaccepted.hpp"
#include "accede/guest/c_api_state.hpp"
#include "accede/guest/detect.hpp"

#include <array>
#include <string_view>

namespace accede::guest::c_api {

namespace {

using abi::linux_unaccepted::ParseErrorKind;

// The last of each group: an enumerator added in the middle of a C++ enum shows here.
static_assert(numbered(kPlatformErrors, FailureKind::kUnsupported) == ACCEDE_UNSUPPORTED);
static_assert(numbered(kPlatformErrors, FailureKind::kHostLied) == ACCEDE_HOST_LIED);
static_assert(numbered(kDetectErrors, DetectError::kBothClaimed) == ACCEDE_TWO_PLATFORMS);
static_assert(numbered(kTdxErrors, TdxError::kBadGpaWidth) == ACCEDE_TDX_BAD_GPA_WIDTH);
static_assert(numbered(kMapErrors, MapErrorKind::kOverlap) == ACCEDE_MAP_OVERLAP);
static_assert(numbered(kMapErrors, MapErrorKind::kTooManyEntries) == ACCEDE_MAP_TOO_MANY_ENTRIES);
static_assert(numbered(kTableErrors, TableErrorKind::kUnacceptedTable) == ACCEDE_TABLE_UNACCEPTED);
static_assert(numbered(kTableErrors, TableErrorKind::kBadUnit) == ACCEDE_TABLE_BAD_UNIT);
static_assert(numbered(kParseErrors, ParseErrorKind::kTruncatedBitmap) ==
              ACCEDE_TABLE_TRUNCATED_BITMAP);
static_assert(numbered(kEarlyErrors, EarlyErrorKind::kNotReserved) == ACCEDE_EARLY_NOT_RESERVED);
static_assert(numbered(kAllocErrors, AllocErrorKind::kWouldAccept) == ACCEDE_WOULD_ACCEPT);
static_assert(numbered(kFreeErrors, FreeError::kWrongOrder) == ACCEDE_FREE_WRONG_ORDER);
static_assert(numbered(kSegmentErrors, SegmentErrorKind::kTooMuchMemory) ==
              ACCEDE_SEGMENT_TOO_MUCH_MEMORY);
static_assert(numbered(kHandOverErrors, HandOverErrorKind::kOtherTable) ==
              ACCEDE_HAND_OVER_OTHER_TABLE);
static_assert(numbered(kCarrierErrors, CarrierErrorKind::kBadTable) == ACCEDE_CARRIER_BAD_TABLE);
static_assert(static_cast<unsigned>(HandOverRoute::kHandOver) == ACCEDE_ROUTE_HAND_OVER);
static_assert(static_cast<unsigned>(MemoryKind::kPersistent) == ACCEDE_MEMORY_PERSISTENT);
static_assert(ACCEDE_ANY_NODE == static_cast<std::uint32_t>(kAnyNode));
static_assert(ACCEDE_OWN_NODE == AllocOptions::kOwnNode);
static_assert(ACCEDE_MAX_ORDER == kMaxOrder.value());
static_assert(ACCEDE_HAND_OVER_BYTES == sizeof(HandOver));
static_assert(ACCEDE_SETUP_DATA_BYTES == kSetupDataNodeBytes);
static_assert(ACCEDE_EFI_ENTRY_BYTES == kEfiEntryBytes);
static_assert(ACCEDE_UNTIL_WOKEN == BackgroundStep::kUntilWoken);

std::string_view own_text(unsigned status) {
  switch (status) {
    case ACCEDE_OK:
      return "success"sv;
    case ACCEDE_BAD_ARGUMENT:
      return "an argument is null, zero, not a power of two, not aligned or out of bounds"sv;
    case ACCEDE_BAD_RANGE:
      return "a range ends before it begins, or beyond 2^52"sv;
    case ACCEDE_BAD_ORDER_OF_CALLS:
      return "a function was called before or after its time"sv;
    case ACCEDE_MAP_BEYOND_2_52:
      return "the memory map has RAM at an address that no machine has"sv;
    case ACCEDE_TOO_MANY_ZONES:
      return "the memory has more than 64 zones"sv;
    case ACCEDE_TABLES_DISAGREE:
      return to_string(StartErrorKind::kDisagree);
    default:
      return "unknown status"sv;
  }
}

/// Made while compiling: at run time these texts would be measured by strlen().
std::string_view parse_text(unsigned kind) {
  static constexpr std::array kTexts{
      to_string(ParseErrorKind::kTruncatedHeader),  to_string(ParseErrorKind::kUnknownVersion),
      to_string(ParseErrorKind::kBadUnitSize),      to_string(ParseErrorKind::kUnalignedBase),
      to_string(ParseErrorKind::kCoverageOverflow), to_string(ParseErrorKind::kTruncatedBitmap)};
  return kind < kTexts.size() ? kTexts[kind] : own_text(~0U);
}

std::string_view text_of(unsigned status) {
  const auto in_group = [status]<class Kind>(Kind) { return to_string(Kind(status & 0xFF)); };
  switch (status & ~0xFFU) {
    case kPlatformErrors:
      return in_group(FailureKind{});
    case kDetectErrors:
      return in_group(DetectError{});
    case kTdxErrors:
      return in_group(TdxError{});
    case kMapErrors:
      return in_group(MapErrorKind{});
    case kTableErrors:
      return in_group(TableErrorKind{});
    case kParseErrors:
      return parse_text(status & 0xFF);
    case kEarlyErrors:
      return in_group(EarlyErrorKind{});
    case kAllocErrors:
      return in_group(AllocErrorKind{});
    case kFreeErrors:
      return in_group(FreeError{});
    case kSegmentErrors:
      return in_group(SegmentErrorKind{});
    case kHandOverErrors:
      return in_group(HandOverErrorKind{});
    case kCarrierErrors:
      return in_group(CarrierErrorKind{});
    default:
      return own_text(status);
  }
}

accede_status tell(accede_status status, accede_detail* detail, const accede_detail& what) {
  if (detail != nullptr) {
    *detail = what;
  }
  return status;
}

}  // namespace

accede_status report(const PlatformFailure& failure, accede_detail* detail, Bytes accepted) {
  return tell(numbered(kPlatformErrors, failure.kind), detail,
              {.address = failure.at.value(),
               .platform_status = failure.status,
               .accepted = accepted.value(),
               .offset = 0,
               .index = 0});
}

accede_status report(const AcceptError& error, accede_detail* detail) {
  return report(error.failure, detail, error.accepted);
}

accede_status report(const MapError& error, accede_detail* detail) {
  return tell(
      numbered(kMapErrors, error.kind), detail,
      {.address = 0, .platform_status = 0, .accepted = 0, .offset = error.offset, .index = 0});
}

accede_status report(const TableError& error, accede_detail* detail) {
  if (error.kind == TableErrorKind::kAcceptFailed) {
    return report(error.failure, detail);
  }
  const accede_status status = error.kind == TableErrorKind::kMalformed
                                   ? numbered(kParseErrors, error.parse)
                                   : numbered(kTableErrors, error.kind);
  return tell(
      status, detail,
      {.address = 0, .platform_status = 0, .accepted = 0, .offset = error.offset, .index = 0});
}

accede_status report(const EarlyError& error, accede_detail* detail) {
  return error.kind == EarlyErrorKind::kAcceptFailed
             ? report(error.accept, detail)
             : tell(numbered(kEarlyErrors, error.kind), detail, {});
}

accede_status report(const AllocError& error, accede_detail* detail) {
  return error.kind == AllocErrorKind::kAcceptFailed
             ? report(error.accept, detail)
             : tell(numbered(kAllocErrors, error.kind), detail, {});
}

accede_status report(const SegmentError& error, accede_detail* detail) {
  accede_detail what{};
  const accede_status status = error.kind == SegmentErrorKind::kAcceptFailed
                                   ? report(error.accept, &what)
                                   : numbered(kSegmentErrors, error.kind);
  what.index = static_cast<std::uint32_t>(error.segment);
  return tell(status, detail, what);
}

accede_status report(const CarrierError& error, accede_detail* detail) {
  return tell(numbered(kCarrierErrors, error.kind), detail,
              {.address = error.at.value(),
               .platform_status = 0,
               .accepted = 0,
               .offset = error.offset,
               .index = 0});
}

}  // namespace accede::guest::c_api

// Every text is a literal, so it ends in a zero.
const char* accede_status_text(accede_status status) {
  return accede::guest::c_api::text_of(static_cast<unsigned>(status)).data();
}
