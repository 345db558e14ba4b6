#include "accede/efi/kernel/ghcb_page.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace accede::efi::kernel {
namespace {

using guest::Visibility;
using testing::ElementsAre;

constexpr PhysAddr kAddress{0x7E28'5000};

/// Writes down what it is asked, and refuses one thing.
struct FakePlatform {
  struct Msr {
    FakePlatform* platform;
    bool keep(PhysAddr ghcb) { return platform->step("register", ghcb); }
  };

  std::vector<std::string> steps{};
  std::string refused{};
  Msr msr{this};

  bool step(const std::string& name, PhysAddr at) {
    EXPECT_EQ(at, kAddress);
    steps.push_back(name);
    return name != refused;
  }
  guest::PlatformResult done(const std::string& name, PhysRange range) {
    EXPECT_EQ(range.size(), 4_KiB);
    if (step(name, range.begin())) {
      return {};
    }
    return std::unexpected{guest::PlatformFailure{.kind = guest::FailureKind::kHostLied,
                                                  .status = 0,
                                                  .at = range.begin(),
                                                  .size = PageSize::k4K,
                                                  .done_end = range.begin()}};
  }
  guest::PlatformResult convert(PhysRange range, Visibility to) {
    return done(to == Visibility::kShared ? "share" : "unshare", range);
  }
  guest::PlatformResult accept(PhysRange range) { return done("accept", range); }
  Msr& ghcb_msr() { return msr; }
  void use_ghcb(abi::ghcb::GhcbPage* page, PhysAddr at) {
    steps.emplace_back(page == nullptr ? "use none" : "use");
    EXPECT_EQ(at, page == nullptr ? PhysAddr{} : kAddress);
  }
};

class KernelGhcbPage : public testing::Test {
 protected:
  KernelGhcbPage() { std::ranges::fill(page->shared_buffer, 0x5A5A); }

  [[nodiscard]] guest::GhcbRef ghcb() { return {.page = page.get(), .address = kAddress}; }
  std::expected<void, PageTablesError> map(Visibility visibility) {
    if (platform.step(visibility == Visibility::kShared ? "map shared" : "map private", kAddress)) {
      return {};
    }
    return std::unexpected{PageTablesError::kOutOfTables};
  }
  std::expected<void, KernelError> open() {
    return open_ghcb(platform, ghcb(), [this](Visibility to) { return map(to); });
  }
  std::expected<void, KernelError> close() {
    return close_ghcb(platform, ghcb(), [this](Visibility to) { return map(to); });
  }
  [[nodiscard]] std::string why_open_fails(const std::string& refused) {
    platform.refused = refused;
    const auto opened = open();
    return opened ? "" : std::string{opened.error().text().view()};
  }

  FakePlatform platform;
  std::unique_ptr<abi::ghcb::GhcbPage> page = std::make_unique<abi::ghcb::GhcbPage>();
};

TEST_F(KernelGhcbPage, IsSharedThenMappedThenRegisteredThenUsed) {
  ASSERT_TRUE(open());
  EXPECT_THAT(platform.steps, ElementsAre("share", "map shared", "register", "use"));
}

TEST_F(KernelGhcbPage, IsEmptyWhenItIsUsed) {
  ASSERT_TRUE(open());
  EXPECT_THAT(page->shared_buffer, testing::Each(0));
}

TEST_F(KernelGhcbPage, IsOutOfUseAndMappedPrivateWhenItIsAcceptedAgain) {
  ASSERT_TRUE(close());
  EXPECT_THAT(platform.steps, ElementsAre("use none", "map private", "accept"));
}

TEST_F(KernelGhcbPage, IsNotUsedWhenAStepFails) {
  EXPECT_EQ(why_open_fails("share"),
            "the GHCB page cannot be shared with the host: the host gave an answer that no honest "
            "host gives (0x7e285000)");
  EXPECT_EQ(why_open_fails("map shared"),
            "the GHCB page cannot be shared with the host: too much memory for the page tables in "
            "the image (0x7e285000)");
  EXPECT_EQ(why_open_fails("register"),
            "the GHCB page cannot be shared with the host: the host does not register it "
            "(0x7e285000)");
  EXPECT_THAT(platform.steps, testing::Not(testing::Contains("use")));
}

TEST_F(KernelGhcbPage, ThatTheHostDoesNotGiveBackIsAnError) {
  platform.refused = "accept";
  const auto closed = close();
  ASSERT_FALSE(closed);
  EXPECT_EQ(closed.error().text().view(),
            "the GHCB page cannot be taken back from the host: the host gave an answer that no "
            "honest host gives (0x7e285000)");
}

TEST_F(KernelGhcbPage, ThatCannotBeMappedPrivateIsNotAccepted) {
  platform.refused = "map private";
  EXPECT_FALSE(close());
  EXPECT_THAT(platform.steps, ElementsAre("use none", "map private"));
}

}  // namespace
}  // namespace accede::efi::kernel
