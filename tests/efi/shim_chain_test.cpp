// The images that are started one by another: who decides, and when memory is accepted.

#include "accede/efi/shim/chain.hpp"
#include "tests/efi/shim_firmware.hpp"
#include "tests/efi/shim_images.hpp"

#include <gtest/gtest.h>

namespace accede::efi::shim {
namespace {

using abi::efi::MemoryType;
using abi::efi::Status;
using guest::PlatformKind;

constexpr std::uint64_t kGiB = 1ULL << 30;

/// An SEV-SNP machine with 2 GiB unaccepted.
class ShimChain : public testing::Test {
 protected:
  ShimChain() {
    fake.add_unaccepted(4 * kGiB, 6 * kGiB);
    around.handshake = &fake.handshake;
  }

  /// Starts an image the way a boot loader does: by the firmware's own table.
  Status start(abi::efi::Handle image) {
    return firmware.boot().start_image(image, nullptr, nullptr);
  }
  /// Starts it with the shim around it.
  Status watch(abi::efi::Handle image) {
    auto memory = UnacceptedMemory::find(firmware);
    EXPECT_TRUE(memory.has_value());
    Guide guide{firmware, around, *memory};
    Chain chain{firmware, guide};
    chain.begin();
    const Status status = start(image);
    unhooked = chain.end();
    return status;
  }
  Status exit(abi::efi::Handle image) {
    return firmware.boot().exit_boot_services(image, fake.key);
  }
  /// A kernel that leaves boot services as Linux does: once more with a fresh key.
  abi::efi::Handle kernel(const std::vector<std::byte>& placed) {
    handle = fake.load(placed, [this] {
      accepted_at_start = fake.accepted_bytes;
      promises_at_start = fake.promises;
      const Status first = exit(handle);
      return first == Status::kInvalidParameter ? exit(handle) : first;
    });
    return handle;
  }

  test::ShimFirmware fake;
  Firmware firmware = fake.firmware();
  Surroundings around{.platform = PlatformKind::kSnp};
  abi::efi::Handle handle = nullptr;
  std::uint64_t accepted_at_start = ~0ULL;
  int promises_at_start = -1;
  bool unhooked = false;
};

TEST_F(ShimChain, AKernelThatAcceptsIsPromisedForAndLeftAlone) {
  EXPECT_EQ(watch(kernel(test::accepting_kernel())), Status::kSuccess);
  EXPECT_EQ(fake.accepted_bytes, 0U);
  EXPECT_EQ(promises_at_start, 0) << "it may come back, and a promise cannot be taken back";
  EXPECT_EQ(fake.promises, 1);
  EXPECT_EQ(fake.exit_calls, 1) << "the first call goes through";
}

TEST_F(ShimChain, WithoutAHandshakeAKernelThatAcceptsIsLeftAloneAsWell) {
  around.handshake = nullptr;
  EXPECT_EQ(watch(kernel(test::accepting_kernel())), Status::kSuccess);
  EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 2 * kGiB);
}

TEST_F(ShimChain, AKernelThatCannotFindsEverythingAcceptedWhenItStarts) {
  EXPECT_EQ(watch(kernel(test::old_kernel())), Status::kSuccess);
  EXPECT_EQ(accepted_at_start, 2 * kGiB);
  EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 0U);
  EXPECT_EQ(fake.promises, 0);
  EXPECT_EQ(fake.exit_calls, 1) << "and no call of it fails for that";
  EXPECT_TRUE(fake.printed("it cannot accept memory"));
}

TEST_F(ShimChain, UnknownIsNeverTakenForAccepts) {
  EXPECT_EQ(watch(kernel(test::unknown_kernel())), Status::kSuccess);
  EXPECT_EQ(accepted_at_start, 2 * kGiB);
  EXPECT_EQ(fake.promises, 0);
  EXPECT_TRUE(fake.printed("cannot tell whether it accepts memory"));
}

TEST_F(ShimChain, TheLastImageOfAChainDecides) {
  // Boot manager, unified kernel image, inner kernel.
  const auto inner = kernel(test::accepting_kernel());
  const auto uki = fake.load(test::unified(test::accepting_kernel()), [&] { return start(inner); });
  const auto loader = fake.load(test::boot_loader(), [&] { return start(uki); });
  EXPECT_EQ(watch(loader), Status::kSuccess);
  EXPECT_EQ(fake.accepted_bytes, 0U);
  EXPECT_EQ(fake.promises, 1);
}

TEST_F(ShimChain, ALoaderThatStartsAnOldKernelHasMemoryAcceptedForThat) {
  const auto inner = kernel(test::old_kernel());
  const auto loader = fake.load(test::boot_loader(), [&] {
    EXPECT_EQ(fake.accepted_bytes, 0U) << "the loader decides nothing";
    return start(inner);
  });
  EXPECT_EQ(watch(loader), Status::kSuccess);
  EXPECT_EQ(accepted_at_start, 2 * kGiB);
}

TEST_F(ShimChain, AKernelThatComesBackDecidesNothingForTheNext) {
  const auto first = fake.load(test::accepting_kernel(), [] { return Status::kLoadError; });
  const auto second = kernel(test::old_kernel());
  const auto menu = fake.load(test::boot_loader(), [&] {
    EXPECT_EQ(start(first), Status::kLoadError);
    return start(second);
  });
  EXPECT_EQ(watch(menu), Status::kSuccess);
  EXPECT_EQ(fake.promises, 0);
  EXPECT_EQ(accepted_at_start, 2 * kGiB);
}

TEST_F(ShimChain, Regression_E05_AKernelThatWasNotSeenFailsOnceAndReadsTheMapAgain) {
  // A loader that enters the kernel itself: the firmware's table never sees that.
  std::uint64_t old_key = 0;
  const auto loader = fake.load(test::boot_loader(), [&] {
    old_key = fake.key;
    EXPECT_EQ(exit(handle), Status::kInvalidParameter);
    EXPECT_EQ(fake.exit_calls, 1) << "the handlers of the firmware run now";
    EXPECT_EQ(firmware.boot().exit_boot_services(handle, old_key), Status::kInvalidParameter)
        << "the map that it knew is no more";
    return exit(handle);
  });
  handle = loader;
  EXPECT_EQ(watch(loader), Status::kSuccess);
  EXPECT_EQ(fake.accepted_bytes, 2 * kGiB);
  EXPECT_EQ(fake.bytes_of(MemoryType::kUnaccepted), 0U);
  EXPECT_EQ(fake.other_calls_after_exit, 0) << "only two services may be called";
}

TEST_F(ShimChain, TheFirstCallFailsEvenIfTheFirmwaresKeyStaysTheSame) {
  fake.accept_fails = true;  // memory goes from the map, none is added: edk2 keeps its key
  const auto loader = fake.load(test::boot_loader(), [this] {
    const std::uint64_t key = fake.key;
    EXPECT_EQ(exit(nullptr), Status::kInvalidParameter);
    EXPECT_EQ(fake.key, key);
    EXPECT_EQ(fake.times_left, 0) << "boot services are still there";
    return exit(nullptr);
  });
  EXPECT_EQ(watch(loader), Status::kSuccess);
}

TEST_F(ShimChain, WithNothingUnacceptedTheFirstCallOfAnybodyGoesThrough) {
  fake.map.pop_back();
  const auto loader = fake.load(test::boot_loader(), [this] { return exit(nullptr); });
  EXPECT_EQ(watch(loader), Status::kSuccess);
  EXPECT_EQ(fake.exit_calls, 1);
}

TEST_F(ShimChain, MemoryThatCannotBeAcceptedKeepsNobodyFromStarting) {
  fake.accept_fails = true;
  EXPECT_EQ(watch(kernel(test::old_kernel())), Status::kSuccess);
  EXPECT_TRUE(fake.printed("accepting memory failed: the kernel will not see 2048 MiB"));
}

// --- What cannot run -----------------------------------------------------------------------------

TEST_F(ShimChain, AKernelThatDoesNotKnowThePlatformIsNotStarted) {
  around.platform = PlatformKind::kTdx;
  const auto old = kernel(test::old_kernel());
  EXPECT_EQ(watch(old), Status::kUnsupported);
  EXPECT_EQ(fake.starts, 0);
  EXPECT_EQ(fake.unloaded, std::vector{old});
  EXPECT_EQ(fake.accepted_bytes, 0U);
  EXPECT_TRUE(fake.printed("does not know TDX and cannot run here: not started"));
}

TEST_F(ShimChain, WhereThePlatformIsEmulatedLenientlyItIsStartedWithAWord) {
  around.platform = PlatformKind::kTdx;
  around.lenient = true;
  EXPECT_EQ(watch(kernel(test::old_kernel())), Status::kSuccess);
  EXPECT_TRUE(fake.printed("does not know TDX: only an emulator runs it"));
}

TEST_F(ShimChain, AKernelOfWhichNothingIsKnownIsTried) {
  around.platform = PlatformKind::kTdx;
  EXPECT_EQ(watch(kernel(test::unknown_kernel())), Status::kSuccess);
  EXPECT_TRUE(fake.printed("knows TDX: trying"));
}

// --- What is remembered --------------------------------------------------------------------------

TEST_F(ShimChain, AKnownImageIsNotLookedAtAgain) {
  const auto image = [this] { return kernel(test::accepting_kernel()); };
  EXPECT_EQ(watch(image()), Status::kSuccess);
  EXPECT_TRUE(fake.printed("new image: Linux 6.12.1-made-up"));
  EXPECT_EQ(fake.variable_writes, 1);
  EXPECT_EQ(watch(image()), Status::kSuccess);
  EXPECT_TRUE(fake.printed("known image: Linux 6.12.1-made-up"));
  EXPECT_EQ(fake.variable_writes, 1);
}

TEST_F(ShimChain, WhatIsRememberedIsBelieved) {
  EXPECT_EQ(watch(kernel(test::accepting_kernel())), Status::kSuccess);
  auto& stored = fake.variables.begin()->second.data;
  stored[stored.size() - 3] = std::byte{2};  // it does not accept on SEV-SNP
  EXPECT_EQ(watch(kernel(test::accepting_kernel())), Status::kSuccess);
  EXPECT_EQ(accepted_at_start, 2 * kGiB) << "the scan was skipped";
}

TEST_F(ShimChain, WithoutAPlaceToRememberItIsOnlySlower) {
  fake.keeps_variables = false;
  EXPECT_EQ(watch(kernel(test::old_kernel())), Status::kSuccess);
  EXPECT_EQ(accepted_at_start, 2 * kGiB);
  EXPECT_TRUE(fake.printed("its verdict is not remembered"));
}

// --- The hooks -----------------------------------------------------------------------------------

TEST_F(ShimChain, PutsTheServicesBackWithTheirCheckSum) {
  const auto before = firmware.boot();
  EXPECT_EQ(watch(fake.load(test::boot_loader(),
                            [this] {
                              EXPECT_EQ(firmware.boot().header.crc32, test::FakeFirmware::kCrc);
                              return Status::kLoadError;
                            })),
            Status::kLoadError);
  EXPECT_TRUE(unhooked);
  EXPECT_EQ(firmware.boot().start_image, before.start_image);
  EXPECT_EQ(firmware.boot().exit_boot_services, before.exit_boot_services);
}

TEST_F(ShimChain, CannotGoWhenSomebodyElseHookedOnTop) {
  const auto before = firmware.boot();
  EXPECT_EQ(watch(fake.load(test::boot_loader(),
                            [this, &before] {
                              firmware.boot().start_image = before.start_image;
                              return Status::kLoadError;
                            })),
            Status::kLoadError);
  EXPECT_FALSE(unhooked);
}

TEST_F(ShimChain, DeeperThanAnybodyChainsTheKernelCountsAsUnseen) {
  auto next = kernel(test::accepting_kernel());
  for (std::size_t i = 0; i < Chain::kMostRunning; ++i) {
    next = fake.load(test::boot_loader(), [this, next] { return start(next); });
  }
  EXPECT_EQ(watch(next), Status::kSuccess);
  EXPECT_EQ(fake.accepted_bytes, 2 * kGiB);
}

}  // namespace
}  // namespace accede::efi::shim
