// A list of hand-off blocks, checked once and then walked without fear.
#pragma once

#include "accede/abi/hob.hpp"
#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"
#include "accede/firmware/hob_error.hpp"

#include <cstddef>
#include <expected>
#include <optional>
#include <span>

namespace accede::firmware {

struct HobResource {
  std::size_t offset;  ///< of the HOB, from the begin of the list
  abi::hob::ResourceDescriptor descriptor;
};

/// A HOB list whose shape was checked: it begins with its only handoff HOB, every HOB lies wholly
/// inside, has a known type, a length that fits the type and reserved fields of 0, and the last one
/// is the end marker. Holds no ownership: the bytes must not change while it is used, so firmware
/// copies a list out of memory that the host can write before it parses it. Thread-compatible.
///
/// What the resources say is not judged here: map_from_hobs does.
class HobList {
 public:
  /// Bytes after the end marker are ignored. Addresses in the handoff HOB are the maker's business
  /// and not looked at. Errors: those of the list.
  [[nodiscard, gnu::cold]] static std::expected<HobList, HobError> parse(
      std::span<const std::byte> bytes);

  /// From the handoff HOB to the end of the end marker.
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

  /// The first resource descriptor at or after `offset`: 0, or the begin of a HOB. Go on at
  /// after().
  [[nodiscard]] std::optional<HobResource> next_resource(std::size_t offset) const;
  [[nodiscard]] static std::size_t after(const HobResource& resource) {
    return resource.offset + sizeof(abi::hob::ResourceDescriptor);
  }

  /// True when a resource has the type "unaccepted": then the list is of the standard dialect.
  [[nodiscard]] bool names_unaccepted() const;

 private:
  explicit HobList(std::span<const std::byte> bytes) : bytes_{bytes} {}

  std::span<const std::byte> bytes_;
};

}  // namespace accede::firmware
