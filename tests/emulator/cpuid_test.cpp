#include "accede/emulator/cpuid.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace accede::emulator {
namespace {

using cpu::CpuidResult;

constexpr CpuidResult kAll{~0U, ~0U, ~0U, ~0U};
constexpr std::uint32_t kRealMax = 0xD;
constexpr std::uint32_t kRealMaxExtended = 0x8000'000A;
constexpr std::uint64_t kOsxsaveInCr4 = 1ULL << 18;
constexpr std::uint64_t kPkeInCr4 = 1ULL << 22;

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

TEST(TdxCpuid, FollowsTheGuestsCr4AndNotTheEmulators) {
  EXPECT_EQ(tdx_cpuid(1, 0, {}, kRealMax, kOsxsaveInCr4).ecx & (1U << 27), 1U << 27);
  EXPECT_EQ(tdx_cpuid(1, 0, kAll, kRealMax, 0).ecx & (1U << 27), 0U);
  EXPECT_EQ(tdx_cpuid(7, 0, {}, kRealMax, kPkeInCr4).ecx & (1U << 4), 1U << 4);
  EXPECT_EQ(tdx_cpuid(7, 0, kAll, kRealMax, 0).ecx & (1U << 4), 0U);
}

CpuidResult snp(std::uint32_t leaf, CpuidResult real, std::uint32_t subleaf = 0,
                std::uint64_t cr4 = 0) {
  return snp_cpuid(leaf, subleaf, real, kRealMax, kRealMaxExtended, cr4);
}

TEST(SnpCpuid, KeepsTheVendorAndTheBasicMaximumOfTheProcessor) {
  const CpuidResult answer = snp(0, {kRealMax, 0x68747541, 0x444D4163, 0x69746E65});
  EXPECT_EQ(answer.eax, kRealMax);
  EXPECT_EQ(letters({answer.ebx, answer.edx, answer.ecx}), "AuthenticAMD");
}

TEST(SnpCpuid, ReachesTheLeafOfMemoryEncryption) {
  const CpuidResult answer = snp(0x8000'0000, {kRealMaxExtended, 1, 2, 3});
  EXPECT_EQ(answer.eax, 0x8000'001FU);
  EXPECT_EQ(answer.ebx, 1U);
  EXPECT_EQ(answer.ecx, 2U);
  EXPECT_EQ(answer.edx, 3U);
}

TEST(SnpCpuid, KeepsALargerExtendedMaximumOfTheProcessor) {
  const CpuidResult answer =
      snp_cpuid(0x8000'0000, 0, {0x8000'0026, 1, 2, 3}, kRealMax, 0x8000'0026, 0);
  EXPECT_EQ(answer.eax, 0x8000'0026U);
}

TEST(SnpCpuid, DescribesTheEncryptionWhateverTheProcessorHas) {
  for (const CpuidResult real : {CpuidResult{}, kAll}) {
    const CpuidResult answer = snp(0x8000'001F, real);
    EXPECT_EQ(answer.eax, 0x1AU) << "SEV, SEV-ES, SEV-SNP";
    EXPECT_EQ(answer.ebx & 0x3F, 47U) << "C-bit";
    EXPECT_EQ(answer.ebx >> 6 & 0x3F, 1U) << "reduction of the physical address width";
    EXPECT_EQ(answer.ebx >> 31, 1U) << "no reads of a validated page needed";
    EXPECT_EQ(answer.ebx & 0x7FFF'F000, 0U);
    EXPECT_EQ(answer.ecx, 0U) << "no encrypted guests of its own";
    EXPECT_EQ(answer.edx, 0U);
  }
}

TEST(SnpCpuid, InventsNothingAboveTheBasicMaximum) {
  for (std::uint32_t leaf = kRealMax + 1; leaf < 0x30; ++leaf) {
    SCOPED_TRACE(leaf);
    expect_all(snp(leaf, kAll), 0);
  }
  expect_all(snp(0x3FFF'FFFF, kAll), 0);
}

TEST(SnpCpuid, InventsNothingAboveTheExtendedMaximum) {
  for (std::uint32_t leaf = kRealMaxExtended + 1; leaf < 0x8000'0030; ++leaf) {
    SCOPED_TRACE(leaf);
    if (leaf != 0x8000'001F) {
      expect_all(snp(leaf, kAll), 0);
    }
  }
  expect_all(snp(0xC000'0000, kAll), 0);
  expect_all(snp(~0U, kAll), 0);
}

TEST(SnpCpuid, ShowsTheTopologyOfAProcessorThatHasOne) {
  expect_all(snp_cpuid(0x8000'001E, 0, {7, 7, 7, 7}, kRealMax, 0x8000'001F, 0), 7);
}

TEST(SnpCpuid, SaysThatAHypervisorIsPresent) {
  EXPECT_EQ(snp(1, {1, 2, 4, 8}).ecx, (1U << 31) | 4);
}

TEST(SnpCpuid, HidesSvm) {
  const CpuidResult features = snp(0x8000'0001, kAll);
  EXPECT_EQ(features.ecx, ~(1U << 2));
  EXPECT_EQ(features.edx, ~0U);
  expect_all(snp(0x8000'000A, kAll), 0);
}

TEST(SnpCpuid, FollowsTheGuestsCr4AndNotTheEmulators) {
  EXPECT_EQ(snp(1, {}, 0, kOsxsaveInCr4).ecx & (1U << 27), 1U << 27);
  EXPECT_EQ(snp(1, kAll).ecx & (1U << 27), 0U);
  EXPECT_EQ(snp(7, {}, 0, kPkeInCr4).ecx & (1U << 4), 1U << 4);
  EXPECT_EQ(snp(7, kAll).ecx & (1U << 4), 0U);
}

TEST(SnpCpuid, PassesEverythingElseThrough) {
  for (const std::uint32_t leaf : {2U, 7U, 0xDU, 0x4000'0000U, 0x4000'0001U, 0x8000'0008U}) {
    SCOPED_TRACE(leaf);
    expect_all(snp(leaf, {9, 9, 9, 9}, 3), 9);
  }
}

}  // namespace
}  // namespace accede::emulator
