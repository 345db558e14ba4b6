// Page state change lists of the GHCB protocol, answered as KVM does.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/host/ghcb_input.hpp"
#include "accede/host/ghcb_types.hpp"

#include <cstdint>

namespace accede::host {

/// What a host is asked to do at once: an entry or several neighbouring ones.
struct GhcbPageState {
  PhysRange range{};  ///< 4 KiB aligned, not empty, ends at 2^52 at most. Need not be RAM
  abi::ghcb::PageOp op = abi::ghcb::PageOp::kPrivate;  ///< kPrivate or kShared
  PageSize size = PageSize::k4K;  ///< of the entries; the rest of a partly done one is 4 KiB pages
};

/// How far the host came. Less than all without `refused` is a pause: the guest is told that
/// nothing went wrong, and asks again for the rest.
struct GhcbPageStateAnswer {
  PageCount done{};      ///< from the front of the range; more than all counts as all
  bool refused = false;  ///< what is not done was not possible

  [[nodiscard]] static GhcbPageStateAnswer all() { return {.done = PageCount{~0ULL}}; }
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
