// SHA-384 (FIPS 180-4) for code that has no library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host {

/// An incremental SHA-384. Thread-compatible; copying copies the state, so that a digest of what
/// came so far can be taken without ending the stream. Messages up to 2^61 bytes.
/// Not constant time in the length; no secret goes in here.
class Sha384 {
 public:
  using Digest = std::array<std::uint8_t, 48>;

  void update(std::span<const std::byte> data);
  /// The digest of everything so far. The object is unchanged.
  [[nodiscard]] Digest digest() const;

 private:
  static constexpr std::size_t kBlock = 128;

  void compress(const std::byte* block);

  /// FIPS 180-4 5.3.4: the first 64 bits of the fractional parts of the square roots of the 9th to
  /// 16th primes.
  std::array<std::uint64_t, 8> state_{0xcbbb9d5dc1059ed8, 0x629a292a367cd507, 0x9159015a3070dd17,
                                      0x152fecd8f70e5939, 0x67332667ffc00b31, 0x8eb44a8768581511,
                                      0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4};
  std::array<std::byte, kBlock> pending_{};  ///< bytes of a block that is not full yet
  std::uint64_t bytes_ = 0;
};

}  // namespace accede::host
