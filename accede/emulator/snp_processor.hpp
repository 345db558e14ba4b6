// The processor's face towards an SNP guest: PVALIDATE, RMPADJUST, RMPQUERY, VMGEXIT, two MSRs.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/abi/sev.hpp"
#include "accede/emulator/ghcb_calls.hpp"
#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/snp_pages.hpp"
#include "accede/host/ghcb.hpp"

#include <array>
#include <cstddef>
#include <span>

namespace accede::emulator {

/// What a vCPU has besides Vcpu when its guest is an SNP guest.
struct SnpVcpu {
  /// Arguments as GhcbCalls has them.
  SnpVcpu(const Vcpu& vcpu, const DeviceAccess& devices, SnpPages& pages, Reporter& reporter)
      : calls{vcpu, devices, pages, reporter},
        ghcb{calls, GhcbCalls::config()},
        ghcb_msr{ghcb.reset_msr()} {}

  GhcbCalls calls;
  host::Ghcb<GhcbCalls> ghcb;
  std::uint64_t ghcb_msr;
  GhcbText last_words;  ///< why the guest is ended
};

/// Executes what an SNP guest's processor can and the one below cannot. A model of
/// PlatformProcessor. Thread-safe as far as its parts are: per-vCPU state is in SnpVcpu.
class SnpProcessor {
 public:
  /// The MSRs to be intercepted.
  static constexpr std::array<std::uint32_t, 2> kMsrs{abi::ghcb::kMsrGhcb, abi::sev::kMsrSevStatus};
  /// All arguments outlive the object. `vcpus`: by index.
  SnpProcessor(SnpPages& pages, GuestMemory& memory, std::span<SnpVcpu* const> vcpus)
      : pages_{pages}, memory_{memory}, vcpus_{vcpus} {}

  [[nodiscard]] GuestView& view() { return pages_.view(); }
  [[nodiscard]] Verdict touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error);
  void after_exit(const Vcpu& vcpu) { pages_.forget_aliases(vcpu); }
  /// #VC does not come from the processor below: see deliver_with_error(). Precondition: when an
  /// event is to be injected, TR is in the VMCB.
  void before_entry(Vcpu& vcpu);
  /// Exits that acceptance consists of: they do not end an uninterrupted step.
  [[nodiscard]] static bool is_accept(const Vcpu& vcpu, svm::Exit exit);
  [[nodiscard]] Verdict invalid_opcode(Vcpu& vcpu);
  void cpuid(Vcpu& vcpu);
  /// False: the emulator has no such MSR for the guest.
  [[nodiscard]] bool msr(Vcpu& vcpu, std::uint32_t index, bool is_write);
  /// False: not VMGEXIT.
  [[nodiscard]] std::expected<bool, Fault> vmmcall(Vcpu& vcpu);

 private:
  [[nodiscard]] Verdict pvalidate(Vcpu& vcpu);
  [[nodiscard]] Verdict rmpadjust(Vcpu& vcpu);
  [[nodiscard]] Verdict rmpquery(Vcpu& vcpu);
  [[nodiscard]] std::optional<PhysAddr> private_page(Vcpu& vcpu);
  [[nodiscard]] std::uint64_t fetched_from(const Vcpu& vcpu, std::uint64_t gpa) const;
  [[nodiscard]] std::optional<std::uint64_t> find_linear(const Vcpu& vcpu, std::uint64_t gpa) const;
  [[nodiscard]] Verdict go_on(Vcpu& vcpu, const host::GhcbOutcome& outcome);

  SnpPages& pages_;
  GuestMemory& memory_;
  std::span<SnpVcpu* const> vcpus_;
};

}  // namespace accede::emulator
