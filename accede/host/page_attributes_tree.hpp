// Internal to PageAttributes: an ordered set of the 2 MiB blocks in which something changes.
#pragma once

#include "accede/base/assert.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::host::attributes_internal {

inline constexpr std::uint64_t kPagesPerBlock = 512;

/// The attributes of the pages of one block; a set bit is a shared page.
class BlockBits {
 public:
  static constexpr std::size_t kWords = 8;

  [[nodiscard]] static BlockBits uniform(bool value) {
    BlockBits bits;
    bits.words.fill(value ? ~std::uint64_t{0} : 0);
    return bits;
  }
  [[nodiscard]] bool at(std::uint64_t page) const {
    return ((words[page / 64] >> (page % 64)) & 1) != 0;
  }
  [[nodiscard]] bool first() const { return at(0); }
  [[nodiscard]] bool last() const { return at(kPagesPerBlock - 1); }
  /// Sets the pages [begin, end).
  void set(std::uint64_t begin, std::uint64_t end, bool value);
  /// The first page from `page` on that differs from it, or kPagesPerBlock.
  [[nodiscard]] std::uint64_t run_end(std::uint64_t page) const;

  std::array<std::uint64_t, kWords> words{};
};

/// One block, in a word that sorts by the block's number:
///   [63:33] block   [32:30] number of changes inside, 0 to 3, or 4: a bitmap
///   [29] attribute of the last page   [28] of the first page
///   [26:18] [17:9] [8:0] the pages at which it changes, or [27:0] index of the bitmap
/// All blocks up to the next entry are as the last page.
class Entry {
 public:
  static constexpr unsigned kBlockShift = 33;
  static constexpr std::uint64_t kMaxBlocks = 1ULL << (64 - kBlockShift);
  static constexpr std::uint64_t kMaxBitmaps = 1ULL << 28;
  static constexpr unsigned kMaxChanges = 3;

  constexpr explicit Entry(std::uint64_t word) : word_{word} {}
  [[nodiscard]] static Entry uniform(std::uint64_t block, bool value) {
    return Entry{block << kBlockShift | std::uint64_t{value} << 29 | std::uint64_t{value} << 28};
  }
  [[nodiscard]] static Entry bitmap(std::uint64_t block, const BlockBits& bits,
                                    std::uint64_t index) {
    return Entry{block << kBlockShift | kBitmapKind << 30 | std::uint64_t{bits.last()} << 29 |
                 std::uint64_t{bits.first()} << 28 | index};
  }
  /// Nothing when the block changes more than three times.
  [[nodiscard]] static std::optional<Entry> compact(std::uint64_t block, const BlockBits& bits);

  [[nodiscard]] constexpr std::uint64_t word() const { return word_; }
  [[nodiscard]] constexpr std::uint64_t block() const { return word_ >> kBlockShift; }
  [[nodiscard]] constexpr bool last() const { return (word_ >> 29 & 1) != 0; }
  [[nodiscard]] constexpr bool first() const { return (word_ >> 28 & 1) != 0; }
  [[nodiscard]] constexpr bool is_bitmap() const { return (word_ >> 30 & 7) == kBitmapKind; }
  [[nodiscard]] constexpr bool is_uniform() const { return (word_ >> 30 & 7) == 0; }
  [[nodiscard]] constexpr std::uint64_t bitmap_index() const { return word_ & (kMaxBitmaps - 1); }
  /// Not of a bitmap.
  [[nodiscard]] constexpr unsigned changes() const {
    return std::min(static_cast<unsigned>(word_ >> 30 & 7), kMaxChanges);
  }
  [[nodiscard]] constexpr std::uint64_t change(unsigned index) const {
    return word_ >> (9 * index) & 511;
  }
  /// The attribute of a page. Precondition: not of a bitmap.
  [[nodiscard]] constexpr bool at(std::uint64_t page) const {
    bool value = first();
    for (unsigned i = 0; i < changes(); ++i) {
      value = value != (change(i) <= page);
    }
    return value;
  }

 private:
  static constexpr std::uint64_t kBitmapKind = 4;
  std::uint64_t word_;
};

/// What a look for a block finds.
struct Floor {
  Entry entry;               ///< the last one at or before the block
  std::uint64_t next_block;  ///< of the entry behind it, or the number of blocks
};

/// A B+ tree of Entry words in chunks of 512 bytes: nodes of up to 63 words, and slabs of 7
/// bitmaps. Inner words are [63:33] the first block of the child, [31:0] its chunk.
///
/// Invariants: block 0 has an entry; any other block has one when its first page differs from the
/// page before it or something changes inside; an inner word's block is its subtree's first;
/// every node but the root has at least 31 words.
///
/// One writer at a time. Readers may run beside it: every word is atomic and a torn tree leads
/// nowhere outside the storage and ends; they learn elsewhere that what they read means nothing.
class AttributeTree {
 public:
  static constexpr std::size_t kChunkWords = 64;
  /// Entries have no room for a bitmap's index beyond: 16 GiB.
  static constexpr std::size_t kMaxChunks = Entry::kMaxBitmaps / 8;
  /// Entries that one change_run() removes at most.
  static constexpr unsigned kMaxRemoved = 16;

  /// Chunks that never run out for so many blocks.
  [[nodiscard]] static std::uint64_t chunks_for(std::uint64_t blocks);

  /// Every page of `blocks` blocks has attribute 0. Touches the first chunk only.
  /// Preconditions: 1 <= blocks <= Entry::kMaxBlocks; 1 to kMaxChunks chunks.
  AttributeTree(std::uint64_t blocks, std::span<std::uint64_t> chunks);

  [[nodiscard]] bool at(std::uint64_t page) const;
  [[nodiscard]] Floor floor(std::uint64_t block) const;
  /// The pages of a block, from the entry that floor() found for it.
  [[nodiscard]] BlockBits bits_of(std::uint64_t block, Entry entry) const;

  /// True when any change of one range fits: two blocks and a run.
  [[nodiscard]] bool has_room() const;
  /// Gives one block these pages. Precondition: has_room(), or storage as chunks_for() says.
  void change_block(std::uint64_t block, const BlockBits& bits);
  /// Gives the blocks [begin, end) one attribute, as far as that removes at most kMaxRemoved
  /// entries; returns where it came to, beyond `begin`. Precondition as change_block().
  [[nodiscard]] std::uint64_t change_run(std::uint64_t begin, std::uint64_t end, bool value);

  [[nodiscard]] std::uint64_t chunks_in_use() const { return next_chunk_ - free_chunks_; }
  /// True when the structure is as said. Only while nobody changes it.
  [[nodiscard]] bool invariants() const;

 private:
  static constexpr std::uint64_t kFanout = kChunkWords - 1;
  static constexpr std::uint64_t kLeast = 31;
  static constexpr std::uint64_t kWordsPerLine = 8;
  static constexpr unsigned kMaxHeight = 7;
  /// No chunk; the words of a node behind its last, which no block reaches.
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
  /// The first 8 words of a slab: a bit for each bitmap in use, and its place in the list.
  static constexpr std::uint64_t kSlabUsed = 0;
  static constexpr std::uint64_t kSlabNext = 1;
  static constexpr std::uint64_t kSlabPrevious = 2;
  static constexpr std::uint64_t kSlabFull = 0b1111'1110;

  /// A way from the root to a leaf: at [0] the leaf, at [height()] the root.
  struct Step {
    std::uint64_t chunk = 0;
    std::uint64_t index = 0;  ///< 1 to 63
  };
  using Path = std::array<Step, kMaxHeight + 1>;

  [[nodiscard]] std::uint64_t load(std::uint64_t chunk, std::uint64_t index) const {
    return std::atomic_ref{chunks_[chunk * kChunkWords + index]}.load(std::memory_order_acquire);
  }
  void store(std::uint64_t chunk, std::uint64_t index, std::uint64_t word) {
    std::atomic_ref{chunks_[chunk * kChunkWords + index]}.store(word, std::memory_order_release);
  }
  [[nodiscard]] std::uint64_t count(std::uint64_t chunk) const { return load(chunk, 0); }
  void fetch(std::uint64_t chunk) const;
  void set_count(std::uint64_t chunk, std::uint64_t words);
  [[nodiscard]] std::uint64_t search(std::uint64_t chunk, std::uint64_t block) const;
  [[nodiscard]] static std::uint64_t inner_word(std::uint64_t block, std::uint64_t chunk) {
    return block << Entry::kBlockShift | chunk;
  }
  [[nodiscard]] static std::uint64_t child(std::uint64_t word) { return word & 0xFFFFFFFF; }
  [[nodiscard]] std::uint64_t root_chunk() const { return child(root_.load()); }
  [[nodiscard]] unsigned height() const { return static_cast<unsigned>(root_.load() >> 32); }
  void set_root(std::uint64_t chunk, unsigned height) {
    root_.store(std::uint64_t{height} << 32 | chunk, std::memory_order_release);
  }

  [[nodiscard]] std::uint64_t take_chunk();
  [[nodiscard]] std::uint64_t take_node();
  void clear_node(std::uint64_t chunk);
  void give_chunk(std::uint64_t chunk);
  [[nodiscard]] std::uint64_t take_bitmap();
  void give_bitmap(std::uint64_t index);
  void link_slab(std::uint64_t chunk);
  void unlink_slab(std::uint64_t chunk);
  [[nodiscard]] std::uint64_t bitmap_word(std::uint64_t index, std::uint64_t word) const;
  void fill_bitmap(std::uint64_t index, const BlockBits& bits);

  [[nodiscard]] Path path_to(std::uint64_t block) const;
  [[nodiscard]] bool value_before(std::uint64_t block) const;
  [[nodiscard]] Entry encode(std::uint64_t block, const BlockBits& bits, Entry old);
  void put(Entry entry);
  void remove(std::uint64_t block);
  void settle_next(std::uint64_t block, bool has_entry, bool old_value, bool new_value);
  void insert_behind(Path& path, unsigned level, std::uint64_t word);
  void insert_into(std::uint64_t chunk, std::uint64_t index, std::uint64_t word);
  void remove_at(Path& path, unsigned level);
  void rebalance(Path& path, unsigned level);
  void move_words(std::uint64_t from, std::uint64_t first, std::uint64_t to, std::uint64_t at,
                  std::uint64_t count);
  void update_first(const Path& path, unsigned level);
  [[nodiscard]] bool node_sound(std::uint64_t chunk, unsigned level, std::uint64_t begin,
                                std::uint64_t end) const;

  std::span<std::uint64_t> chunks_;
  std::uint64_t blocks_;
  std::atomic<std::uint64_t> root_ = 0;  ///< [63:32] height, [31:0] chunk
  std::uint64_t next_chunk_ = 1;         ///< never taken from here on
  std::uint64_t free_chunk_ = kNone;     ///< list through word 1
  std::uint64_t free_chunks_ = 0;
  std::uint64_t partial_slab_ = kNone;  ///< list of slabs with room
};

}  // namespace accede::host::attributes_internal
