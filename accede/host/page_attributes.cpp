#include "accede/host/page_attributes.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <atomic>
#include <bit>

namespace accede::host {

using namespace std::string_view_literals;
namespace {

constexpr std::uint64_t kPagesPerWord = 64;

std::uint64_t word_count(PhysRange range) {
  return ((range.size().value() >> 12) + kPagesPerWord - 1) / kPagesPerWord;
}

/// The bits [first, first + count) of a word. Precondition: 0 < count, first + count <= 64.
constexpr std::uint64_t bits(std::uint64_t first, std::uint64_t count) {
  return (~std::uint64_t{0} >> (kPagesPerWord - count)) << first;
}

}  // namespace

std::string_view name(PageAttribute attribute) {
  return attribute == PageAttribute::kPrivate ? "private"sv : "shared"sv;
}

Bytes PageAttributes::storage_bound(PhysRange range) {
  return Bytes{word_count(range) * sizeof(std::uint64_t)};
}

PageAttributes::PageAttributes(PhysRange range, std::span<std::byte> storage)
    : range_{range}, words_{reinterpret_cast<std::uint64_t*>(storage.data())} {
  ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
  ACCEDE_ASSERT(storage.size() >= storage_bound(range).value());
  ACCEDE_ASSERT(reinterpret_cast<std::uintptr_t>(storage.data()) % alignof(std::uint64_t) == 0);
  std::fill_n(words_, word_count(range), 0);
}

std::uint64_t PageAttributes::word(std::uint64_t index) const {
  return std::atomic_ref{words_[index]}.load(std::memory_order_acquire);
}

void PageAttributes::check(PhysRange pages) const {
  ACCEDE_ASSERT(range_.contains(pages) && pages.begin().is_aligned(4_KiB) &&
                pages.end().is_aligned(4_KiB));
}

PageAttribute PageAttributes::get(PhysAddr gpa) const {
  ACCEDE_ASSERT(range_.contains(gpa));
  const std::uint64_t page = page_index(gpa);
  return static_cast<PageAttribute>((word(page / kPagesPerWord) >> (page % kPagesPerWord)) & 1);
}

void PageAttributes::set(PhysRange pages, PageAttribute attribute) {
  check(pages);
  const std::uint64_t end = page_index(pages.end());
  for (std::uint64_t page = page_index(pages.begin()); page < end;) {
    const std::uint64_t first = page % kPagesPerWord;
    const std::uint64_t count = std::min(kPagesPerWord - first, end - page);
    const std::atomic_ref target{words_[page / kPagesPerWord]};
    if (attribute == PageAttribute::kShared) {
      target.fetch_or(bits(first, count), std::memory_order_acq_rel);
    } else {
      target.fetch_and(~bits(first, count), std::memory_order_acq_rel);
    }
    page += count;
  }
}

PhysRange PageAttributes::run(PhysRange pages) const {
  check(pages);
  ACCEDE_ASSERT(!pages.empty());
  const std::uint64_t begin = page_index(pages.begin());
  const std::uint64_t end = page_index(pages.end());
  // XOR with the first page's value: the run ends at the first 1.
  const std::uint64_t same =
      get(pages.begin()) == PageAttribute::kShared ? ~std::uint64_t{0} : std::uint64_t{0};
  std::uint64_t page = begin;
  while (page < end) {
    const std::uint64_t first = page % kPagesPerWord;
    const std::uint64_t differ = (word(page / kPagesPerWord) ^ same) >> first;
    const std::uint64_t equal =
        std::min(static_cast<std::uint64_t>(std::countr_zero(differ)), kPagesPerWord - first);
    page += equal;
    if (first + equal < kPagesPerWord) {
      break;
    }
  }
  // A page that changed since the first look may end the run at once; never give an empty one.
  page = std::clamp(page, begin + 1, end);
  return *PhysRange::make(pages.begin(), PageCount{page - begin}.bytes());
}

bool PageAttributes::all(PhysRange pages, PageAttribute attribute) const {
  check(pages);
  return pages.empty() || (get(pages.begin()) == attribute && run(pages) == pages);
}

void PageAttributes::visit(PhysRange pages,
                           FunctionRef<void(PhysRange, PageAttribute)> visitor) const {
  check(pages);
  while (!pages.empty()) {
    const PageAttribute attribute = get(pages.begin());
    const PhysRange part = run(pages);
    visitor(part, attribute);
    pages = *PhysRange::make(part.end(), pages.end());
  }
}

}  // namespace accede::host
