// What the emulator shows the host: one memory area that the host reads whenever it likes.
//
// The area lies in memory hidden from the guest. The launcher prints its guest physical address on
// the report port (`takeover` line, docs/emulator.md); the command reads it through QEMU. Nothing
// is sent while the guest runs, so counting costs the guest a few memory writes. Counters only
// grow; a reader that looks while the guest runs may see one event half counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace accede::emulator {

/// Port of the report channel: bytes of JSON lines written by the launcher and the emulator to a
/// QEMU isa-debugcon device. Hidden from the guest once the emulator runs.
inline constexpr std::uint16_t kReportPort = 0x0ACC;

inline constexpr std::uint64_t kReportMagic = 0x31'45444543'4341'00ULL;
inline constexpr std::uint32_t kReportVersion = 3;

/// Who ran when an event happened.
enum class Phase : std::uint32_t {
  kFirmware = 0,  ///< until the loader is started; the firmware and our launcher
  kLoader = 1,    ///< until ExitBootServices: EFI stub or loader
  kKernel = 2,    ///< afterwards
};
inline constexpr std::size_t kPhases = 3;

/// VMCALL sub-functions that have a counter of their own (reference: GHCI 1.0 section 3).
enum class VmcallSlot : std::uint32_t {
  kCpuid,
  kHlt,
  kIo,
  kReadMsr,
  kWriteMsr,
  kMmio,
  kGetTdVmCallInfo,
  kMapGpa,
  kGetQuote,
  kReportFatalError,
  kSetupEventNotify,
  kOther,
};
inline constexpr std::size_t kVmcallSlots = 12;

/// Requests of an SNP guest through its GHCB that have a counter of their own (reference: SEV-SNP
/// 3.2 and 3.4): by the MSR protocol, then through the page.
enum class GhcbSlot : std::uint32_t {
  kMsrSevInfo,
  kMsrCpuid,
  kMsrRegister,  ///< and the question for a preferred page
  kMsrPageState,
  kMsrHvFeatures,
  kMsrTerminate,
  kMsrOther,
  kCpuid,
  kIo,
  kMsr,
  kMmio,
  kPageState,  ///< lists, whatever their length
  kHvFeatures,
  kGuestRequest,  ///< plain and extended
  kApCreation,
  kVmmcall,
  kTerminate,
  kOther,
};
inline constexpr std::size_t kGhcbSlots = 18;

/// Kinds of events in the log, and of violations. Never renumber: logs are kept.
enum class EventKind : std::uint8_t {
  kPhase = 1,           ///< detail = Phase
  kAccept = 2,          ///< successful accepts of adjacent pages; detail = level
  kConvertShared = 3,   ///< MapGPA to shared
  kConvertPrivate = 4,  ///< MapGPA to private
  kHostAug = 5,         ///< pages that the host added as pending; detail = level
  kVmcall = 6,          ///< rare sub-functions; gpa = sub-function
  kRescind = 7,         ///< PVALIDATE took pages back from use; detail = size
  // Violations from here on.
  kUnacceptedAccess = 64,    ///< touched private memory that is not accepted
  kDoubleAccept = 65,        ///< accepted a page that is already accepted
  kPolarityMismatch = 66,    ///< private view of a shared page or the other way round
  kUnknownTdcall = 67,       ///< gpa = leaf
  kUnknownVmcall = 68,       ///< gpa = sub-function
  kInvalidAccept = 69,       ///< accept with operands that the module refuses
  kEmulatorMemory = 70,      ///< touched the emulator's own memory
  kShutdown = 71,            ///< triple fault
  kBeyondAddressWidth = 72,  ///< touched an address the machine does not have
  kResourceExhausted = 73,   ///< the emulator ran out of page-state storage
  kEmulatorBug = 74,         ///< an exception inside the emulator
  kHaltedForEver = 75,       ///< HLT with interrupts masked: nothing can wake this vCPU
  kInvalidState = 76,        ///< the processor refused the guest state (VMEXIT_INVALID)
  kGuestPanic = 77,          ///< the guest reported a fatal error of its own
  kGuestTermination = 78,    ///< SNP: the guest asked to be ended; detail = set << 8 | code
  kBadGhcb = 79,             ///< SNP: a request that is answered as malformed; gpa = the field's
                             ///< value, detail = host::GhcbMistakeKind << 8 | GhcbField
  kRmpViolation = 80,        ///< SNP: the RMP forbids an access for good
  kImplicitConversion = 81,  ///< SNP: touched with the other C-bit, and converted unasked
  kWrongCBit = 82,           ///< SNP: PVALIDATE or RMPADJUST through a mapping with C = 0
};

/// One record of the binary event log. Adjacent events of one kind are merged: `pages` grows.
struct Event {
  std::uint64_t tsc;    ///< time stamp counter when it began
  std::uint64_t gpa;    ///< first guest physical address, without the shared bit
  std::uint32_t pages;  ///< 4 KiB pages
  EventKind kind;
  std::uint8_t detail;
  std::uint16_t vcpu;
};
static_assert(sizeof(Event) == 24 && offsetof(Event, pages) == 16 && offsetof(Event, kind) == 20);

/// A rule that the guest broke, fatal or not; equal kind and RIP are counted together.
struct Violation {
  std::uint64_t gpa;
  std::uint64_t rip;
  std::uint64_t count;
  EventKind kind;
  std::uint8_t fatal;
  std::uint16_t vcpu;
  std::uint32_t detail;  ///< kind specific: state, leaf
};
static_assert(sizeof(Violation) == 32 && offsetof(Violation, kind) == 24);
inline constexpr std::size_t kMaxViolations = 64;

struct Counters {
  std::array<std::uint64_t, 32> tdcall;  ///< by leaf
  std::uint64_t tdcall_other;            ///< leaves above 31
  std::array<std::uint64_t, kVmcallSlots> vmcall;

  std::array<std::uint64_t, kPhases> accepted_bytes;  ///< by who accepted
  std::array<std::uint64_t, 3> accept_calls;          ///< by requested level: 4K, 2M, 1G
  std::uint64_t refused_1g;
  std::uint64_t size_mismatch;
  std::uint64_t already_accepted;
  std::uint64_t accept_other_errors;
  std::uint64_t longest_step_bytes;  ///< longest run of adjacent accepts with no other exit between
  std::array<std::uint64_t, kPhases> accept_ticks;  ///< TSC ticks spent accepting, by who did

  std::uint64_t to_shared_bytes;
  std::uint64_t to_private_bytes;
  std::uint64_t convert_calls;

  std::uint64_t exits_cpuid;
  std::uint64_t exits_npf;
  std::uint64_t exits_msr;
  std::uint64_t exits_io;
  std::uint64_t exits_other;
  std::uint64_t idle_waits;
  std::uint64_t ve_injected;
  std::uint64_t exit_ticks;  ///< TSC ticks spent in the emulator, idle waits excluded

  // SNP. PVALIDATE to validated counts as accept above, page state changes as conversions.
  std::array<std::uint64_t, kGhcbSlots> ghcb;
  std::uint64_t rescind_calls;  ///< PVALIDATE to not validated
  std::uint64_t rescinded_bytes;
  std::uint64_t rmpadjust_calls;
  std::uint64_t smashed_pages;         ///< 2 MiB RMP entries that became 512 of 4 KiB
  std::uint64_t implicit_conversions;  ///< pages converted on a touch
  std::uint64_t
      page_state_entries;  ///< page state changes that were asked for, in pages of their size
};

struct ReportHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t total_bytes;  ///< header and log
  std::uint64_t tsc_hz;
  std::uint64_t tsc_takeover;
  std::uint64_t lazy_bytes;    ///< RAM that was pending when the guest started
  std::uint64_t launch_bytes;  ///< RAM that was accepted when the guest started
  std::uint64_t hidden_bytes;  ///< RAM that the emulator keeps for itself
  Counters counters;

  std::uint64_t violation_total;  ///< including those that found no free slot
  std::uint64_t violation_slots;  ///< used entries of `violations`
  std::array<Violation, kMaxViolations> violations;

  std::uint64_t event_offset;    ///< of the first Event, from the start of the header
  std::uint64_t event_capacity;  ///< in events
  std::uint64_t event_count;     ///< valid events, in order
  std::uint64_t event_dropped;   ///< events that found the log full
};

}  // namespace accede::emulator
