#include "accede/firmware/hob_composer.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

namespace accede::firmware {

using namespace std::string_view_literals;
namespace {

using abi::hob::Header;
using abi::hob::Resource;
using guest::MemoryKind;

constexpr Bytes kPage = 4_KiB;

struct Word {
  Resource resource;
  std::uint32_t attributes = abi::hob::kTestedMemory;
};

/// What a dialect calls a kind of memory.
std::optional<Word> word_for(MemoryKind kind, HobDialect dialect) {
  const bool system_is_pending = dialect == HobDialect::kSystemIsPending;
  switch (kind) {
    case MemoryKind::kUsable:
      return Word{system_is_pending ? Resource::kMemoryReserved : Resource::kSystemMemory};
    case MemoryKind::kUnaccepted:
      return Word{dialect == HobDialect::kStandard ? Resource::kMemoryUnaccepted
                  : system_is_pending              ? Resource::kSystemMemory
                                                   : Resource::kMemoryReserved};
    case MemoryKind::kReserved:
      if (dialect == HobDialect::kStandard) {
        return Word{Resource::kMemoryReserved};
      }
      // "Reserved" has another meaning, but memory that is not there is reserved, too.
      return Word{Resource::kSystemMemory, 0};
    case MemoryKind::kPersistent:
      return Word{Resource::kSystemMemory, abi::hob::kTestedMemory | abi::hob::kPersistent};
    case MemoryKind::kAcpiReclaim:
    case MemoryKind::kAcpiNvs:
    case MemoryKind::kUnusable:
      break;
  }
  return std::nullopt;
}

template <class Struct>
void write(std::span<std::byte> memory, std::size_t offset, const Struct& value) {
  const auto raw = std::bit_cast<std::array<std::byte, sizeof(Struct)>>(value);
  std::ranges::copy(raw, memory.subspan(offset).begin());
}

template <class Struct>
constexpr Header header(abi::hob::Type type) {
  return {.type = static_cast<std::uint16_t>(type), .length = sizeof(Struct), .reserved = 0};
}

std::unexpected<ComposeError> fail(ComposeErrorKind kind, std::size_t value) {
  return std::unexpected{ComposeError{kind, value}};
}

}  // namespace

std::string_view to_string(ComposeErrorKind kind) {
  switch (kind) {
    case ComposeErrorKind::kNoRoom:
      return "the HOB list is longer than its memory"sv;
    case ComposeErrorKind::kNotSayable:
      return "a HOB list of this dialect cannot say what kind of memory this is"sv;
    case ComposeErrorKind::kUnaligned:
      return "memory of a HOB list must consist of whole pages"sv;
  }
  return "unknown error of the HOB composer"sv;
}

HobComposer::HobComposer(std::span<std::byte> memory, PhysAddr where, HobDialect dialect)
    : memory_{memory}, where_{where}, dialect_{dialect} {
  ACCEDE_ASSERT(where.is_aligned(Bytes{abi::hob::kAlignment}));
}

std::expected<void, ComposeError> HobComposer::add(const guest::MemoryRegion& region) {
  if (region.range.empty()) {
    return {};
  }
  const auto word = word_for(region.kind, dialect_);
  if (!word) {
    return fail(ComposeErrorKind::kNotSayable, resources_);
  }
  if (!region.range.begin().is_aligned(kPage) || !region.range.end().is_aligned(kPage)) {
    return fail(ComposeErrorKind::kUnaligned, resources_);
  }
  return add(word->resource, word->attributes, region.range);
}

std::expected<void, ComposeError> HobComposer::add(Resource resource, std::uint32_t attributes,
                                                   PhysRange range) {
  const std::size_t needed = size_of(resources_ + 1).value();
  if (memory_.size() < needed) {
    return fail(ComposeErrorKind::kNoRoom, needed);
  }
  // The end marker goes where the next one would.
  const std::size_t offset = needed - sizeof(Header) - sizeof(abi::hob::ResourceDescriptor);
  write(memory_, offset,
        abi::hob::ResourceDescriptor{
            .header = header<abi::hob::ResourceDescriptor>(abi::hob::Type::kResourceDescriptor),
            .owner = {},
            .resource = static_cast<std::uint32_t>(resource),
            .attributes = attributes,
            .physical_start = range.begin().value(),
            .bytes = range.size().value()});
  ++resources_;
  return {};
}

std::expected<std::span<const std::byte>, ComposeError> HobComposer::finish() {
  const Bytes size = size_of(resources_);
  if (memory_.size() < size.value()) {
    return fail(ComposeErrorKind::kNoRoom, size.value());
  }
  write(memory_, 0,
        abi::hob::Handoff{.header = header<abi::hob::Handoff>(abi::hob::Type::kHandoff),
                          .version = abi::hob::kHandoffVersion,
                          .boot_mode = 0,
                          .memory_top = 0,
                          .memory_bottom = 0,
                          .free_memory_top = 0,
                          .free_memory_bottom = 0,
                          .end_of_hob_list = (where_ + size).value()});
  write(memory_, size.value() - sizeof(Header), header<Header>(abi::hob::Type::kEndOfList));
  return memory_.first(size.value());
}

std::expected<std::span<const std::byte>, ComposeError> compose_hobs(const guest::MemoryMap& map,
                                                                     HobDialect dialect,
                                                                     PhysAddr where,
                                                                     std::span<std::byte> memory) {
  HobComposer composer{memory, where, dialect};
  for (const guest::MemoryRegion& region : map.regions()) {
    if (const auto added = composer.add(region); !added) {
      return std::unexpected{added.error()};
    }
  }
  return composer.finish();
}

}  // namespace accede::firmware
