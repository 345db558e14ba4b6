// Private and shared: page state changes by the MSR protocol and by lists.

#include "tests/boot/probe/snp.hpp"

namespace probe {
namespace {

using accede::abi::efi::MemoryType;
using ghcb::PageOp;
using ghcb::PscEntry;
using ghcb::PscHeader;
using ghcb::PscResult;

constexpr std::uint64_t kPattern = 0x5A5A'5A5A'5A5A'5A5A;

constexpr std::uint64_t word(PscResult result) {
  return static_cast<std::uint64_t>(result);
}

void share(Probe& probe, const Ghcb& host, PhysAddr gpa, PageSize size) {
  const std::array entry{PscEntry::make(gpa, size, PageOp::kShared)};
  probe.expect("to shared", host.page_states(entry), 0);
}
void unshare(Probe& probe, const Ghcb& host, PhysAddr gpa, PageSize size) {
  const std::array entry{PscEntry::make(gpa, size, PageOp::kPrivate)};
  probe.expect("to private", host.page_states(entry), 0);
}

// --- What conversion does to memory
// ----------------------------------------------------------------

/// Memory that held data in both views is zero after the way back. The host gives another page for
/// the same address; the guest validates it once, and only once.
void shared_round_trip(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr unit = take_validated_unit(probe);
  store<std::uint64_t>(at_private(unit + 1_MiB), kPattern);
  probe.expect("rescinded", rescind(unit, PageSize::k2M), 0);
  share(probe, host, unit, PageSize::k2M);
  probe.expect("the private content is gone",
               load<std::uint64_t>(at_shared(unit + 1_MiB)) != kPattern);
  store<std::uint64_t>(at_shared(unit + 1_MiB), kPattern + 1);
  store<std::uint64_t>(at_shared(unit + 2_MiB - 8_B), kPattern + 2);
  probe.expect("shared memory keeps what is written", load<std::uint64_t>(at_shared(unit + 1_MiB)),
               kPattern + 1);
  unshare(probe, host, unit, PageSize::k2M);
  probe.expect("the new page", validate(unit, PageSize::k2M), 0);
  probe.expect("the new page again", validate(unit, PageSize::k2M), kNoUpdate);
  probe.expect("private memory is zero", is_zero(unit, 2_MiB));
}

/// Nobody needs to take a page back from use before it is shared: the host's RMPUPDATE does it.
void share_without_rescind(Probe& probe) {
  const PhysAddr page = take_validated_unit(probe) + 0x8000_B;
  for (const PhysAddr at : {page - 8_B, page, page + 4_KiB}) {
    store<std::uint64_t>(at_private(at), kPattern);
  }
  probe.expect("to shared", change_page(page, PageOp::kShared), kPageStateDone);
  store<std::uint64_t>(at_shared(page), 1);
  probe.expect("the page before", load<std::uint64_t>(at_private(page - 8_B)), kPattern);
  probe.expect("the page behind", load<std::uint64_t>(at_private(page + 4_KiB)), kPattern);
  probe.expect("to private", change_page(page, PageOp::kPrivate), kPageStateDone);
  probe.expect("PVALIDATE", validate(page, PageSize::k4K), 0);
  probe.expect("its content", load<std::uint64_t>(at_private(page)), 0);
  probe.expect("a neighbour is still valid", validate(page + 4_KiB, PageSize::k4K), kNoUpdate);
}

/// A change to what a page is already changes nothing, not even its validation.
void convert_twice(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr unit = take_validated_unit(probe);
  store<std::uint64_t>(at_private(unit), kPattern);
  unshare(probe, host, unit, PageSize::k2M);
  probe.expect("private already: content", load<std::uint64_t>(at_private(unit)), kPattern);
  probe.expect("private already: validated", validate(unit, PageSize::k2M), kNoUpdate);
  share(probe, host, unit, PageSize::k4K);
  store<std::uint64_t>(at_shared(unit), kPattern + 1);
  const std::array four{PscEntry::make(unit, PageSize::k4K, PageOp::kShared),
                        PscEntry::make(unit + 4_KiB, PageSize::k4K, PageOp::kShared),
                        PscEntry::make(unit + 8_KiB, PageSize::k4K, PageOp::kShared),
                        PscEntry::make(unit + 12_KiB, PageSize::k4K, PageOp::kShared)};
  probe.expect("to shared", host.page_states(four), 0);
  probe.expect("shared already: content", load<std::uint64_t>(at_shared(unit)), kPattern + 1);
}

// --- Lists that are wrong, or not finished
// ---------------------------------------------------------

void list_header(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr page = probe.take_unit();
  const std::array entry{PscEntry::make(page, PageSize::k4K, PageOp::kShared)};
  for (const std::uint16_t last : std::to_array<std::uint16_t>({253, 254, 0xFFFF})) {
    probe.expect("an end behind the last entry", host.page_states(entry, 0, last),
                 word(PscResult::kBadHeader));
    probe.expect("the header stays", host.list_header(), PscHeader::make(0, last));
    probe.expect("the entry stays", host.list_entry(0), entry[0]);
  }
  probe.expect("a list that is done", host.page_states(entry, 1, 0), 0);
  probe.expect("its header stays", host.list_header(), PscHeader::make(1, 0));
  probe.expect("the page is as it was", validate(page, PageSize::k4K), 0);
}

/// The entries before a bad one are done.
void list_entry(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr unit = probe.take_unit();
  const std::uint64_t small = PscEntry::make(unit, PageSize::k4K, PageOp::kShared);
  const std::uint64_t large = PscEntry::make(unit, PageSize::k2M, PageOp::kShared);
  struct Row {
    std::string_view what;
    std::uint64_t entry;
  };
  const std::array<Row, 3> rows{{
      {"2M at a 4K boundary", PscEntry::Gfn::set(large, PscEntry::Gfn::get(large) + 1)},
      {"513 pages done of 512", PscEntry::CurPage::set(large, 513)},
      {"2 pages done of 1", PscEntry::CurPage::set(small, 2)},
  }};
  for (const Row& row : rows) {
    const std::array entries{small, row.entry, small + 0x1000};
    probe.expect(row.what, host.page_states(entries), word(PscResult::kBadEntry));
    probe.expect("the header names it", host.list_header(), PscHeader::make(1, 2));
    probe.expect("the entry before is done", host.list_entry(0), small + 1);
    probe.expect("the entry stays", host.list_entry(1), row.entry);
    probe.expect("the entry behind stays", host.list_entry(2), small + 0x1000);
  }
  store<std::uint64_t>(at_shared(unit), kPattern);
  probe.expect("the page before is shared", load<std::uint64_t>(at_shared(unit)), kPattern);
  probe.expect("the page behind is not", validate(unit + 4_KiB, PageSize::k4K), 0);
}

/// A guest goes on with a list where its host left it.
void list_resumed(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr unit = probe.take_unit(1);
  const std::uint64_t large = PscEntry::make(unit, PageSize::k2M, PageOp::kShared);
  const std::array entries{PscEntry::make(unit + 2_MiB, PageSize::k4K, PageOp::kShared),
                           PscEntry::CurPage::set(large, 510),
                           PscEntry::make(unit + 2_MiB + 8_KiB, PageSize::k4K, PageOp::kShared)};
  probe.expect("sw_exit_info_2", host.page_states(entries, 1, 2), 0);
  probe.expect("the list is behind its end", host.list_header(), PscHeader::make(3, 2));
  probe.expect("the entry before stays", host.list_entry(0), entries[0]);
  probe.expect("the other one is done", host.list_entry(1), PscEntry::CurPage::set(large, 512));
  // What is private still can be validated without a conversion unasked: the test counts those.
  probe.expect("page 509", validate(unit + 4_KiB * 509, PageSize::k4K), 0);
  probe.expect("the entry before", validate(unit + 2_MiB, PageSize::k4K), 0);
  for (const PhysAddr page : {unit + 4_KiB * 510, unit + 4_KiB * 511, unit + 2_MiB + 8_KiB}) {
    store<std::uint64_t>(at_shared(page), kPattern);
    probe.expect("a page that was converted", load<std::uint64_t>(at_shared(page)), kPattern);
  }
}

/// A host (KVM) checks neither: such pages count as done, and nothing becomes of it.
void list_of_no_ram(Probe& probe) {
  const Ghcb host{probe};
  const PhysRange pending = probe.first_range(MemoryType::kUnaccepted);
  const PhysAddr emulator = probe.emulator_unit();
  const PhysAddr device{0xFED0'0000};
  const std::array entries{
      PscEntry::make(pending.end().align_up(2_MiB) + 2_MiB, PageSize::k2M, PageOp::kShared),
      PscEntry::make(PhysAddr{1ULL << 47}, PageSize::k4K, PageOp::kShared),
      PscEntry::make(PhysAddr{(1ULL << 52) - 4096}, PageSize::k4K, PageOp::kPrivate),
      PscEntry::make(emulator, PageSize::k2M, PageOp::kShared),
      PscEntry::make(emulator, PageSize::k4K, PageOp::kPrivate),
      PscEntry::make(device, PageSize::k4K, PageOp::kShared),
      PscEntry::make(device, PageSize::k4K, PageOp::kPrivate)};
  probe.expect("sw_exit_info_2", host.page_states(entries), 0);
  probe.expect("the list is behind its end", host.list_header(), PscHeader::make(7, 6));
  for (std::size_t i = 0; i < entries.size(); ++i) {
    probe.expect("an entry that is done", host.list_entry(i),
                 entries[i] + PscEntry::pages(entries[i]));
  }
}

/// PSMASH, UNSMASH and what does not exist count as done.
void list_operations(Probe& probe) {
  const Ghcb host{probe};
  const PhysAddr unit = take_validated_unit(probe);
  std::array<std::uint64_t, 4> entries{};
  constexpr std::array<std::uint64_t, 4> kOperations{3, 4, 0, 9};
  for (std::size_t i = 0; i < entries.size(); ++i) {
    entries[i] = PscEntry::make(unit, PageSize::k2M, static_cast<PageOp>(kOperations[i]));
  }
  probe.expect("sw_exit_info_2", host.page_states(entries), 0);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    probe.expect("an entry that is done", host.list_entry(i),
                 entries[i] + PscEntry::pages(entries[i]));
  }
  probe.expect("the unit is as it was", validate(unit, PageSize::k2M), kNoUpdate);
}

/// A list may begin anywhere in the shared buffer, and ends with it.
void list_place(Probe& probe) {
  const Ghcb host{probe};
  constexpr auto kList = static_cast<std::uint64_t>(ghcb::ExitCode::kPageStateChange);
  const PhysAddr page = probe.take_unit();
  constexpr std::size_t kLastTwo = 2032 - 24;
  host.put(kGhcbBuffer + kLastTwo, PscHeader::make(0, 1));
  const std::uint64_t entry = PscEntry::make(page, PageSize::k4K, PageOp::kPrivate);
  host.put(kGhcbBuffer + kLastTwo + 8, entry);
  host.put(kGhcbBuffer + kLastTwo + 16, entry + 0x1000);
  probe.expect("the last two entries",
               host.call({.code = kList, .scratch = host.scratch(kLastTwo)}).info2, 0);
  probe.expect("the last one is done", host.get(kGhcbBuffer + kLastTwo + 16), entry + 0x1001);
  host.put(kGhcbBuffer + kLastTwo, PscHeader::make(0, 2));
  probe.expect("one more", host.call({.code = kList, .scratch = host.scratch(kLastTwo)}).info2,
               word(PscResult::kBadHeader));
  for (const std::uint64_t scratch :
       {host.gpa().value(), host.scratch() - 8, host.scratch(2032 - 4), host.scratch(2032),
        page.value(), ~std::uint64_t{0}}) {
    host.refused("a list outside of the buffer", {.code = kList, .scratch = scratch},
                 ghcb::MalformedReason::kBadScratch);
  }
}

void msr_operations(Probe& probe) {
  const PhysAddr page = probe.take_unit();
  constexpr std::uint64_t kRefused = ghcb::page_state_response(ghcb::kPageStateErrorKvm);
  for (const std::uint64_t operation : {0, 3, 4, 5, 15}) {
    probe.expect("an operation that is none", change_page(page, static_cast<PageOp>(operation)),
                 kRefused);
  }
  probe.expect("the emulator's memory", change_page(probe.emulator_unit(), PageOp::kPrivate),
               kPageStateDone);
  probe.expect("beyond the width", change_page(PhysAddr{(1ULL << 52) - 4096}, PageOp::kShared),
               kPageStateDone);
  probe.expect("the page is as it was", validate(page, PageSize::k2M), 0);
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"snp-shared-round-trip", shared_round_trip},
    {"snp-share-without-rescind", share_without_rescind},
    {"snp-convert-twice", convert_twice},
    {"snp-list-header", list_header},
    {"snp-list-entry", list_entry},
    {"snp-list-resumed", list_resumed},
    {"snp-list-of-no-ram", list_of_no_ram},
    {"snp-list-operations", list_operations},
    {"snp-list-place", list_place},
    {"snp-msr-operations", msr_operations},
});

}  // namespace

std::span<const Scenario> snp_page_state_scenarios() {
  return kScenarios;
}

}  // namespace probe
