// An SNP guest's memory: page state changes as the guest asks for them.
#include "accede/host/snp_memory.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/ghcb_page_state.hpp"

namespace accede::host {

using abi::ghcb::kPscWords;
using abi::ghcb::PageOp;
using abi::ghcb::PscResult;

/// True when done, or when there is nothing that this host does.
bool SnpMemory::do_op(PhysRange pages, PageOp op, const SnpMemoryHooks& hooks) {
  switch (op) {
    case PageOp::kPrivate:
      return convert(pages, PageAttribute::kPrivate, hooks);
    case PageOp::kShared:
      return convert(pages, PageAttribute::kShared, hooks);
    case PageOp::kPsmash:
    case PageOp::kUnsmash:
      break;
  }
  return true;
}

std::uint64_t SnpMemory::msr_page_state(std::uint64_t request, const SnpMemoryHooks& hooks) {
  using namespace abi::ghcb;
  ACCEDE_ASSERT(code_of(request) == MsrCode::kPageStateRequest);
  const PageOp op = page_state_op(request);
  const PhysRange page = PhysRange::page(page_state_gpa(request), PageSize::k4K);
  const bool known = op == PageOp::kPrivate || op == PageOp::kShared;
  return page_state_response(known && do_op(page, op, hooks) ? 0 : kPageStateErrorKvm);
}

GhcbPageStateAnswer SnpMemory::change_page_state(const GhcbPageState& change,
                                                 const SnpMemoryHooks& hooks) {
  return do_op(change.range, change.op, hooks) ? GhcbPageStateAnswer::all()
                                               : GhcbPageStateAnswer{.refused = true};
}

PscResult SnpMemory::page_state_list(std::span<std::uint64_t, kPscWords> list,
                                     const SnpMemoryHooks& hooks) {
  return answer_page_state_list(
      GhcbScratch{list},
      [&](const GhcbPageState& change) { return change_page_state(change, hooks); },
      [](const GhcbMistake&) {});
}

}  // namespace accede::host
