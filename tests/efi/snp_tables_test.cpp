// The pages that an SNP guest's firmware leaves, read as a kernel reads them.

#include "accede/efi/snp_tables.hpp"
#include "tests/efi/fake_firmware.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

namespace accede::efi {
namespace {

using abi::sev::CcBlob;
using abi::sev::CpuidEntry;
using abi::sev::CpuidPage;
using abi::sev::SecretsPage;
using guest::CpuidResult;

/// A processor by its answers. Beyond the last leaf of a class it answers as real ones do: with the
/// data of the last basic leaf.
class FakeCpu {
 public:
  FakeCpu() {
    set(0, 0, {0xD, 0x6874'7541, 0x444D'4163, 0x6974'6E65});
    set(1, 0, {0xA00F11, 0x0300'0800, 0x8820'2000 | 1U << 27, 0x078B'FBFF});
    set(7, 0, {1, 0x219C'07A9, 1U << 4 | 1U << 3, 0});
    set(7, 1, {0, 0, 0, 0x20});
    set(0xB, 0, {0, 1, 0x100, 3});
    set(0xB, 1, {2, 4, 0x201, 3});
    set(0xD, 0, {0x207, 0x340, 0x988, 0});
    set(0xD, 1, {0xF, 0x348, 1U << 11, 0});
    set(0xD, 2, {0x100, 0x240, 0, 0});
    set(0xD, 9, {8, 0x980, 0, 0});
    set(0xD, 11, {0x10, 0, 1, 0});
    set(0x4000'0000, 0, {0x4000'0001, 0x4B4D'564B, 0x564B'4D56, 0x4D});
    set(0x4000'0001, 0, {0x0100'7EFB, 0, 0, 0});
    set(0x8000'0000, 0, {0x8000'0021, 0x6874'7541, 0x444D'4163, 0x6974'6E65});
    set(0x8000'0001, 0, {0xA00F11, 0, 0x75C2'37FF, 0x2FD3'FBFF});
    set(0x8000'0008, 0, {0x3030, 0x1000'0000, 0x3003, 0});
    set(0x8000'001D, 0, {0x0121, 0x1C0'003F, 0x3F, 0});
    set(0x8000'001D, 1, {0x0122, 0x1C0'003F, 0x3F, 0});
    set(0x8000'001E, 0, {3, 1, 0, 0});
    set(0x8000'001F, 0, {0x1A, 47U | 1U << 6 | 1U << 31, 0, 1});
  }

  void set(std::uint32_t leaf, std::uint32_t subleaf, CpuidResult answer) {
    answers_[{leaf, subleaf}] = answer;
  }
  CpuidResult operator()(std::uint32_t leaf, std::uint32_t subleaf) {
    const std::uint32_t first = leaf & 0xF000'0000;
    if (const auto end = answers_.find({first, 0});
        end == answers_.end() || leaf > end->second.eax) {
      return {0xBAD, 0xBAD, 0xBAD, 0xBAD};
    }
    const auto found = answers_.find({leaf, subleaf});
    return found == answers_.end() ? CpuidResult{} : found->second;
  }

 private:
  std::map<std::pair<std::uint32_t, std::uint32_t>, CpuidResult> answers_;
};

class SnpTablesTest : public testing::Test {
 protected:
  std::expected<void, CpuidPageError> fill() { return fill_cpuid_page(*page_, cpu); }

  [[nodiscard]] std::span<const CpuidEntry> entries() const {
    return std::span{page_->entries}.first(page_->count);
  }
  [[nodiscard]] const CpuidEntry* find(std::uint32_t leaf, std::uint32_t subleaf = 0) const {
    const auto found = std::ranges::find_if(entries(), [=](const CpuidEntry& entry) {
      return entry.eax_in == leaf && entry.ecx_in == subleaf;
    });
    return found == entries().end() ? nullptr : &*found;
  }

  FakeCpu cpu;
  std::unique_ptr<CpuidPage> page_ = std::make_unique<CpuidPage>();
};

TEST_F(SnpTablesTest, ListsWhatTheProcessorAnswers) {
  ASSERT_TRUE(fill().has_value());
  for (const auto& [leaf, subleaf] :
       std::vector<std::pair<std::uint32_t, std::uint32_t>>{{0, 0},
                                                            {7, 1},
                                                            {0xB, 0},
                                                            {0xB, 1},
                                                            {0x4000'0000, 0},
                                                            {0x4000'0001, 0},
                                                            {0x8000'0000, 0},
                                                            {0x8000'0001, 0},
                                                            {0x8000'0008, 0},
                                                            {0x8000'001D, 0},
                                                            {0x8000'001D, 1},
                                                            {0x8000'001E, 0},
                                                            {0x8000'001F, 0}}) {
    const CpuidEntry* const entry = find(leaf, subleaf);
    ASSERT_NE(entry, nullptr) << std::hex << leaf;
    const CpuidResult real = cpu(leaf, subleaf);
    EXPECT_EQ(entry->eax, real.eax);
    EXPECT_EQ(entry->ebx, real.ebx);
    EXPECT_EQ(entry->ecx, real.ecx);
    EXPECT_EQ(entry->edx, real.edx);
    EXPECT_EQ(entry->xcr0_in, 0U);
    EXPECT_EQ(entry->xss_in, 0U);
  }
}

TEST_F(SnpTablesTest, ListsEachLeafOnceAndOnlyWhatIsThere) {
  cpu.set(0, 0, {0xB, 1, 2, 3});
  cpu.set(0x8000'0000, 0, {0x8000'001F, 1, 2, 3});
  ASSERT_TRUE(fill().has_value());
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  for (const CpuidEntry& entry : entries()) {
    EXPECT_TRUE(seen.insert({entry.eax_in, entry.ecx_in}).second) << std::hex << entry.eax_in;
    EXPECT_NE(entry.eax, 0xBADU) << std::hex << entry.eax_in;
  }
  EXPECT_EQ(find(0xD), nullptr);
  EXPECT_EQ(find(0x8000'0021), nullptr);
  EXPECT_EQ(find(0x8000'0002), nullptr) << "an entry of zeros says nothing";
}

TEST_F(SnpTablesTest, HasNoHypervisorLeavesWithoutAHypervisor) {
  cpu.set(1, 0, {0xA00F11, 0x800, 0x0820'2000, 0x078B'FBFF});
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(find(0x4000'0000), nullptr);
}

TEST_F(SnpTablesTest, SaysTheSizesForTheLeastOfXcr0) {
  ASSERT_TRUE(fill().has_value());
  for (const std::uint32_t subleaf : {0U, 1U}) {
    const CpuidEntry* const entry = find(0xD, subleaf);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->xcr0_in, 1U);
    EXPECT_EQ(entry->xss_in, 0U);
    EXPECT_EQ(entry->ebx, 0x240U);
  }
  EXPECT_EQ(find(0xD, 0)->eax, 0x207U);
  EXPECT_EQ(find(0xD, 0)->ecx, 0x988U);
  EXPECT_EQ(find(0xD, 1)->eax, 0xFU);
}

TEST_F(SnpTablesTest, SaysNoCompactedSizeWhereNothingIsCompacted) {
  cpu.set(0xD, 1, {0x5, 0x348, 0, 0});
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(find(0xD, 1)->ebx, 0U);
  EXPECT_EQ(find(0xD, 1)->eax, 5U);
}

TEST_F(SnpTablesTest, ListsTheComponentsOfXcr0AndOfXss) {
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(find(0xD, 2)->eax, 0x100U);
  EXPECT_EQ(find(0xD, 9)->ebx, 0x980U);
  EXPECT_EQ(find(0xD, 11)->ecx, 1U);
  EXPECT_EQ(std::ranges::count(entries(), 0xDU, &CpuidEntry::eax_in), 5);
  EXPECT_EQ(find(0xD, 2)->xcr0_in, 0U);
}

TEST_F(SnpTablesTest, ClearsTheBitsThatFollowCr4) {
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(find(1)->ecx, 0x8820'2000U & ~(1U << 27));
  EXPECT_EQ(find(7)->ecx, 1U << 3);
}

TEST_F(SnpTablesTest, RefusesMoreLeavesThanThePageHolds) {
  cpu.set(0xD, 0, {~0U, 0x340, 0x988, 0x7FFF'FFFF});
  for (std::uint32_t component = 2; component < 63; ++component) {
    cpu.set(0xD, component, {8, 0x240 + 8 * component, 0, 0});
  }
  EXPECT_EQ(fill().error(), CpuidPageError::kTooManyLeaves);
  EXPECT_LE(page_->count, CpuidPage::kMostEntries);
  EXPECT_FALSE(to_string(CpuidPageError::kTooManyLeaves).empty());
}

TEST_F(SnpTablesTest, EndsWithAProcessorWhoseSubleavesDoNot) {
  cpu.set(7, 0, {~0U, 1, 0, 0});
  for (std::uint32_t i = 1; i < 100; ++i) {
    cpu.set(7, i, {0, 1, 0, 0});
    cpu.set(0x8000'001D, i, {0x121, 1, 0, 0});
  }
  ASSERT_TRUE(fill().has_value());
  EXPECT_LE(std::ranges::count(entries(), 7U, &CpuidEntry::eax_in), 8);
}

TEST_F(SnpTablesTest, ReplacesWhateverThePageHeld) {
  std::memset(static_cast<void*>(page_.get()), 0xFF, sizeof(CpuidPage));
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(page_->reserved_4, 0U);
  EXPECT_EQ(page_->reserved_8, 0U);
  EXPECT_EQ(page_->entries.back().eax_in, 0U);
}

TEST_F(SnpTablesTest, LeavesASecretsPageWithoutSecrets) {
  const auto page = std::make_unique<SecretsPage>();
  std::memset(static_cast<void*>(page.get()), 0xFF, sizeof(SecretsPage));
  fill_secrets_page(*page, 0xA00F11);
  EXPECT_EQ(page->version, 3U);
  EXPECT_EQ(page->family_model_stepping, 0xA00F11U);
  page->version = 0;
  page->family_model_stepping = 0;
  const auto bytes = std::as_bytes(std::span{page.get(), 1});
  EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{}; }));
}

TEST_F(SnpTablesTest, PublishesABlobThatNamesBothPages) {
  test::FakeFirmware fake;
  const Firmware firmware = fake.firmware();
  ASSERT_TRUE(install_snp_tables(firmware, cpu).has_value());
  ASSERT_EQ(firmware.system().number_of_table_entries, 1U);
  const auto& published = firmware.system().configuration_table[0];
  EXPECT_EQ(published.guid, abi::efi::kConfidentialComputingBlob);
  const auto& blob = *static_cast<const CcBlob*>(published.table);
  EXPECT_EQ(blob.magic, 0x4544'4D41U);
  EXPECT_EQ(blob.version, 1U);
  EXPECT_EQ(blob.secrets_bytes, 4096U);
  EXPECT_EQ(blob.cpuid_bytes, 4096U);
  EXPECT_EQ(blob.secrets_address % 4096, 0U);
  EXPECT_EQ(blob.cpuid_address % 4096, 0U);
  ASSERT_TRUE(fill().has_value());
  const auto& cpuid = *reinterpret_cast<const CpuidPage*>(blob.cpuid_address);
  EXPECT_EQ(cpuid.count, page_->count);
  EXPECT_EQ(reinterpret_cast<const SecretsPage*>(blob.secrets_address)->version, 3U);
}

TEST_F(SnpTablesTest, SaysThatTheBlobCannotBePublished) {
  test::FakeFirmware fake;
  fake.no_tables = true;
  EXPECT_FALSE(install_snp_tables(fake.firmware(), cpu).has_value());
}

}  // namespace
}  // namespace accede::efi
