// The processor's face towards a TD.
#pragma once

#include "accede/emulator/guest_memory.hpp"
#include "accede/emulator/td_pages.hpp"
#include "accede/emulator/tdx_module.hpp"

#include <array>
#include <cstdint>

namespace accede::emulator {

/// Executes what a TD's processor can and the one below cannot. A model of PlatformProcessor.
/// Thread-safe as far as its parts are.
class TdxProcessor {
 public:
  /// The MSRs to be intercepted besides the monitor's own.
  static constexpr std::array<std::uint32_t, 0> kMsrs{};

  /// All arguments outlive the object.
  TdxProcessor(TdxModule& module, TdPages& pages, GuestMemory& memory)
      : module_{module}, pages_{pages}, memory_{memory} {}

  [[nodiscard]] GuestView& view() { return pages_.view(); }
  [[nodiscard]] Verdict touch(Vcpu& vcpu, std::uint64_t gpa, std::uint64_t error) {
    return pages_.touch(vcpu, gpa, error);
  }
  void after_exit(const Vcpu& /*vcpu*/) {}
  void before_entry(const Vcpu& /*vcpu*/) {}
  [[nodiscard]] static bool is_accept(const Vcpu& vcpu, svm::Exit exit);
  [[nodiscard]] Verdict invalid_opcode(Vcpu& vcpu);
  void cpuid(Vcpu& vcpu);
  [[nodiscard]] static bool msr(Vcpu& /*vcpu*/, std::uint32_t /*index*/, bool /*is_write*/) {
    return false;
  }
  [[nodiscard]] static std::expected<bool, Fault> vmmcall(Vcpu& /*vcpu*/) { return false; }

 private:
  TdxModule& module_;
  TdPages& pages_;
  GuestMemory& memory_;
};

}  // namespace accede::emulator
