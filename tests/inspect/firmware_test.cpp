#include "accede/inspect/firmware.hpp"

#include "accede/inspect/firmware_tables.hpp"
#include "accede/inspect/firmware_volume.hpp"
#include "tests/inspect/made_up.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace accede::inspect {
namespace {

using abi::efi::Guid;
using image::Knows;
using test::ByteVector;

constexpr Guid kAccept = abi::efi::kMemoryAcceptProtocol;
constexpr Guid kHandshake = abi::efi::kMemoryAcceptanceHandshakeProtocol;
constexpr std::uint8_t kVolumeImage = 0x17;

Report report_of(const ByteVector& file) {
  auto report = inspect(file);
  EXPECT_TRUE(report) << (report ? "" : report.error().message);
  return report.value_or(Report{});
}

std::string value_of(const Report& report, Feature feature) {
  return std::string{to_string(report[feature].value)};
}

/// As OVMF since edk2-stable202302.
ByteVector recent() {
  return test::flash({test::driver(test::kOtherDxe, {kAccept, kHandshake}),
                      test::driver(test::kAmdSevDxe, {kAccept, kHandshake}),
                      test::driver(test::kTdxDxe, {kAccept})});
}

TEST(Firmware, RecentFirmwareIsOfADifferentKindForEachPlatform) {
  const Report report = report_of(recent());
  EXPECT_EQ(report.kind, ImageKind::kOvmf);
  EXPECT_EQ(report.machine, Machine::kX86_64);
  for (const Feature feature :
       {Feature::kSevGuest, Feature::kSnpGuest, Feature::kTdxGuest, Feature::kHandshake,
        Feature::kAcceptProtocol, Feature::kUnacceptedMemory}) {
    EXPECT_EQ(value_of(report, feature), "yes") << to_string(feature);
  }
  EXPECT_EQ(report.verdict.accept_all, "no guests");
  EXPECT_EQ(report.verdict.handshake, "SEV-SNP guests");
  EXPECT_EQ(report.verdict.never, "TDX guests");
  EXPECT_EQ(report.version, "edk2-stable202302 or later");
}

TEST(Firmware, WithoutTheProtocolsItAcceptsEverything) {
  const Report report =
      report_of(test::flash({test::driver(test::kAmdSevDxe, {}), test::driver(test::kTdxDxe, {})}));
  EXPECT_EQ(report.verdict.accept_all, "TDX and SEV-SNP guests");
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemory), "no");
  EXPECT_EQ(report.version, "");
}

TEST(Firmware, MetadataWithoutTheDriverAreNoCapability) {
  const Report report = report_of(test::flash({test::driver(test::kTdxDxe, {kAccept})}));
  EXPECT_EQ(value_of(report, Feature::kSevGuest), "no");
  EXPECT_EQ(value_of(report, Feature::kSnpGuest), "no");
  EXPECT_EQ(value_of(report, Feature::kTdxGuest), "yes");
}

TEST(Firmware, ADriverWithoutMetadataIsNoCapability) {
  const Report report = report_of(test::flash(
      {test::driver(test::kAmdSevDxe, {kHandshake}), test::driver(test::kTdxDxe, {kAccept})},
      {.sev = {}, .tdx = {}}));
  EXPECT_EQ(value_of(report, Feature::kSevGuest), "yes");
  EXPECT_EQ(value_of(report, Feature::kSnpGuest), "no");
  EXPECT_EQ(value_of(report, Feature::kTdxGuest), "no");
  EXPECT_EQ(value_of(report, Feature::kUnacceptedMemory), "no");
}

TEST(Firmware, AProtocolInAnotherDriverIsNotOffered) {
  const Report report = report_of(test::flash(
      {test::driver(test::kOtherDxe, {kAccept, kHandshake}), test::driver(test::kAmdSevDxe, {})}));
  EXPECT_EQ(value_of(report, Feature::kHandshake), "no");
  EXPECT_EQ(value_of(report, Feature::kAcceptProtocol), "no");
}

TEST(Firmware, MetadataTellTheOldestRelease) {
  const auto version = [](std::vector<std::uint32_t> sev) {
    return report_of(test::flash({test::driver(test::kAmdSevDxe, {})}, {.sev = std::move(sev)}))
        .version;
  };
  EXPECT_EQ(version({2, 3, 4}), "edk2-stable202405 or later");
  EXPECT_EQ(version({2, 3, 0x10}), "edk2-stable202402 or later");
}

TEST(Firmware, EvidenceLiesInTheUnpackedVolume) {
  const Report report = report_of(recent());
  const Evidence& driver = report[Feature::kTdxGuest].evidence.front();
  EXPECT_EQ(driver.signal, "driver TdxDxe");
  EXPECT_TRUE(driver.place.starts_with("section unpacked from file at byte "));
  const ByteVector inner = test::section(
      kVolumeImage, test::volume({test::driver(test::kOtherDxe, {kAccept, kHandshake}),
                                  test::driver(test::kAmdSevDxe, {kAccept, kHandshake}),
                                  test::driver(test::kTdxDxe, {kAccept})}));
  const auto name = std::bit_cast<std::array<std::byte, 16>>(test::kTdxDxe);
  const auto at = std::ranges::search(inner, name).begin() - inner.begin();
  EXPECT_EQ(static_cast<std::ptrdiff_t>(driver.offset), at);
}

TEST(Firmware, AStoreOfVariablesHasNoCode) {
  const Report report = report_of(test::variable_store());
  EXPECT_EQ(report.verdict.never, "no firmware code");
  EXPECT_EQ(value_of(report, Feature::kSevGuest), "unknown");
}

/// What cannot be unpacked may hold the driver.
TEST(Firmware, NothingIsAbsentWhereSomethingCouldNotBeRead) {
  constexpr Guid kUnknownPacking{0x3D532050, 0x5CDA, 0x4FD0, {1, 2, 3, 4, 5, 6, 7, 8}};
  const auto packed = test::guided_section(kUnknownPacking, 1, test::bytes_of("packed"));
  ByteVector file = test::volume({test::firmware_file(test::kOtherDxe, 0x0B, packed)});
  test::append(file, test::flash_end({}));
  const Report report = report_of(file);
  EXPECT_EQ(value_of(report, Feature::kSevGuest), "unknown");
  ASSERT_FALSE(report.notes.empty());
  EXPECT_NE(report.notes.front().find("packed in an unknown way"), std::string::npos);
}

TEST(Firmware, ATruncatedVolumeIsAnError) {
  auto file = recent();
  file.resize(test::variable_store().size() + 0x800);
  const auto report = inspect(file);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().message, "ends inside the firmware volume at byte " +
                                        std::to_string(test::variable_store().size()));
}

TEST(FirmwareVolumes, SeesFilesInEveryKindOfSection) {
  constexpr Guid kCrc32{
      0xFC1BCDB0, 0x7D31, 0x49AA, {0x93, 0x6A, 0xA4, 0x60, 0x0D, 0x9D, 0xD0, 0x83}};
  const auto inner = [](const Guid& name) {
    return test::section(kVolumeImage, test::volume({test::driver(name, {})}));
  };
  ByteVector stored;
  test::append_number(stored, inner(test::kTdxDxe).size(), 4);
  test::append_number(stored, 0, 1);
  test::append(stored, inner(test::kTdxDxe));
  ByteVector sections = test::guided_section(kCrc32, 0, inner(test::kAmdSevDxe));
  while (sections.size() % 4 != 0) {
    sections.push_back(std::byte{0});
  }
  test::append(sections, test::section(1, stored));
  const auto file = test::volume({test::firmware_file(test::kOtherDxe, 0x0B, sections)});
  const FirmwareVolumes volumes{file};
  EXPECT_TRUE(volumes.problems().empty()) << volumes.problems().front();
  EXPECT_EQ(volumes.files().size(), 3U);
  EXPECT_NE(volumes.find(test::kAmdSevDxe), nullptr);
  EXPECT_NE(volumes.find(test::kTdxDxe), nullptr);
  EXPECT_EQ(volumes.find({}), nullptr);
}

TEST(FirmwareVolumes, TheirSignatureInCodeIsNoVolume) {
  ByteVector file(0x2000);
  std::ranges::copy(test::bytes_of("_FVH"), file.begin() + 0x828);
  EXPECT_EQ(FirmwareVolumes{file}.first_volume(), std::nullopt);
}

TEST(FirmwareVolumes, ADamagedFileIsAProblem) {
  auto file = test::volume({test::driver(test::kAmdSevDxe, {})});
  file[0x48 + 18] ^= std::byte{1};  // its type
  const FirmwareVolumes volumes{file};
  EXPECT_TRUE(volumes.files().empty());
  ASSERT_EQ(volumes.problems().size(), 1U);
  EXPECT_EQ(volumes.problems()[0], "a file that is not sound (file at byte 72)");
}

TEST(FirmwareVolumes, NestToALimit) {
  ByteVector sections = test::section(0x19, test::bytes_of("core"));
  for (unsigned depth = 0; depth < FirmwareVolumes::kMostDepth + 3; ++depth) {
    sections = test::section(3, sections);
  }
  const auto file = test::volume({test::firmware_file(test::kOtherDxe, 0x0B, sections)});
  const FirmwareVolumes volumes{file};
  ASSERT_EQ(volumes.problems().size(), 1U);
  EXPECT_TRUE(volumes.problems()[0].starts_with("sections that nest too deep"));
}

TEST(FirmwareTables, AreReadFromTheEnd) {
  const auto page = test::flash_end({});
  const auto tables = read_firmware_tables(page);
  EXPECT_EQ(tables.footer, page.size() - 0x30);
  ASSERT_TRUE(tables.sev);
  EXPECT_EQ(tables.sev->offset, 0x100U);
  EXPECT_TRUE(tables.sev->has(kSevCpuidPage));
  EXPECT_FALSE(tables.sev->has(kSevKernelHashes));
  ASSERT_TRUE(tables.tdx);
  EXPECT_EQ(tables.tdx->sections.size(), 4U);
  EXPECT_TRUE(tables.problems.empty());
}

TEST(FirmwareTables, UnsoundMetadataAreLeftOut) {
  auto page = test::flash_end({});
  page[0x100] ^= std::byte{1};         // signature
  page[0x800 + 12] = std::byte{0xFF};  // more sections than there are bytes
  const auto tables = read_firmware_tables(page);
  EXPECT_FALSE(tables.sev);
  EXPECT_FALSE(tables.tdx);
  EXPECT_EQ(tables.problems.size(), 2U);
}

TEST(FirmwareTables, EntriesOfWrongLengthEndTheTable) {
  auto page = test::flash_end({});
  page[page.size() - 0x32 - 18] = std::byte{1};
  const auto tables = read_firmware_tables(page);
  EXPECT_FALSE(tables.sev);
  EXPECT_EQ(tables.problems.size(), 1U);
}

TEST(FirmwareTables, AreNowhereElse) {
  EXPECT_FALSE(read_firmware_tables({}).footer);
  EXPECT_FALSE(read_firmware_tables(ByteVector(0x1000)).footer);
}

}  // namespace
}  // namespace accede::inspect
