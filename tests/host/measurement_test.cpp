#include "accede/host/measurement.hpp"
#include "accede/host/sha384.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::host {
namespace {

std::string hex(const Sha384::Digest& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string sha384(std::string_view message) {
  Sha384 hash;
  hash.update(std::as_bytes(std::span{message}));
  return hex(hash.digest());
}

TEST(Sha384, MatchesTheFipsVectors) {
  EXPECT_EQ(sha384(""),
            "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da"
            "274edebfe76f65fbd51ad2f14898b95b");
  EXPECT_EQ(sha384("abc"),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
            "8086072ba1e7cc2358baeca134c825a7");
  EXPECT_EQ(sha384("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                   "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712"
            "fcc7c71a557e2db966c3e9fa91746039");
  EXPECT_EQ(sha384(std::string(1'000'000, 'a')),
            "9d0e1809716474cb086e834e310a4a1ced149e9c00f248527972cec5704c2a5b"
            "07b8b3dc38ecc4ebae97ddd87f3d8985");
}

TEST(Sha384, GivesTheSameDigestHoweverTheMessageIsCut) {
  for (std::size_t length = 0; length < 300; ++length) {
    const std::string message(length, 'x');
    const std::string whole = sha384(message);
    for (const std::size_t cut : {std::size_t{1}, std::size_t{7}, std::size_t{128}}) {
      Sha384 hash;
      for (std::size_t i = 0; i < length; i += cut) {
        const std::string_view part = std::string_view{message}.substr(i, cut);
        hash.update(std::as_bytes(std::span{part}));
      }
      ASSERT_EQ(hex(hash.digest()), whole) << length << " in pieces of " << cut;
    }
  }
}

class MeasurementTest : public testing::Test {
 protected:
  static std::array<std::byte, 256> chunk(std::uint8_t fill) {
    std::array<std::byte, 256> data{};
    data.fill(std::byte{fill});
    return data;
  }
  /// The block that an operation hashes, written out by hand.
  static std::string block(std::string operation, std::uint64_t gpa) {
    operation.resize(128, '\0');
    for (unsigned i = 0; i < 8; ++i) {
      operation[16 + i] = static_cast<char>(gpa >> (8 * i));
    }
    return operation;
  }
};

TEST_F(MeasurementTest, HashesTheBlocksOfTheModule) {
  Measurement measurement;
  ASSERT_TRUE(measurement.page_add(PhysAddr{0xFFC84000}).has_value());
  const auto data = chunk(0x5A);
  ASSERT_TRUE(measurement.extend(PhysAddr{0xFFC84100}, data).has_value());
  const auto mrtd = measurement.finalize();
  ASSERT_TRUE(mrtd.has_value());
  EXPECT_EQ(hex(*mrtd), sha384(block("MEM.PAGE.ADD", 0xFFC84000) + block("MR.EXTEND", 0xFFC84100) +
                               std::string(256, '\x5A')));
  EXPECT_EQ(measurement.mrtd(), *mrtd);
}

TEST_F(MeasurementTest, OrderCounts) {
  Measurement a;
  Measurement b;
  ASSERT_TRUE(a.page_add(PhysAddr{0x1000}) && a.page_add(PhysAddr{0x2000}));
  ASSERT_TRUE(b.page_add(PhysAddr{0x2000}) && b.page_add(PhysAddr{0x1000}));
  EXPECT_NE(a.finalize(), b.finalize());
}

TEST_F(MeasurementTest, AddressesCount) {
  Measurement a;
  Measurement b;
  const auto data = chunk(1);
  ASSERT_TRUE(a.extend(PhysAddr{0x1000}, data));
  ASSERT_TRUE(b.extend(PhysAddr{0x1100}, data));
  EXPECT_NE(a.finalize(), b.finalize());
}

TEST_F(MeasurementTest, ContentCountsOnlyWhenExtended) {
  Measurement a;
  Measurement b;
  ASSERT_TRUE(a.extend(PhysAddr{0x1000}, chunk(1)));
  ASSERT_TRUE(b.extend(PhysAddr{0x1000}, chunk(2)));
  EXPECT_NE(a.finalize(), b.finalize());
}

TEST_F(MeasurementTest, NothingIsMeasuredAfterFinalize) {
  Measurement measurement;
  EXPECT_EQ(measurement.mrtd(), Sha384::Digest{});
  ASSERT_TRUE(measurement.finalize().has_value());
  const Sha384::Digest mrtd = measurement.mrtd();
  EXPECT_EQ(hex(mrtd), sha384(""));
  EXPECT_EQ(measurement.page_add(PhysAddr{0x1000}).error(), MeasurementError::kFinalized);
  EXPECT_EQ(measurement.extend(PhysAddr{0x1000}, chunk(0)).error(), MeasurementError::kFinalized);
  EXPECT_EQ(measurement.finalize().error(), MeasurementError::kFinalized);
  EXPECT_EQ(measurement.mrtd(), mrtd);
  EXPECT_EQ(name(MeasurementError::kFinalized), "the measurement is final");
}

TEST_F(MeasurementTest, MisalignedAddressesAreRefusedAndNotHashed) {
  Measurement measurement;
  EXPECT_EQ(measurement.page_add(PhysAddr{0x1100}).error(), MeasurementError::kUnaligned);
  EXPECT_EQ(measurement.extend(PhysAddr{0x1080}, chunk(0)).error(), MeasurementError::kUnaligned);
  EXPECT_EQ(hex(*measurement.finalize()), sha384(""));
  EXPECT_EQ(name(MeasurementError::kUnaligned), "the address is not aligned");
}

}  // namespace
}  // namespace accede::host
