#include "accede/efi/kernel/fault_names.hpp"

#include "accede/abi/ghcb.hpp"
#include "accede/abi/rmp.hpp"

#include <array>

namespace accede::efi::kernel {

using namespace std::string_view_literals;
using abi::tdx::ExitReason;

namespace {

constexpr std::uint64_t kInvalidTss = 10;
constexpr std::uint64_t kGeneralProtection = 13;
/// Error code of #VC: a nested page fault that the host made the guest's (the address is a
/// device's).
constexpr std::uint64_t kVcNestedPageFault = 0x400;

/// By vector.
constexpr std::array kNames{
    "#DE divide error"sv,
    "#DB debug"sv,
    "NMI"sv,
    "#BP breakpoint"sv,
    "#OF overflow"sv,
    "#BR bound range"sv,
    "#UD invalid opcode"sv,
    "#NM no x87"sv,
    "#DF double fault"sv,
    ""sv,
    "#TS invalid TSS"sv,
    "#NP segment not present"sv,
    "#SS stack segment"sv,
    "#GP general protection"sv,
    "#PF page fault"sv,
    ""sv,
    "#MF x87 error"sv,
    "#AC alignment check"sv,
    "#MC machine check"sv,
    "#XM SIMD error"sv,
    "#VE virtualization exception"sv,
    "#CP control protection"sv,
    ""sv,
    ""sv,
    ""sv,
    ""sv,
    ""sv,
    ""sv,
    "#HV hypervisor injection"sv,
    "#VC VMM communication"sv,
    "#SX security"sv,
    ""sv,
};

bool is_set(std::uint64_t word, unsigned bit) {
  return (word >> bit & 1) != 0;
}

void describe_page_fault(std::uint64_t error, FaultText& text) {
  const bool fetch = is_set(error, 4);
  text.text(fetch ? "fetch"sv : is_set(error, 1) ? "write"sv : "read"sv);
  text.text(is_set(error, 0) ? ", present"sv : ", not present"sv);
  text.text(is_set(error, 2) ? ", user"sv : ", supervisor"sv);
  if (is_set(error, 3)) {
    text.text(", reserved bit set"sv);
  }
  if (is_set(error, 5)) {
    text.text(", protection key"sv);
  }
  if (is_set(error, 31)) {
    text.text(", RMP violation"sv);
  }
}

/// The error code of #VC is the exit code of what the host would have seen.
void describe_vc(std::uint64_t error, FaultText& text) {
  if (error == abi::rmp::kVcNotValidated) {
    text.text("memory not validated"sv);
    return;
  }
  const std::string_view name = error == kVcNestedPageFault
                                    ? "MMIO"sv
                                    : abi::ghcb::name_of(static_cast<abi::ghcb::ExitCode>(error));
  text.text(name).text(" (exit code "sv).hex(error).text(")"sv);
}

}  // namespace

std::string_view exit_reason_name(std::uint64_t reason) {
  switch (static_cast<ExitReason>(reason)) {
    case ExitReason::kCpuid:
      return "CPUID"sv;
    case ExitReason::kHlt:
      return "HLT"sv;
    case ExitReason::kIo:
      return "port I/O"sv;
    case ExitReason::kRdmsr:
      return "RDMSR"sv;
    case ExitReason::kWrmsr:
      return "WRMSR"sv;
    case ExitReason::kEptViolation:
      return "EPT violation"sv;
    case ExitReason::kTdcall:
      return "TDCALL"sv;
  }
  return "unknown reason"sv;
}

std::string_view exception_name(std::uint64_t vector) {
  return vector < kNames.size() && !kNames[vector].empty() ? kNames[vector]
                                                           : "reserved exception"sv;
}

FaultText describe_error(std::uint64_t vector, std::uint64_t error) {
  FaultText text;
  if (vector == kPageFaultVector) {
    describe_page_fault(error, text);
  } else if (vector == kVmmCommunicationVector) {
    describe_vc(error, text);
  } else if (vector >= kInvalidTss && vector <= kGeneralProtection && error != 0) {
    constexpr std::array<std::string_view, 4> kTables{"GDT"sv, "IDT"sv, "LDT"sv, "IDT"sv};
    text.text("selector "sv).hex(error & 0xFFF8).text(" of the "sv).text(kTables[error >> 1 & 3]);
    if (is_set(error, 0)) {
      text.text(", external event"sv);
    }
  }
  return text;
}

}  // namespace accede::efi::kernel
