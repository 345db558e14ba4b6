#include "accede/emulator/reporter.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <random>
#include <string>

namespace accede::emulator {
namespace {

using nlohmann::json;

constexpr std::size_t kBuffer = 1024;

/// The finished line as JSON; a failed test and an empty object when it is none.
json parsed(JsonLine& line) {
  const std::string text{line.finish()};
  EXPECT_LE(text.size(), kBuffer);
  EXPECT_TRUE(text.ends_with("}\n")) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << "one object a line";
  const json value = json::parse(text, nullptr, false);
  EXPECT_TRUE(value.is_object()) << text;
  return value.is_object() ? value : json::object();
}

TEST(JsonLine, BeginsWithItsEvent) {
  JsonLine line{"takeover"};
  EXPECT_EQ(line.finish(), "{\"event\":\"takeover\"}\n");
}

TEST(JsonLine, WritesTextNumbersAndHexadecimal) {
  JsonLine line{"fault"};
  line.text("kind", "shutdown").number("n", 0).number("m", ~0ULL).hex("gpa", 0).hex("rip", ~0ULL);
  line.hex("x", 0x1'0000'0A00);
  EXPECT_EQ(line.finish(),
            "{\"event\":\"fault\",\"kind\":\"shutdown\",\"n\":0,\"m\":18446744073709551615,"
            "\"gpa\":\"0x0\",\"rip\":\"0xffffffffffffffff\",\"x\":\"0x100000a00\"}\n");
}

TEST(JsonLine, EscapesEveryByteThatJsonDoesNotTake) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    SCOPED_TRACE(byte);
    const char c = static_cast<char>(byte);
    JsonLine line{"guest-panic"};
    const json value = parsed(line.text("message", std::string_view{&c, 1}));
    // Bytes above ASCII are shown as the code points of Latin-1.
    const std::string expected = byte < 0x80 ? std::string(1, c)
                                             : std::string{static_cast<char>(0xC0 | (byte >> 6)),
                                                           static_cast<char>(0x80 | (byte & 0x3F))};
    EXPECT_EQ(value["message"], expected);
  }
}

TEST(JsonLine, StaysValidWhereverTextIsCut) {
  // A printable character takes one byte, a quote two, a control character six: every length, shift
  // and mix of widths meets the end of the buffer somewhere else.
  for (const std::string& unit : {std::string{"x"}, std::string{"\""}, std::string{"\n"},
                                  std::string{"x\n"}, std::string{"xx\"\n"}, std::string{"\xFF"}}) {
    for (std::size_t shift = 0; shift < 7; ++shift) {
      std::string text(shift, 'x');
      while (text.size() < 1100) {
        text += unit;
        JsonLine line{"guest-panic"};
        EXPECT_EQ(parsed(line.text("message", text))["event"], "guest-panic");
        ASSERT_FALSE(testing::Test::HasFailure())
            << "unit of " << unit.size() << " bytes, " << text.size() << " in all";
      }
    }
  }
}

TEST(JsonLine, StaysValidWhenManyFieldsDoNotFit) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random{seed};
  for (int round = 0; round < 2000; ++round) {
    JsonLine line{"x"};
    for (int field = 0; field < 40; ++field) {
      const std::string key = "key" + std::to_string(field);
      std::string text(random() % 60, 'a');
      for (char& c : text) {
        c = static_cast<char>(random());
      }
      switch (random() % 3) {
        case 0:
          line.text(key, text);
          break;
        case 1:
          line.number(key, random());
          break;
        default:
          line.hex(key, random());
          break;
      }
    }
    parsed(line);
    ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round;
  }
}

TEST(JsonLine, StaysValidWhenTheEventItselfIsTooLong) {
  for (std::size_t length = 950; length < 1100; ++length) {
    const std::string event(length, 'e');
    JsonLine line{event};
    parsed(line.text("a", "b").number("c", 1).hex("d", 2));
    ASSERT_FALSE(testing::Test::HasFailure()) << length;
  }
}

}  // namespace
}  // namespace accede::emulator
