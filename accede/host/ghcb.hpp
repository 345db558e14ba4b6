// The hypervisor's end of the GHCB: both protocols, for one vCPU.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/base/assert.hpp"
#include "accede/base/units.hpp"
#include "accede/host/ghcb_host.hpp"
#include "accede/host/ghcb_input.hpp"
#include "accede/host/ghcb_page_state.hpp"
#include "accede/host/ghcb_types.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace accede::host {

struct GhcbConfig {
  bool is_snp = true;
  abi::ghcb::SevInfo info{.max_version = 2, .min_version = 1, .c_bit = 51};
  std::uint64_t hv_features = abi::ghcb::kHvFeatureSnp | abi::ghcb::kHvFeatureApCreation;
  std::uint64_t sev_features = 1;  ///< of the VM's first VMSA; bit n is SEV_STATUS bit n + 2
  PhysAddr gpa_end{1ULL << 51};    ///< first address that no guest can have; at most 2^52
};

/// What a VMGEXIT of one vCPU means, and how KVM 6.12 answers it (reference: SEV-SNP 3.2 to 3.6),
/// with the rules for the scratch area of protocol version 2 whatever the guest negotiated. The
/// machine behind is a GhcbHost. Total: any MSR value and any page content give an outcome, however
/// the guest changes the page meanwhile; page fields are read once. Bounded: at most 253 page state
/// changes or 2032 port accesses.
///
/// Invariant: a registered address is a multiple of 4 KiB below gpa_end and not 0.
/// Thread-compatible: one object per vCPU, used by whoever runs it. No lock.
template <GhcbHost Host>
class Ghcb {
 public:
  /// `host` outlives the object.
  Ghcb(Host& host, const GhcbConfig& config) : host_{host}, config_{config} {
    ACCEDE_ASSERT(config.gpa_end <= PhysAddr{1ULL << 52});
  }
  Ghcb(const Ghcb&) = delete;
  Ghcb& operator=(const Ghcb&) = delete;

  /// The MSR of a vCPU that has not run yet.
  [[nodiscard]] std::uint64_t reset_msr() const {
    return abi::ghcb::sev_info_response(config_.info);
  }

  /// Answers a VMGEXIT with `msr` in the GHCB MSR.
  [[nodiscard]] GhcbOutcome exit(std::uint64_t msr) {
    hold_ = Hold::kNone;
    return (msr & 0xFFF) != 0 ? msr_exit(msr) : page_exit(msr);
  }

  /// The vCPU, which holds, was started by SIPI. Returns what exit() would have, with kResume.
  /// `msr` is that of the outcome kHold. Precondition: holds().
  [[nodiscard]] GhcbOutcome start(std::uint64_t msr) {
    ACCEDE_ASSERT(holds());
    if (hold_ == Hold::kMsr) {
      msr = abi::ghcb::ap_reset_hold_response(true);
    } else if (auto* const page = map(msr); page != nullptr) {
      held_output_.info2 = 1;
      put_output(*page, held_output_);
    }
    hold_ = Hold::kNone;
    return {.msr = msr};
  }
  [[nodiscard]] bool holds() const { return hold_ != Hold::kNone; }

  [[nodiscard]] std::optional<PhysAddr> registered() const { return registered_; }

 private:
  enum class Hold : std::uint8_t { kNone, kMsr, kPage };

  /// One exit through a page.
  struct Call {
    abi::ghcb::GhcbPage& page;
    PhysAddr gpa;
    GhcbInput in;
    GhcbOutput out;
    GhcbOutcome outcome;
  };

  [[nodiscard]] GhcbOutcome msr_exit(std::uint64_t msr);
  [[nodiscard]] std::uint64_t msr_cpuid(std::uint64_t msr);
  [[nodiscard]] std::uint64_t register_page(std::uint64_t msr);
  [[nodiscard]] std::uint64_t msr_page_state(std::uint64_t msr);

  [[nodiscard]] GhcbOutcome page_exit(std::uint64_t msr);
  void dispatch(Call& call);
  void dispatch_intercept(Call& call);
  void cpuid(Call& call);
  void port_io(Call& call);
  void string_io(Call& call, GhcbPort port, bool in);
  void msr_access(Call& call);
  void vmmcall(Call& call);
  void mmio(Call& call, bool is_read);
  void page_states(Call& call);
  void guest_request(Call& call, bool extended);
  void ap_creation(Call& call);
  void ap_jump_table(Call& call);
  void terminate(Call& call);

  void report(GhcbMistakeKind kind, std::uint64_t msr) {
    host_.report({.kind = kind, .field = GhcbField::kMsr, .value = msr});
  }
  void report(const Call& call, GhcbMistakeKind kind, GhcbField field, std::uint64_t value) {
    host_.report({.kind = kind, .field = field, .exit_code = call.in.exit_code, .value = value});
  }
  /// Answers as a malformed request.
  void malformed(Call& call, GhcbMistakeKind kind, GhcbField field, std::uint64_t value) {
    report(call, kind, field, value);
    call.out.malformed(malformed_reason(kind));
  }
  void stop(Call& call, GhcbMistakeKind kind, GhcbField field, std::uint64_t value) {
    report(call, kind, field, value);
    call.outcome.next = GhcbNext::kStop;
    call.outcome.mistake = kind;
  }
  /// Where the scratch area of `size` bytes lies; the request is answered when nowhere.
  [[nodiscard]] std::optional<GhcbScratch> scratch(Call& call, std::uint64_t size) {
    const auto found = GhcbScratch::make(call.page, call.gpa, call.in.scratch, size);
    if (!found) {
      malformed(call, GhcbMistakeKind::kBadScratch, GhcbField::kScratch, call.in.scratch);
    }
    return found;
  }
  [[nodiscard]] bool is_page(std::uint64_t gpa) const {
    return gpa != 0 && gpa % 4096 == 0 && PhysAddr{gpa} < config_.gpa_end;
  }
  [[nodiscard]] abi::ghcb::GhcbPage* map(std::uint64_t gpa) {
    return is_page(gpa) ? host_.map_ghcb(PhysAddr{gpa}) : nullptr;
  }

  Host& host_;
  GhcbConfig config_;
  std::optional<PhysAddr> registered_;
  GhcbOutput held_output_{};
  Hold hold_ = Hold::kNone;
};

}  // namespace accede::host

#include "accede/host/ghcb_msr_exit.hpp"
#include "accede/host/ghcb_page_exit.hpp"
