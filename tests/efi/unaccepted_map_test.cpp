// The firmware's services as the launcher wraps them, and the negotiation behind ExitBootServices.
#include "accede/efi/unaccepted_map.hpp"

#include "accede/efi/departure.hpp"
#include "tests/efi/fake_firmware.hpp"

#include <gtest/gtest.h>

namespace accede::efi {
namespace {

using abi::efi::MemoryDescriptor;
using abi::efi::MemoryMapView;
using abi::efi::MemoryType;
using abi::efi::Status;
using accede::firmware::FirmwareKind;
using accede::firmware::Negotiation;
using test::FakeFirmware;

class WrappedExit : public ::testing::Test {
 protected:
  WrappedExit() {
    accepts_ = 0;
    fake_.add(MemoryType::kConventional, 0x10'0000, 0x4000'0000);
    fake_.add(kClaimed, 0x1'0000'0000, 0x1'8000'0000);
  }

  void wrap(FirmwareKind kind, MapLie lie = MapLie::kNone) {
    negotiation_ = Negotiation{kind};
    show_as_unaccepted(firmware_, lie, negotiation_, [] { ++accepts_; });
  }
  Firmware::MemoryMap map() {
    auto read = firmware_.memory_map();
    EXPECT_TRUE(read);
    return read.value_or(Firmware::MemoryMap{});
  }
  /// How the claimed memory is shown.
  MemoryType high_type() {
    const Firmware::MemoryMap read = map();
    return static_cast<MemoryType>((*MemoryMapView::make(read.bytes, read.stride))[1].type);
  }
  Status exit(std::uint64_t key) { return firmware_.boot().exit_boot_services(nullptr, key); }

  FakeFirmware fake_;
  Firmware firmware_ = fake_.firmware();
  Negotiation negotiation_{FirmwareKind::kNever};
  static inline int accepts_ = 0;
};

TEST_F(WrappedExit, WithoutAPromiseFailsOnceAndShowsTheMemoryAsConventional) {
  wrap(FirmwareKind::kHandshake);
  EXPECT_EQ(high_type(), MemoryType::kUnaccepted);
  EXPECT_EQ(exit(map().key), Status::kInvalidParameter);
  EXPECT_EQ(accepts_, 1);
  EXPECT_EQ(fake_.exit_calls, 1) << "the handlers of the firmware below run now";
  EXPECT_EQ(high_type(), MemoryType::kConventional);
  EXPECT_EQ(exit(map().key), Status::kSuccess);
  EXPECT_EQ(accepts_, 1);
}

TEST_F(WrappedExit, WithoutAPromiseAcceptsWhateverTheKeyOfTheFirstCall) {
  wrap(FirmwareKind::kHandshake);
  EXPECT_EQ(exit(map().key + 1), Status::kInvalidParameter);
  EXPECT_EQ(accepts_, 1);
  EXPECT_EQ(exit(map().key), Status::kSuccess);
}

TEST_F(WrappedExit, TheKeyOfTheFirstCallIsStaleForGood) {
  wrap(FirmwareKind::kHandshake);
  const std::uint64_t old_key = map().key;
  EXPECT_EQ(exit(old_key), Status::kInvalidParameter);
  EXPECT_EQ(exit(old_key), Status::kInvalidParameter) << "a loader must read the map again";
}

TEST_F(WrappedExit, AfterAPromiseGoesOnAtOnce) {
  wrap(FirmwareKind::kHandshake);
  negotiation_.allow_unaccepted();
  EXPECT_EQ(exit(map().key), Status::kSuccess);
  EXPECT_EQ(accepts_, 0);
  EXPECT_EQ(high_type(), MemoryType::kUnaccepted);
}

TEST_F(WrappedExit, OfFirmwareThatNeverAcceptsGoesOnAtOnce) {
  wrap(FirmwareKind::kNever);
  EXPECT_EQ(exit(map().key), Status::kSuccess);
  EXPECT_EQ(accepts_, 0);
  EXPECT_EQ(high_type(), MemoryType::kUnaccepted);
}

TEST_F(WrappedExit, LiesAreAboutUnacceptedMemoryOnly) {
  wrap(FirmwareKind::kHandshake, MapLie::kOverlap);
  static_cast<void>(exit(map().key));
  const Firmware::MemoryMap read = map();
  const MemoryDescriptor high = (*MemoryMapView::make(read.bytes, read.stride))[1];
  EXPECT_EQ(high.physical_start, 0x1'0000'0000U);
}

TEST_F(WrappedExit, TheTableOfServicesHasItsChecksum) {
  wrap(FirmwareKind::kHandshake);
  EXPECT_EQ(firmware_.boot().header.crc32, FakeFirmware::kCrc);
}

TEST_F(WrappedExit, OurLoaderLeavesItWithEverythingAccepted) {
  wrap(FirmwareKind::kHandshake);
  Departure departure{firmware_, AcceptanceWish::kEverything};
  ASSERT_TRUE(departure.prepare(guest::PlatformKind::kTdx));
  EXPECT_TRUE(departure.exit());
  ASSERT_TRUE(departure.settle([](PhysRange) -> guest::PlatformResult {
    ADD_FAILURE() << "a second acceptance";
    return {};
  }));
  EXPECT_EQ(accepts_, 1);
  EXPECT_EQ(departure.memory_map().bytes_of(guest::MemoryKind::kUnaccepted), Bytes{0});
}

}  // namespace
}  // namespace accede::efi
