#include "accede/abi/srat.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace accede::abi::srat {
namespace {

TEST(SratLayout, TheSignatureIsTheFirstFourLetters) {
  std::array<char, 4> letters{};
  std::memcpy(letters.data(), &kSignature, letters.size());
  EXPECT_EQ((std::string_view{letters.data(), letters.size()}), "SRAT");
}

// Source: ACPI 6.5, table 5.58.
TEST(SratLayout, AMemoryRangeIsReadAsFirmwareWritesIt) {
  constexpr std::array<unsigned char, 40> kBytes{
      0x01, 0x28, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x40, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  MemoryAffinity memory{};
  std::memcpy(&memory, kBytes.data(), sizeof memory);
  EXPECT_EQ(memory.type, kMemoryAffinity);
  EXPECT_EQ(memory.length, sizeof(MemoryAffinity));
  // Copies: the fields are not aligned.
  EXPECT_EQ(std::uint32_t{memory.proximity_domain}, 1U);
  EXPECT_EQ(std::uint64_t{memory.base}, 0x4080000000U);
  EXPECT_EQ(std::uint64_t{memory.size}, 0x4000000000U);
  EXPECT_EQ(std::uint32_t{memory.flags}, kEnabled | kHotPluggable);
}

}  // namespace
}  // namespace accede::abi::srat
