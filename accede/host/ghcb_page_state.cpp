#include "accede/host/ghcb_page_state.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace accede::host {

using abi::ghcb::kPscMaxEntries;
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

/// One walk through a copied list.
class Walk {
 public:
  Walk(const GhcbScratch& list, FunctionRef<GhcbPageStateAnswer(const GhcbPageState&)> change,
       FunctionRef<void(const GhcbMistake&)> report)
      : list_{list}, change_{change}, report_{report} {}

  PscResult run() {
    const std::uint64_t header = list_.load(0, 8);
    last_ = static_cast<std::uint16_t>(PscHeader::EndEntry::get(header));
    index_ = static_cast<std::uint16_t>(PscHeader::CurEntry::get(header));
    if (last_ >= (list_.room() - 8) / 8) {
      mistake(GhcbMistakeKind::kListHeader, GhcbField::kListHeader, header);
      return PscResult::kBadHeader;
    }
    for (unsigned i = index_; i <= last_; ++i) {
      entries_[i] = list_.load(8 + 8 * i, 8);
    }
    while (index_ <= last_) {
      const std::uint64_t entry = entries_[index_];
      if (!is_sound(entry)) {
        mistake(GhcbMistakeKind::kListEntry, GhcbField::kListEntry, entry);
        return PscResult::kBadEntry;
      }
      if (pages_left(entry) == 0) {
        advance_to(index_ + 1U);
      } else if (const auto stopped = do_next(); stopped) {
        return *stopped;
      }
    }
    return PscResult::kOk;
  }

 private:
  /// The change that begins at index_ and the index behind its last entry.
  struct Merged {
    unsigned end;
    GhcbPageState change;
  };

  void mistake(GhcbMistakeKind kind, GhcbField field, std::uint64_t value) {
    report_({.kind = kind,
             .field = field,
             .exit_code = static_cast<std::uint64_t>(abi::ghcb::ExitCode::kPageStateChange),
             .value = value,
             .entry = index_});
  }

  void advance_to(unsigned index) {
    index_ = static_cast<std::uint16_t>(index);
    list_.store(0, 2, index);
  }

  [[nodiscard]] Merged merge() const {
    const std::uint64_t entry = entries_[index_];
    const std::uint64_t done = PscEntry::CurPage::get(entry);
    const PageSize size = done == 0 ? PscEntry::size(entry) : PageSize::k4K;
    const PhysAddr begin = PscEntry::gpa(entry) + PageCount{done}.bytes();
    PhysAddr end = begin + PageCount{pages_left(entry)}.bytes();
    unsigned next = index_ + 1U;
    // A neighbour of the same size is as aligned as the first entry.
    for (; next <= last_; ++next) {
      const std::uint64_t other = entries_[next];
      if (PscEntry::op(other) != PscEntry::op(entry) || PscEntry::gpa(other) != end ||
          PscEntry::CurPage::get(other) != 0 || PscEntry::size(other) != size) {
        break;
      }
      end += bytes(size);
    }
    return {
        .end = next,
        .change = {.range = *PhysRange::make(begin, end), .op = PscEntry::op(entry), .size = size}};
  }

  /// Does the entries from index_ on that are one change. Nothing: go on behind them.
  std::optional<PscResult> do_next() {
    const Merged merged = merge();
    GhcbPageStateAnswer answer = GhcbPageStateAnswer::all();
    switch (merged.change.op) {
      case PageOp::kPrivate:
      case PageOp::kShared:
        answer = change_(merged.change);
        break;
      case PageOp::kPsmash:
      case PageOp::kUnsmash:
        break;
      default:
        mistake(GhcbMistakeKind::kListOperation, GhcbField::kListEntry, entries_[index_]);
    }
    const bool all = mark(merged.end, answer.done.value());
    if (answer.refused) {
      return PscResult::kGeneric;
    }
    return all ? std::nullopt : std::optional{PscResult::kOk};
  }

  /// Counts `done` pages in the entries from index_ to `end`. True when that is all of them.
  bool mark(unsigned end, std::uint64_t done) {
    unsigned at = index_;
    for (; at < end; ++at) {
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
    return at == end;
  }

  const GhcbScratch& list_;
  FunctionRef<GhcbPageStateAnswer(const GhcbPageState&)> change_;
  FunctionRef<void(const GhcbMistake&)> report_;
  std::uint16_t last_ = 0;
  std::uint16_t index_ = 0;
  std::array<std::uint64_t, kPscMaxEntries> entries_{};
};

}  // namespace

PscResult answer_page_state_list(const GhcbScratch& list,
                                 FunctionRef<GhcbPageStateAnswer(const GhcbPageState&)> change,
                                 FunctionRef<void(const GhcbMistake&)> report) {
  return Walk{list, change, report}.run();
}

}  // namespace accede::host
