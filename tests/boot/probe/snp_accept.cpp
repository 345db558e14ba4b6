// PVALIDATE: the words and flags that it gives, and what memory holds behind it.

#include "tests/boot/probe/snp.hpp"

#include <algorithm>

namespace probe {
namespace {

using ghcb::PageOp;
using ghcb::PscEntry;

constexpr std::uint64_t kFailInput = 1;
constexpr std::uint64_t kFailSizeMismatch = 6;
constexpr std::uint64_t kPattern = 0x5A5A'5A5A'5A5A'5A5A;

/// PVALIDATE with all operands as they are, and RFLAGS in RBX.
Attempt pvalidate(std::uint64_t rax, std::uint64_t rcx, std::uint64_t rdx) {
  return attempt(probe_do_pvalidate, rax, rcx, rdx);
}

// --- As guests do it
// ------------------------------------------------------------------------------

/// A page at a time, before there is a GHCB.
void accept_by_msr(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  for (const Bytes offset : {0_B, 4_KiB, 2_MiB - 4_KiB}) {
    const PhysAddr page = unit + offset;
    probe.expect("the response", change_page(page, PageOp::kPrivate), kPageStateDone);
    probe.expect("PVALIDATE", validate(page, PageSize::k4K), 0);
    probe.expect("4 KiB are zero", is_zero(page, 4_KiB));
    store<std::uint64_t>(at_private(page + 8_B), kPattern);
    probe.expect("what is written stays", load<std::uint64_t>(at_private(page + 8_B)), kPattern);
  }
}

/// One list for a large page and, behind it, small ones.
void accept_by_list(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr large = probe.take_unit(1);
  const PhysAddr small = large + 2_MiB;
  const std::array entries{PscEntry::make(large, PageSize::k2M, PageOp::kPrivate),
                           PscEntry::make(small, PageSize::k4K, PageOp::kPrivate),
                           PscEntry::make(small + 4_KiB, PageSize::k4K, PageOp::kPrivate),
                           PscEntry::make(small + 12_KiB, PageSize::k4K, PageOp::kPrivate)};
  probe.expect("sw_exit_info_2", host.page_states(entries), 0);
  probe.expect("the list is behind its end", host.list_header(), ghcb::PscHeader::make(4, 3));
  for (std::size_t i = 0; i < entries.size(); ++i) {
    probe.expect("an entry that is done", host.list_entry(i),
                 entries[i] + PscEntry::pages(entries[i]));
  }
  probe.expect("2 MiB", validate(large, PageSize::k2M), 0);
  probe.expect("2 MiB are zero", is_zero(large, 2_MiB));
  for (const Bytes offset : {0_B, 4_KiB, 12_KiB}) {
    probe.expect("4 KiB", validate(small + offset, PageSize::k4K), 0);
  }
  store<std::uint64_t>(at_private(large + 1_MiB), kPattern);
  probe.expect("what is written stays", load<std::uint64_t>(at_private(large + 1_MiB)), kPattern);
}

/// As many entries as a list has room for, and the rest; each page usable at once.
void accept_512_pages(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr unit = probe.take_unit();
  std::array<std::uint64_t, 512> entries{};
  for (std::uint64_t i = 0; i < entries.size(); ++i) {
    entries[i] = PscEntry::make(unit + 4_KiB * i, PageSize::k4K, PageOp::kPrivate);
  }
  for (auto rest = std::span<const std::uint64_t>{entries}; !rest.empty();) {
    const auto part = rest.first(std::min(rest.size(), ghcb::kPscMaxEntries));
    probe.expect("sw_exit_info_2", host.page_states(part), 0);
    rest = rest.subspan(part.size());
  }
  std::uint64_t wrong = 0;
  for (Bytes at; at < 2_MiB; at += 4_KiB) {
    wrong += validate(unit + at, PageSize::k4K) != 0 ? 1 : 0;
    store<std::uint64_t>(at_private(unit + at), at.value());
  }
  probe.expect("pages that were refused", wrong, 0);
  for (Bytes at; at < 2_MiB; at += 4_KiB) {
    wrong += load<std::uint64_t>(at_private(unit + at)) != at.value() ? 1 : 0;
  }
  probe.expect("pages that lost their content", wrong, 0);
}

/// A host that backs with 4 KiB pages (--backing 4k).
void accept_4k_backing(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  probe.expect("2M", validate(unit, PageSize::k2M), kFailSizeMismatch);
  probe.expect("2M again", validate(unit, PageSize::k2M), kFailSizeMismatch);
  std::uint64_t wrong = 0;
  for (Bytes at; at < 2_MiB; at += 4_KiB) {
    wrong += validate(unit + at, PageSize::k4K) != 0 ? 1 : 0;
  }
  probe.expect("4K pages that were refused", wrong, 0);
  probe.expect("2 MiB are zero", is_zero(unit, 2_MiB));
}

// --- The decision table
// ---------------------------------------------------------------------------

/// CF says that nothing changed; the page goes on as it was.
void validate_twice(Probe& probe) {
  const PhysAddr large = take_validated_unit(probe);
  store<std::uint64_t>(at_private(large + 64_B), kPattern);
  probe.expect("a 2M page again", validate(large, PageSize::k2M), kNoUpdate);
  probe.expect("content of the page", load<std::uint64_t>(at_private(large + 64_B)), kPattern);

  const PhysAddr small = probe.take_unit();
  probe.expect("a 4K page", validate(small, PageSize::k4K), 0);
  probe.expect("the 4K page again", validate(small, PageSize::k4K), kNoUpdate);
  store<std::uint64_t>(at_private(small), kPattern);
  probe.expect("the page is usable", load<std::uint64_t>(at_private(small)), kPattern);
}

void launch_memory(Probe& probe) {
  const PhysAddr own{reinterpret_cast<std::uintptr_t>(&launch_memory)};
  probe.expect("PVALIDATE", validate(own.align_down(4_KiB), PageSize::k4K), kNoUpdate);
}

/// What is taken back from use is as it was when it is validated again: the instruction changes one
/// bit of the RMP entry.
void rescind_and_validate(Probe& probe) {
  const PhysAddr unit = take_validated_unit(probe);
  store<std::uint64_t>(at_private(unit + 1_MiB), kPattern);
  probe.expect("rescinded", rescind(unit, PageSize::k2M), 0);
  probe.expect("rescinded again", rescind(unit, PageSize::k2M), kNoUpdate);
  probe.expect("validated again", validate(unit, PageSize::k2M), 0);
  probe.expect("content", load<std::uint64_t>(at_private(unit + 1_MiB)), kPattern);
  probe.expect("memory that never was validated", rescind(probe.take_unit(), PageSize::k4K),
               kNoUpdate);
}

/// A 2 MiB entry of the RMP becomes 512 where the guest asks for one of them.
void small_page_in_a_large_one(Probe& probe) {
  const PhysAddr unit = take_validated_unit(probe);
  const PhysAddr page = unit + 0x8000_B;
  for (const PhysAddr at : {page - 8_B, page, page + 4_KiB}) {
    store<std::uint64_t>(at_private(at), kPattern);
  }
  probe.expect("4K of it again", validate(page, PageSize::k4K), kNoUpdate);
  probe.expect("4K of it rescinded", rescind(page, PageSize::k4K), 0);
  probe.expect("the page before", load<std::uint64_t>(at_private(page - 8_B)), kPattern);
  probe.expect("the page behind", load<std::uint64_t>(at_private(page + 4_KiB)), kPattern);
  probe.expect("2M over all of them", validate(unit, PageSize::k2M), kFailSizeMismatch);
  probe.expect("a neighbour", validate(page + 4_KiB, PageSize::k4K), kNoUpdate);
  probe.expect("the page", validate(page, PageSize::k4K), 0);
}

void large_page_over_a_small_one(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  probe.expect("a 4K page", validate(unit + 0x7000_B, PageSize::k4K), 0);
  probe.expect("2M around it", validate(unit, PageSize::k2M), kFailSizeMismatch);
  probe.expect("the rest stays as it was: its first page", validate(unit, PageSize::k4K), 0);
}

void operands(Probe& probe) {
  const Exceptions exceptions;
  const PhysAddr unit = probe.take_unit();
  const std::uint64_t begin = linear(at_private(unit));
  const auto fails = [&](std::string_view what, std::uint64_t rax, std::uint64_t rcx) {
    const Attempt result = pvalidate(rax, rcx, 1);
    probe.expect(what, result.vector, kNone);
    probe.expect(what, result.after[Gpr::kRax], kFailInput);
  };
  fails("4K, not aligned", begin + 8, 0);
  for (const Bytes offset : {4_KiB, 1_MiB, 2044_KiB}) {
    fails("2M at a 4K boundary", begin + offset.value(), 1);
  }
  for (const std::uint64_t size : {2ULL, 3ULL, 0xFFFF'FFFFULL}) {
    fails("a size that is none", begin, size);
  }
  // ECX and EDX[0] are all that counts.
  const Attempt result = pvalidate(begin, 0xABCD'0000'0000'0001, ~0ULL);
  probe.expect("nothing of it was validated", result.after[Gpr::kRax], 0);
  probe.expect("validated by bit 0 of EDX", validate(unit, PageSize::k2M), kNoUpdate);
  probe.expect("RCX stays", result.after[Gpr::kRcx], 0xABCD'0000'0000'0001);
  probe.expect("RDX stays", result.after[Gpr::kRdx], ~0ULL);
}

/// CF says that nothing changed; the others are those of EAX compared with 0.
void flags(Probe& probe) {
  const Exceptions exceptions;
  const PhysAddr unit = probe.take_unit();
  const auto check = [&](std::string_view what, PhysAddr page, std::uint64_t size,
                         std::uint32_t code, bool carry) {
    const Attempt result = pvalidate(linear(at_private(page)), size, 1);
    probe.expect(what, result.after[Gpr::kRax], code);
    probe.expect(what, result.after[Gpr::kRbx] & rmp::kFlagsWritten, rmp::flags_of(code, carry));
  };
  check("success", unit, 0, 0, false);
  check("no change", unit, 0, 0, true);
  check("FAIL_INPUT", unit, 2, kFailInput, false);
  check("FAIL_SIZEMISMATCH", unit, 1, kFailSizeMismatch, false);
}

/// The operand's page is looked up in the guest's own page tables.
void operand_mapping(Probe& probe) {
  const Exceptions exceptions;
  const PhysAddr unit = probe.take_unit();
  constexpr std::uint64_t kPresentAndReserved = 9;
  const Attempt without_c_bit = pvalidate(linear(at_shared(unit)), 0, 1);
  probe.expect("without the C-bit: #PF", without_c_bit.vector, kPageFault);
  probe.expect("its error code", without_c_bit.error, kPresentAndReserved);
  probe.expect("its CR2", without_c_bit.cr2, linear(at_shared(unit)));

  const std::uint64_t nowhere = kNowhere + unit.value() + 0x3000;
  const Attempt not_mapped = pvalidate(nowhere, 0, 1);
  probe.expect("not mapped: #PF", not_mapped.vector, kPageFault);
  probe.expect("its error code", not_mapped.error, 0);
  probe.expect("its CR2", not_mapped.cr2, nowhere);
  probe.expect("nothing was validated", validate(unit, PageSize::k2M), 0);
}

/// PVALIDATE is recognised by its bytes, wherever they lie.
void instruction_across_pages(Probe& probe) {
  const PhysAddr unit = take_validated_unit(probe);
  constexpr std::array<std::uint8_t, 5> kCode{0xF2, 0x0F, 0x01, 0xFF, 0xC3};
  for (std::uint64_t split = 1; split < 4; ++split) {
    const PhysAddr code = unit + 4_KiB * split - Bytes{split};
    for (std::size_t i = 0; i < kCode.size(); ++i) {
      store<std::uint8_t>(at_private(code + Bytes{i}), kCode[i]);
    }
    std::uint64_t rax = linear(at_private(unit));
    bool carry = false;
    asm volatile("call *%2"
                 : "+a"(rax), "=@ccc"(carry)
                 : "r"(at_private(code)), "c"(1ULL), "d"(1ULL)
                 : "memory");
    probe.expect("PVALIDATE across pages", rax, 0);
    probe.expect("it found the page validated", carry);
  }
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"snp-accept-by-msr", accept_by_msr},
    {"snp-accept-by-list", accept_by_list},
    {"snp-accept-512-pages", accept_512_pages},
    {"snp-accept-4k-backing", accept_4k_backing},
    {"snp-validate-twice", validate_twice},
    {"snp-launch-memory", launch_memory},
    {"snp-rescind-and-validate", rescind_and_validate},
    {"snp-small-page-in-a-large-one", small_page_in_a_large_one},
    {"snp-large-page-over-a-small-one", large_page_over_a_small_one},
    {"snp-operands", operands},
    {"snp-flags", flags},
    {"snp-operand-mapping", operand_mapping},
    {"snp-instruction-across-pages", instruction_across_pages},
});

}  // namespace

std::span<const Scenario> snp_accept_scenarios() {
  return kScenarios;
}

}  // namespace probe
