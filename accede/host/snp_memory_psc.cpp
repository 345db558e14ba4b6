// An SNP guest's memory: page state changes as the guest asks for them.
#include "accede/host/snp_memory.hpp"

#include "accede/base/assert.hpp"

#include <atomic>

namespace accede::host {

using abi::ghcb::kPscMaxEntries;
using abi::ghcb::kPscWords;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;
using abi::ghcb::PscResult;

namespace {

/// The guest may write its list at any time.
std::uint64_t load(std::uint64_t& word) {
  return std::atomic_ref{word}.load(std::memory_order_relaxed);
}
void store(std::uint64_t& word, std::uint64_t value) {
  std::atomic_ref{word}.store(value, std::memory_order_relaxed);
}

bool is_sound(std::uint64_t entry) {
  const std::uint64_t pages = PscEntry::pages(entry);
  return PscEntry::CurPage::get(entry) <= pages && PscEntry::Gfn::get(entry) % pages == 0;
}

}  // namespace

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

/// The entries from `index` on, whose word is `entry`, that are one range. `entry` is not done.
SnpMemory::Merged SnpMemory::merge(std::span<std::uint64_t, kPscWords> list, unsigned index,
                                   unsigned last, std::uint64_t entry) {
  const std::uint64_t done = PscEntry::CurPage::get(entry);
  // The rest of a partly done 2 MiB page counts as 4 KiB pages, so larger ones do not join it.
  const bool large = done == 0 && PscEntry::size(entry) == PageSize::k2M;
  const PhysAddr begin = PscEntry::gpa(entry) + PageCount{done}.bytes();
  PhysAddr end = begin + PageCount{PscEntry::pages(entry) - done}.bytes();
  unsigned next = index + 1;
  for (; next <= last; ++next) {
    const std::uint64_t other = load(list[next + 1]);
    if (PscEntry::op(other) != PscEntry::op(entry) || PscEntry::gpa(other) != end ||
        PscEntry::CurPage::get(other) != 0 || (PscEntry::size(other) == PageSize::k2M) != large ||
        !is_sound(other)) {
      break;
    }
    end += PageCount{PscEntry::pages(other)}.bytes();
  }
  return {.end = next, .range = *PhysRange::make(begin, end), .op = PscEntry::op(entry)};
}

PscResult SnpMemory::page_state_list(std::span<std::uint64_t, kPscWords> list,
                                     const SnpMemoryHooks& hooks) {
  const std::uint64_t header = load(list[0]);
  const auto last = static_cast<unsigned>(PscHeader::EndEntry::get(header));
  auto index = static_cast<unsigned>(PscHeader::CurEntry::get(header));
  const auto advance_to = [&](unsigned next) {
    index = next;
    store(list[0], PscHeader::CurEntry::set(header, next));
  };
  if (last >= kPscMaxEntries) {
    return PscResult::kBadHeader;
  }
  while (index <= last) {
    const std::uint64_t entry = load(list[index + 1]);
    if (!is_sound(entry)) {
      return PscResult::kBadEntry;
    }
    if (PscEntry::CurPage::get(entry) == PscEntry::pages(entry)) {
      advance_to(index + 1);
      continue;
    }
    const Merged merged = merge(list, index, last, entry);
    if (!do_op(merged.range, merged.op, hooks)) {
      return PscResult::kGeneric;
    }
    for (unsigned done = index; done < merged.end; ++done) {
      const std::uint64_t word = load(list[done + 1]);
      store(list[done + 1], PscEntry::CurPage::set(word, PscEntry::pages(word)));
    }
    advance_to(merged.end);
  }
  return PscResult::kOk;
}

}  // namespace accede::host
