#include "accede/firmware/linux_boot_params.hpp"

#include "accede/base/byte_reader.hpp"
#include "tests/firmware/made_up_linux.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

namespace accede::firmware {
namespace {

using abi::e820::Entry;
using abi::linux_boot::BootParams;
using enum LinuxBootErrorKind;
using test::debian_header;
using test::range;
using test::setup_of;

std::vector<Entry> entries(std::size_t count) {
  std::vector<Entry> map;
  for (std::size_t i = 0; i < count; ++i) {
    map.push_back({.address = i * 0x10000, .bytes = 0x1000 + i, .type = i % 2 == 0 ? 1U : 3U});
  }
  return map;
}

class LinuxBootParams : public testing::Test {
 protected:
  LinuxBootParams() {
    given_ = {.kernel = range(0x1000000, 0x4000000),
              .command_line = range(0x1'2345'6000, 0x1'2345'6010),
              .initrd = range(0x2'3456'7000, 0x3'3456'7123),
              .efi = {.system_table = PhysAddr{0x7'1234'5678},
                      .memory_map = range(0x5'6789'A000, 0x5'6789'B200),
                      .stride = 48,
                      .descriptor_version = 1},
              .acpi_rsdp = PhysAddr{0x8'7654'3210},
              .e820 = few_,
              .extension = {}};
    std::ranges::fill(std::as_writable_bytes(std::span{params_.get(), 1}), std::byte{0xA5});
  }

  std::expected<void, LinuxBootError> fill(const LinuxSetup& setup = setup_of(debian_header())) {
    return fill_boot_params(*params_, setup, given_);
  }
  void extend(std::size_t bytes) {
    node_.assign(bytes, std::byte{0xA5});
    given_.extension = {.memory = node_, .where = PhysAddr{0x9'8765'4000}};
  }
  [[nodiscard]] std::uint8_t byte(std::size_t offset) const {
    return static_cast<std::uint8_t>(std::as_bytes(std::span{params_.get(), 1})[offset]);
  }
  [[nodiscard]] std::uint32_t word(std::size_t offset) const {
    return *ByteReader{std::as_bytes(std::span{params_.get(), 1})}.read<std::uint32_t>(offset);
  }

  std::vector<Entry> few_ = entries(3);
  std::vector<std::byte> node_;
  LinuxHandOver given_;
  std::unique_ptr<BootParams> params_ = std::make_unique<BootParams>();
};

TEST_F(LinuxBootParams, WritesBothHalvesOfEveryAddress) {
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(word(0x228), 0x2345'6000U);  // command line
  EXPECT_EQ(word(0x0C8), 1U);
  EXPECT_EQ(word(0x218), 0x3456'7000U);  // initrd
  EXPECT_EQ(word(0x0C0), 2U);
  EXPECT_EQ(word(0x21C), 0x0000'0123U);  // its size, 4 GiB and some
  EXPECT_EQ(word(0x0C4), 1U);
  EXPECT_EQ(word(0x070), 0x7654'3210U);  // RSDP
  EXPECT_EQ(word(0x074), 8U);
  EXPECT_EQ(word(0x1C0), 0x3436'4C45U);  // "EL64"
  EXPECT_EQ(word(0x1C4), 0x1234'5678U);
  EXPECT_EQ(word(0x1C8), 48U);
  EXPECT_EQ(word(0x1CC), 1U);
  EXPECT_EQ(word(0x1D0), 0x6789'A000U);
  EXPECT_EQ(word(0x1D4), 0x1200U);
  EXPECT_EQ(word(0x1D8), 7U);
  EXPECT_EQ(word(0x1DC), 5U);
}

TEST_F(LinuxBootParams, CopiesTheHeaderAndNamesTheLoader) {
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(byte(0x210), 0xFF);
  EXPECT_EQ(word(0x202), 0x5372'6448U);
  EXPECT_EQ(word(0x214), 0x1000000U);  // code32_start
  EXPECT_EQ(word(0x260), 0x3000000U);
  EXPECT_EQ(word(0x268), 0x9F0000U);
}

TEST_F(LinuxBootParams, CopiesNothingThatTheHeaderDoesNotDeclare) {
  auto header = debian_header();
  header.jump = 0x62EB;
  ASSERT_TRUE(fill(setup_of(header)).has_value());
  for (std::size_t offset = 0x264; offset < 0x2D0; ++offset) {
    ASSERT_EQ(byte(offset), 0) << offset;
  }
}

TEST_F(LinuxBootParams, ClearsEverythingThatItDoesNotKnow) {
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(byte(0x1EF), 0);  // the sentinel
  for (std::size_t offset = 0; offset < 0x70; ++offset) {
    ASSERT_EQ(byte(offset), 0) << offset;
  }
  for (std::size_t offset = 0x2D0 + 3 * 20; offset < 0x1000; ++offset) {
    ASSERT_EQ(byte(offset), 0) << offset;
  }
}

TEST_F(LinuxBootParams, IgnoresSetupDataThatTheFileBringsAlong) {
  auto header = debian_header();
  header.setup_data = 0xDEAD'BEEF'0000;
  ASSERT_TRUE(fill(setup_of(header)).has_value());
  EXPECT_EQ(params_->hdr.setup_data, 0U);
}

TEST_F(LinuxBootParams, LeavesCode32StartAloneWhenTheKernelLiesAbove4GiB) {
  given_.kernel = range(0x1'4000'0000, 0x1'4300'0000);
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(word(0x214), 0x100000U);
}

TEST_F(LinuxBootParams, NamesNoInitrdWhenThereIsNone) {
  given_.initrd = range(0x5000, 0x5000);
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(word(0x218), 0U);
  EXPECT_EQ(word(0x21C), 0U);
  EXPECT_EQ(word(0x0C0), 0U);
}

TEST_F(LinuxBootParams, Holds128EntriesInThePage) {
  const auto map = entries(128);
  given_.e820 = map;
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(E820Extension::bytes_for(128), Bytes{0});
  EXPECT_EQ(params_->e820_entries, 128);
  EXPECT_EQ(params_->hdr.setup_data, 0U);
  EXPECT_EQ(word(0x2D0 + 127 * 20), 127U * 0x10000);
  EXPECT_EQ(word(0x2D0 + 127 * 20 + 8), 0x1000U + 127);
  EXPECT_EQ(word(0x2D0 + 127 * 20 + 16), 3U);
}

TEST_F(LinuxBootParams, PutsMoreEntriesIntoANode) {
  const auto map = entries(131);
  given_.e820 = map;
  EXPECT_EQ(E820Extension::bytes_for(131), Bytes{16 + 3 * 20});
  extend(16 + 3 * 20 + 5);
  ASSERT_TRUE(fill().has_value());
  EXPECT_EQ(params_->e820_entries, 128);
  EXPECT_EQ(params_->hdr.setup_data, 0x9'8765'4000U);
  const ByteReader node{node_};
  EXPECT_EQ(node.read<std::uint64_t>(0), 0U);
  EXPECT_EQ(node.read<std::uint32_t>(8), 1U);
  EXPECT_EQ(node.read<std::uint32_t>(12), 60U);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto entry = node.read_struct<Entry>(16 + i * 20).value();
    EXPECT_EQ(entry.address, (128 + i) * 0x10000);
    EXPECT_EQ(entry.bytes, 0x1000 + 128 + i);
  }
  EXPECT_EQ(node_[76], std::byte{0xA5});
}

TEST_F(LinuxBootParams, RefusesANodeThatIsTooSmall) {
  const auto map = entries(129);
  given_.e820 = map;
  EXPECT_EQ(fill().error(), (LinuxBootError{kExtensionStorage, 36, 0}));
  extend(35);
  EXPECT_EQ(fill().error(), (LinuxBootError{kExtensionStorage, 36, 35}));
  extend(36);
  EXPECT_TRUE(fill().has_value());
}

TEST_F(LinuxBootParams, RefusesAMisplacedKernel) {
  given_.kernel = range(0x800000, 0x3800000);
  EXPECT_EQ(fill().error().kind, kKernelMisplaced);
}

TEST_F(LinuxBootParams, RefusesWhatAKernelBelow4GiBCannotReach) {
  auto header = debian_header();
  header.xloadflags = abi::linux_boot::kXlfKernel64;
  const LinuxSetup setup = setup_of(header);
  EXPECT_EQ(fill(setup).error().kind, kInitrdTooHigh);
  given_.initrd = range(0x6000'0000, 0x6000'1000);
  EXPECT_EQ(fill(setup).error(), (LinuxBootError{kAbove4G, 0x1'2345'6000, 0}));
  given_.command_line = range(0x5000'0000, 0x5000'0010);
  EXPECT_TRUE(fill(setup).has_value());
  extend(64);
  EXPECT_EQ(fill(setup).error(), (LinuxBootError{kAbove4G, 0x9'8765'4000, 0}));
}

TEST_F(LinuxBootParams, RefusesAnExtensionThatWraps) {
  extend(4096);
  given_.extension.where = PhysAddr{~0ULL - 100};
  EXPECT_EQ(fill().error().kind, kAbove4G);
}

TEST_F(LinuxBootParams, RefusesAnEfiMapThatTheZeroPageCannotDescribe) {
  given_.efi.memory_map = range(0, 1ULL << 32);
  EXPECT_EQ(fill().error(), (LinuxBootError{kE820Storage, 1ULL << 32, 0xFFFF'FFFF}));
}

}  // namespace
}  // namespace accede::firmware
