// What the shim is told to start, in whatever form.

#include "accede/efi/shim/device_path.hpp"
#include "accede/efi/shim/options.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::efi::shim {
namespace {

/// Two lines: the image, or the error, and the options for it.
std::string parse(const std::u16string& text) {
  const auto options = parse_load_options(std::as_bytes(std::span{text}));
  if (!options) {
    return std::string{to_string(options.error())};
  }
  return std::string{options->image.view()} + "|" +
         std::string(options->options.begin(), options->options.end());
}

TEST(ShimLoadOptions, AnImageAndWhatItGets) {
  EXPECT_EQ(parse(u"image=\\EFI\\a.efi root=/dev/vda quiet"), "\\EFI\\a.efi|root=/dev/vda quiet");
  EXPECT_EQ(parse(u"  image=a.efi"), "\\a.efi|") << "a path begins at the root";
  EXPECT_EQ(parse(u"root=/dev/vda"), "|root=/dev/vda") << "for the configured image";
  EXPECT_EQ(parse(u""), "|");
}

TEST(ShimLoadOptions, TheShellPutsTheProgramsNameInFront) {
  EXPECT_EQ(parse(u"FS0:\\Accede-Shim.EFI image=\\a.efi x"), "\\a.efi|x");
  EXPECT_EQ(parse(u"accede-shim.efi"), "|");
}

TEST(ShimLoadOptions, EndAtAZeroAndBeforeAnOddByte) {
  EXPECT_EQ(parse(std::u16string{u"image=\\a.efi x\0junk", 18}), "\\a.efi|x");
  const std::u16string text = u"abc";
  const auto options = parse_load_options(std::as_bytes(std::span{text}).first(5));
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->options.size(), 2U);
}

TEST(ShimLoadOptions, APathThatIsNoneIsAnError) {
  const std::string bad{to_string(OptionsError::kBadPath)};
  EXPECT_EQ(parse(u"image= x"), bad);
  EXPECT_EQ(parse(u"image=\\\u00E9.efi"), bad);
  EXPECT_EQ(parse(u"image=" + std::u16string(300, u'a')), bad);
  EXPECT_EQ(parse(u"image=" + std::u16string(255, u'a')), bad) << "with the root in front";
}

TEST(ShimConfiguration, HasAnImageAndOptions) {
  const auto configuration = parse_configuration(
      "# what to start\r\n\nimage=grubx64.efi\r\noptions=root=/dev/vda  quiet \n");
  ASSERT_TRUE(configuration.has_value());
  EXPECT_EQ(configuration->image, "grubx64.efi");
  EXPECT_EQ(configuration->options, "root=/dev/vda  quiet");
  EXPECT_EQ(parse_configuration("")->image, "");
}

TEST(ShimConfiguration, WithAnythingElseIsAnError) {
  EXPECT_EQ(parse_configuration("image").error(), OptionsError::kBadLine);
  EXPECT_EQ(parse_configuration("kernel=x").error(), OptionsError::kUnknownKey);
}

TEST(ShimConfiguration, APathBeginsBesideTheShimUnlessItBeginsAtTheRoot) {
  EXPECT_EQ(resolve("\\EFI\\accede\\", "a.efi")->view(), "\\EFI\\accede\\a.efi");
  EXPECT_EQ(resolve("\\EFI\\accede\\", "\\a.efi")->view(), "\\a.efi");
  EXPECT_FALSE(resolve("\\", "").has_value());
  EXPECT_FALSE(resolve("\\", "a\tb").has_value());
}

// --- Device paths --------------------------------------------------------------------------------

class Nodes {
 public:
  Nodes& node(std::uint8_t type, std::uint8_t sub_type, std::size_t size,
              const std::u16string& text = {}) {
    for (const std::size_t b : {std::size_t{type}, std::size_t{sub_type}, size & 0xFF, size >> 8}) {
      bytes_.push_back(static_cast<std::byte>(b));
    }
    const auto raw = std::as_bytes(std::span{text});
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
    return *this;
  }
  Nodes& file(const std::u16string& text) { return node(4, 4, 4 + text.size() * 2, text); }
  std::string directory() {
    node(0x7F, 0xFF, 4);
    return std::string{
        directory_of(reinterpret_cast<const abi::efi::DevicePath*>(bytes_.data())).view()};
  }

 private:
  std::vector<std::byte> bytes_;
};

TEST(OwnDirectory, IsThatOfTheFileInTheDevicePath) {
  EXPECT_EQ(Nodes{}.node(1, 1, 6, u"x").file(u"\\EFI\\accede\\shim.efi").directory(),
            "\\EFI\\accede\\");
  EXPECT_EQ(Nodes{}.file(u"\\EFI").file(std::u16string{u"BOOT\\x.efi\0", 11}).directory(),
            "\\EFI\\BOOT\\")
      << "a path in pieces";
}

TEST(OwnDirectory, IsTheRootWhenNothingSoundTellsIt) {
  EXPECT_EQ(directory_of(nullptr).view(), "\\");
  EXPECT_EQ(Nodes{}.directory(), "\\");
  EXPECT_EQ(Nodes{}.file(u"\\\u00E9\\shim.efi").directory(), "\\");
  EXPECT_EQ(Nodes{}.file(u"\\" + std::u16string(400, u'a') + u"\\x.efi").directory(), "\\");
  EXPECT_EQ(Nodes{}.node(4, 4, 3).directory(), "\\") << "shorter than its header";
  EXPECT_EQ(Nodes{}.node(4, 4, 0xFFFF).directory(), "\\") << "longer than any path";
}

}  // namespace
}  // namespace accede::efi::shim
