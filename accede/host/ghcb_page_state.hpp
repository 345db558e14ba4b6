// Page state change lists of the GHCB protocol, answered as KVM does.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/ghcb_input.hpp"
#include "accede/host/ghcb_types.hpp"

#include <array>
#include <cstdint>
#include <optional>

namespace accede::host {

/// What a host is asked to do at once: an entry or several neighbouring ones.
struct GhcbPageState {
  PhysRange range{};  ///< 4 KiB aligned, not empty, ends at 2^52 at most. Need not be RAM
  abi::ghcb::PageOp op = abi::ghcb::PageOp::kPrivate;  ///< kPrivate or kShared
  /// Of the entries; the rest of a partly done one is 4 KiB pages, and so are entries of both
  /// sizes.
  PageSize size = PageSize::k4K;
};

/// How far the host came. Less than all without `refused` is a pause: the guest is told that
/// nothing went wrong, and asks again for the rest.
struct GhcbPageStateAnswer {
  PageCount done{};      ///< from the front of the range; more than all counts as all
  bool refused = false;  ///< what is not done was not possible

  [[nodiscard]] static GhcbPageStateAnswer all() { return {.done = PageCount{~0ULL}}; }
};

/// Which entries that follow each other are one change.
enum class PageStateJoin : std::uint8_t {
  kSameSize,    ///< KVM: of one size, each begins where the one before ends
  kNeighbours,  ///< together one range: up, down, overlapping, of both sizes. All or nothing
};

/// What a host does with PSMASH and UNSMASH entries.
enum class PageSizeRequests : std::uint8_t {
  kAutomatic,  ///< nothing: it changes the size of an RMP entry where it has to (KVM)
  kOnRequest,  ///< is handed those of 2 MiB pages
};

/// A list while it is answered in place, change by change.
///
/// Header and entries are copied by the constructor, so what the guest writes into the list
/// afterwards changes nothing. Order of the checks and words written as answer_page_state_list()
/// says; each answer is written at once. One thread.
class PageStateList {
 public:
  using Report = FunctionRef<void(const GhcbMistake&)>;

  /// `list` holds at least the header and outlives the object.
  PageStateList(const GhcbScratch& list, Report report,
                PageSizeRequests sizes = PageSizeRequests::kAutomatic);

  /// The next change, of `most` bytes at most where that leaves an entry; null: result() says how
  /// it ended. The same again, joined otherwise if so wanted, until it is answered.
  [[nodiscard]] const GhcbPageState* next(PageStateJoin join, Bytes most, Report report);
  /// How the change that next() gave went. Precondition: it gave one; of kNeighbours all or nothing
  /// is done.
  void answer(const GhcbPageStateAnswer& answer);

  /// sw_exit_info_2, once next() gave null.
  [[nodiscard]] abi::ghcb::PscResult result() const { return result_; }

 private:
  void mistake(GhcbMistakeKind kind, GhcbField field, std::uint64_t value, Report report) const;
  void advance_to(unsigned index);
  [[nodiscard]] bool joins(PageStateJoin join, unsigned index) const;
  void merge(PageStateJoin join, Bytes most);
  [[nodiscard]] bool concerns_host(const GhcbPageState& change) const;
  [[nodiscard]] bool mark(std::uint64_t done);

  GhcbScratch list_;
  PageSizeRequests sizes_;
  bool ended_ = false;
  abi::ghcb::PscResult result_ = abi::ghcb::PscResult::kOk;
  std::uint16_t last_ = 0;
  std::uint16_t index_ = 0;
  std::uint16_t merged_end_ = 0;  ///< behind the last entry of change_; index_: there is no change
  PageStateJoin merged_as_ = PageStateJoin::kSameSize;
  Bytes merged_most_;
  GhcbPageState change_;
  std::array<std::uint64_t, abi::ghcb::kPscMaxEntries> entries_{};
};

/// Answers a list in place and returns sw_exit_info_2. `list` holds at least the header.
///
/// Header and entries are copied before the first change, so what the guest writes into the list
/// meanwhile changes nothing: every entry is done at most once, as it was read. Order of the checks
/// (KVM): the end beyond the room of the list is a bad header; then for each entry in turn, more
/// pages done than it has or a misaligned 2 MiB page is a bad entry; done entries are skipped;
/// neighbours with one operation and size are one change; operations other than private and shared
/// count as done. cur_page and cur_entry say how far it came, also after an error; nothing else in
/// the header is written.
///
/// Where the rest of a partly done 2 MiB entry ends, an adjacent 4 KiB entry joins it. (KVM
/// compares with an end that is too low by the pages done, and converts the wrong page; not
/// copied.)
[[nodiscard]] abi::ghcb::PscResult answer_page_state_list(
    const GhcbScratch& list, FunctionRef<GhcbPageStateAnswer(const GhcbPageState&)> change,
    FunctionRef<void(const GhcbMistake&)> report);

}  // namespace accede::host
