#include "accede/efi/loader/options.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace accede::efi::loader {
namespace {

using Kind = OptionsError::Kind;

std::vector<std::byte> utf16(std::u16string_view text) {
  const auto bytes = std::as_bytes(std::span{text});
  return {bytes.begin(), bytes.end()};
}

class LoaderOptionsText : public testing::Test {
 protected:
  std::expected<LoaderOptions, OptionsError> parse(std::string text) {
    text_ = std::move(text);
    return parse_options(text_);
  }
  std::expected<std::string, OptionsError> ascii(const std::vector<std::byte>& bytes) {
    const auto text = to_ascii(bytes, *storage_);
    if (!text) {
      return std::unexpected{text.error()};
    }
    return std::string{text->begin(), text->end()};
  }

  std::string text_;
  std::unique_ptr<std::array<char, kMostOptionCharacters>> storage_ =
      std::make_unique<std::array<char, kMostOptionCharacters>>();
};

TEST_F(LoaderOptionsText, TellsTheLoadersWordsFromTheKernels) {
  const auto options =
      parse(R"(kernel=\accede\linux.efi initrd=\accede\initrd console=ttyS0 panic=-1)").value();
  EXPECT_EQ(options.kernel, R"(\accede\linux.efi)");
  EXPECT_EQ(options.initrd, R"(\accede\initrd)");
  EXPECT_EQ(options.command_line, "console=ttyS0 panic=-1");
  EXPECT_FALSE(options.place_high);
}

TEST_F(LoaderOptionsText, TakesItsWordsInAnyOrder) {
  const auto options = parse("  initrd=b   accede.place=high kernel=a  x  y ").value();
  EXPECT_EQ(options.kernel, "a");
  EXPECT_EQ(options.initrd, "b");
  EXPECT_EQ(options.command_line, "x  y");
  EXPECT_TRUE(options.place_high);
}

TEST_F(LoaderOptionsText, NeedsNothingButAKernel) {
  const auto options = parse("kernel=a").value();
  EXPECT_EQ(options.initrd, "");
  EXPECT_EQ(options.command_line, "");
}

TEST_F(LoaderOptionsText, LeavesTheKernelsOwnWordsAlone) {
  const auto options = parse("kernel=a quiet initrd=c kernel=d").value();
  EXPECT_EQ(options.kernel, "a");
  EXPECT_EQ(options.initrd, "");
  EXPECT_EQ(options.command_line, "quiet initrd=c kernel=d");
}

TEST_F(LoaderOptionsText, TakesThePlaceOutOfTheKernelsCommandLine) {
  for (const char* const text :
       {"kernel=a x accede.place=high  y", "kernel=a x  y accede.place=high",
        "kernel=a accede.place=high x  y"}) {
    const auto options = parse(text).value();
    EXPECT_TRUE(options.place_high);
    EXPECT_EQ(options.command_line, "x  y") << text;
  }
  EXPECT_FALSE(parse("kernel=a x accede.place=auto").value().place_high);
  EXPECT_EQ(parse("kernel=a x accede.places=high").value().command_line, "x accede.places=high");
}

TEST_F(LoaderOptionsText, RefusesWhatMakesNoSense) {
  EXPECT_EQ(parse("").error().kind, Kind::kNoKernel);
  EXPECT_EQ(parse("initrd=a quiet").error().kind, Kind::kNoKernel);
  EXPECT_EQ(parse("quiet kernel=a").error().kind, Kind::kNoKernel);
  EXPECT_EQ(parse("kernel=").error().kind, Kind::kEmptyPath);
  EXPECT_EQ(parse("kernel=a initrd= x").error().kind, Kind::kEmptyPath);
  EXPECT_EQ(parse("kernel=a kernel=b").error().kind, Kind::kTwice);
  EXPECT_EQ(parse("kernel=a initrd=b initrd=b").error().kind, Kind::kTwice);
  EXPECT_EQ(parse("kernel=a accede.place=high x accede.place=high").error().kind, Kind::kTwice);
  EXPECT_EQ(parse("kernel=a accede.place=low").error().kind, Kind::kBadPlace);
  EXPECT_EQ(parse("kernel=a x accede.place=").error().kind, Kind::kBadPlace);
}

TEST_F(LoaderOptionsText, IsReadUpToItsEndOrItsFirstZero) {
  EXPECT_EQ(ascii(utf16(u"kernel=a x")).value(), "kernel=a x");
  EXPECT_EQ(ascii(utf16(std::u16string_view(u"abc\0de", 6))).value(), "abc");
  EXPECT_EQ(ascii({}).value(), "");
  auto odd = utf16(u"ab");
  odd.push_back(std::byte{0xFF});
  EXPECT_EQ(ascii(odd).value(), "ab");
}

TEST_F(LoaderOptionsText, RefusesOtherCharactersThanAscii) {
  for (const char16_t wrong : {u'\t', u'\n', u'\u007F', u'\u00E9', u'\u2013', u'\u0141'}) {
    const std::array<char16_t, 3> text{u'a', u'b', wrong};
    EXPECT_EQ(ascii(utf16({text.data(), text.size()})).error(),
              (OptionsError{Kind::kNotAscii, 2, 0}));
  }
}

TEST_F(LoaderOptionsText, RefusesMoreThanItHasRoomFor) {
  EXPECT_TRUE(ascii(utf16(std::u16string(kMostOptionCharacters, u'x'))).has_value());
  EXPECT_EQ(ascii(utf16(std::u16string(kMostOptionCharacters + 1, u'x'))).error(),
            (OptionsError{Kind::kTooLong, kMostOptionCharacters + 1, kMostOptionCharacters}));
}

TEST_F(LoaderOptionsText, SaysWhetherSpecialPurposeMemoryIsRam) {
  EXPECT_TRUE(refuses_soft_reserve("quiet efi=nosoftreserve"));
  EXPECT_TRUE(refuses_soft_reserve("efi=debug,nosoftreserve quiet"));
  EXPECT_FALSE(refuses_soft_reserve("efi=debug quiet"));
  EXPECT_FALSE(refuses_soft_reserve("myefi=nosoftreserve nosoftreserve"));
  EXPECT_FALSE(refuses_soft_reserve(""));
}

TEST_F(LoaderOptionsText, HasATextForEveryError) {
  std::set<std::string_view> texts;
  for (int kind = 0; kind <= static_cast<int>(Kind::kBadPlace); ++kind) {
    texts.insert(to_string(static_cast<Kind>(kind)));
  }
  EXPECT_EQ(texts.size(), static_cast<std::size_t>(Kind::kBadPlace) + 1);
  EXPECT_FALSE(texts.contains(to_string(static_cast<Kind>(200))));
}

}  // namespace
}  // namespace accede::efi::loader
