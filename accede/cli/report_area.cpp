#include "accede/cli/report_area.hpp"

#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace accede::cli {
namespace {

using emulator::Event;
using emulator::EventKind;
using emulator::ReportHeader;

struct KindText {
  EventKind kind;
  std::string_view name;
  std::string_view meaning;
};

constexpr auto kKinds = std::to_array<KindText>({
    {EventKind::kPhase, "phase", "the next part of the boot began"},
    {EventKind::kAccept, "accept", "memory was accepted"},
    {EventKind::kConvertShared, "convert-to-shared", "memory was converted to shared"},
    {EventKind::kConvertPrivate, "convert-to-private", "memory was converted to private"},
    {EventKind::kHostAug, "host-aug", "the host added memory that has to be accepted"},
    {EventKind::kVmcall, "vmcall", "the guest called the host"},
    {EventKind::kRescind, "rescind", "memory went back to not accepted"},
    {EventKind::kUnacceptedAccess, "unaccepted-access", "touched memory that it had not accepted"},
    {EventKind::kDoubleAccept, "double-accept", "accepted memory that was accepted already"},
    {EventKind::kPolarityMismatch, "shared-private-mismatch",
     "used shared memory as private or private memory as shared"},
    {EventKind::kUnknownTdcall, "unknown-tdcall", "used a TDCALL leaf that the emulator lacks"},
    {EventKind::kUnknownVmcall, "unknown-vmcall", "used a VMCALL that the emulator lacks"},
    {EventKind::kInvalidAccept, "invalid-accept", "accepted with operands that are refused"},
    {EventKind::kEmulatorMemory, "emulator-memory", "touched the emulator's own memory"},
    {EventKind::kShutdown, "shutdown", "shut down with a triple fault"},
    {EventKind::kBeyondAddressWidth, "beyond-address-width",
     "touched an address that the machine does not have"},
    {EventKind::kResourceExhausted, "resource-exhausted",
     "needed more page states than the emulator can hold"},
    {EventKind::kEmulatorBug, "emulator-bug", "met a bug of the emulator"},
    {EventKind::kHaltedForEver, "halted-for-ever",
     "halted with interrupts off: nothing can wake it"},
    {EventKind::kInvalidState, "invalid-state", "entered a state that the processor refuses"},
    {EventKind::kGuestPanic, "guest-panic", "reported a fatal error of its own"},
    {EventKind::kGuestTermination, "guest-termination", "asked to be ended"},
    {EventKind::kBadGhcb, "bad-ghcb", "made a request through its GHCB that is malformed"},
    {EventKind::kRmpViolation, "rmp-violation", "used memory in a way that the RMP forbids"},
    {EventKind::kImplicitConversion, "implicit-conversion",
     "touched memory with the other C-bit, which the host converted without being asked"},
    {EventKind::kWrongCBit, "wrong-c-bit",
     "used PVALIDATE or RMPADJUST through a mapping without C-bit"},
});

const KindText* find_kind(EventKind kind) {
  const auto found = std::ranges::find(kKinds, kind, &KindText::kind);
  return found == kKinds.end() ? nullptr : &*found;
}

std::string_view problem(const ReportHeader& header, std::size_t area_size) {
  if (header.magic != emulator::kReportMagic) {
    return "no report area where the emulator says it is";
  }
  if (header.version != emulator::kReportVersion) {
    return "the report area has a version that this command does not know";
  }
  if (header.violation_slots > emulator::kMaxViolations) {
    return "the report area counts more violations than it holds";
  }
  if (header.event_count > header.event_capacity) {
    return "the report area counts more events than it holds";
  }
  const bool outside = header.event_offset > area_size ||
                       header.event_count > (area_size - header.event_offset) / sizeof(Event);
  return outside ? "the event log lies outside the report area" : "";
}

}  // namespace

std::expected<ReportSnapshot, std::string_view> parse_report_area(std::span<const std::byte> area) {
  const ByteReader reader{area};
  ReportSnapshot snapshot;
  // Not read_struct: the header is too large to be built on the way by value several times.
  const auto raw = reader.slice(0, sizeof(ReportHeader));
  if (!raw) {
    return std::unexpected{"the report area is shorter than its header"};
  }
  std::ranges::copy(*raw, std::as_writable_bytes(std::span{&snapshot.header, 1}).begin());
  if (const auto text = problem(snapshot.header, area.size()); !text.empty()) {
    return std::unexpected{text};
  }
  snapshot.events.resize(snapshot.header.event_count);
  const auto log =
      area.subspan(snapshot.header.event_offset, snapshot.events.size() * sizeof(Event));
  std::ranges::copy(log, std::as_writable_bytes(std::span{snapshot.events}).begin());
  return snapshot;
}

std::uint64_t total_accepted(const emulator::Counters& counters) {
  return std::accumulate(counters.accepted_bytes.begin(), counters.accepted_bytes.end(),
                         std::uint64_t{0});
}

std::uint64_t total_accept_ticks(const emulator::Counters& counters) {
  return std::accumulate(counters.accept_ticks.begin(), counters.accept_ticks.end(),
                         std::uint64_t{0});
}

double seconds_of(std::uint64_t ticks, const ReportHeader& header) {
  return header.tsc_hz == 0 ? 0.0 : static_cast<double>(ticks) / static_cast<double>(header.tsc_hz);
}

std::string_view kind_name(EventKind kind) {
  const KindText* const text = find_kind(kind);
  return text == nullptr ? "unknown" : text->name;
}

std::string_view kind_meaning(EventKind kind) {
  const KindText* const text = find_kind(kind);
  return text == nullptr ? "something that this command does not know" : text->meaning;
}

std::string_view vmcall_name(std::size_t slot) {
  constexpr std::array<std::string_view, emulator::kVmcallSlots> kNames{"cpuid",
                                                                        "hlt",
                                                                        "io",
                                                                        "read-msr",
                                                                        "write-msr",
                                                                        "mmio",
                                                                        "get-td-vmcall-info",
                                                                        "map-gpa",
                                                                        "get-quote",
                                                                        "report-fatal-error",
                                                                        "setup-event-notify",
                                                                        "other"};
  return slot < kNames.size() ? kNames[slot] : "other";
}

std::string_view ghcb_name(std::size_t slot) {
  constexpr std::array<std::string_view, emulator::kGhcbSlots> kNames{"msr-sev-info",
                                                                      "msr-cpuid",
                                                                      "msr-register",
                                                                      "msr-page-state",
                                                                      "msr-hv-features",
                                                                      "msr-terminate",
                                                                      "msr-other",
                                                                      "cpuid",
                                                                      "io",
                                                                      "msr",
                                                                      "mmio",
                                                                      "page-state-change",
                                                                      "hv-features",
                                                                      "guest-request",
                                                                      "ap-creation",
                                                                      "vmmcall",
                                                                      "terminate",
                                                                      "other"};
  return slot < kNames.size() ? kNames[slot] : "other";
}

}  // namespace accede::cli
