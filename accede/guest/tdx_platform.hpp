// Intel TDX as a platform: MEM.PAGE.ACCEPT and MapGPA on the TDCALL instruction.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/base/assert.hpp"
#include "accede/base/phys_range.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/page_walk.hpp"
#include "accede/guest/platform.hpp"
#include "accede/guest/tdcall.hpp"

#include <algorithm>
#include <cstdint>
#include <expected>
#include <string_view>

namespace accede::guest {

/// What a status word (RAX) of MEM.PAGE.ACCEPT means. Compares bits 63:32 only: the low half names
/// an operand or a level, e.g. PAGE_ALREADY_ACCEPTED of a 2 MiB page is ...01. Every word but
/// SUCCESS, PAGE_ALREADY_ACCEPTED, PAGE_SIZE_MISMATCH and OPERAND_BUSY is kInvalid; that includes
/// warnings (bit 63 clear), which say that something was done, yet not that this page is ours.
[[nodiscard]] Answer answer_of(std::uint64_t rax);

/// Why there is no TdxPlatform.
enum class TdxError : std::uint8_t {
  kInfoRefused,  ///< TDG.VP.INFO did not succeed
  kBadGpaWidth,  ///< GPAW is neither 48 nor 52: where the shared bit lies is not defined
};
[[nodiscard]] std::string_view to_string(TdxError error);

/// The TD that this code runs in. A model of AcceptPlatform.
///
/// Invariant: GPAW is 48 or 52. Thread-safe: no state changes after construction; the TDX module
/// serialises calls on one page. Each CPU must be able to execute TDCALL.
///
/// Longest uninterrupted step: one page, that is 2 MiB of zeroing in the module, which takes
/// interrupts between 4 KiB parts.
template <TdcallPolicy Tdcall = HardwareTdcall>
class BasicTdxPlatform {
 public:
  /// BUSY is answered by PAUSE and another try, this often for one page: several times what 2 MiB
  /// of zeroing by another vCPU takes. Then kBusyForever.
  static constexpr unsigned kBusyTries = 1U << 12;
  /// How often MapGPA may answer RETRY without having moved on (Linux's bound). Then kBusyForever.
  static constexpr unsigned kMapGpaRetries = 3;

  /// The platform of the running TD: GPAW by TDG.VP.INFO. Precondition: detect_platform() said
  /// kTdx.
  [[nodiscard]] static std::expected<BasicTdxPlatform, TdxError> make(Tdcall tdcall = {}) {
    TdcallRegisters registers;
    const std::uint64_t rax = tdcall(abi::tdx::TdcallLeaf::kVpInfo, registers);
    if (abi::tdx::code_of(rax) != abi::tdx::Status::kSuccess) {
      return std::unexpected{TdxError::kInfoRefused};
    }
    const std::uint64_t gpa_width = registers.rcx & kGpaWidthMask;
    if (gpa_width != 48 && gpa_width != 52) {
      return std::unexpected{TdxError::kBadGpaWidth};
    }
    return BasicTdxPlatform{static_cast<unsigned>(gpa_width), tdcall};
  }

  /// Precondition: `gpa_width` (GPAW) is 48 or 52.
  explicit BasicTdxPlatform(unsigned gpa_width, Tdcall tdcall = {})
      : shared_bit_{abi::tdx::shared_bit(gpa_width)}, tdcall_{tdcall} {}

  /// Accepts in 2 MiB pages where they fit, 4 KiB elsewhere and where the host backs with 4 KiB
  /// pages (TDX module: MEM.PAGE.ACCEPT). The pages read as zero afterwards. A range beyond the
  /// private half of the GPA space is refused with the module's word for it, nothing done.
  [[nodiscard]] PlatformResult accept(PhysRange range) {
    if (auto legal = check(range); !legal.has_value()) {
      return legal;
    }
    return accept_by_page(range, PageSize::k2M, [this](PhysAddr page, PageSize size) {
      const std::uint64_t rax = accept_page(page, size);
      return PageAnswer{.answer = answer_of(rax), .status = rax};
    });
  }

  /// TDG.VP.VMCALL<MapGPA>, then accept() when to private. PlatformFailure::status is RAX of the
  /// TDCALL, R10 where RAX is 0, R11 with kHostLied.
  /// To private: a failure of MapGPA leaves done_end at the begin: no page was accepted, and what
  /// was mapped may be mapped again.
  /// Precondition: as accept; to shared: nothing of the range is in use.
  [[nodiscard]] PlatformResult convert(PhysRange range, Visibility to) {
    if (auto legal = check(range); !legal.has_value()) {
      return legal;
    }
    auto mapped = map_gpa(range, to);
    if (to == Visibility::kShared) {
      return mapped;
    }
    if (!mapped.has_value()) {
      mapped.error().done_end = range.begin();
      return mapped;
    }
    return accept(range);
  }

  [[nodiscard]] PlatformKind kind() const { return PlatformKind::kTdx; }
  [[nodiscard]] Bytes preferred_step() const { return 2_MiB; }

  /// The address bit that selects the shared view, for the embedder's page tables.
  [[nodiscard]] std::uint64_t shared_bit() const { return shared_bit_; }
  /// One past the highest private GPA.
  [[nodiscard]] PhysAddr private_end() const { return PhysAddr{shared_bit_}; }

 private:
  static constexpr std::uint64_t kGpaWidthMask = 0x3F;  // RCX[5:0] of VP.INFO
  /// MapGPA shows the host R10 to R13 and nothing else, and takes nothing else from it.
  static constexpr std::uint64_t kMapGpaMask = 1ULL << static_cast<unsigned>(abi::tdx::Gpr::kR10) |
                                               1ULL << static_cast<unsigned>(abi::tdx::Gpr::kR11) |
                                               1ULL << static_cast<unsigned>(abi::tdx::Gpr::kR12) |
                                               1ULL << static_cast<unsigned>(abi::tdx::Gpr::kR13);

  [[nodiscard]] static PlatformResult fail(FailureKind kind, std::uint64_t status, PhysAddr at,
                                           PhysAddr done_end) {
    return std::unexpected{PlatformFailure{
        .kind = kind, .status = status, .at = at, .size = PageSize::k4K, .done_end = done_end}};
  }

  /// A range with the shared bit or beyond it is refused here: the operand of ACCEPT has no room
  /// for some of those addresses, and MapGPA would take the bit for a wish.
  [[nodiscard]] PlatformResult check(PhysRange range) const {
    ACCEDE_ASSERT(range.begin().is_aligned(4_KiB) && range.end().is_aligned(4_KiB));
    if (range.end() <= private_end()) {
      return {};
    }
    return fail(FailureKind::kRefused,
                abi::tdx::status(abi::tdx::Status::kOperandInvalid, abi::tdx::Operand::kRcx),
                std::max(range.begin(), private_end()), range.begin());
  }

  [[nodiscard]] std::uint64_t accept_page(PhysAddr page, PageSize size) {
    std::uint64_t rax = 0;
    for (unsigned tries = 0; tries < kBusyTries; ++tries) {
      TdcallRegisters registers{.rcx = abi::tdx::PageOperand::make(page, size)};
      rax = tdcall_(abi::tdx::TdcallLeaf::kMemPageAccept, registers);
      if (answer_of(rax) != Answer::kBusy) {
        break;
      }
      __builtin_ia32_pause();
    }
    return rax;
  }

  /// MapGPA until the host says that all of `range` is done (reference: TDX 3, MapGPA).
  [[nodiscard]] PlatformResult map_gpa(PhysRange range, Visibility to) {
    const std::uint64_t bit = to == Visibility::kShared ? shared_bit_ : 0;
    PhysAddr at = range.begin();
    unsigned stalled = 0;
    while (at < range.end()) {
      TdcallRegisters registers{.rcx = kMapGpaMask,
                                .r11 = static_cast<std::uint64_t>(abi::tdx::Vmcall::kMapGpa),
                                .r12 = at.value() | bit,
                                .r13 = (range.end() - at).value()};
      const std::uint64_t rax = tdcall_(abi::tdx::TdcallLeaf::kVpVmcall, registers);
      if (rax != 0) {
        return fail(FailureKind::kRefused, rax, at, at);
      }
      const auto answer = static_cast<abi::tdx::VmcallStatus>(registers.r10);
      if (answer == abi::tdx::VmcallStatus::kSuccess) {
        return {};
      }
      if (answer != abi::tdx::VmcallStatus::kRetry) {
        return fail(FailureKind::kRefused, registers.r10, at, at);
      }
      const PhysAddr next{registers.r11 ^ bit};
      if (next < at || next >= range.end() || !next.is_aligned(4_KiB)) {
        return fail(FailureKind::kHostLied, registers.r11, at, at);
      }
      stalled = next == at ? stalled + 1 : 0;
      if (stalled > kMapGpaRetries) {
        return fail(FailureKind::kBusyForever, registers.r10, at, at);
      }
      at = next;
    }
    return {};
  }

  std::uint64_t shared_bit_;
  [[no_unique_address]] Tdcall tdcall_;
};

extern template class BasicTdxPlatform<HardwareTdcall>;
using TdxPlatform = BasicTdxPlatform<>;
static_assert(AcceptPlatform<TdxPlatform>);

}  // namespace accede::guest
