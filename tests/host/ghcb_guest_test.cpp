// Our guest's half of the protocol against our host's.
#include "accede/guest/page_state_list.hpp"
#include "tests/host/ghcb_fixture.hpp"

namespace accede::host::test {
namespace {

using Log = std::vector<std::string>;

class GuestAndHost : public ::testing::Test {
 protected:
  guest::PlatformResult change(std::uint64_t begin, std::uint64_t end, PageOp op) {
    const guest::PageStateBatch batch{*PhysRange::make(PhysAddr{begin}, PhysAddr{end}),
                                      PageSize::k2M};
    return guest::change_page_state({.page = &vm.page(), .address = PhysAddr{kGhcb}}, batch, op, 2,
                                    [this](PhysAddr ghcb) {
                                      ++exits;
                                      EXPECT_EQ(vm.ghcb.exit(ghcb.value()).next, GhcbNext::kResume);
                                    });
  }

  GhcbVm vm;
  unsigned exits = 0;
};

TEST_F(GuestAndHost, AListOfOurGuestIsOneChangeForEachSize) {
  EXPECT_TRUE(change(0x1FF000, 0x801000, PageOp::kPrivate).has_value());
  EXPECT_EQ(vm.host.log, (Log{"private 4K 1ff000-200000", "private 2M 200000-800000",
                              "private 4K 800000-801000"}));
  EXPECT_EQ(exits, 1U);
  EXPECT_TRUE(vm.host.mistakes.empty());
}

TEST_F(GuestAndHost, OurGuestAsksAgainAfterEveryPause) {
  std::uint64_t converted = 0;
  vm.host.on_page_state = [&](const GhcbPageState& change) {
    EXPECT_EQ(change.range.begin().value(), 0x200000 + 4096 * converted);
    converted += std::min<std::uint64_t>(100, change.range.size() / 4_KiB);
    return GhcbPageStateAnswer{.done = PageCount{100}};
  };
  EXPECT_TRUE(change(0x200000, 0x800000, PageOp::kShared).has_value());
  EXPECT_EQ(converted, 3U * 512);
  EXPECT_GT(exits, 10U);
}

TEST_F(GuestAndHost, OurGuestSeesARefusalAndHowFarTheHostCame) {
  vm.host.on_page_state = [](const auto&) {
    return GhcbPageStateAnswer{.done = PageCount{600}, .refused = true};
  };
  const auto result = change(0x200000, 0x800000, PageOp::kPrivate);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, guest::FailureKind::kRefused);
  EXPECT_EQ(result.error().status, static_cast<std::uint64_t>(PscResult::kGeneric));
  EXPECT_EQ(result.error().done_end, PhysAddr{0x400000});
}

TEST_F(GuestAndHost, OnePageByTheMsrProtocol) {
  const auto exchange = [this](std::uint64_t request) { return vm.ghcb.exit(request).msr; };
  EXPECT_TRUE(guest::change_page_state(PhysAddr{0x5000}, PageOp::kShared, exchange).has_value());
  EXPECT_EQ(vm.host.log, Log{"shared 4K 5000-6000"});
  vm.host.on_page_state = [](const auto&) { return GhcbPageStateAnswer{.refused = true}; };
  const auto refused = guest::change_page_state(PhysAddr{0x5000}, PageOp::kShared, exchange);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, guest::FailureKind::kRefused);
}

}  // namespace
}  // namespace accede::host::test
