#include "accede/host/page_attributes.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

using namespace std::string_view_literals;
using attributes_internal::AttributeTree;
using attributes_internal::BlockBits;
using attributes_internal::Entry;
using attributes_internal::Floor;
using attributes_internal::kPagesPerBlock;

namespace {

constexpr std::uint64_t kChunkBytes = AttributeTree::kChunkWords * sizeof(std::uint64_t);
/// A node is searched in whole cache lines.
constexpr std::uint64_t kLine = 64;

std::uint64_t block_count(PhysRange range) {
  const Bytes size = range.end() - range.begin().align_down(2_MiB);
  return std::max<std::uint64_t>(1, (size.value() + (2_MiB).value() - 1) / (2_MiB).value());
}

std::span<std::uint64_t> chunks_in(std::span<std::byte> storage) {
  const auto address = reinterpret_cast<std::uintptr_t>(storage.data());
  ACCEDE_ASSERT(address % alignof(std::uint64_t) == 0);
  const std::size_t skipped = (kLine - address % kLine) % kLine;
  ACCEDE_ASSERT(storage.size() >= skipped + kChunkBytes);
  const std::span<std::byte> aligned = storage.subspan(skipped);
  return {reinterpret_cast<std::uint64_t*>(aligned.data()),
          std::min<std::size_t>(aligned.size() / kChunkBytes, AttributeTree::kMaxChunks) *
              AttributeTree::kChunkWords};
}

PageAttribute attribute_of(bool value) {
  return value ? PageAttribute::kShared : PageAttribute::kPrivate;
}

}  // namespace

std::string_view name(PageAttribute attribute) {
  return attribute == PageAttribute::kPrivate ? "private"sv : "shared"sv;
}

Bytes PageAttributes::storage_bound(PhysRange range) {
  return Bytes{AttributeTree::chunks_for(block_count(range)) * kChunkBytes + kLine};
}

PageAttributes::PageAttributes(PhysRange range, std::span<std::byte> storage)
    : range_{range},
      origin_{range.begin().align_down(2_MiB)},
      complete_{chunks_in(storage).size() / AttributeTree::kChunkWords >=
                AttributeTree::chunks_for(block_count(range))},
      tree_{block_count(range), chunks_in(storage)} {
  ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
}

/// What `look` returns, from a tree that nobody changed meanwhile.
template <class Look>
auto PageAttributes::read(Look look) const {
  for (;;) {
    const std::uint64_t before = version_.load(std::memory_order_acquire);
    if (before % 2 == 0) {
      const auto seen = look();
      // The words were read with acquire: this is not read before them.
      if (version_.load(std::memory_order_relaxed) == before) {
        return seen;
      }
    }
    __builtin_ia32_pause();
  }
}

/// Runs `step`, which changes the tree, so that no reader believes what it sees meanwhile.
template <class Step>
void PageAttributes::write(Step step) {
  const std::uint64_t before = version_.load(std::memory_order_relaxed);
  // The words are written with release: none is seen before this.
  version_.store(before + 1, std::memory_order_relaxed);
  step();
  version_.store(before + 2, std::memory_order_release);
}

void PageAttributes::check(PhysRange pages) const {
  ACCEDE_ASSERT(range_.contains(pages) && pages.begin().is_aligned(4_KiB) &&
                pages.end().is_aligned(4_KiB));
}

PageAttribute PageAttributes::get(PhysAddr gpa) const {
  ACCEDE_ASSERT(range_.contains(gpa));
  const std::uint64_t page = page_index(gpa);
  return attribute_of(read([&] { return tree_.at(page); }));
}

bool PageAttributes::try_set(PhysRange pages, PageAttribute attribute) {
  check(pages);
  const bool value = attribute == PageAttribute::kShared;
  const std::uint64_t end = page_index(pages.end());
  const SpinGuard guard{writer_};
  if (!complete_ && !tree_.has_room()) {
    return false;
  }
  for (std::uint64_t page = page_index(pages.begin()); page < end;) {
    const std::uint64_t block = page / kPagesPerBlock;
    const std::uint64_t inside = page % kPagesPerBlock;
    if (inside == 0 && end - page >= kPagesPerBlock) {
      std::uint64_t reached = 0;
      write([&] { reached = tree_.change_run(block, end / kPagesPerBlock, value); });
      page = reached * kPagesPerBlock;
      continue;
    }
    const std::uint64_t part = std::min(kPagesPerBlock - inside, end - page);
    BlockBits bits = tree_.bits_of(block, tree_.floor(block).entry);
    bits.set(inside, inside + part, value);
    write([&] { tree_.change_block(block, bits); });
    page += part;
  }
  return true;
}

void PageAttributes::set(PhysRange pages, PageAttribute attribute) {
  const bool done = try_set(pages, attribute);
  ACCEDE_ASSERT(done);
}

/// What one look tells about the run that begins at `page`: to the end of its block, or of the
/// blocks behind it in which nothing changes.
PageAttributes::Stretch PageAttributes::stretch(std::uint64_t page) const {
  const std::uint64_t block = page / kPagesPerBlock;
  const std::uint64_t inside = page % kPagesPerBlock;
  const Floor at = tree_.floor(block);
  Stretch result{.end = at.next_block * kPagesPerBlock, .value = at.entry.last()};
  if (at.entry.block() == block && !at.entry.is_uniform()) {
    const BlockBits bits = tree_.bits_of(block, at.entry);
    result.value = bits.at(inside);
    const std::uint64_t change = bits.run_end(inside);
    if (change < kPagesPerBlock) {
      result.end = block * kPagesPerBlock + change;
      result.maximal = true;
    }
  }
  return result;
}

/// run() and its attribute, by one look where the run ends in its block.
PageAttributes::Run PageAttributes::first_run(PhysRange pages) const {
  check(pages);
  ACCEDE_ASSERT(!pages.empty());
  const std::uint64_t begin = page_index(pages.begin());
  const std::uint64_t end = page_index(pages.end());
  Stretch last = read([&] { return stretch(begin); });
  const bool value = last.value;
  std::uint64_t reached = last.end;
  while (!last.maximal && reached < end) {
    last = read([&] { return stretch(reached); });
    if (last.value != value) {
      break;
    }
    reached = last.end;
  }
  return {
      .pages = *PhysRange::make(pages.begin(), PageCount{std::min(reached, end) - begin}.bytes()),
      .attribute = attribute_of(value)};
}

PhysRange PageAttributes::run(PhysRange pages) const {
  return first_run(pages).pages;
}

bool PageAttributes::all(PhysRange pages, PageAttribute attribute) const {
  check(pages);
  if (pages.empty()) {
    return true;
  }
  const Run first = first_run(pages);
  return first.attribute == attribute && first.pages == pages;
}

void PageAttributes::visit(PhysRange pages,
                           FunctionRef<void(PhysRange, PageAttribute)> visitor) const {
  check(pages);
  while (!pages.empty()) {
    const Run first = first_run(pages);
    visitor(first.pages, first.attribute);
    pages = *PhysRange::make(first.pages.end(), pages.end());
  }
}

Bytes PageAttributes::in_use() const {
  const SpinGuard guard{writer_};
  return Bytes{tree_.chunks_in_use() * kChunkBytes};
}

}  // namespace accede::host
