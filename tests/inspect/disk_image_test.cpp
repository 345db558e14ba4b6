#include "accede/inspect/disk_image.hpp"

#include "tests/inspect/made_up.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

namespace accede::inspect {
namespace {

using test::ByteVector;

constexpr std::uint64_t kDiskBytes = 64ULL << 20;

void put(ByteVector& bytes, std::size_t at, std::string_view text) {
  std::ranges::copy(test::bytes_of(text), bytes.begin() + static_cast<std::ptrdiff_t>(at));
}

/// A boot sector with one partition from sector 2048 on.
ByteVector boot_sector() {
  ByteVector head(kDiskHead);
  head[446 + 4] = std::byte{0xEE};
  head[446 + 9] = std::byte{8};
  head[510] = std::byte{0x55};
  head[511] = std::byte{0xAA};
  return head;
}

ByteVector qcow2(std::uint8_t version = 3) {
  ByteVector head(kDiskHead);
  put(head, 0, "QFI\xFB");
  head[7] = std::byte{version};
  head[24 + 4] = std::byte{4};  // 64 MiB, high byte first
  return head;
}

DiskImage disk_of(const ByteVector& head) {
  const auto disk = recognise_disk(head, kDiskBytes);
  EXPECT_TRUE(disk && *disk) << (disk ? "no disk" : disk.error());
  return disk && *disk ? **disk : DiskImage{};
}

std::string error_of(const ByteVector& head) {
  const auto disk = recognise_disk(head, kDiskBytes);
  EXPECT_FALSE(disk);
  return disk ? "" : disk.error();
}

bool is_something_else(const ByteVector& head) {
  const auto disk = recognise_disk(head, kDiskBytes);
  return disk && !*disk;
}

TEST(DiskImages, RawOnesAreRecognisedByTheirPartitions) {
  EXPECT_EQ(disk_of(boot_sector()).format, DiskFormat::kRaw);
  EXPECT_EQ(disk_of(boot_sector()).partitions, "MBR");
  EXPECT_EQ(disk_of(boot_sector()).bytes, kDiskBytes);
  auto gpt = boot_sector();
  put(gpt, 512, "EFI PART");
  EXPECT_EQ(disk_of(gpt).partitions, "GPT");
}

TEST(DiskImages, WithoutASoundPartitionItIsSomethingElse) {
  auto head = boot_sector();
  head[446 + 4] = std::byte{0};
  EXPECT_TRUE(is_something_else(head)) << "no type";
  head = boot_sector();
  head[446] = std::byte{0x12};
  EXPECT_TRUE(is_something_else(head)) << "neither active nor not";
  head = boot_sector();
  head[446 + 11] = std::byte{0x7F};
  EXPECT_TRUE(is_something_else(head)) << "begins behind the end of the disk";
  EXPECT_TRUE(is_something_else(ByteVector(kDiskHead)));
}

TEST(DiskImages, ProgramsWithTheMarkOfABootSectorAreNone) {
  for (const auto& [at, text] : {std::pair{0, "MZ"}, std::pair{0x202, "HdrS"},
                                 std::pair{0,
                                           "\x7F"
                                           "ELF"}}) {
    auto head = boot_sector();
    put(head, static_cast<std::size_t>(at), text);
    EXPECT_TRUE(is_something_else(head)) << text;
  }
  EXPECT_TRUE(is_something_else(test::bzimage({})));
}

TEST(DiskImages, Qcow2HasItsSizeInItsHeader) {
  for (const std::uint8_t version : {std::uint8_t{2}, std::uint8_t{3}}) {
    EXPECT_EQ(disk_of(qcow2(version)).format, DiskFormat::kQcow2);
    EXPECT_EQ(disk_of(qcow2(version)).bytes, kDiskBytes);
  }
}

TEST(DiskImages, Qcow2ThatNamesAnotherFileIsRefused) {
  auto head = qcow2();
  head[8 + 7] = std::byte{1};
  EXPECT_TRUE(error_of(head).starts_with("is a qcow2 image that needs another file"));
  head = qcow2();
  head[72 + 7] = std::byte{4};
  EXPECT_TRUE(error_of(head).starts_with("is a qcow2 image that needs another file"));
  head[7] = std::byte{2};  // which has no such field there
  EXPECT_EQ(disk_of(head).format, DiskFormat::kQcow2);
}

TEST(DiskImages, Qcow2ThatCannotBeReadIsRefused) {
  EXPECT_EQ(error_of(qcow2(4)), "is qcow2 of version 4");
  auto head = qcow2();
  head[32 + 3] = std::byte{1};
  EXPECT_EQ(error_of(head), "is an encrypted qcow2 image");
}

TEST(DiskImages, EveryPrefixAndAnyBytesGiveAnAnswer) {
  for (const auto& whole : {qcow2(), boot_sector()}) {
    for (std::size_t size = 0; size < 600; ++size) {
      const auto disk = recognise_disk(std::span{whole}.first(size), size);
      EXPECT_TRUE(!disk || !*disk || size >= 80);
    }
  }
  std::mt19937 random{5};
  for (int round = 0; round < 10'000; ++round) {
    auto head = qcow2();
    for (std::size_t i = 4; i < 104; ++i) {
      head[i] = static_cast<std::byte>(random());
    }
    const auto disk = recognise_disk(head, kDiskBytes);
    EXPECT_TRUE(!disk || (*disk)->format == DiskFormat::kQcow2);
  }
}

}  // namespace
}  // namespace accede::inspect
