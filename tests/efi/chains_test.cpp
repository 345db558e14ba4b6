// What the workloads write into pages, and what they notice when somebody else wrote there.
#include "accede/efi/kernel/workload.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

namespace accede::efi::kernel {
namespace {

/// Some memory; addresses in it begin at 0x10000.
class Pages {
 public:
  explicit Pages(std::size_t count)
      : words_(new Page[count]),
        window_{reinterpret_cast<std::uintptr_t>(words_.get()) - kBegin.value()} {}

  [[nodiscard]] PhysAddr at(std::size_t page) const { return kBegin + Bytes{4096} * page; }
  [[nodiscard]] std::uint64_t& word(std::size_t page, std::size_t index) const {
    return words_[page].words[index];
  }
  [[nodiscard]] PhysWindow window() const { return window_; }

 private:
  static constexpr PhysAddr kBegin{0x10000};
  struct alignas(4096) Page {
    std::uint64_t words[kWordsPerPage] = {};
  };
  std::unique_ptr<Page[]> words_;
  PhysWindow window_;
};

void touch(PageChain& chain, PhysAddr page) {
  *chain.first_touch(page) = 1;
  chain.push(page);
}

TEST(PageChain, GivesBackWhatItTookTheLastFirst) {
  const Pages pages{4};
  PageChain chain{pages.window()};
  for (const std::size_t page : {2U, 0U, 3U, 1U}) {
    pages.word(page, 256) = 99;  // from its last owner
    touch(chain, pages.at(page));
  }
  EXPECT_EQ(chain.pages(), 4U);
  for (const std::size_t page : {1U, 3U, 0U, 2U}) {
    const auto popped = chain.pop();
    EXPECT_EQ(popped.page, pages.at(page));
    EXPECT_TRUE(popped.right && popped.link_right);
  }
  EXPECT_EQ(chain.pages(), 0U);
}

TEST(PageChain, NoticesAWordThatSomebodyElseWrote) {
  for (const std::size_t index : {0U, 256U, 511U}) {
    const Pages pages{3};
    PageChain chain{pages.window()};
    for (std::size_t page = 0; page < 3; ++page) {
      touch(chain, pages.at(page));
    }
    pages.word(1, index) ^= 1ULL << 40;
    EXPECT_TRUE(chain.pop().right);
    const auto popped = chain.pop();
    EXPECT_FALSE(popped.right) << index;
    EXPECT_TRUE(popped.link_right);
    EXPECT_TRUE(chain.pop().right);
  }
}

TEST(PageChain, DoesNotFollowABrokenLink) {
  for (const std::size_t index : {1U, 2U}) {
    const Pages pages{2};
    PageChain chain{pages.window()};
    touch(chain, pages.at(0));
    touch(chain, pages.at(1));
    pages.word(1, index) += 4096;
    const auto popped = chain.pop();
    EXPECT_FALSE(popped.right);
    EXPECT_FALSE(popped.link_right);
  }
}

TEST(PageChain, NoticesThatAPageWasHandedOutTwice) {
  const Pages pages{3};
  PageChain chain{pages.window()};
  for (const std::size_t page : {0U, 1U, 2U, 1U}) {
    touch(chain, pages.at(page));
  }
  std::uint64_t wrong = 0;
  while (chain.pages() != 0) {
    const auto popped = chain.pop();
    wrong += popped.right ? 0 : 1;
    if (!popped.link_right) {
      break;
    }
  }
  EXPECT_GT(wrong, 0U);
}

TEST(BlockChains, GiveBackEveryBlockOnceInAnyOrder) {
  const Pages pages{64};
  BlockChains chains{pages.window()};
  Random random{7};
  std::set<PhysAddr> expected;
  for (std::size_t i = 0; i < 16; ++i) {
    chains.push(pages.at(i * 4), 2, random.next());
    expected.insert(pages.at(i * 4));
  }
  EXPECT_EQ(chains.held(), 256_KiB);
  std::set<PhysAddr> seen;
  while (!chains.empty()) {
    const auto popped = chains.pop(random.next());
    ASSERT_TRUE(popped.header_right);
    EXPECT_EQ(popped.order, 2U);
    EXPECT_EQ(popped.wrong_pages, 0U);
    EXPECT_TRUE(seen.insert(popped.block).second);
  }
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(chains.held(), 0_B);
}

TEST(BlockChains, LinkAtBothEndsOfOneChain) {
  const Pages pages{8};
  BlockChains chains{pages.window()};
  constexpr std::uint64_t kFront = 0;
  constexpr std::uint64_t kBack = BlockChains::kChains;
  chains.push(pages.at(0), 0, kFront);
  chains.push(pages.at(1), 0, kFront);
  chains.push(pages.at(2), 0, kBack);
  chains.push(pages.at(4), 1, kFront);
  for (const std::size_t page : {4U, 1U, 0U, 2U}) {
    EXPECT_EQ(chains.pop(0).block, pages.at(page));
  }
}

TEST(BlockChains, CountThePagesOfABlockThatSomebodyElseWrote) {
  const Pages pages{8};
  BlockChains chains{pages.window()};
  chains.push(pages.at(0), 3, 5);
  pages.word(0, 511) = 0;
  pages.word(6, 0) ^= 1;
  pages.word(7, 511) ^= 1;
  pages.word(7, 0) ^= 1;
  const auto popped = chains.pop(0);
  EXPECT_TRUE(popped.header_right);
  EXPECT_EQ(popped.wrong_pages, 3U);
}

TEST(BlockChains, DoNotFollowABrokenHeader) {
  for (const std::size_t index : {1U, 2U, 3U}) {
    const Pages pages{4};
    BlockChains chains{pages.window()};
    chains.push(pages.at(0), 1, 0);
    chains.push(pages.at(2), 1, 0);
    pages.word(2, index) ^= 1ULL << 33;
    const auto popped = chains.pop(0);
    EXPECT_FALSE(popped.header_right) << index;
    EXPECT_GT(popped.wrong_pages, 0U);
  }
}

}  // namespace
}  // namespace accede::efi::kernel
