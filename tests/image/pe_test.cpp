#include "accede/image/pe.hpp"

#include "tests/image/made_up_pe.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace accede::image {
namespace {

using Kind = PeErrorKind;
using test::MadeUpPe;

PeError error_of(const std::vector<std::byte>& file) {
  const auto image = PeImage::parse(file);
  EXPECT_FALSE(image.has_value());
  return image ? PeError{} : image.error();
}

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto raw = std::as_bytes(std::span{text});
  return {raw.begin(), raw.end()};
}

MadeUpPe two_sections() {
  MadeUpPe pe;
  pe.sections.push_back({".one", bytes_of("first")});
  pe.sections.push_back({"exactly8", bytes_of("second")});
  return pe;
}

TEST(PeImage, TellsMachineAndSubsystem) {
  MadeUpPe made = two_sections();
  made.machine = 0xAA64;
  const auto file = made.file();
  const auto image = PeImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->machine(), PeMachine::kArm64);
  EXPECT_EQ(image->machine_offset(), MadeUpPe::kHeaders + 4);
  EXPECT_TRUE(image->is_efi_application());
}

TEST(PeImage, IsNoApplicationOfAnotherSubsystem) {
  MadeUpPe made = two_sections();
  made.subsystem = 12;
  EXPECT_FALSE(PeImage::parse(made.file())->is_efi_application());
}

TEST(PeImage, FindsSectionsOfAPlacedImageAtTheirVirtualAddress) {
  std::vector<std::byte> placed = two_sections().file();
  placed.resize(0x1000);
  const std::size_t address_field = MadeUpPe::kHeadersEnd - 40 + 12;  // of the second section
  placed[address_field + 1] = std::byte{0x10};                        // 0x1000
  EXPECT_FALSE(PeImage::parse(placed)->find_placed_section("exactly8")) << "beyond the image";
  const auto content = bytes_of("placed");
  placed.insert(placed.end(), content.begin(), content.end());
  const auto image = PeImage::parse(placed);
  const auto found = image->find_placed_section("exactly8");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->offset, 0x1000U);
  EXPECT_TRUE(std::ranges::equal(found->content, content));
  EXPECT_FALSE(image->find_placed_section("exactly"));
}

TEST(PeImage, FindsSectionsByName) {
  const auto file = two_sections().file();
  const auto image = PeImage::parse(file);
  ASSERT_TRUE(image);
  ASSERT_EQ(image->section_count(), 2U);
  const auto second = image->find_section("exactly8");
  ASSERT_TRUE(second);
  EXPECT_EQ(second->content.data(), file.data() + second->offset);
  EXPECT_EQ(std::vector(second->content.begin(), second->content.end()), bytes_of("second"));
  EXPECT_FALSE(image->find_section("exactly"));
}

TEST(PeImage, CutsThePaddingOffASection) {
  MadeUpPe made = two_sections();
  made.sections[0].raw_size = 16;
  const auto file = made.file();
  EXPECT_EQ(PeImage::parse(file)->section(0)->content.size(), 5U);
}

TEST(PeImage, GivesOnlyWhatTheFileHoldsOfASection) {
  MadeUpPe made = two_sections();
  made.sections[0].virtual_size = 0x1000;
  const auto file = made.file();
  EXPECT_EQ(PeImage::parse(file)->section(0)->content.size(), 5U);
}

TEST(PeImage, GoesToTheEndOfItsLastSection) {
  auto file = two_sections().file();
  EXPECT_EQ(PeImage::parse(file)->extent(), file.size());
  file.resize(file.size() + 100);
  EXPECT_EQ(PeImage::parse(file)->extent(), file.size() - 100);
}

TEST(PeImage, HasNoSectionOutsideTheFile) {
  auto file = two_sections().file();
  file.pop_back();
  const auto image = PeImage::parse(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->extent(), file.size() + 1);
  EXPECT_TRUE(image->section(0));
  EXPECT_FALSE(image->section(1));
  EXPECT_FALSE(image->find_section("exactly8"));
}

TEST(PeImageErrors, NotPeWithoutTheMagicNumbers) {
  auto file = two_sections().file();
  file[MadeUpPe::kHeaders] ^= std::byte{1};
  EXPECT_EQ(error_of(file), (PeError{Kind::kNotPe, MadeUpPe::kHeaders}));
  file[0] = std::byte{0};
  EXPECT_EQ(error_of(file), (PeError{Kind::kNotPe, 0}));
  EXPECT_EQ(error_of({}), (PeError{Kind::kNotPe, 0}));
}

TEST(PeImageErrors, TruncatedWithinTheHeaders) {
  const auto file = two_sections().file();
  for (std::size_t size = 2; size < MadeUpPe::kHeadersEnd; ++size) {
    EXPECT_EQ(error_of({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)}),
              (PeError{Kind::kTruncated, size}));
  }
}

TEST(PeImageErrors, NotPe32Plus) {
  MadeUpPe made = two_sections();
  made.magic = 0x10B;
  EXPECT_EQ(error_of(made.file()).kind, Kind::kNotPe32Plus);
}

TEST(PeImageErrors, SectionsThatAreNoneOrTooMany) {
  MadeUpPe made;
  EXPECT_EQ(error_of(made.file()).kind, Kind::kBadSections);
  auto file = two_sections().file();
  file[MadeUpPe::kHeaders + 6] = std::byte{97};
  EXPECT_EQ(error_of(file).kind, Kind::kBadSections);
}

TEST(PeImageErrors, EachHasATextOfItsOwn) {
  std::set<std::string_view> texts;
  for (const Kind kind : {Kind::kNotPe, Kind::kTruncated, Kind::kNotPe32Plus, Kind::kBadSections}) {
    texts.insert(to_string(kind));
  }
  EXPECT_EQ(texts.size(), 4U);
  EXPECT_FALSE(texts.contains(to_string(static_cast<Kind>(0xFF))));
}

}  // namespace
}  // namespace accede::image
