// Changing the tree of page attributes: entries come, go and move between nodes.
#include "accede/host/page_attributes_tree.hpp"

namespace accede::host::attributes_internal {

AttributeTree::Path AttributeTree::path_to(std::uint64_t block) const {
  Path path{};
  std::uint64_t chunk = root_chunk();
  for (unsigned level = height();; --level) {
    path[level] = {.chunk = chunk, .index = search(chunk, block)};
    if (level == 0) {
      return path;
    }
    chunk = child(load(chunk, path[level].index));
  }
}

/// The attribute of the last page before a block. Precondition: not of block 0.
bool AttributeTree::value_before(std::uint64_t block) const {
  return floor(block - 1).entry.last();
}

void AttributeTree::move_words(std::uint64_t from, std::uint64_t first, std::uint64_t to,
                               std::uint64_t at, std::uint64_t count) {
  const bool upward = from == to && at > first;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t offset = upward ? count - 1 - i : i;
    store(to, at + offset, load(from, first + offset));
  }
}

/// The words of a node beyond its count compare above every block.
void AttributeTree::set_count(std::uint64_t chunk, std::uint64_t words) {
  for (std::uint64_t i = words + 1; i <= count(chunk); ++i) {
    store(chunk, i, kNone);
  }
  store(chunk, 0, words);
}

void AttributeTree::insert_into(std::uint64_t chunk, std::uint64_t index, std::uint64_t word) {
  const std::uint64_t words = count(chunk);
  move_words(chunk, index, chunk, index + 1, words + 1 - index);
  store(chunk, index, word);
  set_count(chunk, words + 1);
}

/// Inserts a word behind where `path` points at `level`. It is never the first of its node: block 0
/// has an entry, and inner words are the first blocks of their subtrees.
void AttributeTree::insert_behind(Path& path, unsigned level, std::uint64_t word) {
  const std::uint64_t chunk = path[level].chunk;
  const std::uint64_t at = path[level].index + 1;
  if (count(chunk) < kFanout) {
    insert_into(chunk, at, word);
    return;
  }
  constexpr std::uint64_t kStay = (kFanout + 1) / 2;
  const std::uint64_t right = take_node();
  move_words(chunk, kStay + 1, right, 1, kFanout - kStay);
  set_count(right, kFanout - kStay);
  set_count(chunk, kStay);
  if (at <= kStay + 1) {
    insert_into(chunk, at, word);
  } else {
    insert_into(right, at - kStay, word);
  }
  const std::uint64_t separator = inner_word(load(right, 1) >> Entry::kBlockShift, right);
  if (level < height()) {
    insert_behind(path, level + 1, separator);
    return;
  }
  ACCEDE_ASSERT(level < kMaxHeight);
  const std::uint64_t root = take_node();
  store(root, 1, inner_word(0, chunk));
  store(root, 2, separator);
  set_count(root, 2);
  set_root(root, level + 1);
}

/// The first word of the node at `level` changed: so do the blocks of the inner words above.
void AttributeTree::update_first(const Path& path, unsigned level) {
  const std::uint64_t block = load(path[level].chunk, 1) >> Entry::kBlockShift;
  std::uint64_t chunk = path[level].chunk;
  for (unsigned above = level + 1; above <= height(); ++above) {
    store(path[above].chunk, path[above].index, inner_word(block, chunk));
    if (path[above].index != 1) {
      return;
    }
    chunk = path[above].chunk;
  }
}

/// Removes the word that `path` points at.
void AttributeTree::remove_at(Path& path, unsigned level) {
  const Step step = path[level];
  const std::uint64_t words = count(step.chunk);
  move_words(step.chunk, step.index + 1, step.chunk, step.index, words - step.index);
  set_count(step.chunk, words - 1);
  if (step.index == 1) {
    update_first(path, level);
  }
  if (level < height()) {
    if (words - 1 < kLeast) {
      rebalance(path, level);
    }
  } else if (level > 0 && words - 1 == 1) {
    set_root(child(load(step.chunk, 1)), level - 1);
    give_chunk(step.chunk);
  }
}

/// Merges a node that has too few words with a neighbour, or shares the neighbour's words.
void AttributeTree::rebalance(Path& path, unsigned level) {
  Step& above = path[level + 1];
  if (above.index == count(above.chunk)) {
    --above.index;
  }
  const std::uint64_t left = child(load(above.chunk, above.index));
  const std::uint64_t right = child(load(above.chunk, above.index + 1));
  const std::uint64_t left_words = count(left);
  const std::uint64_t right_words = count(right);
  const std::uint64_t all = left_words + right_words;
  ++above.index;
  if (all <= kFanout) {
    move_words(right, 1, left, left_words + 1, right_words);
    set_count(left, all);
    give_chunk(right);
    remove_at(path, level + 1);
    return;
  }
  const std::uint64_t stay = all / 2;
  if (left_words < stay) {
    const std::uint64_t moved = stay - left_words;
    move_words(right, 1, left, left_words + 1, moved);
    move_words(right, moved + 1, right, 1, right_words - moved);
  } else {
    const std::uint64_t moved = left_words - stay;
    move_words(right, 1, right, moved + 1, right_words);
    move_words(left, stay + 1, right, 1, moved);
  }
  set_count(left, stay);
  set_count(right, all - stay);
  store(above.chunk, above.index, inner_word(load(right, 1) >> Entry::kBlockShift, right));
}

/// Adds the entry, or replaces that of its block.
void AttributeTree::put(Entry entry) {
  Path path = path_to(entry.block());
  const Step leaf = path[0];
  if (Entry{load(leaf.chunk, leaf.index)}.block() == entry.block()) {
    store(leaf.chunk, leaf.index, entry.word());
  } else {
    insert_behind(path, 0, entry.word());
  }
}

/// Removes the entry of a block, with its bitmap. Precondition: there is one.
void AttributeTree::remove(std::uint64_t block) {
  Path path = path_to(block);
  const Entry entry{load(path[0].chunk, path[0].index)};
  ACCEDE_ASSERT(entry.block() == block && block != 0);
  if (entry.is_bitmap()) {
    give_bitmap(entry.bitmap_index());
  }
  remove_at(path, 0);
}

/// The entry that says `bits`. Takes over, or gives back, the bitmap of `old`, the entry that
/// floor() found for the block.
Entry AttributeTree::encode(std::uint64_t block, const BlockBits& bits, Entry old) {
  const bool had_bitmap = old.block() == block && old.is_bitmap();
  if (const auto compact = Entry::compact(block, bits)) {
    if (had_bitmap) {
      give_bitmap(old.bitmap_index());
    }
    return *compact;
  }
  const std::uint64_t index = had_bitmap ? old.bitmap_index() : take_bitmap();
  fill_bitmap(index, bits);
  return Entry::bitmap(block, bits, index);
}

/// The block before `block` now ends with `new_value`, not `old_value`; what follows stays.
void AttributeTree::settle_next(std::uint64_t block, bool has_entry, bool old_value,
                                bool new_value) {
  if (block == blocks_) {
    return;
  }
  if (!has_entry) {
    if (old_value != new_value) {
      put(Entry::uniform(block, old_value));
    }
    return;
  }
  const Entry entry = floor(block).entry;
  if (entry.is_uniform() && entry.last() == new_value) {
    remove(block);
  }
}

void AttributeTree::change_block(std::uint64_t block, const BlockBits& bits) {
  const Floor old = floor(block);
  const bool has_entry = old.entry.block() == block;
  const bool old_value = old.entry.last();
  const bool needless =
      block != 0 && bits.run_end(0) == kPagesPerBlock && bits.first() == value_before(block);
  if (!needless) {
    put(encode(block, bits, old.entry));
  } else if (has_entry) {
    remove(block);
  }
  settle_next(block + 1, old.next_block == block + 1, old_value, bits.last());
}

std::uint64_t AttributeTree::change_run(std::uint64_t begin, std::uint64_t end, bool value) {
  std::uint64_t next = floor(begin).next_block;
  for (unsigned i = 0; next < end && i < kMaxRemoved; ++i) {
    next = floor(next).next_block;
  }
  end = std::min(end, next);
  const Floor last = floor(end - 1);
  const bool old_value = last.entry.last();
  const bool next_has_entry = last.next_block == end;
  for (next = floor(begin).next_block; next < end; next = floor(begin).next_block) {
    remove(next);
  }
  // What is left to do is one block; what follows it is settled by hand, for it may not be next to
  // it.
  const Floor old = floor(begin);
  if (begin == 0 || value_before(begin) != value) {
    put(encode(begin, BlockBits::uniform(value), old.entry));
  } else if (old.entry.block() == begin) {
    remove(begin);
  }
  settle_next(end, next_has_entry, old_value, value);
  return end;
}

/// The node, and all below it, has the blocks of [begin, end), ascending, the first at `begin`.
bool AttributeTree::node_sound(std::uint64_t chunk, unsigned level, std::uint64_t begin,
                               std::uint64_t end) const {
  const std::uint64_t words = count(chunk);
  const bool root = level == height();
  const std::uint64_t least = !root ? kLeast : level == 0 ? 1 : 2;
  bool sound = words >= least && words <= kFanout && load(chunk, 1) >> Entry::kBlockShift == begin;
  for (std::uint64_t i = 1; sound && i <= words; ++i) {
    const std::uint64_t word = load(chunk, i);
    const std::uint64_t block = word >> Entry::kBlockShift;
    const std::uint64_t next = i < words ? load(chunk, i + 1) >> Entry::kBlockShift : end;
    sound = block < next;
    if (level != 0) {
      sound = sound && node_sound(child(word), level - 1, block, next);
    } else if (block != 0) {
      const Entry entry{word};
      sound = sound && (!entry.is_uniform() || entry.first() != value_before(block));
    }
  }
  for (std::uint64_t i = words + 1; i <= kFanout; ++i) {
    sound = sound && load(chunk, i) == kNone;
  }
  return sound;
}

bool AttributeTree::invariants() const {
  return node_sound(root_chunk(), height(), 0, blocks_);
}

}  // namespace accede::host::attributes_internal
