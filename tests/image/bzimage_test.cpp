#include "accede/image/bzimage.hpp"
#include "tests/image/made_up_image.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>

namespace accede::image {
namespace {

using Kind = BzImageErrorKind;
using test::MadeUpImage;
namespace boot = abi::linux_boot;

/// The error of `file`, which has one.
BzImageError error_of(const std::vector<std::byte>& file) {
  const auto image = BzImage::parse(file);
  EXPECT_FALSE(image.has_value());
  return image ? BzImageError{} : image.error();
}
BzImageError error_of(const MadeUpImage& image) {
  return error_of(image.file());
}

TEST(BzImage, FindsTheParts) {
  const auto file = MadeUpImage{}.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(auto{image->header().syssize}, (MadeUpImage::kEnd - MadeUpImage::kCode) / 16);
  EXPECT_EQ(auto{image->header().kernel_info_offset}, 0x1234U);
  EXPECT_EQ(image->setup_header_bytes().data(), file.data() + 0x1F1);
  EXPECT_EQ(image->setup_header_bytes().size(), 0x26CU - 0x1F1U);
  EXPECT_EQ(image->protected_mode().data(), file.data() + MadeUpImage::kCode);
  EXPECT_EQ(image->protected_mode().size(), MadeUpImage::kEnd - MadeUpImage::kCode);
  EXPECT_EQ(image->payload().data(), file.data() + MadeUpImage::kPayload);
  EXPECT_EQ(image->payload().size(), MadeUpImage::kPayloadEnd - MadeUpImage::kPayload);
  EXPECT_EQ(image->version_text(), MadeUpImage::kVersionText);
}

TEST(BzImage, TellsWhereTheKernelMayLie) {
  const auto file = MadeUpImage{}.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->init_size(), Bytes{0x8000});
  EXPECT_EQ(image->preferred_address(), PhysAddr{0x1000000});
  EXPECT_TRUE(image->relocatable());
  EXPECT_EQ(image->alignment(), 2_MiB);
  EXPECT_TRUE(image->loadable_above_4g());
}

TEST(BzImage, StaysBelow4GWithoutTheFlag) {
  MadeUpImage made;
  made.header.xloadflags = boot::kXlfKernel64;
  const auto file = made.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_FALSE(image->loadable_above_4g());
}

TEST(BzImage, HasNoAlignmentWhenItCannotMove) {
  MadeUpImage made;
  made.header.relocatable_kernel = 0;
  made.header.kernel_alignment = 0;
  const auto file = made.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_FALSE(image->relocatable());
  EXPECT_EQ(image->alignment(), 1_B);
}

TEST(BzImage, TakesNoSetupSectorsForFour) {
  MadeUpImage made;
  made.header.setup_sects = 0;
  made.header.syssize = (MadeUpImage::kEnd - 5 * 512) / 16;
  made.header.payload_offset = 0;
  const auto file = made.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->protected_mode().data(), file.data() + std::ptrdiff_t{5 * 512});
}

TEST(BzImage, IgnoresWhatLiesBehindTheCode) {
  auto file = MadeUpImage{}.file();
  file.resize(file.size() + 1000, std::byte{0x5A});
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->protected_mode().size(), MadeUpImage::kEnd - MadeUpImage::kCode);
}

TEST(BzImage, MayHaveNeitherPayloadNorVersion) {
  MadeUpImage made;
  made.header.payload_offset = 0;
  made.header.payload_length = 0;
  made.header.kernel_version = 0;
  const auto file = made.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_TRUE(image->payload().empty());
  EXPECT_EQ(image->version_text(), "");
}

TEST(BzImage, ReadsFieldsBehindAnOldersHeaderEndAsZero) {
  MadeUpImage made;
  made.header.version = boot::kVersion212;
  made.header.jump = 0x66EB;  // to 0x268, before kernel_info_offset
  const auto file = made.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(auto{image->header().kernel_info_offset}, 0U);
  EXPECT_EQ(image->setup_header_bytes().size(), 0x268U - 0x1F1U);
}

TEST(BzImage, TakesALongerHeaderOfALaterProtocol) {
  MadeUpImage made;
  made.header.version = 0x0210;
  made.header.jump = 0x8EEB;  // to 0x290
  const auto file = made.file();
  const auto image = BzImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->setup_header_bytes().size(), 0x290U - 0x1F1U);
  EXPECT_EQ(auto{image->header().kernel_info_offset}, 0x1234U);
}

TEST(BzImageErrors, TooShortForAHeader) {
  auto file = MadeUpImage{}.file();
  file.resize(0x26B);
  EXPECT_EQ(error_of(file), (BzImageError{Kind::kTooShort, 0x26B}));
  EXPECT_EQ(error_of(std::vector<std::byte>{}), (BzImageError{Kind::kTooShort, 0}));
}

TEST(BzImageErrors, NotLinuxWithoutTheMagicNumbers) {
  MadeUpImage made;
  made.header.header ^= 1;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kNotLinux, 0x202}));
  made = {};
  made.header.boot_flag = 0;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kNotLinux, 0x1FE}));
}

TEST(BzImageErrors, OldProtocol) {
  MadeUpImage made;
  made.header.version = 0x020B;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kOldProtocol, 0x206}));
}

TEST(BzImageErrors, HeaderThatEndsTooEarlyOrOverrunsTheZeroPage) {
  MadeUpImage made;
  made.header.jump = 0x65EB;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadHeaderEnd, 0x201}));
  made.header.jump = 0x8FEB;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadHeaderEnd, 0x201}));
  made.header.jump = 0xFFEB;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadHeaderEnd, 0x201}));
}

TEST(BzImageErrors, NotLoadedHigh) {
  MadeUpImage made;
  made.header.loadflags = 0xFE;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kNotLoadedHigh, 0x211}));
}

TEST(BzImageErrors, NoEntry64) {
  MadeUpImage made;
  made.header.xloadflags = 0xFFFE;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kNoEntry64, 0x236}));
}

TEST(BzImageErrors, NoCodeBehindTheEntryPoint) {
  MadeUpImage made;
  made.header.syssize = 0;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kNoCode, 0x1F4}));
  made.header.syssize = 0x20;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kNoCode, 0x1F4}));
}

TEST(BzImageErrors, TruncatedByOneByteOrByFarMore) {
  auto file = MadeUpImage{}.file();
  file.pop_back();
  EXPECT_EQ(error_of(file), (BzImageError{Kind::kTruncated, MadeUpImage::kEnd - 1}));
  MadeUpImage made;
  made.header.syssize = std::numeric_limits<std::uint32_t>::max();
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kTruncated, MadeUpImage::kEnd}));
  made = {};
  made.header.setup_sects = 0xFF;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kTruncated, MadeUpImage::kEnd}));
}

TEST(BzImageErrors, InitSizeThatHoldsNotEvenTheCode) {
  MadeUpImage made;
  made.header.init_size = 0;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadInitSize, 0x260}));
  made.header.init_size = MadeUpImage::kEnd - MadeUpImage::kCode - 1;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadInitSize, 0x260}));
  made.header.init_size = MadeUpImage::kEnd - MadeUpImage::kCode;
  EXPECT_TRUE(BzImage::parse(made.file()));
}

TEST(BzImageErrors, InitSizeBeyondTheAddressSpace) {
  MadeUpImage made;
  made.header.pref_address = 0 - std::uint64_t{0x200000};
  made.header.init_size = 0x200000;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadInitSize, 0x260}));
  made.header.init_size = 0x200000 - 1;
  EXPECT_TRUE(BzImage::parse(made.file()));
}

TEST(BzImageErrors, AlignmentsThatCannotBeMet) {
  for (const std::uint32_t alignment : {0U, 3U, 0x200001U, 0xFFFFFFFFU}) {
    MadeUpImage made;
    made.header.kernel_alignment = alignment;
    EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadAlignment, 0x230})) << alignment;
  }
  MadeUpImage made;
  made.header.min_alignment = 22;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadAlignment, 0x235}));
  made.header.min_alignment = 0xFF;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadAlignment, 0x235}));
  made = {};
  made.header.pref_address += 0x1000;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadAlignment, 0x258}));
}

TEST(BzImageErrors, PayloadOutsideTheCode) {
  constexpr std::uint32_t kCodeSize = MadeUpImage::kEnd - MadeUpImage::kCode;
  MadeUpImage made;
  made.header.payload_offset = kCodeSize + 1;
  made.header.payload_length = 0;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadPayload, 0x248}));
  made.header.payload_offset = kCodeSize - 8;
  made.header.payload_length = 9;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadPayload, 0x248}));
  made.header.payload_offset = 0xFFFFFFFF;
  made.header.payload_length = 0xFFFFFFFF;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadPayload, 0x248}));
}

TEST(BzImageErrors, VersionTextOutsideTheSetupCode) {
  MadeUpImage made;
  made.header.kernel_version = MadeUpImage::kCode - 0x200;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadVersionText, 0x20E}));
  made.header.kernel_version = 0xFFFF;
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadVersionText, 0x20E}));
}

TEST(BzImageErrors, VersionTextWithoutAnEnd) {
  MadeUpImage made;
  std::fill(made.bytes.begin() + MadeUpImage::kVersion, made.bytes.begin() + MadeUpImage::kCode,
            std::byte{'6'});
  EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadVersionText, 0x20E}));
  made.bytes[MadeUpImage::kCode - 1] = std::byte{0};
  EXPECT_TRUE(BzImage::parse(made.file()));
}

TEST(BzImageErrors, VersionTextThatWouldDriveATerminal) {
  for (const char c : {'\x01', '\n', '\x1B', '\x1F', '\x7F'}) {
    MadeUpImage made;
    made.bytes[MadeUpImage::kVersion + 3] = static_cast<std::byte>(c);
    EXPECT_EQ(error_of(made), (BzImageError{Kind::kBadVersionText, 0x20E})) << +c;
  }
}

TEST(BzImageErrors, EachHasATextOfItsOwn) {
  std::set<std::string_view> texts;
  for (int kind = 0; kind <= static_cast<int>(Kind::kBadVersionText); ++kind) {
    texts.insert(to_string(static_cast<Kind>(kind)));
  }
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(Kind::kBadVersionText) + 1);
  EXPECT_FALSE(texts.contains(to_string(static_cast<Kind>(0xFF))));
}

TEST(BzImage, EveryPrefixIsCutOff) {
  const auto file = MadeUpImage{}.file();
  for (std::size_t size = 0; size < file.size(); ++size) {
    const std::vector<std::byte> prefix(file.begin(),
                                        file.begin() + static_cast<std::ptrdiff_t>(size));
    const auto image = BzImage::parse(prefix);
    ASSERT_FALSE(image.has_value()) << size;
    ASSERT_EQ(image.error().kind, size < 0x26C ? Kind::kTooShort : Kind::kTruncated) << size;
    ASSERT_EQ(image.error().offset, size);
  }
}

/// Other kinds of kernels and programs have none of the magic numbers at these places.
TEST(BzImage, ForeignImagesAreNotLinux) {
  const auto with = [](std::string_view magic, std::size_t offset) {
    std::vector<std::byte> image(0x1000);
    std::ranges::copy(std::as_bytes(std::span{magic}),
                      image.begin() + static_cast<std::ptrdiff_t>(offset));
    return image;
  };
  EXPECT_EQ(error_of(with("\x7F"
                          "ELF\x02\x01",
                          0))
                .kind,
            Kind::kNotLinux);
  EXPECT_EQ(error_of(with("ARMd", 0x38)).kind, Kind::kNotLinux);
  EXPECT_EQ(error_of(with("MZ", 0)).kind, Kind::kNotLinux);
}

/// One byte of the header after the other takes every value: whatever parse() then gives lies
/// inside the file.
TEST(BzImage, AnyHeaderByteGivesAnErrorOrPartsInside) {
  const auto inside = [](auto part, const std::vector<std::byte>& file) {
    const auto begin = reinterpret_cast<std::uintptr_t>(part.data());
    const auto file_begin = reinterpret_cast<std::uintptr_t>(file.data());
    return part.empty() || (begin >= file_begin && begin - file_begin <= file.size() &&
                            part.size() <= file.size() - (begin - file_begin));
  };
  auto file = MadeUpImage{}.file();
  std::size_t parsed = 0;
  for (std::size_t i = boot::kSetupHeaderOffset; i < 0x26C; ++i) {
    const std::byte before = file[i];
    for (unsigned value = 0; value < 256; ++value) {
      file[i] = static_cast<std::byte>(value);
      if (const auto image = BzImage::parse(file)) {
        ++parsed;
        ASSERT_TRUE(inside(image->setup_header_bytes(), file)) << i << ' ' << value;
        ASSERT_TRUE(inside(image->protected_mode(), file)) << i << ' ' << value;
        ASSERT_TRUE(inside(image->payload(), file)) << i << ' ' << value;
        ASSERT_TRUE(inside(image->version_text(), file)) << i << ' ' << value;
        ASSERT_GE(image->init_size().value(), image->protected_mode().size());
      }
    }
    file[i] = before;
  }
  EXPECT_GT(parsed, 1000U);
}

}  // namespace
}  // namespace accede::image
