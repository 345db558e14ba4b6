#include "accede/guest/detect.hpp"

#include <gtest/gtest.h>

#include <expected>
#include <map>

namespace accede::guest {
namespace {

/// A processor with a few leaves; others read as garbage, as on real ones. Counts the reads.
struct Cpu {
  std::map<std::uint32_t, CpuidResult> leaves{};
  std::map<std::uint32_t, unsigned> reads{};
  std::uint64_t sev_status = 0;
  unsigned msr_reads = 0;

  CpuidResult operator()(std::uint32_t leaf, std::uint32_t subleaf) {
    EXPECT_EQ(subleaf, 0U);
    ++reads[leaf];
    const auto it = leaves.find(leaf);
    return it == leaves.end() ? CpuidResult{~0U, ~0U, ~0U, ~0U} : it->second;
  }
  std::expected<Detection, DetectError> detect() { return detect_platform(*this); }
  std::expected<Detection, DetectError> detect_with_msr() {
    return detect_platform(*this, [this] {
      ++msr_reads;
      return sev_status;
    });
  }
};

constexpr CpuidResult kTdxLeaf{0, 0x65746E49, 0x20202020, 0x5844546C};

Cpu tdx() {
  return {.leaves = {{0, {.eax = 0x23}}, {0x21, kTdxLeaf}, {0x80000000, {.eax = 0x80000008}}}};
}
Cpu snp() {
  return {.leaves = {{0, {.eax = 0x10}},
                     {0x80000000, {.eax = 0x80000021}},
                     {0x8000001F, {.eax = 0x1A, .ebx = 51}}},
          .sev_status = 7};
}
Cpu plain() {
  return {.leaves = {{0, {.eax = 0x16}}, {0x80000000, {.eax = 0x80000008}}}};
}

TEST(Detect, ATdIsATd) {
  Cpu cpu = tdx();
  EXPECT_EQ(cpu.detect(), Detection{.kind = PlatformKind::kTdx});
  EXPECT_EQ(cpu.detect_with_msr(), Detection{.kind = PlatformKind::kTdx});
  EXPECT_EQ(cpu.msr_reads, 0U) << "the MSR does not exist on Intel processors";
}

TEST(Detect, AnSnpGuestIsAnSnpGuest) {
  Cpu cpu = snp();
  EXPECT_EQ(cpu.detect(), (Detection{.kind = PlatformKind::kSnp, .c_bit = 51}));
  EXPECT_EQ(cpu.detect_with_msr(), (Detection{.kind = PlatformKind::kSnp, .c_bit = 51}));
  cpu.leaves[0x8000001F].ebx |= 1U << 31;
  EXPECT_TRUE(cpu.detect()->coherency_sfw_no);
}

TEST(Detect, AnSnpMachineThatRunsNoSnpGuestIsOrdinary) {
  Cpu cpu = snp();
  cpu.sev_status = 3;
  EXPECT_EQ(cpu.detect_with_msr(), Detection{});
}

TEST(Detect, APlainMachineIsOrdinaryAndMissingLeavesAreNotRead) {
  Cpu cpu = plain();
  EXPECT_EQ(cpu.detect_with_msr(), Detection{});
  EXPECT_EQ(cpu.reads.count(0x21), 0U);
  EXPECT_EQ(cpu.reads.count(0x8000001F), 0U);
  EXPECT_EQ(cpu.msr_reads, 0U);
}

TEST(Detect, AnswersWithoutExtendedLeavesAreNotTakenForThem) {
  Cpu cpu = plain();
  cpu.leaves[0x80000000] = {.eax = 0xFFFF'FFFF};
  cpu.leaves[0x8000001F] = {.eax = 0xFFFF'FFFF};
  EXPECT_EQ(cpu.detect(), Detection{});
  cpu.leaves[0x80000000] = {.eax = 0x0000'0DB0};
  EXPECT_EQ(cpu.detect(), Detection{});
}

TEST(Detect, ASignatureInTheWrongRegistersIsNone) {
  Cpu cpu = tdx();
  cpu.leaves[0x21] = {0, kTdxLeaf.ebx, kTdxLeaf.edx, kTdxLeaf.ecx};
  EXPECT_EQ(cpu.detect(), Detection{});
}

TEST(Detect, BothAtOnceIsAnError) {
  Cpu cpu = snp();
  cpu.leaves[0] = {.eax = 0x23};
  cpu.leaves[0x21] = kTdxLeaf;
  const auto result = cpu.detect_with_msr();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error(), DetectError::kBothClaimed);
  EXPECT_EQ(to_string(result.error()), "CPUID claims Intel TDX and AMD SEV-SNP at once");
}

TEST(Detect, EveryLeafIsReadOnceSoThatAChangingAnswerCannotSplitTheDecision) {
  for (Cpu cpu : {tdx(), snp(), plain()}) {
    (void)cpu.detect_with_msr();
    for (const auto& [leaf, reads] : cpu.reads) {
      EXPECT_EQ(reads, 1U) << leaf;
    }
    EXPECT_LE(cpu.msr_reads, 1U);
  }
}

}  // namespace
}  // namespace accede::guest
