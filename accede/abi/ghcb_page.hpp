// The GHCB page: what guest and host exchange through shared memory (reference: SEV-SNP 3.3).
#pragma once

#include "accede/abi/ghcb_psc.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace accede::abi::ghcb {

/// The page that guest and host share. Both may write it at any time: read a field once, by an
/// atomic load, and believe nothing.
struct alignas(4096) GhcbPage {
  std::array<std::byte, 0x0CB> reserved_000;
  std::uint8_t cpl;
  std::array<std::byte, 0x140 - 0x0CC> reserved_0cc;
  std::uint64_t xss;
  std::array<std::byte, 0x160 - 0x148> reserved_148;
  std::uint64_t dr7;
  std::array<std::byte, 0x178 - 0x168> reserved_168;
  std::uint64_t rip;
  std::array<std::byte, 0x1D8 - 0x180> reserved_180;
  std::uint64_t rsp;
  std::array<std::byte, 0x1F8 - 0x1E0> reserved_1e0;
  std::uint64_t rax;
  std::array<std::byte, 0x308 - 0x200> reserved_200;
  std::uint64_t rcx;
  std::uint64_t rdx;
  std::uint64_t rbx;
  std::uint64_t reserved_320;
  std::uint64_t rbp;
  std::uint64_t rsi;
  std::uint64_t rdi;
  std::array<std::uint64_t, 8> r8_to_r15;
  std::array<std::byte, 0x390 - 0x380> reserved_380;
  std::uint64_t sw_exit_code;
  std::uint64_t sw_exit_info_1;
  std::uint64_t sw_exit_info_2;
  std::uint64_t sw_scratch;
  std::array<std::byte, 0x3E8 - 0x3B0> reserved_3b0;
  std::uint64_t xcr0;
  std::array<std::uint64_t, 2> valid_bitmap;
  std::uint64_t x87_state_gpa;
  std::array<std::byte, 0x800 - 0x408> reserved_408;
  std::array<std::uint64_t, kPscWords> shared_buffer;
  std::array<std::byte, 0xFFA - 0xFF0> reserved_ff0;
  std::uint16_t protocol_version;
  std::uint32_t usage;
};
static_assert(sizeof(GhcbPage) == 4096 && alignof(GhcbPage) == 4096);
static_assert(offsetof(GhcbPage, cpl) == 0x0CB);
static_assert(offsetof(GhcbPage, xss) == 0x140);
static_assert(offsetof(GhcbPage, dr7) == 0x160);
static_assert(offsetof(GhcbPage, rip) == 0x178);
static_assert(offsetof(GhcbPage, rsp) == 0x1D8);
static_assert(offsetof(GhcbPage, rax) == 0x1F8);
static_assert(offsetof(GhcbPage, rcx) == 0x308);
static_assert(offsetof(GhcbPage, rdx) == 0x310);
static_assert(offsetof(GhcbPage, rbx) == 0x318);
static_assert(offsetof(GhcbPage, rbp) == 0x328);
static_assert(offsetof(GhcbPage, rsi) == 0x330);
static_assert(offsetof(GhcbPage, rdi) == 0x338);
static_assert(offsetof(GhcbPage, r8_to_r15) == 0x340);
static_assert(offsetof(GhcbPage, sw_exit_code) == 0x390);
static_assert(offsetof(GhcbPage, sw_exit_info_1) == 0x398);
static_assert(offsetof(GhcbPage, sw_exit_info_2) == 0x3A0);
static_assert(offsetof(GhcbPage, sw_scratch) == 0x3A8);
static_assert(offsetof(GhcbPage, xcr0) == 0x3E8);
static_assert(offsetof(GhcbPage, valid_bitmap) == 0x3F0);
static_assert(offsetof(GhcbPage, x87_state_gpa) == 0x400);
static_assert(offsetof(GhcbPage, shared_buffer) == 0x800);
static_assert(sizeof(GhcbPage::shared_buffer) == 2032);
static_assert(offsetof(GhcbPage, protocol_version) == 0xFFA);
static_assert(offsetof(GhcbPage, usage) == 0xFFC);

/// The only usage that this project knows.
inline constexpr std::uint32_t kGhcbUsageStandard = 0;

/// Where sw_scratch may point: into the same page, [0x800, 0xFF0).
inline constexpr std::size_t kSharedBufferBegin = offsetof(GhcbPage, shared_buffer);
inline constexpr std::size_t kSharedBufferEnd = 0xFF0;

/// Bit of a 64-bit field in valid_bitmap: its offset in 8-byte units.
enum class ValidBit : std::uint8_t {
  kCpl = 25,
  kXss = 40,
  kDr7 = 44,
  kRip = 47,
  kRsp = 59,
  kRax = 63,
  kRcx = 97,
  kRdx = 98,
  kRbx = 99,
  kRbp = 101,
  kRsi = 102,
  kRdi = 103,
  kR8 = 104,
  kR15 = 111,
  kSwExitCode = 114,
  kSwExitInfo1 = 115,
  kSwExitInfo2 = 116,
  kSwScratch = 117,
  kXcr0 = 125,
};
static_assert(static_cast<std::size_t>(ValidBit::kCpl) == offsetof(GhcbPage, cpl) / 8);
static_assert(static_cast<std::size_t>(ValidBit::kRax) == offsetof(GhcbPage, rax) / 8);
static_assert(static_cast<std::size_t>(ValidBit::kRdi) == offsetof(GhcbPage, rdi) / 8);
static_assert(static_cast<std::size_t>(ValidBit::kSwScratch) == offsetof(GhcbPage, sw_scratch) / 8);
static_assert(static_cast<std::size_t>(ValidBit::kXcr0) == offsetof(GhcbPage, xcr0) / 8);

/// valid_bitmap with just these bits.
template <class... Bits>
[[nodiscard]] constexpr std::array<std::uint64_t, 2> valid_bits(Bits... bits) {
  std::array<std::uint64_t, 2> words{};
  ((words[static_cast<unsigned>(bits) / 64] |= 1ULL << (static_cast<unsigned>(bits) % 64)), ...);
  return words;
}

}  // namespace accede::abi::ghcb
