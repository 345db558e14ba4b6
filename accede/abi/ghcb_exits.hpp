// What a guest can ask for through a GHCB page, and how it is answered (reference: SEV-SNP 3.4).
#pragma once

#include "accede/abi/ghcb_msr.hpp"
#include "accede/base/bit_field.hpp"

#include <cstdint>
#include <string_view>

namespace accede::abi::ghcb {

using namespace std::string_view_literals;

/// sw_exit_code. Below 0x80000000: the #VMEXIT code that the hardware would give.
enum class ExitCode : std::uint64_t {
  kDr7Read = 0x27,
  kDr7Write = 0x37,
  kRdtsc = 0x6E,
  kRdpmc = 0x6F,
  kCpuid = 0x72,
  kInvd = 0x76,
  kIoio = 0x7B,
  kMsr = 0x7C,
  kVmmcall = 0x81,
  kRdtscp = 0x87,
  kWbinvd = 0x89,
  kMonitor = 0x8A,
  kMwait = 0x8B,
  kMmioRead = 0x8000'0001,
  kMmioWrite = 0x8000'0002,
  kNmiComplete = 0x8000'0003,
  kApHltLoop = 0x8000'0004,
  kApJumpTable = 0x8000'0005,
  kPageStateChange = 0x8000'0010,
  kGuestRequest = 0x8000'0011,
  kExtGuestRequest = 0x8000'0012,
  kApCreation = 0x8000'0013,
  kHvDoorbell = 0x8000'0014,
  kHvIpi = 0x8000'0015,
  kApicIdList = 0x8000'0017,
  kRunVmpl = 0x8000'0018,
  kHvFeatures = 0x8000'FFFD,
  kTerminate = 0x8000'FFFE,
  kUnsupported = 0x8000'FFFF,
};

/// A name for reports; "unknown" for a code without one.
[[nodiscard]] constexpr std::string_view name_of(ExitCode code) {
  switch (code) {
    case ExitCode::kDr7Read:
      return "DR7 read"sv;
    case ExitCode::kDr7Write:
      return "DR7 write"sv;
    case ExitCode::kRdtsc:
      return "RDTSC"sv;
    case ExitCode::kRdpmc:
      return "RDPMC"sv;
    case ExitCode::kCpuid:
      return "CPUID"sv;
    case ExitCode::kInvd:
      return "INVD"sv;
    case ExitCode::kIoio:
      return "IOIO"sv;
    case ExitCode::kMsr:
      return "MSR"sv;
    case ExitCode::kVmmcall:
      return "VMMCALL"sv;
    case ExitCode::kRdtscp:
      return "RDTSCP"sv;
    case ExitCode::kWbinvd:
      return "WBINVD"sv;
    case ExitCode::kMonitor:
      return "MONITOR"sv;
    case ExitCode::kMwait:
      return "MWAIT"sv;
    case ExitCode::kMmioRead:
      return "MMIO read"sv;
    case ExitCode::kMmioWrite:
      return "MMIO write"sv;
    case ExitCode::kNmiComplete:
      return "NMI complete"sv;
    case ExitCode::kApHltLoop:
      return "AP HLT loop"sv;
    case ExitCode::kApJumpTable:
      return "AP jump table"sv;
    case ExitCode::kPageStateChange:
      return "page state change"sv;
    case ExitCode::kGuestRequest:
      return "guest request"sv;
    case ExitCode::kExtGuestRequest:
      return "extended guest request"sv;
    case ExitCode::kApCreation:
      return "AP creation"sv;
    case ExitCode::kHvDoorbell:
      return "#HV doorbell"sv;
    case ExitCode::kHvIpi:
      return "#HV IPI"sv;
    case ExitCode::kApicIdList:
      return "APIC ID list"sv;
    case ExitCode::kRunVmpl:
      return "run VMPL"sv;
    case ExitCode::kHvFeatures:
      return "hypervisor features"sv;
    case ExitCode::kTerminate:
      return "termination"sv;
    case ExitCode::kUnsupported:
      return "unsupported event"sv;
  }
  return "unknown"sv;
}

/// sw_exit_info_1, bits 31:0, as the host leaves it.
enum class ExitResult : std::uint32_t {
  kOk = 0,
  kException = 1,  ///< sw_exit_info_2 is an EventInjection for the guest to take
  kMalformed = 2,  ///< sw_exit_info_2 is a MalformedReason
};

enum class MalformedReason : std::uint64_t {
  kNotRegistered = 1,
  kBadUsage = 2,
  kBadScratch = 3,
  kMissingInput = 4,
  kInvalidInput = 5,
  kInvalidEvent = 6,
};

/// A name for reports; "unknown" for a number without one.
[[nodiscard]] constexpr std::string_view name_of(MalformedReason reason) {
  switch (reason) {
    case MalformedReason::kNotRegistered:
      return "GHCB not registered"sv;
    case MalformedReason::kBadUsage:
      return "bad usage"sv;
    case MalformedReason::kBadScratch:
      return "bad scratch area"sv;
    case MalformedReason::kMissingInput:
      return "missing input"sv;
    case MalformedReason::kInvalidInput:
      return "invalid input"sv;
    case MalformedReason::kInvalidEvent:
      return "invalid event"sv;
  }
  return "unknown"sv;
}

/// sw_exit_info_2 with ExitResult::kException: EVENTINJ. Guests accept #UD (6) and #GP (13) only.
struct EventInjection {
  using ErrorCode = BitField<std::uint64_t, 63, 32>;
  using Valid = BitField<std::uint64_t, 31>;
  using HasErrorCode = BitField<std::uint64_t, 11>;
  using Type = BitField<std::uint64_t, 10, 8>;  ///< 3 = exception
  using Vector = BitField<std::uint64_t, 7, 0>;

  /// The word for an exception of `vector` without error code, as KVM gives #GP, too.
  [[nodiscard]] static constexpr std::uint64_t exception(std::uint8_t vector) {
    return Valid::set(Type::set(Vector::set(0, vector), 3), 1);
  }
};
inline constexpr std::uint8_t kVectorGeneralProtection = 13;

/// sw_exit_info_1 of kIoio.
struct IoioInfo {
  using Port = BitField<std::uint64_t, 31, 16>;
  using Segment = BitField<std::uint64_t, 12, 10>;
  using Address64 = BitField<std::uint64_t, 9>;
  using Address32 = BitField<std::uint64_t, 8>;
  using Address16 = BitField<std::uint64_t, 7>;
  using Size32 = BitField<std::uint64_t, 6>;
  using Size16 = BitField<std::uint64_t, 5>;
  using Size8 = BitField<std::uint64_t, 4>;
  using Rep = BitField<std::uint64_t, 3>;
  using String = BitField<std::uint64_t, 2>;
  using In = BitField<std::uint64_t, 0>;  ///< as in the manual's EXITINFO1: 1 = IN
};

/// sw_exit_info_1 of kApCreation; sw_exit_info_2 is the VMSA's GPA, RAX its SEV_FEATURES.
struct ApCreationInfo {
  using ApicId = BitField<std::uint64_t, 63, 32>;
  using Vmpl = BitField<std::uint64_t, 19, 16>;
  using Request = BitField<std::uint64_t, 15, 0>;  ///< an ApCreationRequest
};
enum class ApCreationRequest : std::uint16_t { kCreateOnInit = 0, kCreate = 1, kDestroy = 2 };

/// SEV_FEATURES bits 3 and 4, restricted and alternate injection: the same for every vCPU of a VM.
inline constexpr std::uint64_t kSevFeaturesInjectionModes = 0x18;

/// sw_exit_info_1 of kApJumpTable.
inline constexpr std::uint64_t kApJumpTableSet = 0;
inline constexpr std::uint64_t kApJumpTableGet = 1;

/// sw_exit_info_2 of an answered (extended) guest request.
struct GuestRequestStatus {
  using VmmError = BitField<std::uint64_t, 63, 32>;
  using FirmwareError = BitField<std::uint64_t, 31, 0>;
};
inline constexpr std::uint32_t kVmmErrorBufferTooSmall = 1;  ///< RBX: pages needed
inline constexpr std::uint32_t kVmmErrorBusy = 2;

/// sw_exit_info_1 of kTerminate: the reason of the MSR protocol in other places.
struct TerminateInfo {
  using Code = BitField<std::uint64_t, 11, 4>;
  using Set = BitField<std::uint64_t, 3, 0>;

  [[nodiscard]] static constexpr TerminateReason reason(std::uint64_t info) {
    return {.set = static_cast<std::uint8_t>(Set::get(info)),
            .code = static_cast<std::uint8_t>(Code::get(info))};
  }
};

}  // namespace accede::abi::ghcb
