// Access with the wrong C-bit, or to memory that is not validated: what ends the guest, what it
// takes as #VC (--unaccepted-touch exception), what the host mends unasked.

#include "tests/boot/probe/snp.hpp"

namespace probe {
namespace {

using accede::abi::efi::MemoryType;
using ghcb::PageOp;

constexpr std::uint64_t kPattern = 0x5A5A'5A5A'5A5A'5A5A;

void make_shared(Probe& probe, PhysAddr page) {
  probe.expect("to shared", change_page(page, PageOp::kShared), kPageStateDone);
}
void make_private(Probe& probe, PhysAddr page) {
  probe.expect("to private", change_page(page, PageOp::kPrivate), kPageStateDone);
}

// --- What the guest survives
// ----------------------------------------------------------------------

/// A page that was never validated is shared by a touch, and private by PVALIDATE: hosts follow the
/// guest (OVMF relies on it for its first GHCB).
void implicit_conversion(Probe& probe) {
  const PhysAddr page = probe.take_unit() + 0x6000_B;
  store<std::uint64_t>(at_shared(page), kPattern);
  probe.expect("shared content", load<std::uint64_t>(at_shared(page)), kPattern);
  probe.expect("PVALIDATE of a shared page", validate(page, PageSize::k4K), 0);
  probe.expect("private content", load<std::uint64_t>(at_private(page)), 0);
}

// --- Each of these ends the guest
// --------------------------------------------------------------------

/// The translation is in the TLB when the page goes.
void touch_rescinded(Probe& probe) {
  const PhysAddr unit = take_validated_unit(probe);
  store<std::uint64_t>(at_private(unit + 0x5018_B), kPattern);
  probe.expect("rescinded", rescind(unit + 0x5000_B, PageSize::k4K), 0);
  static_cast<void>(load<std::uint64_t>(at_private(unit + 0x5018_B)));
  probe.survived();
}

/// The page was shared before, and written there.
void shared_access_to_validated(Probe& probe) {
  const PhysAddr page = probe.take_unit() + 0x1000_B;
  make_shared(probe, page);
  store<std::uint64_t>(at_shared(page + 0x28_B), kPattern);
  make_private(probe, page);
  probe.expect("PVALIDATE", validate(page, PageSize::k4K), 0);
  static_cast<void>(load<std::uint64_t>(at_shared(page + 0x28_B)));
  probe.survived();
}

void private_access_to_shared(Probe& probe) {
  const PhysAddr page = take_validated_unit(probe) + 0x1000_B;
  store<std::uint64_t>(at_private(page + 0x18_B), kPattern);
  make_shared(probe, page);
  store<std::uint64_t>(at_private(page + 0x18_B), kPattern);
  probe.survived();
}

/// As a guest does whose guard unit lies behind the end of memory.
void validate_behind_the_end(Probe& probe) {
  const PhysRange pending = probe.first_range(MemoryType::kUnaccepted);
  static_cast<void>(validate(pending.end().align_up(2_MiB) + 2_MiB, PageSize::k2M));
  probe.survived();
}

/// The emulator's own memory: reserved in the map, and nobody's to validate.
void validate_emulator_memory(Probe& probe) {
  static_cast<void>(validate(probe.emulator_unit(), PageSize::k2M));
  probe.survived();
}

/// A host that is asked for somebody else's memory says yes, and nothing changes.
void share_emulator_memory(Probe& probe) {
  const PhysAddr target = probe.emulator_unit();
  make_shared(probe, target);
  probe.note("the host took the page state change of", target.value());
  store<std::uint64_t>(at_shared(target), kPattern);
  probe.survived();
}

// --- #VC 0x404
// ---------------------------------------------------------------------------------------

void expect_not_validated(Probe& probe, std::string_view what, const Attempt& result) {
  probe.expect(what, result.vector, kVmmCommunication);
  probe.expect(what, result.error, rmp::kVcNotValidated);
}

void vc_on_touch(Probe& probe) {
  const Exceptions exceptions;
  const PhysAddr unit = probe.take_unit();
  expect_not_validated(probe, "a load", attempt_load(at_private(unit + 0x1238_B)));
  const auto code = linear(at_private(unit + 0x3000_B));
  const Attempt fetch = attempt(reinterpret_cast<void (*)()>(code));
  expect_not_validated(probe, "an instruction fetch", fetch);
  probe.expect("its CR2", fetch.cr2, code);
  expect_not_validated(probe, "RMPADJUST",
                       attempt(probe_do_rmpadjust, linear(at_private(unit)), rmp::kSize2M, 1));
  probe.expect("nothing was validated", validate(unit, PageSize::k2M), 0);
  probe.expect("the load", attempt_load(at_private(unit + 0x1238_B)).vector, kNone);
}

void vc_after_rescind(Probe& probe) {
  const Exceptions exceptions;
  const PhysAddr unit = take_validated_unit(probe);
  store<std::uint64_t>(at_private(unit), kPattern);
  probe.expect("rescinded", rescind(unit, PageSize::k2M), 0);
  expect_not_validated(probe, "a load", attempt_load(at_private(unit)));
}

void vc_on_a_page_table(Probe& probe) {
  const Exceptions exceptions;
  constexpr std::uint64_t kGibibyte = 500;
  AddressSpace::put_table(kGibibyte, probe.take_unit());
  expect_not_validated(probe, "a load through it",
                       attempt_load(at_private(PhysAddr{kGibibyte << 30})));
}

/// The host makes the page private as the guest says by its C-bit; then it is not validated.
void vc_on_a_shared_page(Probe& probe) {
  const Exceptions exceptions;
  const PhysAddr page = probe.take_unit() + 0x9000_B;
  make_shared(probe, page);
  store<std::uint64_t>(at_shared(page), kPattern);
  expect_not_validated(probe, "a private load", attempt_load(at_private(page)));
  probe.expect("PVALIDATE", validate(page, PageSize::k4K), 0);
  probe.expect("private content", load<std::uint64_t>(at_private(page)), 0);
}

// Access first, validate in the handler; a handler has no context of its own.
PhysAddr g_touched;
std::uint64_t g_exceptions = 0;
std::uint64_t g_validated = 0;

bool validate_on_touch(ExceptionFrame& frame) {
  if (frame.vector != kVmmCommunication || frame.error != rmp::kVcNotValidated) {
    return false;
  }
  ++g_exceptions;
  g_validated = validate(g_touched, PageSize::k2M);
  return g_validated == 0;
}

void vc_validate_on_touch(Probe& probe) {
  const Exceptions exceptions{validate_on_touch};
  g_touched = probe.take_unit();
  g_exceptions = 0;
  for (Bytes at; at < 2_MiB; at += 64_KiB) {
    store<std::uint64_t>(at_private(g_touched + at), at.value());
  }
  probe.expect("one exception for the unit", g_exceptions, 1);
  probe.expect("the store was done", load<std::uint64_t>(at_private(g_touched + 64_KiB)),
               (64_KiB).value());
}

constexpr auto kScenarios = std::to_array<Scenario>({
    {"snp-implicit-conversion", implicit_conversion},
    {"snp-touch-rescinded", touch_rescinded},
    {"snp-shared-access-to-validated", shared_access_to_validated},
    {"snp-private-access-to-shared", private_access_to_shared},
    {"snp-validate-behind-the-end", validate_behind_the_end},
    {"snp-validate-emulator-memory", validate_emulator_memory},
    {"snp-share-emulator-memory", share_emulator_memory},
    {"snp-vc-on-touch", vc_on_touch},
    {"snp-vc-after-rescind", vc_after_rescind},
    {"snp-vc-on-a-page-table", vc_on_a_page_table},
    {"snp-vc-on-a-shared-page", vc_on_a_shared_page},
    {"snp-vc-validate-on-touch", vc_validate_on_touch},
});

}  // namespace

std::span<const Scenario> snp_access_scenarios() {
  return kScenarios;
}

}  // namespace probe
