// Looking at the bits of the table and changing them.
#include "accede/guest/unaccepted_table.hpp"

#include <algorithm>
#include <bit>

namespace accede::guest {

namespace {

constexpr std::uint64_t kWordBits = 64;
constexpr std::uint64_t kGranuleWords = UnacceptedTable::kGranuleBits / kWordBits;
constexpr std::uint64_t kAllOnes = ~std::uint64_t{0};

/// The bits [begin, end) of one word. Precondition: begin < end <= 64.
constexpr std::uint64_t mask_of(std::uint64_t begin, std::uint64_t end) {
  return (kAllOnes >> (kWordBits - (end - begin))) << begin;
}

/// Calls `act` with each word that the bits touch and the mask of those in it.
template <class Act>
void for_words(std::uint64_t begin, std::uint64_t end, Act act) {
  while (begin < end) {
    const std::uint64_t word = begin / kWordBits;
    const std::uint64_t stop = std::min(end, (word + 1) * kWordBits);
    act(word, mask_of(begin % kWordBits, stop - word * kWordBits));
    begin = stop;
  }
}

}  // namespace

UnacceptedTable::Bits UnacceptedTable::bits_of(PhysRange units) const {
  return {.begin = (units.begin() - covered_.begin()).value() >> unit_shift_,
          .end = (units.end() - covered_.begin()).value() >> unit_shift_};
}

PhysRange UnacceptedTable::range_of(Bits bits) const {
  return *PhysRange::make(covered_.begin() + unit_ * bits.begin,
                          covered_.begin() + unit_ * bits.end);
}

UnacceptedTable::Word UnacceptedTable::load(std::uint64_t word) const {
  if (word < full_words_) {
    Word* const words = reinterpret_cast<Word*>(bitmap_.data());
    return std::atomic_ref{words[word]}.load(std::memory_order_acquire);
  }
  Word value = 0;
  for (std::size_t i = word * sizeof(Word); i < bitmap_.size(); ++i) {
    auto& byte = reinterpret_cast<std::uint8_t&>(bitmap_[i]);
    const Word bits = std::atomic_ref{byte}.load(std::memory_order_acquire);
    value |= bits << (8 * (i % sizeof(Word)));
  }
  return value;
}

UnacceptedTable::Word UnacceptedTable::clear(std::uint64_t word, Word mask) {
  // Sequentially consistent: of two CPUs that empty one granule, the later must see it empty.
  if (word < full_words_) {
    Word* const words = reinterpret_cast<Word*>(bitmap_.data());
    return std::atomic_ref{words[word]}.fetch_and(~mask);
  }
  Word old = 0;
  for (std::size_t i = word * sizeof(Word); i < bitmap_.size(); ++i) {
    const unsigned shift = 8 * (i % sizeof(Word));
    auto& byte = reinterpret_cast<std::uint8_t&>(bitmap_[i]);
    const auto keep = static_cast<std::uint8_t>(~(mask >> shift));
    old |= Word{std::atomic_ref{byte}.fetch_and(keep)} << shift;
  }
  return old;
}

UnacceptedTable::Word UnacceptedTable::set(std::uint64_t word, Word mask) {
  if (word < full_words_) {
    Word* const words = reinterpret_cast<Word*>(bitmap_.data());
    return std::atomic_ref{words[word]}.fetch_or(mask);
  }
  Word old = 0;
  for (std::size_t i = word * sizeof(Word); i < bitmap_.size(); ++i) {
    const unsigned shift = 8 * (i % sizeof(Word));
    auto& byte = reinterpret_cast<std::uint8_t&>(bitmap_[i]);
    old |= Word{std::atomic_ref{byte}.fetch_or(static_cast<std::uint8_t>(mask >> shift))} << shift;
  }
  return old;
}

/// The first word from `word` on, at most `end_word`, whose granule is not marked uninteresting:
/// all ones in `uninteresting` when a set mark means that, 0 when a clear one does.
std::uint64_t UnacceptedTable::skip(std::span<Word> marks, Word uninteresting, std::uint64_t word,
                                    std::uint64_t end_word) {
  if (marks.empty() || word % kGranuleWords != 0) {
    return word;
  }
  const std::uint64_t granule = word / kGranuleWords;
  std::uint64_t at = granule / kWordBits;
  Word bits = (std::atomic_ref{marks[at]}.load(std::memory_order_acquire) ^ uninteresting) &
              (kAllOnes << (granule % kWordBits));
  while (bits == 0) {
    if (++at * kWordBits * kGranuleWords >= end_word) {
      return end_word;
    }
    bits = std::atomic_ref{marks[at]}.load(std::memory_order_acquire) ^ uninteresting;
  }
  const auto found = static_cast<std::uint64_t>(std::countr_zero(bits));
  return std::min(end_word, (at * kWordBits + found) * kGranuleWords);
}

std::uint64_t UnacceptedTable::find_set(std::uint64_t from, std::uint64_t end) const {
  if (from >= end) {
    return end;
  }
  const std::uint64_t end_word = (end + kWordBits - 1) / kWordBits;
  std::uint64_t word = from / kWordBits;
  Word bits = load(word) & (kAllOnes << (from % kWordBits));
  while (bits == 0) {
    word = ++word < end_word ? skip(some_, 0, word, end_word) : end_word;
    if (word >= end_word) {
      return end;
    }
    bits = load(word);
  }
  return std::min(end, word * kWordBits + static_cast<std::uint64_t>(std::countr_zero(bits)));
}

std::uint64_t UnacceptedTable::find_clear(std::uint64_t from, std::uint64_t end) const {
  if (from >= end) {
    return end;
  }
  const std::uint64_t end_word = (end + kWordBits - 1) / kWordBits;
  std::uint64_t word = from / kWordBits;
  Word holes = ~load(word) & (kAllOnes << (from % kWordBits));
  while (holes == 0) {
    word = ++word < end_word ? skip(full_, kAllOnes, word, end_word) : end_word;
    if (word >= end_word) {
      return end;
    }
    holes = ~load(word);
  }
  return std::min(end, word * kWordBits + static_cast<std::uint64_t>(std::countr_zero(holes)));
}

PhysRange UnacceptedTable::units_of(PhysRange range) const {
  const PhysRange inside = covered_.intersect(range);
  if (inside.empty()) {
    return *PhysRange::make(covered_.begin(), covered_.begin());
  }
  return *PhysRange::make(inside.begin().align_down(unit_), inside.end().align_up(unit_));
}

PhysRange UnacceptedTable::guarded(PhysRange range) const {
  if (range.empty() || covered_.empty()) {
    return units_of(PhysRange{});
  }
  if (range.end() >= covered_.end()) {
    return units_of(range);
  }
  constexpr Bytes kPage{4096};
  PhysAddr end = range.end().align_up(kPage);
  if (end == covered_.end()) {  // no unit after it, perhaps no address either
    return units_of(range);
  }
  if (end.is_aligned(unit_)) {
    end += unit_;
  }
  return units_of(*PhysRange::make(range.begin(), end));
}

bool UnacceptedTable::any_unaccepted(PhysRange range) const {
  const Bits bits = bits_of(units_of(range));
  return find_set(bits.begin, bits.end) < bits.end;
}

std::optional<PhysRange> UnacceptedTable::next_run(PhysRange range) const {
  if (range.empty()) {
    return std::nullopt;
  }
  const Bits bits = bits_of(range);
  const std::uint64_t begin = find_set(bits.begin, bits.end);
  if (begin >= bits.end) {
    return std::nullopt;
  }
  return range_of({.begin = begin, .end = find_clear(begin, bits.end)});
}

Bytes UnacceptedTable::count(PhysRange range) const {
  const PhysRange units = units_of(range);
  if (units.empty()) {
    return Bytes{0};
  }
  const Bits bits = bits_of(units);
  std::uint64_t sum = 0;
  for_words(bits.begin, bits.end, [&](std::uint64_t word, Word mask) {
    sum += static_cast<std::uint64_t>(std::popcount(load(word) & mask));
  });
  return unit_ * sum;
}

void UnacceptedTable::for_each_run(FunctionRef<void(PhysRange)> visit) const {
  // Runs begin and end in granules that are neither empty nor full, mostly two a run. In a large
  // table each is a cache miss, so they are fetched some runs ahead.
  std::uint64_t ahead = prefetch_mixed(0, 16);
  std::uint64_t last_granule = 0;
  std::uint64_t begin = find_set(0, bits_);
  while (begin < bits_) {
    if (begin / kGranuleBits != last_granule) {
      last_granule = begin / kGranuleBits;
      ahead = prefetch_mixed(ahead, 2);
    }
    const std::uint64_t end = find_clear(begin, bits_);
    visit(range_of({.begin = begin, .end = end}));
    begin = find_set(end, bits_);
  }
}

/// Fetches the next `count` granules from `granule` on that the index calls neither empty nor full;
/// returns where to go on.
std::uint64_t UnacceptedTable::prefetch_mixed(std::uint64_t granule, unsigned count) const {
  for (std::uint64_t at = granule / kWordBits; at < some_.size(); ++at) {
    Word mixed = std::atomic_ref{some_[at]}.load(std::memory_order_relaxed) &
                 ~std::atomic_ref{full_[at]}.load(std::memory_order_relaxed);
    mixed &= at == granule / kWordBits ? kAllOnes << (granule % kWordBits) : kAllOnes;
    for (; mixed != 0; mixed &= mixed - 1) {
      const std::uint64_t found =
          at * kWordBits + static_cast<std::uint64_t>(std::countr_zero(mixed));
      if (count-- == 0) {
        return found;
      }
      __builtin_prefetch(&bitmap_[found * kGranuleBits / 8]);
    }
  }
  return some_.size() * kWordBits;
}

void UnacceptedTable::mark_accepted(PhysRange units) {
  ACCEDE_ASSERT(covered_.contains(units));
  const Bits bits = bits_of(units);
  std::uint64_t cleared = 0;
  if (!full_.empty()) {  // first: a granule that loses a bit must not be called full
    for_words(bits.begin / kGranuleBits, (bits.end + kGranuleBits - 1) / kGranuleBits,
              [&](std::uint64_t word, Word mask) {
                const std::atomic_ref marks{full_[word]};
                if ((marks.load(std::memory_order_relaxed) & mask) != 0) {
                  marks.fetch_and(~mask);
                }
              });
  }
  for_words(bits.begin, bits.end, [&](std::uint64_t word, Word mask) {
    const Word old = clear(word, mask);
    cleared += static_cast<std::uint64_t>(std::popcount(old & mask));
    if (!some_.empty() && (old & ~mask) == 0) {
      granule_emptied(word / kGranuleWords);
    }
  });
  unaccepted_units_.fetch_sub(cleared, std::memory_order_relaxed);
}

void UnacceptedTable::mark_unaccepted(PhysRange units) {
  ACCEDE_ASSERT(covered_.contains(units));
  const Bits bits = bits_of(units);
  const SpinGuard guard{index_lock_};
  std::uint64_t added = 0;
  for_words(bits.begin, bits.end, [&](std::uint64_t word, Word mask) {
    if (!some_.empty()) {
      const std::uint64_t granule = word / kGranuleWords;
      std::atomic_ref{some_[granule / kWordBits]}.fetch_or(Word{1} << (granule % kWordBits));
    }
    added += static_cast<std::uint64_t>(std::popcount(mask & ~set(word, mask)));
  });
  unaccepted_units_.fetch_add(added, std::memory_order_relaxed);
}

/// Clears the granule's index bit if it is empty indeed. Under the lock, so that memory which is
/// added meanwhile cannot lose its index bit.
void UnacceptedTable::granule_emptied(std::uint64_t granule) {
  if (!granule_empty(granule)) {
    return;
  }
  const SpinGuard guard{index_lock_};
  if (granule_empty(granule)) {
    std::atomic_ref{some_[granule / kWordBits]}.fetch_and(~(Word{1} << (granule % kWordBits)));
  }
}

bool UnacceptedTable::granule_empty(std::uint64_t granule) const {
  const std::uint64_t end = std::min((granule + 1) * kGranuleWords, word_count());
  for (std::uint64_t word = granule * kGranuleWords; word < end; ++word) {
    if (load(word) != 0) {
      return false;
    }
  }
  return true;
}

/// Clears the bytes of the bitmap from `written`, where writing stands, to `end`.
void UnacceptedTable::zero_bytes_to(std::size_t& written, std::size_t end) {
  if (written < end) {
    std::fill(bitmap_.begin() + static_cast<std::ptrdiff_t>(written),
              bitmap_.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
    written = end;
  }
}

/// Sets a run while nobody else uses the table: whole bytes at once, each written once.
/// Precondition: nothing behind `written` has been written.
void UnacceptedTable::set_run(Bits bits, std::size_t& written) {
  const std::size_t first = (bits.begin + 7) / 8;
  const std::size_t last = bits.end / 8;
  const auto merge = [&](std::size_t byte, std::uint64_t begin, std::uint64_t end) {
    if (begin < end) {
      zero_bytes_to(written, byte + 1);
      bitmap_[byte] |= static_cast<std::byte>(mask_of(begin % 8, end - byte * 8));
    }
  };
  zero_bytes_to(written, bits.begin / 8);
  merge(bits.begin / 8, bits.begin, std::min<std::uint64_t>(first * 8, bits.end));
  if (first < last) {
    std::fill(bitmap_.begin() + static_cast<std::ptrdiff_t>(first),
              bitmap_.begin() + static_cast<std::ptrdiff_t>(last), std::byte{0xFF});
    written = last;
  }
  if (last >= first) {
    merge(last, last * 8, bits.end);
  }
  if (!some_.empty()) {
    const auto mark = [](std::span<Word> marks) {
      return [marks](std::uint64_t word, Word mask) { marks[word] |= mask; };
    };
    for_words(bits.begin / kGranuleBits, (bits.end + kGranuleBits - 1) / kGranuleBits, mark(some_));
    for_words((bits.begin + kGranuleBits - 1) / kGranuleBits, bits.end / kGranuleBits, mark(full_));
  }
}

/// Computes index and count from a bitmap that somebody else made.
void UnacceptedTable::fill_index() {
  std::fill(some_.begin(), some_.end(), Word{0});
  std::uint64_t units = 0;
  for (std::uint64_t begin = 0; begin < word_count(); begin += kGranuleWords) {
    const std::uint64_t end = std::min(begin + kGranuleWords, word_count());
    Word any = 0;
    Word all = kAllOnes;
    for (std::uint64_t word = begin; word < end; ++word) {
      const Word bits = load(word);
      units += static_cast<std::uint64_t>(std::popcount(bits));
      any |= bits;
      all &= bits;
    }
    if (!some_.empty()) {
      const std::uint64_t granule = begin / kGranuleWords;
      const Word mark = Word{1} << (granule % kWordBits);
      some_[granule / kWordBits] |= any != 0 ? mark : 0;
      full_[granule / kWordBits] |= all == kAllOnes && end - begin == kGranuleWords ? mark : 0;
    }
  }
  unaccepted_units_.store(units, std::memory_order_relaxed);
}

bool UnacceptedTable::invariants() const {
  std::uint64_t units = 0;
  for (std::uint64_t word = 0; word < word_count(); ++word) {
    const Word bits = load(word);
    units += static_cast<std::uint64_t>(std::popcount(bits));
    if (some_.empty()) {
      continue;
    }
    const std::uint64_t granule = word / kGranuleWords;
    const bool some = ((some_[granule / kWordBits] >> (granule % kWordBits)) & 1) != 0;
    const bool full = ((full_[granule / kWordBits] >> (granule % kWordBits)) & 1) != 0;
    if ((bits != 0 && !some) || (bits != kAllOnes && full)) {
      return false;
    }
  }
  return units == unaccepted_units_.load(std::memory_order_relaxed);
}

}  // namespace accede::guest
