#include "accede/firmware/hob_list.hpp"

namespace accede::firmware {
namespace {

using abi::hob::Header;
using abi::hob::Type;
using enum HobErrorKind;

std::unexpected<HobError> fail(HobErrorKind kind, std::size_t offset) {
  return std::unexpected{HobError{kind, offset}};
}

/// What the length of a HOB must be; nothing for a type that there is not.
struct LengthRule {
  std::size_t least;
  bool exact = true;

  [[nodiscard]] bool allows(std::size_t length) const {
    return length % abi::hob::kAlignment == 0 && (exact ? length == least : length >= least);
  }
};

std::optional<LengthRule> length_rule(std::uint16_t type) {
  switch (static_cast<Type>(type)) {
    case Type::kHandoff:
      return LengthRule{sizeof(abi::hob::Handoff)};
    case Type::kMemoryAllocation:
      // A stack or a module has a longer one: the kind is told by a GUID.
      return LengthRule{abi::hob::kMemoryAllocationBytes, false};
    case Type::kResourceDescriptor:
      return LengthRule{sizeof(abi::hob::ResourceDescriptor)};
    case Type::kGuidExtension:
      return LengthRule{abi::hob::kGuidExtensionBytes, false};
    case Type::kFirmwareVolume:
      return LengthRule{abi::hob::kFirmwareVolumeBytes};
    case Type::kCpu:
      return LengthRule{abi::hob::kCpuBytes};
    case Type::kFirmwareVolume2:
      return LengthRule{abi::hob::kFirmwareVolume2Bytes};
    case Type::kFirmwareVolume3:
      return LengthRule{abi::hob::kFirmwareVolume3Bytes};
    case Type::kMemoryPool:
    case Type::kUnused:
      return LengthRule{sizeof(Header), false};
    case Type::kEndOfList:
      return LengthRule{sizeof(Header)};
  }
  return std::nullopt;
}

/// The header at `offset`, when the HOB is in order and lies wholly inside.
std::expected<Header, HobError> check(const ByteReader& reader, std::size_t offset) {
  const auto header = reader.read_struct<Header>(offset);
  if (!header) {
    return fail(kTruncated, offset);
  }
  const auto rule = length_rule(header->type);
  if (!rule) {
    return fail(kUnknownType, offset);
  }
  if (header->reserved != 0) {
    return fail(kReservedNotZero, offset);
  }
  if (!rule->allows(header->length)) {
    return fail(kBadLength, offset);
  }
  if (!reader.slice(offset, header->length)) {
    return fail(kTruncated, offset);
  }
  const bool is_handoff = static_cast<Type>(header->type) == Type::kHandoff;
  if (is_handoff != (offset == 0)) {
    return fail(kMisplacedHandoff, offset);
  }
  if (is_handoff &&
      reader.read_struct<abi::hob::Handoff>(offset)->version != abi::hob::kHandoffVersion) {
    return fail(kBadVersion, offset);
  }
  return *header;
}

}  // namespace

std::expected<HobList, HobError> HobList::parse(std::span<const std::byte> bytes) {
  const ByteReader reader{bytes};
  std::size_t offset = 0;
  // Every HOB is at least as long as its header, so this ends.
  while (true) {
    const auto header = check(reader, offset);
    if (!header) {
      return std::unexpected{header.error()};
    }
    offset += header->length;
    if (static_cast<Type>(header->type) == Type::kEndOfList) {
      return HobList{bytes.first(offset)};
    }
  }
}

std::optional<HobResource> HobList::next_resource(std::size_t offset) const {
  const ByteReader reader{bytes_};
  while (offset < bytes_.size()) {
    const auto header = reader.read_struct<Header>(offset);
    ACCEDE_ASSERT(header && header->length >= sizeof(Header));
    if (static_cast<Type>(header->type) == Type::kResourceDescriptor) {
      return HobResource{offset, *reader.read_struct<abi::hob::ResourceDescriptor>(offset)};
    }
    offset += header->length;
  }
  return std::nullopt;
}

bool HobList::names_unaccepted() const {
  for (auto found = next_resource(0); found; found = next_resource(after(*found))) {
    if (static_cast<abi::hob::Resource>(found->descriptor.resource) ==
        abi::hob::Resource::kMemoryUnaccepted) {
      return true;
    }
  }
  return false;
}

}  // namespace accede::firmware
