// The GHCB MSR protocol: one 64-bit word asks, one answers (reference: SEV-SNP 3.1, 3.2, 5.4).
#pragma once

#include "accede/base/bit_field.hpp"
#include "accede/base/units.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace accede::abi::ghcb {

// Literals with their length: without it clang calls strlen, which a kernel need not have.
using namespace std::string_view_literals;

/// The MSR that holds the GHCB's GPA (bits 11:0 zero) or a protocol word.
inline constexpr std::uint32_t kMsrGhcb = 0xC001'0130;

/// Bits 11:0 of a protocol word. A response is its request + 1, SEV information aside.
enum class MsrCode : std::uint16_t {
  kSevInfoResponse = 0x001,  ///< also what the MSR holds at reset
  kSevInfoRequest = 0x002,
  kCpuidRequest = 0x004,
  kCpuidResponse = 0x005,
  kApResetHoldRequest = 0x006,
  kApResetHoldResponse = 0x007,
  kPreferredGhcbRequest = 0x010,
  kPreferredGhcbResponse = 0x011,
  kRegisterGhcbRequest = 0x012,
  kRegisterGhcbResponse = 0x013,
  kPageStateRequest = 0x014,
  kPageStateResponse = 0x015,
  kRunVmplRequest = 0x016,
  kRunVmplResponse = 0x017,
  kHvFeaturesRequest = 0x080,
  kHvFeaturesResponse = 0x081,
  kTerminateRequest = 0x100,
};

/// A name for reports; "unknown" for a code without one.
[[nodiscard]] constexpr std::string_view name_of(MsrCode code) {
  switch (code) {
    case MsrCode::kSevInfoResponse:
      return "SEV information response"sv;
    case MsrCode::kSevInfoRequest:
      return "SEV information request"sv;
    case MsrCode::kCpuidRequest:
      return "CPUID request"sv;
    case MsrCode::kCpuidResponse:
      return "CPUID response"sv;
    case MsrCode::kApResetHoldRequest:
      return "AP reset hold request"sv;
    case MsrCode::kApResetHoldResponse:
      return "AP reset hold response"sv;
    case MsrCode::kPreferredGhcbRequest:
      return "preferred GHCB request"sv;
    case MsrCode::kPreferredGhcbResponse:
      return "preferred GHCB response"sv;
    case MsrCode::kRegisterGhcbRequest:
      return "register GHCB request"sv;
    case MsrCode::kRegisterGhcbResponse:
      return "register GHCB response"sv;
    case MsrCode::kPageStateRequest:
      return "page state change request"sv;
    case MsrCode::kPageStateResponse:
      return "page state change response"sv;
    case MsrCode::kRunVmplRequest:
      return "run VMPL request"sv;
    case MsrCode::kRunVmplResponse:
      return "run VMPL response"sv;
    case MsrCode::kHvFeaturesRequest:
      return "hypervisor features request"sv;
    case MsrCode::kHvFeaturesResponse:
      return "hypervisor features response"sv;
    case MsrCode::kTerminateRequest:
      return "termination request"sv;
  }
  return "unknown"sv;
}

/// What a page state change asks for: bits 55:52 of the MSR word and of a list entry.
enum class PageOp : std::uint8_t { kPrivate = 1, kShared = 2, kPsmash = 3, kUnsmash = 4 };

[[nodiscard]] constexpr std::string_view name_of(PageOp op) {
  switch (op) {
    case PageOp::kPrivate:
      return "private"sv;
    case PageOp::kShared:
      return "shared"sv;
    case PageOp::kPsmash:
      return "PSMASH"sv;
    case PageOp::kUnsmash:
      return "UNSMASH"sv;
  }
  return "unknown"sv;
}

/// Fields of the protocol words.
struct MsrWord {
  using Code = BitField<std::uint64_t, 11, 0>;
  using Payload = BitField<std::uint64_t, 63, 12>;  ///< whole payload: a page number, a bitmap

  using SevInfoMax = BitField<std::uint64_t, 63, 48>;
  using SevInfoMin = BitField<std::uint64_t, 47, 32>;
  using SevInfoCBit = BitField<std::uint64_t, 31, 24>;

  using CpuidFunction = BitField<std::uint64_t, 63, 32>;  ///< response: the register's value
  using CpuidRegister = BitField<std::uint64_t, 31, 30>;
  using CpuidReserved = BitField<std::uint64_t, 29, 12>;  ///< 0 in a response; guests check

  using PageStateReserved = BitField<std::uint64_t, 63, 56>;  ///< must be 0
  using PageStateOp = BitField<std::uint64_t, 55, 52>;
  using PageStateGfn = BitField<std::uint64_t, 51, 12>;
  using PageStateError = BitField<std::uint64_t, 63, 32>;             ///< response: 0 = done
  using PageStateResponseReserved = BitField<std::uint64_t, 31, 12>;  ///< must be 0

  using RunVmpl = BitField<std::uint64_t, 39, 32>;

  using TerminateCode = BitField<std::uint64_t, 23, 16>;
  using TerminateSet = BitField<std::uint64_t, 15, 12>;
};

/// The code of a word, whether or not it is one of ours.
[[nodiscard]] constexpr MsrCode code_of(std::uint64_t word) {
  return static_cast<MsrCode>(MsrWord::Code::get(word));
}
/// A word of a code with bits 63:12 as given. Precondition: `payload` fits in 52 bits.
[[nodiscard]] constexpr std::uint64_t msr_word(MsrCode code, std::uint64_t payload = 0) {
  return MsrWord::Payload::set(static_cast<std::uint64_t>(code), payload);
}

/// Protocol versions and the encryption bit's position in page-table entries.
struct SevInfo {
  std::uint16_t max_version = 0;
  std::uint16_t min_version = 0;
  std::uint8_t c_bit = 0;

  friend constexpr bool operator==(const SevInfo&, const SevInfo&) = default;
};
[[nodiscard]] constexpr std::uint64_t sev_info_response(SevInfo info) {
  std::uint64_t word = msr_word(MsrCode::kSevInfoResponse);
  word = MsrWord::SevInfoMax::set(word, info.max_version);
  word = MsrWord::SevInfoMin::set(word, info.min_version);
  return MsrWord::SevInfoCBit::set(word, info.c_bit);
}
/// Nothing when the word is not such a response.
[[nodiscard]] constexpr std::optional<SevInfo> sev_info_of(std::uint64_t word) {
  if (code_of(word) != MsrCode::kSevInfoResponse) {
    return std::nullopt;
  }
  return SevInfo{.max_version = static_cast<std::uint16_t>(MsrWord::SevInfoMax::get(word)),
                 .min_version = static_cast<std::uint16_t>(MsrWord::SevInfoMin::get(word)),
                 .c_bit = static_cast<std::uint8_t>(MsrWord::SevInfoCBit::get(word))};
}

enum class CpuidRegister : std::uint8_t { kEax = 0, kEbx = 1, kEcx = 2, kEdx = 3 };

/// Asks for one register of a leaf; the subleaf is 0.
[[nodiscard]] constexpr std::uint64_t cpuid_request(std::uint32_t function, CpuidRegister which) {
  const std::uint64_t word =
      MsrWord::CpuidFunction::set(msr_word(MsrCode::kCpuidRequest), function);
  return MsrWord::CpuidRegister::set(word, static_cast<std::uint64_t>(which));
}
[[nodiscard]] constexpr std::uint64_t cpuid_response(std::uint32_t value, CpuidRegister which) {
  const std::uint64_t word = MsrWord::CpuidFunction::set(msr_word(MsrCode::kCpuidResponse), value);
  return MsrWord::CpuidRegister::set(word, static_cast<std::uint64_t>(which));
}
/// The value, or nothing when the word does not answer the request for `which`.
[[nodiscard]] constexpr std::optional<std::uint32_t> cpuid_value_of(std::uint64_t word,
                                                                    CpuidRegister which) {
  if (code_of(word) != MsrCode::kCpuidResponse || MsrWord::CpuidReserved::get(word) != 0 ||
      MsrWord::CpuidRegister::get(word) != static_cast<std::uint64_t>(which)) {
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(MsrWord::CpuidFunction::get(word));
}

/// What an application processor that waits for its start finds in the MSR.
[[nodiscard]] constexpr std::uint64_t ap_reset_hold_response(bool started) {
  return msr_word(MsrCode::kApResetHoldResponse, started ? 1 : 0);
}

/// Payload of kPreferredGhcbResponse: the host has no preference. Payload of kRegisterGhcbResponse:
/// refused.
inline constexpr std::uint64_t kNoGhcb = MsrWord::Payload::kMax;

/// Precondition (also of the response): `ghcb` is a multiple of 4 KiB.
[[nodiscard]] constexpr std::uint64_t register_ghcb_request(PhysAddr ghcb) {
  ACCEDE_ASSERT(ghcb.is_aligned(4_KiB));
  return msr_word(MsrCode::kRegisterGhcbRequest, ghcb.value() >> 12);
}
/// The same address accepts; any other (all ones) refuses.
[[nodiscard]] constexpr std::uint64_t register_ghcb_response(PhysAddr ghcb) {
  ACCEDE_ASSERT(ghcb.is_aligned(4_KiB));
  return msr_word(MsrCode::kRegisterGhcbResponse, ghcb.value() >> 12);
}

/// Asks for one 4 KiB page. Precondition: `gpa` is a multiple of 4 KiB below 2^52.
[[nodiscard]] constexpr std::uint64_t page_state_request(PhysAddr gpa, PageOp op) {
  ACCEDE_ASSERT(gpa.is_aligned(4_KiB));
  const std::uint64_t word = MsrWord::PageStateOp::set(msr_word(MsrCode::kPageStateRequest),
                                                       static_cast<std::uint64_t>(op));
  return MsrWord::PageStateGfn::set(word, gpa.value() >> 12);
}
[[nodiscard]] constexpr PhysAddr page_state_gpa(std::uint64_t request) {
  return PhysAddr{MsrWord::PageStateGfn::get(request) << 12};
}
/// The operation of a request, whether or not it is one of ours.
[[nodiscard]] constexpr PageOp page_state_op(std::uint64_t request) {
  return static_cast<PageOp>(MsrWord::PageStateOp::get(request));
}
[[nodiscard]] constexpr std::uint64_t page_state_response(std::uint32_t error) {
  return MsrWord::PageStateError::set(msr_word(MsrCode::kPageStateResponse), error);
}
/// KVM's one error.
inline constexpr std::uint32_t kPageStateErrorKvm = 0x8000'0000;
/// The error (0: done), or nothing when the word is no well-formed response.
[[nodiscard]] constexpr std::optional<std::uint32_t> page_state_error_of(std::uint64_t word) {
  if (code_of(word) != MsrCode::kPageStateResponse ||
      MsrWord::PageStateResponseReserved::get(word) != 0) {
    return std::nullopt;
  }
  return static_cast<std::uint32_t>(MsrWord::PageStateError::get(word));
}

/// Bits of the hypervisor features bitmap.
inline constexpr std::uint64_t kHvFeatureSnp = 1ULL << 0;
inline constexpr std::uint64_t kHvFeatureApCreation = 1ULL << 1;
inline constexpr std::uint64_t kHvFeatureRestrictedInjection = 1ULL << 2;
inline constexpr std::uint64_t kHvFeatureRestrictedInjectionTimer = 1ULL << 3;
inline constexpr std::uint64_t kHvFeatureApicIdList = 1ULL << 4;
inline constexpr std::uint64_t kHvFeatureMultiVmpl = 1ULL << 5;

/// Why a guest asks to be ended; `set` tells whose list `code` is of (reference 5.4).
struct TerminateReason {
  std::uint8_t set = 0;  ///< 0 general, 1 Linux; 4 bits
  std::uint8_t code = 0;

  friend constexpr bool operator==(TerminateReason, TerminateReason) = default;
};
inline constexpr TerminateReason kTerminateGeneral{0, 0};
inline constexpr TerminateReason kTerminateProtocolVersion{0, 1};
inline constexpr TerminateReason kTerminateSnpFeatures{0, 2};
inline constexpr TerminateReason kTerminateLinuxRegisterGhcb{1, 0};
inline constexpr TerminateReason kTerminateLinuxPageState{1, 1};
inline constexpr TerminateReason kTerminateLinuxPvalidate{1, 2};
inline constexpr TerminateReason kTerminateLinuxNotVmpl0{1, 3};
inline constexpr TerminateReason kTerminateLinuxCpuidTable{1, 4};
inline constexpr TerminateReason kTerminateLinuxCpuidHv{1, 5};
inline constexpr TerminateReason kTerminateLinuxSecretsPage{1, 6};
inline constexpr TerminateReason kTerminateLinuxNoSvsm{1, 7};
inline constexpr TerminateReason kTerminateLinuxSvsmVmpl0{1, 8};
inline constexpr TerminateReason kTerminateLinuxSvsmCaa{1, 9};

/// The reason in words; "unknown reason" for one without.
[[nodiscard]] constexpr std::string_view name_of(TerminateReason reason) {
  constexpr std::array kGeneral{"general failure"sv, "unsupported protocol version"sv,
                                "SNP features unsupported"sv};
  constexpr std::array kLinux{"GHCB registration failed"sv,
                              "page state change failed"sv,
                              "PVALIDATE failed"sv,
                              "not at VMPL 0"sv,
                              "CPUID table missing or bad"sv,
                              "CPUID by the hypervisor failed"sv,
                              "secrets page invalid"sv,
                              "no SVSM"sv,
                              "SVSM at VMPL 0"sv,
                              "SVSM calling area misaligned"sv};
  if (reason.set == 0 && reason.code < kGeneral.size()) {
    return kGeneral[reason.code];
  }
  if (reason.set == 1 && reason.code < kLinux.size()) {
    return kLinux[reason.code];
  }
  return "unknown reason"sv;
}

/// Precondition: `reason.set` fits in 4 bits.
[[nodiscard]] constexpr std::uint64_t terminate_request(TerminateReason reason) {
  const std::uint64_t word =
      MsrWord::TerminateSet::set(msr_word(MsrCode::kTerminateRequest), reason.set);
  return MsrWord::TerminateCode::set(word, reason.code);
}
[[nodiscard]] constexpr TerminateReason terminate_reason_of(std::uint64_t request) {
  return {.set = static_cast<std::uint8_t>(MsrWord::TerminateSet::get(request)),
          .code = static_cast<std::uint8_t>(MsrWord::TerminateCode::get(request))};
}

}  // namespace accede::abi::ghcb
