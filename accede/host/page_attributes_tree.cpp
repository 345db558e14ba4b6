#include "accede/host/page_attributes_tree.hpp"

namespace accede::host::attributes_internal {

void BlockBits::set(std::uint64_t begin, std::uint64_t end, bool value) {
  for (std::uint64_t page = begin; page < end;) {
    const std::uint64_t first = page % 64;
    const std::uint64_t count = std::min(64 - first, end - page);
    const std::uint64_t mask = (~std::uint64_t{0} >> (64 - count)) << first;
    std::uint64_t& word = words[page / 64];
    word = value ? word | mask : word & ~mask;
    page += count;
  }
}

std::uint64_t BlockBits::run_end(std::uint64_t page) const {
  const std::uint64_t same = at(page) ? ~std::uint64_t{0} : 0;
  while (page < kPagesPerBlock) {
    const std::uint64_t differ = (words[page / 64] ^ same) >> (page % 64);
    if (differ != 0) {
      return page + static_cast<std::uint64_t>(std::countr_zero(differ));
    }
    page = (page / 64 + 1) * 64;
  }
  return kPagesPerBlock;
}

std::optional<Entry> Entry::compact(std::uint64_t block, const BlockBits& bits) {
  std::uint64_t word =
      block << kBlockShift | std::uint64_t{bits.last()} << 29 | std::uint64_t{bits.first()} << 28;
  unsigned changes = 0;
  for (std::uint64_t page = bits.run_end(0); page < kPagesPerBlock; page = bits.run_end(page)) {
    if (changes == kMaxChanges) {
      return std::nullopt;
    }
    word |= page << (9 * changes);
    ++changes;
  }
  return Entry{word | std::uint64_t{changes} << 30};
}

std::uint64_t AttributeTree::chunks_for(std::uint64_t blocks) {
  std::uint64_t chunks = (blocks + 6) / 7;  // every block a bitmap
  std::uint64_t nodes = blocks;
  do {
    nodes = std::max<std::uint64_t>(1, nodes / kLeast);
    chunks += nodes;
  } while (nodes > 1);
  return chunks;
}

AttributeTree::AttributeTree(std::uint64_t blocks, std::span<std::uint64_t> chunks)
    : chunks_{chunks}, blocks_{blocks} {
  ACCEDE_ASSERT(blocks >= 1 && blocks <= Entry::kMaxBlocks);
  ACCEDE_ASSERT(chunks.size() >= kChunkWords);
  ACCEDE_ASSERT(chunks.size() / kChunkWords <= kMaxChunks);
  clear_node(0);
  store(0, 1, Entry::uniform(0, false).word());
  store(0, 0, 1);
}

/// Asks for all lines of a node at once: the search would wait for three of them, one by one.
void AttributeTree::fetch(std::uint64_t chunk) const {
  for (std::uint64_t word = 0; word < kChunkWords; word += kWordsPerLine) {
    __builtin_prefetch(&chunks_[chunk * kChunkWords + word]);
  }
}

/// The last word whose block is at most `block`; the first one when there is none, which only a
/// torn tree has. Two steps of seven comparisons that do not wait for each other, without a branch:
/// first over the lines, then inside one.
std::uint64_t AttributeTree::search(std::uint64_t chunk, std::uint64_t block) const {
  // Above every word of the block, below kNone.
  const std::uint64_t most = block << Entry::kBlockShift | ((1ULL << Entry::kBlockShift) - 2);
  std::uint64_t line = 0;
  for (std::uint64_t word = kWordsPerLine; word < kChunkWords; word += kWordsPerLine) {
    line += load(chunk, word) <= most ? kWordsPerLine : 0;
  }
  std::uint64_t index = line;
  for (std::uint64_t word = 1; word < kWordsPerLine; ++word) {
    index += load(chunk, line + word) <= most ? 1 : 0;
  }
  return std::max<std::uint64_t>(index, 1);
}

Floor AttributeTree::floor(std::uint64_t block) const {
  const std::uint64_t root = root_.load(std::memory_order_acquire);
  std::uint64_t chunk = child(root);
  std::uint64_t next = blocks_;
  for (std::uint64_t level = root >> 32;; --level) {
    const std::uint64_t index = search(chunk, block);
    const std::uint64_t word = load(chunk, index);
    const std::uint64_t behind = index < kFanout ? load(chunk, index + 1) : kNone;
    next = behind != kNone ? behind >> Entry::kBlockShift : next;
    if (level == 0) {
      return {.entry = Entry{word}, .next_block = next};
    }
    chunk = child(word);
    if (chunk >= chunks_.size() / kChunkWords) {
      return {.entry = Entry{0}, .next_block = next};  // torn
    }
    fetch(chunk);
  }
}

bool AttributeTree::at(std::uint64_t page) const {
  const std::uint64_t block = page / kPagesPerBlock;
  const std::uint64_t inside = page % kPagesPerBlock;
  const Entry entry = floor(block).entry;
  if (entry.block() != block) {
    return entry.last();
  }
  if (entry.is_bitmap()) {
    return (bitmap_word(entry.bitmap_index(), inside / 64) >> (inside % 64) & 1) != 0;
  }
  return entry.at(inside);
}

BlockBits AttributeTree::bits_of(std::uint64_t block, Entry entry) const {
  if (entry.block() != block) {
    return BlockBits::uniform(entry.last());
  }
  if (entry.is_bitmap()) {
    BlockBits bits;
    for (std::uint64_t i = 0; i < BlockBits::kWords; ++i) {
      bits.words[i] = bitmap_word(entry.bitmap_index(), i);
    }
    return bits;
  }
  BlockBits bits = BlockBits::uniform(entry.first());
  bool value = entry.first();
  for (unsigned i = 0; i < entry.changes(); ++i) {
    value = !value;
    bits.set(entry.change(i), kPagesPerBlock, value);
  }
  return bits;
}

bool AttributeTree::has_room() const {
  // Each of both blocks and the run may add an entry and one behind it; each of these may split
  // every node on its way and the root.
  const std::uint64_t nodes = 6 * (std::uint64_t{height()} + 2);
  constexpr std::uint64_t kBitmaps = 2;
  const std::uint64_t left = chunks_.size() / kChunkWords - chunks_in_use();
  return left >= nodes + kBitmaps;
}

std::uint64_t AttributeTree::take_chunk() {
  if (free_chunk_ == kNone) {
    ACCEDE_ASSERT((next_chunk_ + 1) * kChunkWords <= chunks_.size());
    return next_chunk_++;
  }
  const std::uint64_t chunk = free_chunk_;
  free_chunk_ = load(chunk, 1);
  --free_chunks_;
  return chunk;
}

void AttributeTree::clear_node(std::uint64_t chunk) {
  store(chunk, 0, 0);
  for (std::uint64_t i = 1; i <= kFanout; ++i) {
    store(chunk, i, kNone);
  }
}

std::uint64_t AttributeTree::take_node() {
  const std::uint64_t chunk = take_chunk();
  clear_node(chunk);
  return chunk;
}

void AttributeTree::give_chunk(std::uint64_t chunk) {
  store(chunk, 1, free_chunk_);
  free_chunk_ = chunk;
  ++free_chunks_;
}

std::uint64_t AttributeTree::bitmap_word(std::uint64_t index, std::uint64_t word) const {
  const std::uint64_t chunk = index / 8;
  return chunk < chunks_.size() / kChunkWords ? load(chunk, index % 8 * 8 + word) : 0;  // 0: torn
}

void AttributeTree::link_slab(std::uint64_t chunk) {
  store(chunk, kSlabNext, partial_slab_);
  store(chunk, kSlabPrevious, kNone);
  if (partial_slab_ != kNone) {
    store(partial_slab_, kSlabPrevious, chunk);
  }
  partial_slab_ = chunk;
}

void AttributeTree::unlink_slab(std::uint64_t chunk) {
  const std::uint64_t next = load(chunk, kSlabNext);
  const std::uint64_t previous = load(chunk, kSlabPrevious);
  if (next != kNone) {
    store(next, kSlabPrevious, previous);
  }
  if (previous != kNone) {
    store(previous, kSlabNext, next);
  } else {
    partial_slab_ = next;
  }
}

std::uint64_t AttributeTree::take_bitmap() {
  if (partial_slab_ == kNone) {
    const std::uint64_t chunk = take_chunk();
    store(chunk, kSlabUsed, 0);
    link_slab(chunk);
  }
  const std::uint64_t chunk = partial_slab_;
  const std::uint64_t used = load(chunk, kSlabUsed);
  const auto slot = static_cast<std::uint64_t>(std::countr_zero(kSlabFull & ~used));
  store(chunk, kSlabUsed, used | 1ULL << slot);
  if ((used | 1ULL << slot) == kSlabFull) {
    unlink_slab(chunk);
  }
  return chunk * 8 + slot;
}

void AttributeTree::give_bitmap(std::uint64_t index) {
  const std::uint64_t chunk = index / 8;
  const std::uint64_t used = load(chunk, kSlabUsed);
  const std::uint64_t left = used & ~(1ULL << (index % 8));
  store(chunk, kSlabUsed, left);
  if (used == kSlabFull) {
    link_slab(chunk);
  }
  if (left == 0) {
    unlink_slab(chunk);
    give_chunk(chunk);
  }
}

void AttributeTree::fill_bitmap(std::uint64_t index, const BlockBits& bits) {
  for (std::uint64_t i = 0; i < BlockBits::kWords; ++i) {
    store(index / 8, index % 8 * 8 + i, bits.words[i]);
  }
}

}  // namespace accede::host::attributes_internal
