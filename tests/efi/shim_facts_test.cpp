// What the shim finds out about an image, and what it remembers of it.

#include "accede/efi/shim/verdict_store.hpp"
#include "tests/efi/shim_firmware.hpp"
#include "tests/efi/shim_images.hpp"

#include <gtest/gtest.h>

namespace accede::efi::shim {
namespace {

using guest::PlatformKind;
using image::Knows;
using test::MadeUpImage;
using test::MadeUpPe;

using Image = std::vector<std::byte>;

KernelFacts facts_of(const Image& image) {
  const auto kernel = KernelInImage::find(image);
  EXPECT_TRUE(kernel.has_value());
  return kernel ? kernel->inspect() : KernelFacts{};
}

TEST(KernelFacts, AKernelThatAcceptsDoesSoOnBothPlatforms) {
  const KernelFacts facts = facts_of(test::accepting_kernel());
  for (const PlatformKind platform : {PlatformKind::kTdx, PlatformKind::kSnp}) {
    EXPECT_EQ(facts.accepts_on(platform), Knows::kYes);
    EXPECT_EQ(facts.knows(platform), Knows::kYes);
  }
  EXPECT_EQ(facts.accepts_on(PlatformKind::kNone), Knows::kUnknown);
}

TEST(KernelFacts, AnOldKernelKnowsSnpNotTdxAndAcceptsNothing) {
  const KernelFacts facts = facts_of(test::old_kernel());
  EXPECT_EQ(facts.accepts_on(PlatformKind::kSnp), Knows::kNo);
  EXPECT_EQ(facts.accepts_on(PlatformKind::kTdx), Knows::kNo);
  EXPECT_EQ(facts.knows(PlatformKind::kSnp), Knows::kYes);
  EXPECT_EQ(facts.knows(PlatformKind::kTdx), Knows::kNo);
}

TEST(KernelFacts, AKernelThatChecksForATdButAcceptsNothingKnowsTdx) {
  // Linux 5.19 to 6.4 with TDX.
  MadeUpImage kernel = image::test::old_kernel();
  kernel.put(image::test::kFree, "IntelTDX");
  const KernelFacts facts = facts_of(kernel.file());
  EXPECT_EQ(facts.knows_tdx, Knows::kYes);
  EXPECT_EQ(facts.accepts_on_tdx, Knows::kNo);
}

TEST(KernelFacts, NothingIsSaidOfAKernelWithoutLandmarks) {
  EXPECT_EQ(facts_of(test::unknown_kernel()), KernelFacts{});
}

TEST(KernelFacts, ASignInTheCompressedPayloadCountsForNothing) {
  MadeUpImage kernel = image::test::old_kernel();
  kernel.put(MadeUpImage::kPayload + 0x10, "IntelTDX");
  EXPECT_EQ(facts_of(kernel.file()).knows_tdx, Knows::kNo);
}

TEST(KernelFacts, OfAUnifiedKernelImageTheInnerKernelCounts) {
  EXPECT_EQ(facts_of(test::unified(test::accepting_kernel())), facts_of(test::accepting_kernel()));
  EXPECT_EQ(facts_of(test::unified(test::old_kernel())), facts_of(test::old_kernel()));
}

TEST(KernelFacts, ABootLoaderIsNoKernel) {
  EXPECT_FALSE(KernelInImage::find(test::boot_loader()).has_value());
  EXPECT_FALSE(KernelInImage::find({}).has_value());
}

TEST(KernelFacts, AKernelThatWasCutOffIsNeverSaidToBeUnable) {
  for (const Image& whole : {test::old_kernel(), test::unified(test::old_kernel())}) {
    for (std::size_t size = 0; size < whole.size(); size += 13) {
      const Image part{whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)};
      if (const auto kernel = KernelInImage::find(part)) {
        EXPECT_EQ(kernel->inspect().accepts_on_snp, Knows::kUnknown) << size;
      }
    }
  }
  Image most = test::old_kernel();
  most.pop_back();
  EXPECT_TRUE(KernelInImage::find(most).has_value()) << "it is still taken for a Linux";
}

TEST(KernelFacts, TheIdentityIsThatOfWhatTheFactsComeFrom) {
  const auto identity = [](const Image& image) { return KernelInImage::find(image)->identity(); };
  const Image kernel = test::old_kernel();
  EXPECT_EQ(identity(kernel), identity(test::unified(kernel))) << "the same kernel";
  for (const std::size_t changed : {std::size_t{0x700}, std::size_t{image::test::kFree}}) {
    Image other = kernel;
    other[changed] ^= std::byte{1};
    EXPECT_NE(identity(kernel), identity(other)) << changed;
  }
  Image other = kernel;
  other[MadeUpImage::kPayload + 1] ^= std::byte{1};
  EXPECT_EQ(identity(kernel), identity(other)) << "the payload says nothing";
}

TEST(NoProgram, IsSaidOfImagesForOtherProcessorsAndOfOtherFiles) {
  EXPECT_EQ(why_no_program(test::boot_loader()), "");
  EXPECT_EQ(why_no_program(MadeUpPe{.machine = 0xAA64, .sections = {{".text", {}}}}.file()),
            "it is for 64-bit Arm");
  EXPECT_EQ(why_no_program(MadeUpPe{.machine = 0x14C, .sections = {{".text", {}}}}.file()),
            "it is for 32-bit x86");
  EXPECT_EQ(why_no_program(MadeUpPe{.magic = 0x10B, .sections = {{".text", {}}}}.file()),
            "it is not for a 64-bit processor");
  EXPECT_EQ(why_no_program(Image(100, std::byte{'a'})), "it is not an EFI program");
  EXPECT_EQ(why_no_program({}), "it is not an EFI program");
}

// --- What is remembered --------------------------------------------------------------------------

VerdictStore::Digest digest(std::uint8_t first) {
  return VerdictStore::Digest{first, 1, 2, 3};
}
constexpr KernelFacts kFacts{.accepts_on_tdx = Knows::kYes,
                             .accepts_on_snp = Knows::kNo,
                             .knows_tdx = Knows::kUnknown,
                             .knows_snp = Knows::kYes};

Image serialized(const VerdictStore& store) {
  std::array<std::byte, VerdictStore::kMostBytes> storage;
  const auto bytes = store.serialize(storage);
  return {bytes.begin(), bytes.end()};
}
VerdictStore two_verdicts() {
  VerdictStore store;
  store.add(digest(1), kFacts);
  store.add(digest(2), {});
  return store;
}

TEST(VerdictStore, KeepsWhatWasAdded) {
  const VerdictStore store = VerdictStore::parse(serialized(two_verdicts()));
  EXPECT_EQ(store.size(), 2U);
  EXPECT_EQ(store.find(digest(1)), kFacts);
  EXPECT_EQ(store.find(digest(2)), KernelFacts{});
  EXPECT_FALSE(store.find(digest(3)).has_value());
}

TEST(VerdictStore, TheOldestMakesRoomForTheNewest) {
  VerdictStore store;
  for (std::uint8_t i = 0; i < VerdictStore::kMost + 2; ++i) {
    store.add(digest(i), kFacts);
  }
  EXPECT_EQ(store.size(), VerdictStore::kMost);
  EXPECT_FALSE(store.find(digest(1)).has_value());
  EXPECT_TRUE(store.find(digest(2)).has_value());
  EXPECT_TRUE(store.find(digest(VerdictStore::kMost + 1)).has_value());
}

TEST(VerdictStore, WhatWasCutOffOrHasMoreBehindItIsIgnored) {
  Image bytes = serialized(two_verdicts());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(VerdictStore::parse(std::span{bytes}.first(size)).size(), 0U) << size;
  }
  bytes.push_back({});
  EXPECT_EQ(VerdictStore::parse(bytes).size(), 0U);
}

TEST(VerdictStore, WhatAnotherVersionOrNobodyWroteIsIgnored) {
  for (const std::size_t byte : {0U, 4U, 6U}) {  // magic, version, count
    Image bytes = serialized(two_verdicts());
    bytes[byte] ^= std::byte{0x40};
    EXPECT_EQ(VerdictStore::parse(bytes).size(), 0U) << byte;
  }
}

TEST(VerdictStore, AFactThatIsNoneMakesAllOfItWorthless) {
  Image bytes = serialized(two_verdicts());
  bytes.back() = std::byte{3};
  EXPECT_EQ(VerdictStore::parse(bytes).size(), 0U);
}

/// The variable of the firmware.
class VerdictVariable : public testing::Test {
 protected:
  static inline const std::u16string kName{kVerdictName.data()};

  test::ShimFirmware fake;
  Firmware firmware = fake.firmware();
};

TEST_F(VerdictVariable, KeepsTheStoreWhereNoOperatingSystemCanWriteIt) {
  EXPECT_EQ(read_verdicts(firmware).size(), 0U);
  ASSERT_TRUE(write_verdicts(firmware, two_verdicts()).has_value());
  EXPECT_EQ(fake.variables.at(kName).attributes, 3U) << "non-volatile, boot services only";
  EXPECT_EQ(read_verdicts(firmware).size(), 2U);
}

TEST_F(VerdictVariable, OneThatAnOperatingSystemMadeIsNotBelievedAndIsReplaced) {
  fake.variables[kName] = {.attributes = 7, .data = serialized(two_verdicts())};
  EXPECT_EQ(read_verdicts(firmware).size(), 0U);
  ASSERT_TRUE(write_verdicts(firmware, two_verdicts()).has_value());
  EXPECT_EQ(fake.variables.at(kName).attributes, 3U);
  EXPECT_EQ(read_verdicts(firmware).size(), 2U);
}

TEST_F(VerdictVariable, OneThatIsTooLargeIsNotRead) {
  fake.variables[kName] = {.attributes = 3, .data = Image(VerdictStore::kMostBytes + 1)};
  EXPECT_EQ(read_verdicts(firmware).size(), 0U);
}

TEST_F(VerdictVariable, FirmwareThatKeepsNoneIsAnError) {
  fake.keeps_variables = false;
  EXPECT_FALSE(write_verdicts(firmware, two_verdicts()).has_value());
}

}  // namespace
}  // namespace accede::efi::shim
