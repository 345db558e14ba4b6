#include "accede/guest/zone.hpp"

#include <algorithm>
#include <bit>
#include <new>

namespace accede::guest {

namespace {

constexpr std::memory_order kRelaxed = std::memory_order_relaxed;
constexpr Bytes kMaxSpan = 16_TiB;

Frame align_down(Frame frame, Order order) {
  const auto mask = static_cast<std::uint32_t>(order.pages().value() - 1);
  return static_cast<Frame>(number(frame) & ~mask);
}

Frame buddy_of(Block block) {
  const auto size = static_cast<std::uint32_t>(block.order.pages().value());
  return static_cast<Frame>(number(block.frame) ^ size);
}

Frame end_of(Block block) {
  return block.frame + block.order.pages();
}

/// Lists are touched under the lock only, so plain arithmetic is enough; atomic for the readers.
void add_to(std::atomic<std::uint64_t>& counter, PageCount pages) {
  counter.store(counter.load(kRelaxed) + pages.value(), kRelaxed);
}
void take_from(std::atomic<std::uint64_t>& counter, PageCount pages) {
  counter.store(counter.load(kRelaxed) - pages.value(), kRelaxed);
}

}  // namespace

Block largest_block(Frame begin, Frame end) {
  const std::uint32_t length = number(end) - number(begin);
  const unsigned fits = static_cast<unsigned>(std::bit_width(length)) - 1;
  const unsigned aligned = number(begin) == 0
                               ? kMaxOrder.value()
                               : static_cast<unsigned>(std::countr_zero(number(begin)));
  return {.frame = begin, .order = Order{std::min({fits, aligned, kMaxOrder.value()})}};
}

Bytes Zone::metadata_bytes(PhysRange span) {
  if (span.empty()) {
    return Bytes{0};
  }
  const PhysAddr base = span.begin().align_down(kMaxOrder.bytes());
  return Bytes{sizeof(PageInfo)} * ((span.end() - base) / Bytes{4096});
}

void Zone::open(PhysRange span, unsigned node, std::span<std::byte> metadata) {
  ACCEDE_ASSERT(pages_.empty());
  ACCEDE_ASSERT(span.begin().is_aligned(Bytes{4096}) && span.end().is_aligned(Bytes{4096}));
  ACCEDE_ASSERT(span.size() <= kMaxSpan - kMaxOrder.bytes());
  ACCEDE_ASSERT(metadata.size() >= metadata_bytes(span).value());
  ACCEDE_ASSERT(reinterpret_cast<std::uintptr_t>(metadata.data()) % alignof(PageInfo) == 0);
  span_ = span;
  base_ = span.begin().align_down(kMaxOrder.bytes());
  node_ = node;
  pages_ = {reinterpret_cast<PageInfo*>(metadata.data()), number(frame_of(span.end()))};
  // Nobody prepares what lies before the span, but the buddies of its first blocks are there.
  for (PageInfo& page : pages_.first(number(frame_of(span.begin())))) {
    new (&page) PageInfo{};
  }
}

void Zone::prepare(PhysRange pages) {
  ACCEDE_ASSERT(span_.contains(pages));
  const std::uint32_t end = number(frame_of(pages.end()));
  for (std::uint32_t i = number(frame_of(pages.begin())); i < end; ++i) {
    new (&pages_[i]) PageInfo{};
  }
}

void Zone::add(Block block, PageState state) {
  ACCEDE_ASSERT(state == PageState::kFree || state == PageState::kUnaccepted);
  add_to(managed_, block.order.pages());
  if (state == PageState::kFree) {
    put(block);
  } else {
    push(block, state, ZoneEnd::kTop);
  }
}

void Zone::push(Block block, PageState state, ZoneEnd end) {
  List& to = list(state, block.order);
  PageInfo& page = info(block.frame);
  page.set_head({.state = state, .order = block.order});
  page.previous = end == ZoneEnd::kTop ? to.last : kNoFrame;
  page.next = end == ZoneEnd::kTop ? kNoFrame : to.first;
  (page.previous == kNoFrame ? to.first : info(page.previous).next) = block.frame;
  (page.next == kNoFrame ? to.last : info(page.next).previous) = block.frame;
  ++to.blocks;
  add_to(counter(state), block.order.pages());
}

void Zone::remove(Block block, PageState state) {
  List& from = list(state, block.order);
  PageInfo& page = info(block.frame);
  (page.previous == kNoFrame ? from.first : info(page.previous).next) = page.next;
  (page.next == kNoFrame ? from.last : info(page.next).previous) = page.previous;
  page.set_head({});
  --from.blocks;
  take_from(counter(state), block.order.pages());
}

Block Zone::block_at(const Lists& lists, unsigned order, ZoneEnd end) {
  const List& list = lists[order];
  return {.frame = end == ZoneEnd::kTop ? list.last : list.first, .order = Order{order}};
}

std::optional<Block> Zone::nearest(const Lists& lists, Order order, ZoneEnd end) {
  std::optional<Block> found;
  for (unsigned o = order.value(); o < kOrders; ++o) {
    if (lists[o].blocks == 0) {
      continue;
    }
    const Block block = block_at(lists, o, end);
    if (!found || (end == ZoneEnd::kTop) == (block.frame > found->frame)) {
      found = block;
    }
  }
  for (unsigned o = order.value(); !found && o > 0; --o) {
    if (lists[o - 1].blocks != 0) {
      found = block_at(lists, o - 1, end);
    }
  }
  return found;
}

Block Zone::cut(Block block, Order order, PageState state, ZoneEnd stays) {
  while (block.order > order) {
    const Order half{block.order.value() - 1};
    const Block low{.frame = block.frame, .order = half};
    const Block high{.frame = block.frame + half.pages(), .order = half};
    push(stays == ZoneEnd::kTop ? low : high, state, stays);
    block = stays == ZoneEnd::kTop ? high : low;
  }
  return block;
}

std::optional<Frame> Zone::take(Order order) {
  unsigned o = order.value();
  while (o < kOrders && free_[o].blocks == 0) {
    ++o;
  }
  if (o == kOrders) {
    return std::nullopt;
  }
  const Block found = block_at(free_, o, ZoneEnd::kTop);
  remove(found, PageState::kFree);
  // The lower part is handed out first, so that pages taken one by one ascend.
  const Block block = cut(found, order, PageState::kFree, ZoneEnd::kBottom);
  info(block.frame).set_head({.state = PageState::kAllocated, .order = order});
  return block.frame;
}

std::optional<Block> Zone::take_unaccepted(Order order, ZoneEnd end) {
  PageState state = PageState::kUnaccepted;
  auto found = nearest(unaccepted_, order, end);
  if (!found) {
    state = PageState::kRefused;
    found = nearest(refused_, order, end);
  }
  if (!found) {
    return std::nullopt;
  }
  remove(*found, state);
  const Block block = cut(*found, std::min(order, found->order), state, end);
  info(block.frame).set_head({.state = PageState::kAccepting, .order = block.order});
  add_to(accepting_pages_, block.order.pages());
  return block;
}

void Zone::accepted(Block block) {
  take_from(accepting_pages_, block.order.pages());
  put(block);
}

void Zone::not_accepted(Block block, ZoneEnd end) {
  take_from(accepting_pages_, block.order.pages());
  push(block, PageState::kRefused, end == ZoneEnd::kTop ? ZoneEnd::kBottom : ZoneEnd::kTop);
}

void Zone::put(Block block) {
  while (block.order < kMaxOrder) {
    const Block buddy{.frame = buddy_of(block), .order = block.order};
    // Memory beyond the zone has no page information; heads that differ are somebody else's.
    if (number(end_of(buddy)) > pages_.size() ||
        info(buddy.frame).head() != BlockHead{.state = PageState::kFree, .order = buddy.order}) {
      break;
    }
    remove(buddy, PageState::kFree);
    info(block.frame).set_head({});
    block = {.frame = std::min(block.frame, buddy.frame), .order = Order{block.order.value() + 1}};
  }
  push(block, PageState::kFree, ZoneEnd::kTop);
}

Block Zone::block_of(Frame frame) const {
  for (unsigned o = 0; o < kOrders; ++o) {
    const Frame head = align_down(frame, Order{o});
    const BlockHead seen = info(head).head();
    if (seen.state != PageState::kNone) {
      const Block block{.frame = head, .order = seen.order};
      return end_of(block) > frame ? block : Block{.frame = frame, .order = Order{0}};
    }
  }
  return {.frame = frame, .order = Order{0}};
}

bool Zone::all_free(Frame begin, Frame end, Frame& resume) const {
  for (Frame at = begin; at < end;) {
    const Block block = block_of(at);
    const PageState state = info(block.frame).head().state;
    at = end_of(block);
    if (state != PageState::kFree && state != PageState::kUnaccepted &&
        state != PageState::kRefused) {
      resume = at;
      return false;
    }
  }
  return true;
}

void Zone::take_range(Frame begin, Frame end) {
  for (Frame at = begin; at < end;) {
    const Block block = block_of(at);
    const Frame stop = std::min(end_of(block), end);
    take_part(block, at, stop);
    at = stop;
  }
}

/// Takes the pages [begin, end) out of one free or unaccepted block.
void Zone::take_part(Block block, Frame begin, Frame end) {
  const PageState state = info(block.frame).head().state;
  const bool free = state == PageState::kFree;
  remove(block, state);
  for (Frame at = block.frame; at < end_of(block);) {
    const Frame stop = at < begin ? begin : at < end ? end : end_of(block);
    const Block part = largest_block(at, stop);
    if (at < begin || at >= end) {
      push(part, state, ZoneEnd::kTop);
    } else {
      const PageState taken = free ? PageState::kAllocated : PageState::kAccepting;
      info(part.frame).set_head({.state = taken, .order = part.order});
      if (!free) {
        add_to(accepting_pages_, part.order.pages());
      }
    }
    at = end_of(part);
  }
}

void Zone::settle(Block block, PageState state) {
  if (info(block.frame).head().state == PageState::kAccepting) {
    take_from(accepting_pages_, block.order.pages());
  }
  info(block.frame).set_head({.state = state, .order = block.order});
}

ZoneCounters Zone::counters() const {
  return {.managed = PageCount{managed_.load(kRelaxed)},
          .free = PageCount{free_pages_.load(kRelaxed)},
          .unaccepted = PageCount{unaccepted_pages_.load(kRelaxed)},
          .accepting = PageCount{accepting_pages_.load(kRelaxed)}};
}

bool Zone::list_sound(const List& list, Order order, PageState state) const {
  std::uint64_t blocks = 0;
  Frame previous = kNoFrame;
  for (Frame at = list.first; at != kNoFrame; at = info(at).next) {
    const Block block{.frame = at, .order = order};
    if (number(end_of(block)) > pages_.size() || align_down(at, order) != at ||
        info(at).head() != BlockHead{.state = state, .order = order} ||
        info(at).previous != previous || blocks++ > list.blocks) {
      return false;
    }
    for (Frame page = at + PageCount{1}; page < end_of(block); page = page + PageCount{1}) {
      if (info(page).head() != BlockHead{}) {
        return false;
      }
    }
    const Frame buddy = buddy_of(block);
    if (state == PageState::kFree && order < kMaxOrder && number(buddy) < pages_.size() &&
        info(buddy).head() == BlockHead{.state = state, .order = order}) {
      return false;
    }
    previous = at;
  }
  return blocks == list.blocks && list.last == previous;
}

bool Zone::invariants() const {
  std::uint64_t free = 0;
  std::uint64_t unaccepted = 0;
  for (unsigned o = 0; o < kOrders; ++o) {
    if (!list_sound(free_[o], Order{o}, PageState::kFree) ||
        !list_sound(unaccepted_[o], Order{o}, PageState::kUnaccepted) ||
        !list_sound(refused_[o], Order{o}, PageState::kRefused)) {
      return false;
    }
    free += free_[o].blocks << o;
    unaccepted += (unaccepted_[o].blocks + refused_[o].blocks) << o;
  }
  return free == free_pages_.load(kRelaxed) && unaccepted == unaccepted_pages_.load(kRelaxed);
}

}  // namespace accede::guest
