#include "accede/cli/kernel_image.hpp"

#include "accede/cli/file_text.hpp"
#include "accede/cli/temp_dir.hpp"
#include "tests/cli/made_up_kernel.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace accede::cli {
namespace {

using test::bz_image;
using test::efi_program;
using test::ImageBuilder;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_of(const ImageBuilder& image) {
  const auto parsed = parse_kernel_image(image.view());
  return parsed ? "accepted" : parsed.error();
}

TEST(KernelImage, KnowsABzImageAndItsVersion) {
  const auto image = parse_kernel_image(bz_image().view());
  ASSERT_TRUE(image) << image.error();
  EXPECT_EQ(image->kind, KernelKind::kLinux);
  EXPECT_EQ(image->version, test::kMadeUpVersion);
  EXPECT_TRUE(image->is_linux());
}

TEST(KernelImage, KnowsAnEfiProgram) {
  const auto image = parse_kernel_image(efi_program().view());
  ASSERT_TRUE(image) << image.error();
  EXPECT_EQ(image->kind, KernelKind::kEfiProgram);
  EXPECT_EQ(image->version, "");
  EXPECT_FALSE(image->is_linux());
}

TEST(KernelImage, KnowsAUnifiedKernelImage) {
  ImageBuilder builder = efi_program();
  builder.put<std::uint16_t>(test::kPe + 6, 2).text(test::kSections, ".linux");
  const std::size_t second = test::kSections + test::kSectionEntry;
  builder.text(second, ".uname");
  builder.put<std::uint32_t>(second + 16, 16).put<std::uint32_t>(second + 20, 0x700);
  builder.text(0x700, "6.8.0-31-generic");
  const auto image = parse_kernel_image(builder.view());
  ASSERT_TRUE(image) << image.error();
  EXPECT_EQ(image->kind, KernelKind::kUnified);
  EXPECT_EQ(image->version, "6.8.0-31-generic");
}

TEST(KernelImage, SaysTruncatedForEveryShorterFile) {
  const ImageBuilder whole = bz_image();
  for (std::size_t size = 2; size < whole.view().size(); ++size) {
    const auto image = parse_kernel_image(whole.view().first(size));
    ASSERT_FALSE(image) << size;
    EXPECT_THAT(image.error(), StartsWith("is truncated: ")) << size;
  }
}

TEST(KernelImage, SaysHowLargeABzImageHasToBe) {
  ImageBuilder builder = bz_image();
  builder.put<std::uint32_t>(0x1F4, 0x41);
  EXPECT_EQ(error_of(builder),
            "is truncated: its header says at least 2064 bytes, the file has 2048");
  builder.put<std::uint32_t>(0x1F4, 0xFFFF'FFFF);
  EXPECT_THAT(error_of(builder), StartsWith("is truncated: its header says at least 687194777"));
}

TEST(KernelImage, TakesZeroSetupSectorsAsFour) {
  ImageBuilder builder = bz_image();
  builder.put<std::uint8_t>(0x1F1, 0);
  EXPECT_THAT(error_of(builder), StartsWith("is truncated: its header says at least 3584 bytes"));
}

TEST(KernelImage, RefusesOtherFiles) {
  EXPECT_THAT(error_of(ImageBuilder{0}), HasSubstr("the file is empty"));
  EXPECT_THAT(error_of(ImageBuilder{1}), HasSubstr("neither a bzImage nor an EFI program"));
  EXPECT_THAT(error_of(ImageBuilder{4096}), HasSubstr("neither a bzImage nor an EFI program"));
  EXPECT_THAT(error_of(ImageBuilder{64}.text(0,
                                             "\x7F"
                                             "ELF")),
              HasSubstr("not vmlinux"));
  EXPECT_THAT(error_of(ImageBuilder{64}.text(0, "\x1F\x8B")), HasSubstr("a compressed file"));
  EXPECT_THAT(error_of(bz_image().put<std::uint16_t>(0, 0)), HasSubstr("without EFI stub"));
}

TEST(KernelImage, RefusesProgramsThatTheFirmwareCannotStart) {
  EXPECT_THAT(error_of(efi_program().put<std::uint32_t>(test::kPe, 0)), HasSubstr("DOS program"));
  EXPECT_THAT(error_of(efi_program().put<std::uint16_t>(test::kPe + 4, 0xAA64)),
              HasSubstr("for AArch64, not for x86-64"));
  EXPECT_THAT(error_of(efi_program().put<std::uint16_t>(test::kPe + 4, 0x14C)),
              HasSubstr("for 32-bit x86"));
  EXPECT_THAT(error_of(efi_program().put<std::uint16_t>(test::kPe + 24, 0x10B)),
              HasSubstr("not an EFI application"));
  EXPECT_THAT(error_of(efi_program().put<std::uint16_t>(test::kPe + 24 + 68, 11)),
              HasSubstr("not an EFI application"));
  EXPECT_THAT(error_of(efi_program().put<std::uint16_t>(test::kPe + 6, 0)),
              HasSubstr("0 sections"));
  EXPECT_THAT(error_of(efi_program().put<std::uint16_t>(test::kPe + 6, 0xFFFF)),
              HasSubstr("65535 sections"));
}

TEST(KernelImage, RefusesALinuxThatIsNot64Bit) {
  EXPECT_THAT(error_of(bz_image().put<std::uint16_t>(0x236, 0)), HasSubstr("not 64-bit"));
  EXPECT_THAT(error_of(bz_image().put<std::uint16_t>(0x206, 0x20B)), HasSubstr("not 64-bit"));
}

TEST(KernelImage, OffsetsAtTheEndOfTheAddressSpaceAreTruncation) {
  EXPECT_THAT(error_of(efi_program().put<std::uint32_t>(0x3C, 0xFFFF'FFFF)),
              StartsWith("is truncated"));
  ImageBuilder builder = efi_program();
  builder.put<std::uint32_t>(test::kSections + 16, 0xFFFF'FFFF);
  builder.put<std::uint32_t>(test::kSections + 20, 0xFFFF'FFFF);
  EXPECT_THAT(error_of(builder), StartsWith("is truncated"));
}

TEST(KernelImage, AVersionOutsideTheSetupIsNoVersion) {
  const auto image = parse_kernel_image(bz_image().put<std::uint16_t>(0x20E, 0xFFFF).view());
  ASSERT_TRUE(image);
  EXPECT_EQ(image->version, "");
}

TEST(KernelImage, SurvivesRandomHeaders) {
  constexpr unsigned kSeed = 20261121;
  std::mt19937 random{kSeed};
  for (int round = 0; round < 20'000; ++round) {
    ImageBuilder builder = bz_image();
    for (int change = 0; change < 4; ++change) {
      builder.put<std::uint8_t>(random() % 0x300, random() & 0xFF);
    }
    builder.bytes().resize(random() % 0x900);
    const auto image = parse_kernel_image(builder.view());
    EXPECT_TRUE(image || !image.error().empty()) << "seed " << kSeed << " round " << round;
  }
}

TEST(KernelImage, FilesThatCannotBeReadAreUsageErrors) {
  const auto directory = TempDir::make(TempDir::default_parent(), "accede-test-");
  ASSERT_TRUE(directory);
  const auto absent = check_kernel_file(directory->path() / "none");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().exit_code, kExitUsage);
  EXPECT_THAT(absent.error().message, HasSubstr("No such file"));
  EXPECT_THAT(check_kernel_file(directory->path()).error().message, HasSubstr("is a directory"));
  EXPECT_THAT(check_kernel_file("/dev/null").error().message, HasSubstr("not a regular file"));
  ASSERT_TRUE(write_text(directory->path() / "text", "hello"));
  EXPECT_THAT(check_kernel_file(directory->path() / "text").error().message,
              HasSubstr("is not a kernel"));
}

}  // namespace
}  // namespace accede::cli
