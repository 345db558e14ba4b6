#include "accede/emulator/cpuid.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace accede::emulator {
namespace {

using cpu::CpuidResult;

constexpr CpuidResult kAll{~0U, ~0U, ~0U, ~0U};
constexpr std::uint32_t kRealMax = 0xD;

std::string letters(std::initializer_list<std::uint32_t> words) {
  std::string text;
  for (const std::uint32_t word : words) {
    char part[4];
    std::memcpy(part, &word, sizeof(part));
    text.append(part, sizeof(part));
  }
  return text;
}

void expect_all(CpuidResult answer, std::uint32_t value) {
  EXPECT_EQ(answer.eax, value);
  EXPECT_EQ(answer.ebx, value);
  EXPECT_EQ(answer.ecx, value);
  EXPECT_EQ(answer.edx, value);
}

TEST(TdxCpuid, NamesIntelAndReachesLeaf21) {
  const CpuidResult answer = tdx_cpuid(0, 0, {kRealMax, 1, 2, 3}, kRealMax, 0);
  EXPECT_EQ(answer.eax, 0x21U);
  EXPECT_EQ(letters({answer.ebx, answer.edx, answer.ecx}), "GenuineIntel");
}

TEST(TdxCpuid, KeepsALargerMaximumOfTheProcessor) {
  EXPECT_EQ(tdx_cpuid(0, 0, {0x24, 1, 2, 3}, 0x24, 0).eax, 0x24U);
}

TEST(TdxCpuid, ShowsTheTdxSignatureInSubleafZeroOnly) {
  const CpuidResult answer = tdx_cpuid(0x21, 0, kAll, kRealMax, 0);
  EXPECT_EQ(answer.eax, 0U);
  EXPECT_EQ(letters({answer.ebx, answer.edx, answer.ecx}), "IntelTDX    ");
  expect_all(tdx_cpuid(0x21, 1, kAll, kRealMax, 0), 0);
}

TEST(TdxCpuid, InventsNothingBetweenTheRealMaximumAndLeaf21) {
  for (std::uint32_t leaf = kRealMax + 1; leaf < 0x21; ++leaf) {
    SCOPED_TRACE(leaf);
    expect_all(tdx_cpuid(leaf, 0, kAll, kRealMax, 0), 0);
  }
  expect_all(tdx_cpuid(0x22, 0, kAll, kRealMax, 0), 0);
  expect_all(tdx_cpuid(0x3FFF'FFFF, 0, kAll, kRealMax, 0), 0);
}

TEST(TdxCpuid, SaysThatAHypervisorIsPresent) {
  EXPECT_EQ(tdx_cpuid(1, 0, CpuidResult{}, kRealMax, 0).ecx, 1U << 31);
  EXPECT_EQ(tdx_cpuid(1, 0, {1, 2, 4, 8}, kRealMax, 0).ecx, (1U << 31) | 4);
}

TEST(TdxCpuid, HidesSvmAndMemoryEncryption) {
  const CpuidResult features = tdx_cpuid(0x8000'0001, 0, kAll, kRealMax, 0);
  EXPECT_EQ(features.ecx, ~(1U << 2));
  EXPECT_EQ(features.edx, ~0U);
  expect_all(tdx_cpuid(0x8000'000A, 0, kAll, kRealMax, 0), 0);
  expect_all(tdx_cpuid(0x8000'001F, 0, kAll, kRealMax, 0), 0);
}

TEST(TdxCpuid, PassesEverythingElseThrough) {
  for (const std::uint32_t leaf : {2U, 7U, 0xDU, 0x4000'0000U, 0x8000'0000U, 0x8000'0008U}) {
    SCOPED_TRACE(leaf);
    const CpuidResult answer = tdx_cpuid(leaf, 3, {1, 2, 3, 4}, kRealMax, 0);
    EXPECT_EQ(answer.eax, 1U);
    EXPECT_EQ(answer.ebx, 2U);
    EXPECT_EQ(answer.ecx, 3U);
    EXPECT_EQ(answer.edx, 4U);
  }
}

}  // namespace
TEST(TdxCpuid, FollowsTheGuestsCr4AndNotTheEmulators) {
  constexpr std::uint64_t kOsxsaveInCr4 = 1ULL << 18;
  constexpr std::uint64_t kPkeInCr4 = 1ULL << 22;
  EXPECT_EQ(tdx_cpuid(1, 0, {}, kRealMax, kOsxsaveInCr4).ecx & (1U << 27), 1U << 27);
  EXPECT_EQ(tdx_cpuid(1, 0, kAll, kRealMax, 0).ecx & (1U << 27), 0U);
  EXPECT_EQ(tdx_cpuid(7, 0, {}, kRealMax, kPkeInCr4).ecx & (1U << 4), 1U << 4);
  EXPECT_EQ(tdx_cpuid(7, 0, kAll, kRealMax, 0).ecx & (1U << 4), 0U);
}

}  // namespace accede::emulator
