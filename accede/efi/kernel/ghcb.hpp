// What an SNP guest asks its host for instead of executing it: calls through the GHCB page
// (reference: SEV-SNP 3.3, 3.4).
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/function_ref.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/page_state_list.hpp"
#include "accede/guest/snp_platform.hpp"

#include <cstdint>
#include <optional>

namespace accede::efi::kernel {

/// One call, and which answers the caller will believe in.
struct GhcbRequest {
  abi::ghcb::ExitCode code;
  std::uint64_t info1 = 0;
  std::uint64_t info2 = 0;
  std::optional<std::uint64_t> rax{};  ///< what is not given is not valid for the host
  std::optional<std::uint64_t> rcx{};
  std::optional<std::uint64_t> rdx{};
  std::optional<std::uint64_t> data{};  ///< first word of the shared buffer; sw_scratch names it
  bool wants_rax = false;
  bool wants_rdx = false;
};

/// What the host left in the page. Registers that were not wanted are 0.
struct GhcbAnswer {
  std::uint64_t rax = 0;
  std::uint64_t rdx = 0;
  std::uint64_t data = 0;
};

/// Has the host do `request`. `exchange` writes the GPA to the GHCB MSR, executes VMGEXIT and
/// returns when the guest runs again. Nothing: the host refuses (also with an exception to be taken
/// instead), or left out a register that was wanted.
///
/// Every word of the answer is read once. The page is afterwards as it was before, so that a call
/// may come in the middle of another use of the page: from an interrupt, or from a fault's report.
/// Precondition: `ghcb` is a page, registered for this CPU by version 2 of the protocol.
[[nodiscard]] std::optional<GhcbAnswer> ghcb_call(guest::GhcbRef ghcb, const GhcbRequest& request,
                                                  FunctionRef<void(PhysAddr ghcb)> exchange);

/// The calls of this kernel. Until use() has named a page, and after it has named none, the host
/// refuses everything: a device behind such a call is not there.
///
/// For the one CPU; interrupt and fault handlers may call in the middle of a call.
template <guest::GhcbTransport Transport>
class BasicGhcb {
 public:
  /// `transport` outlives the object.
  explicit BasicGhcb(Transport& transport) : transport_{transport} {}
  BasicGhcb(const BasicGhcb&) = delete;
  BasicGhcb& operator=(const BasicGhcb&) = delete;

  /// From now on calls go through `ghcb`, shared, mapped and registered; a null page: through none.
  void use(guest::GhcbRef ghcb) { ghcb_ = ghcb; }

  /// IN of a byte.
  [[nodiscard]] std::optional<std::uint8_t> in8(std::uint16_t port) {
    const auto answer = call({.code = abi::ghcb::ExitCode::kIoio,
                              .info1 = abi::ghcb::IoioInfo::In::set(byte_of(port), 1),
                              .wants_rax = true});
    return answer ? std::optional{static_cast<std::uint8_t>(answer->rax)} : std::nullopt;
  }
  /// OUT of a byte. False when the host refuses, here and below.
  [[nodiscard]] bool out8(std::uint16_t port, std::uint8_t value) {
    return call({.code = abi::ghcb::ExitCode::kIoio, .info1 = byte_of(port), .rax = value})
        .has_value();
  }

  [[nodiscard]] std::optional<std::uint64_t> read_msr(std::uint32_t msr) {
    const auto answer = call({.code = abi::ghcb::ExitCode::kMsr,
                              .info1 = kMsrRead,
                              .rcx = msr,
                              .wants_rax = true,
                              .wants_rdx = true});
    if (!answer) {
      return std::nullopt;
    }
    return answer->rdx << 32 | static_cast<std::uint32_t>(answer->rax);
  }
  [[nodiscard]] bool write_msr(std::uint32_t msr, std::uint64_t value) {
    return call({.code = abi::ghcb::ExitCode::kMsr,
                 .info1 = kMsrWrite,
                 .rax = static_cast<std::uint32_t>(value),
                 .rcx = msr,
                 .rdx = value >> 32})
        .has_value();
  }

  /// Four bytes of a device's memory.
  [[nodiscard]] std::optional<std::uint32_t> read32(PhysAddr device) {
    const auto answer = call({.code = abi::ghcb::ExitCode::kMmioRead,
                              .info1 = device.value(),
                              .info2 = sizeof(std::uint32_t),
                              .data = 0});
    return answer ? std::optional{static_cast<std::uint32_t>(answer->data)} : std::nullopt;
  }
  [[nodiscard]] bool write32(PhysAddr device, std::uint32_t value) {
    return call({.code = abi::ghcb::ExitCode::kMmioWrite,
                 .info1 = device.value(),
                 .info2 = sizeof(std::uint32_t),
                 .data = value})
        .has_value();
  }

  /// Asks the host to end the guest, through the page and, where that is of no use, by the MSR.
  /// Returns when the host does not: the caller stops the CPU.
  void terminate(abi::ghcb::TerminateReason reason) {
    using abi::ghcb::TerminateInfo;
    static_cast<void>(call(
        {.code = abi::ghcb::ExitCode::kTerminate,
         .info1 = TerminateInfo::Code::set(TerminateInfo::Set::set(0, reason.set), reason.code)}));
    static_cast<void>(transport_.msr_exchange(abi::ghcb::terminate_request(reason)));
  }

 private:
  static constexpr std::uint64_t kMsrRead = 0;
  static constexpr std::uint64_t kMsrWrite = 1;

  /// sw_exit_info_1 of an OUT of a byte.
  [[nodiscard]] static constexpr std::uint64_t byte_of(std::uint16_t port) {
    using abi::ghcb::IoioInfo;
    return IoioInfo::Port::set(IoioInfo::Size8::set(IoioInfo::Address64::set(0, 1), 1), port);
  }
  [[nodiscard]] std::optional<GhcbAnswer> call(const GhcbRequest& request) {
    if (ghcb_.page == nullptr) {
      return std::nullopt;
    }
    return ghcb_call(ghcb_, request, [this](PhysAddr ghcb) { transport_.page_exchange(ghcb); });
  }

  Transport& transport_;
  guest::GhcbRef ghcb_;
};

}  // namespace accede::efi::kernel
