// Exchanges with a host that, as KVM does, takes one registered GHCB of a CPU and ends a guest that
// exits with another.

#include "accede/efi/ghcb_msr.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

namespace accede::efi {
namespace {

namespace wire = abi::ghcb;

constexpr std::uint64_t kAtReset = 0x0002'0001'3300'0001;
constexpr PhysAddr kOurs{0x7000};
constexpr PhysAddr kFirmwares{0x80'9000};

struct Host {
  std::uint64_t msr = kAtReset;
  bool interrupts = true;
  std::optional<std::uint64_t> registered;
  std::optional<std::uint64_t> refused;  ///< a GHCB that is not taken
  std::vector<std::uint64_t> page_exits;
  unsigned exits = 0;
  unsigned exits_with_interrupts = 0;
  bool guest_ended = false;

  void exit() {
    ++exits;
    exits_with_interrupts += interrupts ? 1 : 0;
    switch (wire::code_of(msr)) {
      case wire::MsrCode::kRegisterGhcbRequest: {
        const std::uint64_t page = wire::MsrWord::Payload::get(msr) << 12;
        if (page == refused) {
          msr = wire::msr_word(wire::MsrCode::kRegisterGhcbResponse, wire::kNoGhcb);
          return;
        }
        registered = page;
        msr = wire::register_ghcb_response(PhysAddr{page});
        return;
      }
      case wire::MsrCode::kHvFeaturesRequest:
        msr = wire::msr_word(wire::MsrCode::kHvFeaturesResponse, 3);
        return;
      case wire::MsrCode::kTerminateRequest:
        guest_ended = true;
        return;
      default:
        EXPECT_EQ(msr % 4096, 0U) << "not a request";
        guest_ended = guest_ended || registered != msr;
        page_exits.push_back(msr);
    }
  }
};

struct Port {
  Host* host;
  std::uint64_t read() { return host->msr; }
  void write(std::uint64_t value) { host->msr = value; }
  void exit() { host->exit(); }
  bool hold_interrupts() { return std::exchange(host->interrupts, false); }
  void release_interrupts(bool were_on) { host->interrupts = were_on; }
};

class GhcbMsrTest : public testing::Test {
 protected:
  Host host;
  BasicGhcbMsr<Port> ghcb{Port{&host}};
};

TEST_F(GhcbMsrTest, AnswersARequestAndLeavesTheMsrAsItWas) {
  const std::uint64_t answer = ghcb.msr_exchange(wire::msr_word(wire::MsrCode::kHvFeaturesRequest));
  EXPECT_EQ(answer, 0x3081U);
  EXPECT_EQ(host.msr, kAtReset);
  EXPECT_EQ(host.exits, 1U);
}

TEST_F(GhcbMsrTest, ExitsWithInterruptsOffAndTurnsThemOnOnlyWhereTheyWereOn) {
  for (const bool were_on : {true, false}) {
    host.interrupts = were_on;
    static_cast<void>(ghcb.msr_exchange(wire::msr_word(wire::MsrCode::kHvFeaturesRequest)));
    ghcb.page_exchange(kOurs);
    EXPECT_TRUE(ghcb.can_register(kOurs));
    EXPECT_EQ(host.interrupts, were_on);
  }
  EXPECT_EQ(host.exits_with_interrupts, 0U);
}

TEST_F(GhcbMsrTest, RegistersThePageBeforeItExitsWithIt) {
  ghcb.page_exchange(kOurs);
  EXPECT_EQ(host.page_exits, std::vector{kOurs.value()});
  EXPECT_FALSE(host.guest_ended);
  EXPECT_EQ(host.msr, kAtReset);
}

TEST_F(GhcbMsrTest, GivesTheFirmwareItsGhcbBackAfterAList) {
  host.msr = kFirmwares.value();
  host.registered = kFirmwares.value();
  ghcb.page_exchange(kOurs);
  EXPECT_EQ(host.msr, kFirmwares.value());
  host.exit();  // the firmware's next call
  EXPECT_EQ(host.page_exits, (std::vector{kOurs.value(), kFirmwares.value()}));
  EXPECT_FALSE(host.guest_ended);
}

TEST_F(GhcbMsrTest, GivesTheFirmwareItsGhcbBackAfterATrialRegistration) {
  host.msr = kFirmwares.value();
  host.registered = kFirmwares.value();
  EXPECT_TRUE(ghcb.can_register(kOurs));
  EXPECT_EQ(host.msr, kFirmwares.value());
  EXPECT_EQ(host.registered, kFirmwares.value());
}

TEST_F(GhcbMsrTest, DoesNotExitWithAPageThatTheHostRefuses) {
  host.msr = kFirmwares.value();
  host.registered = kFirmwares.value();
  host.refused = kOurs.value();
  EXPECT_FALSE(ghcb.can_register(kOurs));
  EXPECT_FALSE(ghcb.keep(kOurs));
  ghcb.page_exchange(kOurs);
  EXPECT_TRUE(host.page_exits.empty());
  EXPECT_EQ(host.registered, kFirmwares.value());
  EXPECT_EQ(host.msr, kFirmwares.value());
}

TEST_F(GhcbMsrTest, CostsOneExitAListOnceThePageIsKept) {
  ASSERT_TRUE(ghcb.keep(kOurs));
  EXPECT_EQ(host.msr, kOurs.value());
  host.exits = 0;
  ghcb.page_exchange(kOurs);
  EXPECT_EQ(host.exits, 1U);
  EXPECT_EQ(host.page_exits, std::vector{kOurs.value()});
  EXPECT_EQ(host.msr, kOurs.value());
}

TEST_F(GhcbMsrTest, TakesZeroForNoGhcbOfAnybody) {
  host.msr = 0;
  ghcb.page_exchange(kOurs);
  EXPECT_EQ(host.registered, kOurs.value());
  EXPECT_EQ(host.msr, 0U);
}

TEST_F(GhcbMsrTest, AsksForTheEndWithTheReason) {
  ghcb.terminate(wire::kTerminateLinuxPvalidate);
  EXPECT_TRUE(host.guest_ended);
  EXPECT_EQ(host.msr, 0x21100U);
  EXPECT_FALSE(host.interrupts);
}

}  // namespace
}  // namespace accede::efi
