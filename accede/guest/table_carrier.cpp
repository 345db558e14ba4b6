#include "accede/guest/table_carrier.hpp"

#include "accede/abi/efi.hpp"
#include "accede/abi/linux_unaccepted.hpp"
#include "accede/abi/setup_data.hpp"
#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <limits>

namespace accede::guest {

namespace {

namespace wire = abi::linux_unaccepted;
using Node = abi::setup_data::Header;

constexpr std::size_t kEfiPointer = offsetof(abi::efi::ConfigurationTable, table);
static_assert(sizeof(abi::efi::ConfigurationTable) == kEfiEntryBytes);
static_assert(sizeof(wire::kTableGuidBytes) == kEfiPointer);
static_assert(sizeof(Node) + sizeof(HandOver) == kSetupDataNodeBytes);

using HandOverWords = std::array<std::uint64_t, sizeof(HandOver) / 8>;

std::unexpected<CarrierError> fail(CarrierErrorKind kind, std::size_t offset, PhysAddr at = {}) {
  return std::unexpected{CarrierError{.kind = kind, .offset = offset, .at = at}};
}

/// The error of a part at `offset` in something at `base`, as an error of the whole.
std::unexpected<CarrierError> fail_in(CarrierError error, std::size_t offset, PhysAddr base) {
  error.offset += offset;
  error.at = base + Bytes{error.offset};
  return std::unexpected{error};
}

/// Stores into memory that a reader may look at any time, also after a crash: each word in one
/// piece, in the order of the calls.
class WordStore {
 public:
  explicit WordStore(std::span<std::byte> memory) : memory_{memory} {}

  void operator()(std::size_t offset, std::uint64_t word) const {
    ACCEDE_ASSERT(offset % 8 == 0 && memory_.size() >= 8 && offset <= memory_.size() - 8);
    std::byte* const at = memory_.subspan(offset).data();
    std::atomic_ref{*reinterpret_cast<std::uint64_t*>(at)}.store(word, std::memory_order_release);
  }

 private:
  std::span<std::byte> memory_;
};

bool aligned(std::span<const std::byte> memory) {
  return reinterpret_cast<std::uintptr_t>(memory.data()) % 8 == 0;
}

bool is_ours(std::span<const std::byte> entry) {
  return std::equal(wire::kTableGuidBytes.begin(), wire::kTableGuidBytes.end(), entry.begin(),
                    [](std::uint8_t a, std::byte b) { return std::byte{a} == b; });
}

/// Offset of the entry with our GUID.
std::expected<std::optional<std::size_t>, CarrierError> our_entry(
    std::span<const std::byte> entries) {
  std::optional<std::size_t> found;
  for (std::size_t at = 0; at + kEfiEntryBytes <= entries.size(); at += kEfiEntryBytes) {
    if (!is_ours(entries.subspan(at, kEfiEntryBytes))) {
      continue;
    }
    if (found) {
      return fail(CarrierErrorKind::kDuplicate, at);
    }
    found = at;
  }
  return found;
}

/// CRC-32 as zlib's, bit by bit: it runs over a few words once.
std::uint32_t crc32(std::span<const std::byte> data, std::uint32_t seed = 0) {
  std::uint32_t crc = ~seed;
  for (const std::byte byte : data) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320U : 0U);
    }
  }
  return ~crc;
}

std::uint32_t checksum(std::span<const std::byte> object) {
  constexpr std::size_t kField = offsetof(HandOver, checksum);
  constexpr std::array<std::byte, sizeof(HandOver::checksum)> kZero{};
  const std::uint32_t head = crc32(object.first(kField));
  return crc32(object.subspan(kField + kZero.size()), crc32(kZero, head));
}

/// What makes a table impossible, whatever its memory holds.
std::optional<CarrierError> wrong_place(TablePlace place) {
  if (place.table == PhysAddr{} || !place.table.is_aligned(8_B)) {
    return CarrierError{.kind = CarrierErrorKind::kBadTable, .offset = offsetof(HandOver, table)};
  }
  if (place.bound < Bytes{sizeof(wire::TableHeader)}) {
    return CarrierError{.kind = CarrierErrorKind::kBadTable,
                        .offset = offsetof(HandOver, table_bytes)};
  }
  if (!PhysRange::make(place.table, place.bound)) {
    return CarrierError{.kind = CarrierErrorKind::kWraps,
                        .offset = offsetof(HandOver, table_bytes)};
  }
  return std::nullopt;
}

HandOverWords hand_over_words(TablePlace place) {
  HandOver object{.magic = kHandOverMagic,
                  .version = kHandOverVersion,
                  .length = sizeof(HandOver),
                  .table = place.table.value(),
                  .table_bytes = place.bound.value(),
                  .checksum = 0,
                  .reserved = 0};
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(HandOver)>>(object);
  object.checksum = checksum(raw);
  return std::bit_cast<HandOverWords>(object);
}

/// Takes the old magic away, writes everything, and sets the magic last.
void store_hand_over(const HandOverWords& words, std::size_t offset, StoreWord store) {
  store(offset, 0);
  for (std::size_t i = 1; i < words.size(); ++i) {
    store(offset + i * 8, words[i]);
  }
  store(offset, words[0]);
}

/// Nothing when the memory of `place` may be read.
std::optional<CarrierError> unreadable(TablePlace place, const ReadableMemory& memory) {
  if (memory.bound(place.table) < place.bound) {
    return CarrierError{.kind = CarrierErrorKind::kNotReadable,
                        .offset = offsetof(HandOver, table)};
  }
  return std::nullopt;
}

/// A header that may be read together with its data.
std::expected<Node, CarrierError> read_node(PhysAddr at, const ReadableMemory& memory) {
  const auto range = PhysRange::make(at, Bytes{sizeof(Node)});
  if (!range) {
    return fail(CarrierErrorKind::kWraps, 0, at);
  }
  const auto raw = memory.read(*range);
  if (!raw) {
    return fail(CarrierErrorKind::kNotReadable, 0, at);
  }
  const Node node = *ByteReader{*raw}.read_struct<Node>(0);
  constexpr std::size_t kLength = offsetof(Node, bytes);
  const auto whole = PhysRange::make(at, Bytes{sizeof(Node)} + Bytes{node.bytes});
  if (!whole) {
    return fail(CarrierErrorKind::kWraps, kLength, at + Bytes{kLength});
  }
  if (!memory.read(*whole)) {
    return fail(CarrierErrorKind::kNotReadable, kLength, at + Bytes{kLength});
  }
  return node;
}

std::expected<TablePlace, CarrierError> read_our_node(PhysAddr at, const Node& node,
                                                      const ReadableMemory& memory) {
  const auto data = memory.read(*PhysRange::make(at + Bytes{sizeof(Node)}, Bytes{node.bytes}));
  ACCEDE_ASSERT(data.has_value());  // read_node() looked
  auto place = parse_hand_over(*data);
  if (place) {
    if (const auto error = unreadable(*place, memory)) {
      place = std::unexpected{*error};
    }
  }
  if (!place) {
    return fail_in(place.error(), sizeof(Node), at);
  }
  return place;
}

}  // namespace

std::string_view to_string(CarrierErrorKind kind) {
  using enum CarrierErrorKind;
  switch (kind) {
    case kTruncated:
      return "what should name the unaccepted table is cut off"sv;
    case kUnaligned:
      return "what should name the unaccepted table is not aligned to 8 bytes"sv;
    case kNoFreeSlot:
      return "the EFI configuration table has no free slot"sv;
    case kDuplicate:
      return "the unaccepted table is named twice"sv;
    case kNotReadable:
      return "the way to the unaccepted table leads to memory that may not be read"sv;
    case kWraps:
      return "a length on the way to the unaccepted table ends beyond the address space"sv;
    case kLoop:
      return "the setup_data chain has a loop"sv;
    case kTooLong:
      return "the setup_data chain is too long"sv;
    case kBadMagic:
      return "the hand-over object has no magic"sv;
    case kBadVersion:
      return "the hand-over object has an unknown version"sv;
    case kBadLength:
      return "the hand-over object has a wrong length"sv;
    case kBadChecksum:
      return "the hand-over object has a wrong checksum"sv;
    case kBadTable:
      return "the address or size of the unaccepted table is impossible"sv;
  }
  return "unknown error on the way to the unaccepted table"sv;
}

std::optional<std::span<const std::byte>> ReadableMemory::read(PhysRange range) const {
  for (const PhysRange readable : ranges) {
    if (readable.contains(range)) {
      return std::span{window.pointer<const std::byte>(range.begin()),
                       static_cast<std::size_t>(range.size().value())};
    }
  }
  return std::nullopt;
}

Bytes ReadableMemory::bound(PhysAddr address) const {
  Bytes most;
  for (const PhysRange readable : ranges) {
    if (readable.contains(address)) {
      most = std::max(most, readable.end() - address);
    }
  }
  return most;
}

FindResult find_in_efi(std::span<const std::byte> entries, const ReadableMemory& memory) {
  const std::size_t rest = entries.size() % kEfiEntryBytes;
  if (rest != 0) {
    return fail(CarrierErrorKind::kTruncated, entries.size() - rest);
  }
  const auto entry = our_entry(entries);
  if (!entry) {
    return std::unexpected{entry.error()};
  }
  if (!*entry) {
    return std::nullopt;
  }
  const std::size_t offset = **entry + kEfiPointer;
  const PhysAddr table{*ByteReader{entries}.read<std::uint64_t>(offset)};
  if (table == PhysAddr{} || !table.is_aligned(8_B)) {
    return fail(CarrierErrorKind::kBadTable, offset);
  }
  const Bytes bound = memory.bound(table);
  if (bound < Bytes{sizeof(wire::TableHeader)}) {
    return fail(CarrierErrorKind::kNotReadable, offset);
  }
  return TablePlace{.table = table, .bound = bound};
}

std::expected<std::size_t, CarrierError> publish_in_efi(std::span<std::byte> slots,
                                                        std::size_t count, PhysAddr table) {
  if (!aligned(slots)) {
    return fail(CarrierErrorKind::kUnaligned, 0);
  }
  const WordStore store{slots};
  return publish_in_efi(slots, count, table, store);
}

std::expected<std::size_t, CarrierError> publish_in_efi(std::span<const std::byte> slots,
                                                        std::size_t count, PhysAddr table,
                                                        StoreWord store) {
  if (table == PhysAddr{} || !table.is_aligned(8_B)) {
    return fail(CarrierErrorKind::kBadTable, 0);
  }
  const std::size_t room = slots.size() / kEfiEntryBytes;
  if (count > room) {
    return fail(CarrierErrorKind::kTruncated, room * kEfiEntryBytes);
  }
  const auto entry = our_entry(slots.first(count * kEfiEntryBytes));
  if (!entry) {
    return std::unexpected{entry.error()};
  }
  if (*entry) {
    store(**entry + kEfiPointer, table.value());
    return count;
  }
  if (count == room) {
    return fail(CarrierErrorKind::kNoFreeSlot, count * kEfiEntryBytes);
  }
  // The pointer first: also one who reads a slot too many finds the GUID only with its pointer.
  const std::size_t slot = count * kEfiEntryBytes;
  const auto guid = std::bit_cast<std::array<std::uint64_t, 2>>(wire::kTableGuidBytes);
  store(slot + kEfiPointer, table.value());
  store(slot, guid[0]);
  store(slot + 8, guid[1]);
  return count + 1;
}

std::expected<TablePlace, CarrierError> parse_hand_over(std::span<const std::byte> object) {
  using enum CarrierErrorKind;
  const auto fields = ByteReader{object}.read_struct<HandOver>(0);
  if (!fields) {
    return fail(kTruncated, 0);
  }
  if (fields->magic != kHandOverMagic) {
    return fail(kBadMagic, offsetof(HandOver, magic));
  }
  if (fields->version != kHandOverVersion) {
    return fail(kBadVersion, offsetof(HandOver, version));
  }
  const std::size_t length = fields->length;
  if (length < sizeof(HandOver) || length > kHandOverMost || length > object.size()) {
    return fail(kBadLength, offsetof(HandOver, length));
  }
  if (checksum(object.first(length)) != fields->checksum) {
    return fail(kBadChecksum, offsetof(HandOver, checksum));
  }
  const TablePlace place{.table = PhysAddr{fields->table}, .bound = Bytes{fields->table_bytes}};
  if (const auto wrong = wrong_place(place)) {
    return std::unexpected{*wrong};
  }
  return place;
}

std::expected<TablePlace, CarrierError> find_in_hand_over(PhysAddr where,
                                                          const ReadableMemory& memory) {
  const Bytes most = std::min(memory.bound(where), Bytes{kHandOverMost});
  const auto object = memory.read(*PhysRange::make(where, most));
  if (most == Bytes{0} || !object) {
    return fail(CarrierErrorKind::kNotReadable, 0, where);
  }
  const auto place = parse_hand_over(*object);
  if (!place) {
    return fail_in(place.error(), 0, where);
  }
  if (const auto error = unreadable(*place, memory)) {
    return fail_in(*error, 0, where);
  }
  return place;
}

std::expected<void, CarrierError> publish_hand_over(std::span<std::byte> object, TablePlace place) {
  if (!aligned(object)) {
    return fail(CarrierErrorKind::kUnaligned, 0);
  }
  const WordStore store{object};
  return publish_hand_over(object.size(), place, store);
}

std::expected<void, CarrierError> publish_hand_over(std::size_t object_bytes, TablePlace place,
                                                    StoreWord store) {
  if (object_bytes < sizeof(HandOver)) {
    return fail(CarrierErrorKind::kTruncated, object_bytes);
  }
  if (const auto wrong = wrong_place(place)) {
    return std::unexpected{*wrong};
  }
  store_hand_over(hand_over_words(place), 0, store);
  return {};
}

FindResult find_in_setup_data(PhysAddr head, const ReadableMemory& memory) {
  std::optional<TablePlace> found;
  PhysAddr found_at;
  // Brent: the mark moves ahead at powers of two, so a loop meets it sooner or later.
  PhysAddr mark;
  unsigned next_mark = 1;
  unsigned seen = 0;
  for (PhysAddr at = head; at != PhysAddr{};) {
    if (at == mark || at == found_at) {
      return fail(CarrierErrorKind::kLoop, offsetof(Node, next), at);
    }
    if (++seen > kMostSetupDataNodes) {
      return fail(CarrierErrorKind::kTooLong, offsetof(Node, next), at);
    }
    if (seen == next_mark) {
      mark = at;
      next_mark *= 2;
    }
    const auto node = read_node(at, memory);
    if (!node) {
      return std::unexpected{node.error()};
    }
    if (node->type == static_cast<std::uint32_t>(abi::setup_data::Type::kAccede)) {
      if (found) {
        return fail(CarrierErrorKind::kDuplicate, offsetof(Node, type),
                    at + Bytes{offsetof(Node, type)});
      }
      const auto place = read_our_node(at, *node, memory);
      if (!place) {
        return std::unexpected{place.error()};
      }
      found = *place;
      found_at = at;
    }
    at = PhysAddr{node->next};
  }
  return found;
}

std::expected<void, CarrierError> publish_in_setup_data(std::span<std::byte> node,
                                                        PhysAddr old_head, TablePlace place) {
  if (!aligned(node)) {
    return fail(CarrierErrorKind::kUnaligned, 0);
  }
  const WordStore store{node};
  return publish_in_setup_data(node.size(), old_head, place, store);
}

std::expected<void, CarrierError> publish_in_setup_data(std::size_t node_bytes, PhysAddr old_head,
                                                        TablePlace place, StoreWord store) {
  if (node_bytes < kSetupDataNodeBytes) {
    return fail(CarrierErrorKind::kTruncated, node_bytes);
  }
  if (const auto wrong = wrong_place(place)) {
    return std::unexpected{*wrong};
  }
  const Node node{.next = old_head.value(),
                  .type = static_cast<std::uint32_t>(abi::setup_data::Type::kAccede),
                  .bytes = sizeof(HandOver)};
  const auto words = std::bit_cast<std::array<std::uint64_t, sizeof(Node) / 8>>(node);
  store_hand_over(hand_over_words(place), sizeof(Node), store);
  store(offsetof(Node, next), words[0]);
  store(offsetof(Node, type), words[1]);
  return {};
}

TablePlace place_of(const UnacceptedTable& table) {
  return {.table = table.where(), .bound = Bytes{table.bytes().size()}};
}

std::expected<void, TableError> attach(UnacceptedTable& table, TablePlace place, PhysWindow window,
                                       std::span<std::uint64_t> index) {
  const std::span bytes{window.pointer<std::byte>(place.table),
                        static_cast<std::size_t>(place.bound.value())};
  return table.attach(bytes, place.table, index);
}

}  // namespace accede::guest
