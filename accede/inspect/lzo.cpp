#include "accede/inspect/lzo.hpp"

#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace accede::inspect {
namespace {

using Bytes = std::vector<std::byte>;
using Result = std::expected<Bytes, DecompressErrorKind>;

std::unexpected<DecompressErrorKind> corrupt() {
  return std::unexpected{DecompressErrorKind::kCorrupt};
}

/// An LZO1X stream on its way to `size` bytes. What does not fit makes a step false.
class Lzo1x {
 public:
  Lzo1x(std::span<const std::byte> packed, std::size_t size) : packed_{packed}, size_{size} {}

  /// The first instruction has a form of its own.
  bool first() {
    if (packed_.empty()) {
      return false;
    }
    const unsigned code = std::to_integer<unsigned>(packed_[0]);
    if (code <= 17) {
      return true;
    }
    at_ = 1;
    state_ = std::min(code - 17, kLongRun);
    return literals(code - 17);
  }

  bool step() {
    unsigned code = 0;
    if (!next(code)) {
      return false;
    }
    if (code >= 64) {
      return near_match(code);
    }
    if (code >= 16) {
      return far_match(code);
    }
    return state_ == 0 ? literal_run(code) : short_match(code);
  }

  [[nodiscard]] bool ended() const { return ended_; }
  /// All of the input was used, and all of the output made.
  [[nodiscard]] bool complete() const { return at_ == packed_.size() && unpacked_.size() == size_; }
  [[nodiscard]] Bytes take() { return std::move(unpacked_); }

 private:
  /// The state after a run of literals; below it: how many followed the last match.
  static constexpr unsigned kLongRun = 4;

  bool next(unsigned& value) {
    if (at_ == packed_.size()) {
      return false;
    }
    value = std::to_integer<unsigned>(packed_[at_++]);
    return true;
  }

  /// The length in the low bits of an instruction, all ones in `mask`; 0 there: it goes on in the
  /// following bytes.
  bool length(unsigned code, unsigned mask, std::size_t& value) {
    value = code & mask;
    if (value != 0) {
      return true;
    }
    value = mask;
    unsigned more = 0;
    do {
      if (!next(more)) {
        return false;
      }
      value += more == 0 ? 255 : more;
    } while (more == 0);
    return true;
  }

  bool literals(std::size_t count) {
    if (count > packed_.size() - at_ || count > size_ - unpacked_.size()) {
      return false;
    }
    const auto run = packed_.subspan(at_, count);
    unpacked_.insert(unpacked_.end(), run.begin(), run.end());
    at_ += count;
    return true;
  }

  /// Copies from `distance` back, byte by byte as the two may overlap; then the literals that the
  /// low bits of `after` tell.
  bool match(std::size_t distance, std::size_t count, unsigned after) {
    if (distance > unpacked_.size() || count > size_ - unpacked_.size()) {
      return false;
    }
    for (std::size_t i = 0; i < count; ++i) {
      unpacked_.push_back(unpacked_[unpacked_.size() - distance]);
    }
    state_ = after & 3;
    return literals(state_);
  }

  bool literal_run(unsigned code) {
    std::size_t count = 0;
    if (!length(code, 15, count)) {
      return false;
    }
    state_ = kLongRun;
    return literals(count + 3);
  }

  bool short_match(unsigned code) {
    unsigned high = 0;
    if (!next(high)) {
      return false;
    }
    const std::size_t distance = (std::size_t{high} << 2) + (code >> 2) + 1;
    return state_ == kLongRun ? match(distance + 2048, 3, code) : match(distance, 2, code);
  }

  bool near_match(unsigned code) {
    unsigned high = 0;
    if (!next(high)) {
      return false;
    }
    const std::size_t distance = (std::size_t{high} << 3) + ((code >> 2) & 7) + 1;
    return match(distance, (code >> 5) + 1, code);
  }

  bool far_match(unsigned code) {
    const bool farthest = code < 32;
    std::size_t count = 0;
    unsigned low = 0;
    unsigned high = 0;
    if (!length(code, farthest ? 7 : 31, count) || !next(low) || !next(high)) {
      return false;
    }
    const std::size_t offset = ((std::size_t{high} << 8) | low) >> 2;
    if (!farthest) {
      return match(offset + 1, count + 2, low);
    }
    const std::size_t distance = 0x4000 + (std::size_t{(code >> 3) & 1} << 14) + offset;
    ended_ = distance == 0x4000;
    return ended_ || match(distance, count + 2, low);
  }

  std::span<const std::byte> packed_;
  std::size_t size_;
  std::size_t at_ = 0;
  unsigned state_ = 0;
  bool ended_ = false;
  Bytes unpacked_;
};

/// The container: big-endian fields, one after the other.
class LzopFile {
 public:
  explicit LzopFile(std::span<const std::byte> file) : file_{file} {}

  /// Nothing when the file ends first.
  std::optional<std::uint32_t> number(std::size_t bytes) {
    const auto field = take(bytes);
    if (!field) {
      return std::nullopt;
    }
    std::uint32_t value = 0;
    for (const std::byte b : *field) {
      value = value << 8 | std::to_integer<std::uint32_t>(b);
    }
    return value;
  }
  std::optional<std::span<const std::byte>> take(std::size_t bytes) {
    const auto part = ByteReader{file_}.slice(at_, bytes);
    if (part) {
      at_ += bytes;
    }
    return part;
  }
  bool skip(std::size_t bytes) { return take(bytes).has_value(); }

 private:
  std::span<const std::byte> file_;
  std::size_t at_ = 0;
};

constexpr std::uint32_t kAdlerPlain = 0x1;
constexpr std::uint32_t kAdlerPacked = 0x2;
constexpr std::uint32_t kExtraField = 0x40;
constexpr std::uint32_t kCrcPlain = 0x100;
constexpr std::uint32_t kCrcPacked = 0x200;
constexpr std::uint32_t kFilter = 0x800;

/// Reads up to the first block and gives the flags.
std::optional<std::uint32_t> read_header(LzopFile& file) {
  constexpr std::size_t kMagic = 9;
  constexpr std::uint32_t kFirstWithLevel = 0x0940;
  if (!file.skip(kMagic)) {
    return std::nullopt;
  }
  const auto version = file.number(2);
  if (!version) {
    return std::nullopt;
  }
  const bool has_level = *version >= kFirstWithLevel;
  // Library version, version needed, method, level.
  if (!file.skip(has_level ? 2 + 2 + 1 + 1 : 2 + 1)) {
    return std::nullopt;
  }
  const auto flags = file.number(4);
  // A filter would have to be undone; Linux's packer uses none.
  if (!flags || (*flags & (kFilter | kExtraField)) != 0) {
    return std::nullopt;
  }
  // Mode and times; the name; a checksum.
  if (!file.skip(has_level ? 4 + 4 + 4 : 4 + 4)) {
    return std::nullopt;
  }
  const auto name = file.number(1);
  return name && file.skip(*name + 4) ? flags : std::nullopt;
}

}  // namespace

Result decompress_lzo1x(std::span<const std::byte> packed, std::size_t size) {
  Lzo1x stream{packed, size};
  bool sound = stream.first();
  while (sound && !stream.ended()) {
    sound = stream.step();
  }
  if (!sound || !stream.complete()) {
    return corrupt();
  }
  return stream.take();
}

Result decompress_lzop(std::span<const std::byte> bytes, std::size_t most) {
  LzopFile file{bytes};
  const auto flags = read_header(file);
  if (!flags) {
    return corrupt();
  }
  const auto checksums = [&](std::uint32_t adler, std::uint32_t crc) {
    return std::size_t{(*flags & adler) != 0 ? 4U : 0U} + ((*flags & crc) != 0 ? 4 : 0);
  };
  Bytes unpacked;
  for (;;) {
    const auto size = file.number(4);
    if (size == 0U) {
      return unpacked;
    }
    const auto packed_size = file.number(4);
    if (!size || !packed_size || *packed_size > *size ||
        !file.skip(checksums(kAdlerPlain, kCrcPlain))) {
      return corrupt();
    }
    if (*size > most - unpacked.size()) {
      return std::unexpected{DecompressErrorKind::kTooLarge};
    }
    const bool stored = *packed_size == *size;
    if (!stored && !file.skip(checksums(kAdlerPacked, kCrcPacked))) {
      return corrupt();
    }
    const auto packed = file.take(*packed_size);
    const auto block = !packed  ? Result{corrupt()}
                       : stored ? Result{Bytes{packed->begin(), packed->end()}}
                                : decompress_lzo1x(*packed, *size);
    if (!block) {
      return block;
    }
    unpacked.insert(unpacked.end(), block->begin(), block->end());
  }
}

}  // namespace accede::inspect
