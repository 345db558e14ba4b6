// The TDX module's face towards the guest: TDCALL.
#pragma once

#include "accede/abi/tdx.hpp"
#include "accede/emulator/fault.hpp"
#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/td_pages.hpp"
#include "accede/emulator/vcpu.hpp"
#include "accede/emulator/vmcall.hpp"
#include "accede/host/sha384.hpp"

#include <array>

namespace accede::emulator {

/// Answers TDCALL leaves 0 to 8 as TDX module 1.5 does and every other one with
/// OPERAND_INVALID | RAX. State of the TD as a whole; per-vCPU state is in Vcpu. Thread-safe but
/// for RTMR extension, which locks.
class TdxModule {
 public:
  static constexpr unsigned kGpaw = 48;

  struct Config {
    bool sept_ve_disable = true;
    std::uint32_t vcpus = 1;
    std::uint64_t tsc_hz = 0;
    std::uint64_t xfam = 3;  ///< XSAVE features of the TD
  };

  TdxModule(const Config& config, TdPages& pages, GuestMemory& memory, VmcallHandler& vmcalls,
            Reporter& reporter)
      : config_{config}, pages_{pages}, memory_{memory}, vmcalls_{vmcalls}, reporter_{reporter} {}

  /// Executes the TDCALL at the vCPU's RIP (its four bytes are known to be one) and steps over it.
  [[nodiscard]] Verdict tdcall(Vcpu& vcpu);

 private:
  [[nodiscard]] Verdict vmcall(Vcpu& vcpu);
  void count_unknown(const Vcpu& vcpu, std::uint64_t leaf);
  [[nodiscard]] std::uint64_t attributes() const;
  void vp_info(Vcpu& vcpu) const;
  [[nodiscard]] std::uint64_t extend_rtmr(Vcpu& vcpu);
  [[nodiscard]] static std::uint64_t get_ve_info(Vcpu& vcpu);
  [[nodiscard]] std::uint64_t report(Vcpu& vcpu);
  [[nodiscard]] std::uint64_t read_field(Vcpu& vcpu);
  [[nodiscard]] std::uint64_t write_field(Vcpu& vcpu);
  [[nodiscard]] std::optional<std::uint64_t> field_value(std::uint64_t id);

  using Rtmr = abi::tdx::Sha384Digest;

  Config config_;
  TdPages& pages_;
  GuestMemory& memory_;
  VmcallHandler& vmcalls_;
  Reporter& reporter_;
  SpinLock rtmr_lock_;
  std::array<Rtmr, 4> rtmr_{};
  std::atomic<std::uint64_t> notify_enables_ = 0;
};

}  // namespace accede::emulator
