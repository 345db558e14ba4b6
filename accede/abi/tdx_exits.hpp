// How a TD stops: #VE into the guest, asynchronous exits to the VMM (reference 1.1, 2.5, 5.3).
#pragma once

#include "accede/base/bit_field.hpp"

#include <cstddef>
#include <cstdint>

namespace accede::abi::tdx {

inline constexpr unsigned kVeVector = 20;

/// Exit reasons: RCX of VP.VEINFO.GET, and RAX of an asynchronous TDH.VP.ENTER return.
enum class ExitReason : std::uint32_t {
  kCpuid = 10,
  kHlt = 12,
  kIo = 30,
  kRdmsr = 31,
  kWrmsr = 32,
  kEptViolation = 48,
  kTdcall = 77,
};

/// What VP.VEINFO.GET returns, in register order RCX, RDX, R8, R9, R10.
struct VeInfo {
  std::uint64_t exit_reason;         ///< RCX, 32 bits used
  std::uint64_t exit_qualification;  ///< RDX
  std::uint64_t gla;                 ///< R8: guest linear address
  std::uint64_t gpa;                 ///< R9: guest physical address, shared bit included
  std::uint64_t instruction;         ///< R10: length 31:0, information 63:32

  using InstructionInfo = BitField<std::uint64_t, 63, 32>;
  using InstructionLength = BitField<std::uint64_t, 31, 0>;
};
static_assert(sizeof(VeInfo) == 40 && offsetof(VeInfo, exit_qualification) == 8 &&
              offsetof(VeInfo, gla) == 16 && offsetof(VeInfo, gpa) == 24 &&
              offsetof(VeInfo, instruction) == 32);

/// Exit qualification of a #VE for port I/O.
struct IoQualification {
  using Port = BitField<std::uint64_t, 31, 16>;
  using Rep = BitField<std::uint64_t, 5>;
  using String = BitField<std::uint64_t, 4>;
  using In = BitField<std::uint64_t, 3>;  ///< 1 = IN; the IO sub-function counts the other way
  using SizeMinusOne = BitField<std::uint64_t, 2, 0>;
};

/// RCX of TDH.VP.ENTER at an EPT violation.
struct ExitQualification {
  using VmIndex = BitField<std::uint64_t, 33, 32>;
  using DataWrite = BitField<std::uint64_t, 1>;  ///< also set by an ACCEPT
};

/// RDX of TDH.VP.ENTER: extended exit qualification.
struct ExtendedQualification {
  enum class Type : std::uint8_t {
    kNone = 0,
    kAccept = 1,
    kGpaDetails = 2,
    kMsrLoadFailure = 3,
    kXstateFailure = 4,
    kAttrWr = 5,
    kPendingEptViolation = 6,
  };
  using VmIndex = BitField<std::uint64_t, 53, 52>;
  using IsLeaf = BitField<std::uint64_t, 46>;
  using ErrorState = BitField<std::uint64_t, 45, 38>;      ///< SeptState
  using ErrorLevel = BitField<std::uint64_t, 37, 35>;      ///< SeptLevel
  using RequestedLevel = BitField<std::uint64_t, 34, 32>;  ///< of the ACCEPT
  using TypeField = BitField<std::uint64_t, 3, 0>;
};

}  // namespace accede::abi::tdx
