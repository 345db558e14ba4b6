// How the next program learns where the unaccepted table is: three ways to publish and to find it.
//
//   EFI configuration table   Linux's own: an array of {GUID, pointer}; no size is carried
//   setup_data node           for loaders that start a kernel by the Linux boot protocol
//   HandOver object           for everybody else: its address goes where the two sides agree
//
// Publishing writes whole 8-byte words in an order in which a reader never finds a half: it finds
// what was there before, nothing, or the table. Finding trusts nothing that it reads.
#pragma once

#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::guest {

/// Where a table lies, and how much may be read there: its size, or more.
struct TablePlace {
  PhysAddr table;
  Bytes bound;

  friend bool operator==(const TablePlace&, const TablePlace&) = default;
};

/// Names a table, for carriers that have no format of their own. Wire format, 8-byte aligned.
/// A later version may be longer; readers take `length` from the object.
struct HandOver {
  std::uint64_t magic;        ///< kHandOverMagic
  std::uint32_t version;      ///< kHandOverVersion
  std::uint32_t length;       ///< of this object in bytes
  std::uint64_t table;        ///< physical address
  std::uint64_t table_bytes;  ///< header and bitmap
  std::uint32_t checksum;     ///< CRC-32 of `length` bytes, taken with this field 0
  std::uint32_t reserved;     ///< 0
};
static_assert(sizeof(HandOver) == 40);
static_assert(offsetof(HandOver, magic) == 0);
static_assert(offsetof(HandOver, version) == 8);
static_assert(offsetof(HandOver, length) == 12);
static_assert(offsetof(HandOver, table) == 16);
static_assert(offsetof(HandOver, table_bytes) == 24);
static_assert(offsetof(HandOver, checksum) == 32);
static_assert(offsetof(HandOver, reserved) == 36);

/// "ACCEDEHO" in memory.
inline constexpr std::uint64_t kHandOverMagic = 0x4F48454445434341;
inline constexpr std::uint32_t kHandOverVersion = 1;
/// No version will be longer.
inline constexpr std::uint32_t kHandOverMost = 4096;

/// Bytes of an entry in EFI's array: GUID, pointer.
inline constexpr std::size_t kEfiEntryBytes = 24;
/// Bytes of our setup_data node: header and HandOver.
inline constexpr std::size_t kSetupDataNodeBytes = 16 + sizeof(HandOver);
/// Nodes of a setup_data chain that are looked at.
inline constexpr unsigned kMostSetupDataNodes = 1024;

enum class CarrierErrorKind : std::uint8_t {
  kTruncated,    ///< the bytes end inside an entry or object
  kUnaligned,    ///< words cannot be stored in one piece: not a multiple of 8
  kNoFreeSlot,   ///< the array has no room for another entry
  kDuplicate,    ///< two entries or nodes name a table: readers would disagree
  kNotReadable,  ///< an address that may not be read, or that ends beyond what may
  kWraps,        ///< a length that ends beyond the address space
  kLoop,         ///< the chain comes back to a node
  kTooLong,      ///< a chain of more than kMostSetupDataNodes nodes
  kBadMagic,     ///< no HandOver
  kBadVersion,   ///< a HandOver of a version that is not known
  kBadLength,    ///< a HandOver shorter than its version, or longer than its carrier
  kBadChecksum,  ///< a HandOver that was damaged
  kBadTable,     ///< a table address of 0 or not a multiple of 8, or a size below the header's
};
[[nodiscard]] std::string_view to_string(CarrierErrorKind kind);

struct CarrierError {
  CarrierErrorKind kind;
  std::size_t offset = 0;  ///< of the wrong field: in the array, the node or the object
  PhysAddr at{};           ///< of that field in memory, where it was read from memory

  friend bool operator==(const CarrierError&, const CarrierError&) = default;
};

/// Nothing: the carrier is sound and names no table.
using FindResult = std::expected<std::optional<TablePlace>, CarrierError>;

/// Memory that may be read: mapped by the window and accepted. Ranges in any order. What is read
/// must lie in one of them.
struct ReadableMemory {
  PhysWindow window;
  std::span<const PhysRange> ranges;

  [[nodiscard, gnu::cold]] std::optional<std::span<const std::byte>> read(PhysRange range) const;
  /// Bytes that may be read from `address` on; 0 when it may not be read at all.
  [[nodiscard, gnu::cold]] Bytes bound(PhysAddr address) const;
};

/// Stores a word at an offset, which is a multiple of 8. Words become visible in the order of the
/// calls.
using StoreWord = FunctionRef<void(std::size_t offset, std::uint64_t word)>;

// --- EFI configuration table ---

/// The table that the `entries` (24 bytes each) name. Its bound is the end of the readable memory
/// around it: the table itself says how long it is.
/// Errors: kTruncated, kDuplicate, kBadTable, kNotReadable.
[[nodiscard, gnu::cold]] FindResult find_in_efi(std::span<const std::byte> entries,
                                                const ReadableMemory& memory);

/// Names `table` in the array: in the entry that has the GUID already, else in the first of the
/// free slots behind the first `count` entries. Returns the new count, which the caller stores in
/// the system table only afterwards (and renews the header's CRC). Programs of UEFI use
/// InstallConfigurationTable instead.
/// Errors: kBadTable, kTruncated, kUnaligned, kDuplicate, kNoFreeSlot; then nothing was written.
[[nodiscard, gnu::cold]] std::expected<std::size_t, CarrierError> publish_in_efi(
    std::span<std::byte> slots, std::size_t count, PhysAddr table);
/// The same through `store`, for memory that is not written directly.
[[nodiscard, gnu::cold]] std::expected<std::size_t, CarrierError> publish_in_efi(
    std::span<const std::byte> slots, std::size_t count, PhysAddr table, StoreWord store);

// --- HandOver object ---

/// Reads an object that begins with `object`; more bytes may follow. Does not look at the table.
/// Errors: kTruncated, kBadMagic, kBadVersion, kBadLength, kBadChecksum, kBadTable, kWraps.
[[nodiscard, gnu::cold]] std::expected<TablePlace, CarrierError> parse_hand_over(
    std::span<const std::byte> object);

/// Reads the object at `where` and checks that the table may be read.
/// Errors: parse_hand_over()'s, and kNotReadable.
[[nodiscard, gnu::cold]] std::expected<TablePlace, CarrierError> find_in_hand_over(
    PhysAddr where, const ReadableMemory& memory);

/// Writes the object into `object` (8-byte aligned), whatever was there; its magic goes last.
/// Errors: kTruncated, kUnaligned, kBadTable, kWraps; then nothing was written.
[[nodiscard, gnu::cold]] std::expected<void, CarrierError> publish_hand_over(
    std::span<std::byte> object, TablePlace place);
/// The same through `store`, for memory that is not written directly.
[[nodiscard, gnu::cold]] std::expected<void, CarrierError> publish_hand_over(
    std::size_t object_bytes, TablePlace place, StoreWord store);

// --- setup_data node ---

/// Walks the chain from `head` (0: empty) and reads our node. Errors: kNotReadable, kWraps, kLoop,
/// kTooLong, kDuplicate (at the second node), and find_in_hand_over()'s with offsets from the
/// node's begin.
[[nodiscard, gnu::cold]] FindResult find_in_setup_data(PhysAddr head, const ReadableMemory& memory);

/// Writes a node into `node` (8-byte aligned, kSetupDataNodeBytes) that goes before `old_head`.
/// Nobody finds it until the caller stores the node's address as the new head, in one piece.
/// Errors: those of publish_hand_over().
[[nodiscard, gnu::cold]] std::expected<void, CarrierError> publish_in_setup_data(
    std::span<std::byte> node, PhysAddr old_head, TablePlace place);
/// The same through `store`, for memory that is not written directly.
[[nodiscard, gnu::cold]] std::expected<void, CarrierError> publish_in_setup_data(
    std::size_t node_bytes, PhysAddr old_head, TablePlace place, StoreWord store);

// --- All ---

/// What a table is handed over as.
[[nodiscard, gnu::cold]] TablePlace place_of(const UnacceptedTable& table);

/// Attaches the table that was found. Errors: attach()'s.
/// Precondition: `place` comes from one of the find functions, and its memory may be written.
[[nodiscard, gnu::cold]] std::expected<void, TableError> attach(UnacceptedTable& table,
                                                                TablePlace place, PhysWindow window,
                                                                std::span<std::uint64_t> index);

}  // namespace accede::guest
