#include "accede/host/sha384.hpp"

#include <algorithm>
#include <bit>

namespace accede::host {
namespace {

/// FIPS 180-4 4.2.3: the first 64 bits of the fractional parts of the cube roots of 80 primes.
constexpr std::array<std::uint64_t, 80> kRound{
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
    0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
    0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
    0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
    0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
    0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
    0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
    0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817};

std::uint64_t load_big_endian(const std::byte* bytes) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < 8; ++i) {
    value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
  }
  return value;
}

std::uint64_t small_sigma0(std::uint64_t x) {
  return std::rotr(x, 1) ^ std::rotr(x, 8) ^ (x >> 7);
}
std::uint64_t small_sigma1(std::uint64_t x) {
  return std::rotr(x, 19) ^ std::rotr(x, 61) ^ (x >> 6);
}
std::uint64_t big_sigma0(std::uint64_t x) {
  return std::rotr(x, 28) ^ std::rotr(x, 34) ^ std::rotr(x, 39);
}
std::uint64_t big_sigma1(std::uint64_t x) {
  return std::rotr(x, 14) ^ std::rotr(x, 18) ^ std::rotr(x, 41);
}

}  // namespace

void Sha384::compress(const std::byte* block) {
  // The message schedule is kept as a ring of 16 words: W[t] replaces W[t-16].
  std::array<std::uint64_t, 16> w;
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i] = load_big_endian(block + 8 * i);
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (std::size_t t = 0; t < kRound.size(); ++t) {
    const std::uint64_t word = w[t % 16];
    const std::uint64_t t1 = h + big_sigma1(e) + ((e & f) ^ (~e & g)) + kRound[t] + word;
    const std::uint64_t t2 = big_sigma0(a) + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
    w[t % 16] =
        word + small_sigma0(w[(t + 1) % 16]) + w[(t + 9) % 16] + small_sigma1(w[(t + 14) % 16]);
  }
  const std::array<std::uint64_t, 8> sum{a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < state_.size(); ++i) {
    state_[i] += sum[i];
  }
}

void Sha384::update(std::span<const std::byte> data) {
  std::size_t filled = bytes_ % kBlock;
  bytes_ += data.size();
  while (!data.empty()) {
    if (filled == 0 && data.size() >= kBlock) {
      compress(data.data());
      data = data.subspan(kBlock);
      continue;
    }
    const std::size_t count = std::min(kBlock - filled, data.size());
    std::copy_n(data.begin(), count, pending_.begin() + static_cast<std::ptrdiff_t>(filled));
    data = data.subspan(count);
    filled += count;
    if (filled == kBlock) {
      compress(pending_.data());
      filled = 0;
    }
  }
}

Sha384::Digest Sha384::digest() const {
  Sha384 end = *this;
  const std::uint64_t bits = bytes_ * 8;
  // One bit 1, zeros to 112 modulo 128, then the length in bits as a 128-bit number.
  const std::size_t filled = bytes_ % kBlock;
  const std::size_t zeros = (filled < 112 ? 111 : 239) - filled;
  std::array<std::byte, 256> padding{};
  padding[0] = std::byte{0x80};
  for (std::size_t i = 0; i < 8; ++i) {
    padding[1 + zeros + 8 + i] = static_cast<std::byte>(bits >> (56 - 8 * i));
  }
  end.update(std::span{padding}.first(1 + zeros + 16));
  Digest out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::uint8_t>(end.state_[i / 8] >> (56 - 8 * (i % 8)));
  }
  return out;
}

}  // namespace accede::host
