#include "accede/host/ghcb_page_state.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>

namespace accede::host {

using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;
using abi::ghcb::PscResult;

namespace {

bool is_sound(std::uint64_t entry) {
  const std::uint64_t pages = PscEntry::pages(entry);
  return PscEntry::CurPage::get(entry) <= pages && PscEntry::Gfn::get(entry) % pages == 0;
}

std::uint64_t pages_left(std::uint64_t entry) {
  return PscEntry::pages(entry) - PscEntry::CurPage::get(entry);
}

/// What is left to do of a sound entry.
PhysRange rest(std::uint64_t entry) {
  const Bytes done = PageCount{PscEntry::CurPage::get(entry)}.bytes();
  return *PhysRange::make(PscEntry::gpa(entry) + done, PageCount{pages_left(entry)}.bytes());
}

/// In which size it is done.
PageSize size_of_rest(std::uint64_t entry) {
  return PscEntry::CurPage::get(entry) == 0 ? PscEntry::size(entry) : PageSize::k4K;
}

}  // namespace

PageStateList::PageStateList(const GhcbScratch& list, Report report, PageSizeRequests sizes)
    : list_{list}, sizes_{sizes} {
  const std::uint64_t header = list_.load(0, 8);
  last_ = static_cast<std::uint16_t>(PscHeader::EndEntry::get(header));
  index_ = static_cast<std::uint16_t>(PscHeader::CurEntry::get(header));
  if (last_ >= (list_.room() - 8) / 8) {
    mistake(GhcbMistakeKind::kListHeader, GhcbField::kListHeader, header, report);
    ended_ = true;
    result_ = PscResult::kBadHeader;
    return;
  }
  for (unsigned i = index_; i <= last_; ++i) {
    entries_[i] = list_.load(8 + 8 * std::size_t{i}, 8);
  }
}

void PageStateList::mistake(GhcbMistakeKind kind, GhcbField field, std::uint64_t value,
                            Report report) const {
  report({.kind = kind,
          .field = field,
          .exit_code = static_cast<std::uint64_t>(abi::ghcb::ExitCode::kPageStateChange),
          .value = value,
          .entry = index_});
}

void PageStateList::advance_to(unsigned index) {
  index_ = static_cast<std::uint16_t>(index);
  list_.store(0, 2, index);
}

/// Whether the entry at `index` belongs to what is merged so far.
bool PageStateList::joins(PageStateJoin join, unsigned index) const {
  const std::uint64_t entry = entries_[index];
  if (PscEntry::op(entry) != change_.op) {
    return false;
  }
  if (join == PageStateJoin::kSameSize) {
    // A neighbour of the same size is as aligned as the first entry.
    return PscEntry::gpa(entry) == change_.range.end() && PscEntry::CurPage::get(entry) == 0 &&
           PscEntry::size(entry) == change_.size;
  }
  if (!is_sound(entry)) {
    return false;
  }
  const PhysRange more = rest(entry);
  return more.begin() <= change_.range.end() && change_.range.begin() <= more.end();
}

/// Makes change_ of the entries from index_ on.
void PageStateList::merge(PageStateJoin join, Bytes most) {
  const std::uint64_t first = entries_[index_];
  change_ = {.range = rest(first), .op = PscEntry::op(first), .size = size_of_rest(first)};
  unsigned next = index_ + 1U;
  for (; next <= last_ && joins(join, next); ++next) {
    const PhysRange more = rest(entries_[next]);
    const PhysRange both = *PhysRange::make(std::min(change_.range.begin(), more.begin()),
                                            std::max(change_.range.end(), more.end()));
    if (both.size() > most) {
      break;
    }
    change_.range = both;
    change_.size = std::min(change_.size, size_of_rest(entries_[next]));
  }
  merged_end_ = static_cast<std::uint16_t>(next);
  merged_most_ = most;
}

bool PageStateList::concerns_host(const GhcbPageState& change) const {
  switch (change.op) {
    case PageOp::kPrivate:
    case PageOp::kShared:
      return true;
    case PageOp::kPsmash:
    case PageOp::kUnsmash:
      return sizes_ == PageSizeRequests::kOnRequest && change.size == PageSize::k2M;
  }
  return false;
}

const GhcbPageState* PageStateList::next(PageStateJoin join, Bytes most, Report report) {
  if (merged_end_ > index_ && merged_as_ == join && merged_most_ == most) {
    return &change_;
  }
  while (!ended_ && index_ <= last_) {
    const std::uint64_t entry = entries_[index_];
    if (!is_sound(entry)) {
      mistake(GhcbMistakeKind::kListEntry, GhcbField::kListEntry, entry, report);
      ended_ = true;
      result_ = PscResult::kBadEntry;
      break;
    }
    if (pages_left(entry) == 0) {
      advance_to(index_ + 1U);
      continue;
    }
    const PageOp op = PscEntry::op(entry);
    const bool converts = op == PageOp::kPrivate || op == PageOp::kShared;
    merge(converts ? join : PageStateJoin::kSameSize, most);
    merged_as_ = join;
    if (concerns_host(change_)) {
      return &change_;
    }
    if (!converts && op != PageOp::kPsmash && op != PageOp::kUnsmash) {
      mistake(GhcbMistakeKind::kListOperation, GhcbField::kListEntry, entry, report);
    }
    answer(GhcbPageStateAnswer::all());
  }
  return nullptr;
}

void PageStateList::answer(const GhcbPageStateAnswer& answer) {
  ACCEDE_ASSERT(!ended_ && index_ < merged_end_);
  const bool all = mark(answer.done.value());
  merged_end_ = index_;
  ended_ = answer.refused || !all;
  result_ = answer.refused ? PscResult::kGeneric : PscResult::kOk;
}

/// Counts `done` pages in the entries of change_. True when that is all of them.
bool PageStateList::mark(std::uint64_t done) {
  unsigned at = index_;
  for (; at < merged_end_; ++at) {
    std::uint64_t& entry = entries_[at];
    const std::uint64_t step = std::min(pages_left(entry), done);
    done -= step;
    if (step != 0) {
      entry = PscEntry::CurPage::set(entry, PscEntry::CurPage::get(entry) + step);
      list_.store(8 + 8 * std::size_t{at}, 8, entry);
    }
    if (pages_left(entry) != 0) {
      break;
    }
  }
  advance_to(at);
  return at == merged_end_;
}

PscResult answer_page_state_list(const GhcbScratch& list,
                                 FunctionRef<GhcbPageStateAnswer(const GhcbPageState&)> change,
                                 FunctionRef<void(const GhcbMistake&)> report) {
  PageStateList walk{list, report};
  while (const GhcbPageState* next = walk.next(PageStateJoin::kSameSize, Bytes{~0ULL}, report)) {
    walk.answer(change(*next));
  }
  return walk.result();
}

}  // namespace accede::host
