#include "accede/efi/kernel/workload.hpp"

#include "accede/base/assert.hpp"

namespace accede::efi::kernel {
namespace {

constexpr Bytes kPage{4096};
constexpr std::size_t kLast = kWordsPerPage - 1;
constexpr std::size_t kMiddle = kWordsPerPage / 2;

// Words of a page that is in a list. The link is there twice: what follows it is a pointer.
constexpr std::size_t kLink = 1;
constexpr std::size_t kLinkCheck = 2;
constexpr std::size_t kOrder = 3;  ///< blocks only

/// Different for each number, so that two pages with one backing show.
std::uint64_t pattern(std::uint64_t number) {
  return (number + 1) * 0x9E37'79B9'7F4A'7C15ULL;
}
std::uint64_t pattern(PhysAddr page) {
  return pattern(page.value() / kPage.value());
}

PageWords words_of(PhysWindow window, PhysAddr page) {
  return window.pointer<volatile std::uint64_t>(page);
}

}  // namespace

// --- Single pages ---

PageWords PageChain::first_touch(PhysAddr page) const {
  std::fill_n(window_.pointer<std::uint64_t>(page), kWordsPerPage, std::uint64_t{0});
  return words_of(window_, page);
}

void PageChain::push(PhysAddr page) {
  const PageWords words = words_of(window_, page);
  words[0] = pattern(pages_);
  words[kLink] = head_.value();
  words[kLinkCheck] = ~head_.value();
  words[kLast] = ~pattern(pages_);
  head_ = page;
  ++pages_;
}

PageChain::Popped PageChain::pop() {
  ACCEDE_ASSERT(pages_ != 0);
  const PageWords words = words_of(window_, head_);
  const std::uint64_t mark = pattern(--pages_);
  const std::uint64_t link = words[kLink];
  Popped popped{.page = head_,
                .right = words[0] == mark && words[kMiddle] == 0 && words[kLast] == ~mark,
                .link_right = words[kLinkCheck] == ~link};
  popped.right = popped.right && popped.link_right;
  head_ = PhysAddr{link};
  return popped;
}

// --- Blocks ---

void BlockChains::link(PhysAddr from, PhysAddr to) const {
  const PageWords words = words_of(window_, from);
  words[kLink] = to.value();
  words[kLinkCheck] = ~to.value();
}

void BlockChains::push(PhysAddr block, unsigned order, std::uint64_t random) {
  for (std::uint64_t i = 0; i < std::uint64_t{1} << order; ++i) {
    const PhysAddr page = block + kPage * i;
    const PageWords words = words_of(window_, page);
    words[0] = pattern(page);
    words[kLast] = ~pattern(page);
  }
  words_of(window_, block)[kOrder] = pattern(block) ^ order;
  Chain& chain = chains_[random % kChains];
  const bool at_front = (random / kChains) % 2 == 0;
  if (chain.blocks == 0) {
    link(block, PhysAddr{});
    chain = {.first = block, .last = block};
  } else if (at_front) {
    link(block, chain.first);
    chain.first = block;
  } else {
    link(block, PhysAddr{});
    link(chain.last, block);
    chain.last = block;
  }
  ++chain.blocks;
  ++blocks_;
  held_ += kPage * (std::uint64_t{1} << order);
}

BlockChains::Popped BlockChains::pop(std::uint64_t random) {
  ACCEDE_ASSERT(blocks_ != 0);
  std::size_t index = random % kChains;
  while (chains_[index].blocks == 0) {
    index = (index + 1) % kChains;
  }
  Chain& chain = chains_[index];
  const PhysAddr block = chain.first;
  const PageWords words = words_of(window_, block);
  const std::uint64_t next = words[kLink];
  const std::uint64_t order = words[kOrder] ^ pattern(block);
  Popped popped{.block = block,
                .order = static_cast<unsigned>(order),
                .wrong_pages = 0,
                .header_right = words[kLinkCheck] == ~next && order <= 10};
  if (!popped.header_right) {
    popped.wrong_pages = 1;
    return popped;
  }
  for (std::uint64_t i = 0; i < std::uint64_t{1} << order; ++i) {
    const PhysAddr page = block + kPage * i;
    const PageWords part = words_of(window_, page);
    const bool right = part[0] == pattern(page) && part[kLast] == ~pattern(page);
    popped.wrong_pages += right ? 0 : 1;
  }
  chain.first = PhysAddr{next};
  --chain.blocks;
  --blocks_;
  held_ -= kPage * (std::uint64_t{1} << order);
  return popped;
}

std::uint64_t Random::next() {
  state_ += 0x9E37'79B9'7F4A'7C15ULL;
  std::uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58'476D'1CE4'E5B9ULL;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D0'49BB'1331'11EBULL;
  return mixed ^ (mixed >> 31);
}

}  // namespace accede::efi::kernel
