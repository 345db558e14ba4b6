// The firmware configuration device, played by a host that may say anything.
#include "accede/efi/fw_cfg.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace accede::efi {
namespace {

using abi::fw_cfg::kForceAcceptFile;
using firmware::HostWish;
using Bytes8 = std::vector<std::uint8_t>;

/// Answers as QEMU does: an item's bytes, then zeros.
struct Device {
  Bytes8 signature{'Q', 'E', 'M', 'U'};
  Bytes8 directory;
  const Bytes8* item = nullptr;
  std::size_t at = 0;
  std::uint64_t reads = 0;

  static void number(Bytes8& to, std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      to.push_back(static_cast<std::uint8_t>(value >> shift));
    }
  }
  void count(std::uint32_t files) { number(directory, files); }
  void file(const std::string& name) {
    number(directory, 1);          // its size
    number(directory, 0x20'0000);  // its selector, and what is reserved
    Bytes8 raw(56, 0);
    std::memcpy(raw.data(), name.data(), std::min<std::size_t>(name.size(), raw.size()));
    directory.insert(directory.end(), raw.begin(), raw.end());
  }
};

struct Ports {
  Device* device;

  void select(std::uint16_t item) const {
    device->at = 0;
    device->item = item == abi::fw_cfg::kSignatureItem   ? &device->signature
                   : item == abi::fw_cfg::kDirectoryItem ? &device->directory
                                                         : nullptr;
  }
  [[nodiscard]] std::uint8_t next_byte() const {
    ++device->reads;
    return device->item != nullptr && device->at < device->item->size()
               ? (*device->item)[device->at++]
               : std::uint8_t{0};
  }
};

HostWish wish_of(Device& device) {
  return read_host_wish(Ports{&device});
}

std::expected<bool, FwCfgError> finds(Device& device, std::string_view name) {
  return FwCfg{Ports{&device}}.has_file(name);
}

TEST(FwCfg, FindsAFileWhereverItStandsInTheDirectory) {
  const std::string ours{kForceAcceptFile};
  for (const std::vector<std::string>& names :
       {std::vector{ours}, {ours, "etc/e820"}, {"etc/e820", "opt/other", ours}}) {
    Device device;
    device.count(static_cast<std::uint32_t>(names.size()));
    for (const std::string& name : names) {
      device.file(name);
    }
    EXPECT_EQ(finds(device, ours), true);
    EXPECT_EQ(wish_of(device), HostWish::kForceAcceptAll);
  }
}

TEST(FwCfg, ANameMustBeTheWholeName) {
  const std::string ours{kForceAcceptFile};
  Device device;
  device.count(3);
  device.file(ours.substr(0, ours.size() - 1));
  device.file(ours + "x");
  device.file("x" + ours);
  EXPECT_EQ(finds(device, ours), false);
  EXPECT_EQ(wish_of(device), HostWish::kNone);
}

TEST(FwCfg, WithoutTheDeviceOrWithoutFilesNothingIsAskedFor) {
  Device empty;
  empty.count(0);
  EXPECT_EQ(wish_of(empty), HostWish::kNone);

  Device other;
  other.count(1);
  other.file(std::string{kForceAcceptFile});
  for (const Bytes8& signature : {Bytes8{}, Bytes8{0xFF, 0xFF, 0xFF, 0xFF}, {'Q', 'E', 'M', 'V'}}) {
    other.signature = signature;
    EXPECT_EQ(wish_of(other), HostWish::kNone) << "this is not the device";
  }
}

TEST(FwCfg, ADirectoryThatCountsTooMuchIsRefusedBeforeItIsRead) {
  for (const std::uint32_t count : {abi::fw_cfg::kMostFiles + 1, 0x0100'0000U, 0xFFFF'FFFFU}) {
    Device device;
    device.count(count);
    EXPECT_EQ(finds(device, "x"), std::unexpected{FwCfgError::kTooManyFiles});
    EXPECT_EQ(device.reads, 4U);
  }
}

TEST(FwCfg, ADirectoryShorterThanItsCountIsRefused) {
  Device device;
  device.count(abi::fw_cfg::kMostFiles);
  device.file("etc/e820");
  EXPECT_EQ(finds(device, "etc/e820"), std::unexpected{FwCfgError::kBadName});
  EXPECT_EQ(device.reads, 4U + 2 * 64U);
}

TEST(FwCfg, ANameWithoutAnEndIsRefused) {
  Device device;
  device.count(1);
  device.file(std::string(56, 'a'));
  EXPECT_EQ(finds(device, "a"), std::unexpected{FwCfgError::kBadName});
  Device longest;
  longest.count(1);
  longest.file(std::string(55, 'a'));
  EXPECT_EQ(finds(longest, std::string(55, 'a')), true);
}

TEST(FwCfg, TheCountIsBigEndian) {
  Device device;
  device.directory = {0, 0, 1, 0};
  for (int i = 0; i < 256; ++i) {
    device.file(i == 255 ? "last" : "file");
  }
  EXPECT_EQ(finds(device, "last"), true);
}

TEST(FwCfg, EveryErrorHasAText) {
  for (const FwCfgError error : {FwCfgError::kTooManyFiles, FwCfgError::kBadName}) {
    EXPECT_TRUE(to_string(error).starts_with("fw_cfg: the directory"));
  }
}

TEST(HostWish, AMalformedDirectoryMakesTheFirmwareAcceptMoreNeverLess) {
  Device spoilt;
  spoilt.count(0xFFFF'FFFF);
  EXPECT_EQ(wish_of(spoilt), HostWish::kForceAcceptAll);

  Device behind;  // the file comes first, nonsense after it
  behind.count(2);
  behind.file(std::string{kForceAcceptFile});
  EXPECT_EQ(wish_of(behind), HostWish::kForceAcceptAll);
}

TEST(HostWish, NoChangeOfADirectoryWithTheFileSilentlyTurnsItOff) {
  // Every byte in turn gets every value: the flag goes only where the name, or the count of files
  // before it, says something else that is right.
  Device good;
  good.count(1);
  good.file(std::string{kForceAcceptFile});
  constexpr std::size_t kName = 4 + 8;
  for (std::size_t at = 0; at < good.directory.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      Device device = good;
      device.directory[at] = static_cast<std::uint8_t>(value);
      const bool other_name = at >= kName && at <= kName + kForceAcceptFile.size() &&
                              device.directory[at] != good.directory[at];
      const bool none = at == 3 && value == 0;
      if (!other_name && !none) {
        EXPECT_EQ(wish_of(device), HostWish::kForceAcceptAll) << at << " " << value;
      }
    }
  }
}

TEST(HostWish, AnyDirectoryEnds) {
  std::mt19937 random{20'231};
  for (int run = 0; run < 2'000; ++run) {
    Device device;
    device.directory.resize(random() % 400);
    for (std::uint8_t& byte : device.directory) {
      byte = random() % 3 == 0 ? static_cast<std::uint8_t>(random()) : std::uint8_t{0};
    }
    static_cast<void>(wish_of(device));
    EXPECT_LE(device.reads, 4 + 4 + 64ULL * abi::fw_cfg::kMostFiles);
  }
}

}  // namespace
}  // namespace accede::efi
