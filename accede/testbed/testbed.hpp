// A confidential VM inside one process, for tests and native benchmarks of guest code.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/base/units.hpp"
#include "accede/guest/platform.hpp"
#include "accede/host/hostile_script.hpp"
#include "accede/host/td_memory.hpp"
#include "accede/testbed/counters.hpp"
#include "accede/testbed/guest_ram.hpp"
#include "accede/testbed/snp_vm.hpp"
#include "accede/testbed/stop_report.hpp"
#include "accede/testbed/tdx_vm.hpp"
#include "accede/testbed/traps.hpp"

#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace accede::testbed {

struct TestbedConfig {
  Bytes memory = 64_MiB;  ///< a multiple of 4 KiB; sparse: only what the guest accepts is backed
  PhysAddr ram_begin{};   ///< first guest address of RAM, a multiple of 2 MiB
  host::Backing backing = host::Backing::k2M;
  Isolation isolation = Isolation::kAuto;
  guest::PlatformKind platform = guest::PlatformKind::kTdx;
  bool page_release = false;  ///< TDX: MEM.PAGE.RELEASE exists
  std::uint32_t vcpus = 1;    ///< TDX: what VP.INFO says; any number of threads may run
  std::vector<PhysRange> accepted_at_start{};  ///< what the launch put there: zero, usable
};

/// The guest is ordinary code of this process that reaches its memory through window() and executes
/// the real instructions of its platform. They raise SIGILL (or #GP) here; the handler answers from
/// the models in accede/host. VMGEXIT does not trap in a process: the guest's GhcbTransport is
/// snp(). A touch of memory that is not accepted ends the process with a line of text, or ends a
/// catch_stop(). vCPUs are threads.
///
/// Limits: a page that is accepted at start, or shared, is backed at its first touch; with
/// userfaultfd a system call that is the first to touch it gets EFAULT, and under ThreadSanitizer
/// that touch must not be an atomic access (it holds a lock of the sanitizer, which the handler
/// needs). No #VE, no interrupts, no time.
///
/// Thread-safe but for play(). One testbed of a platform at a time: signal handlers belong to the
/// process.
class Testbed final : private TrapClient {
 public:
  /// Errors, in words: the configuration is not valid, there is a testbed of this platform already,
  /// or the kernel refuses something.
  [[nodiscard]] static std::expected<std::unique_ptr<Testbed>, std::string> make(
      const TestbedConfig& config);
  /// Precondition: no thread is in guest code.
  ~Testbed() = default;
  Testbed(const Testbed&) = delete;
  Testbed& operator=(const Testbed&) = delete;

  [[nodiscard]] PhysRange ram() const { return ram_.range(); }
  /// Where the guest finds its memory: private and shared pages alike.
  [[nodiscard]] PhysWindow window() const { return ram_.window(); }
  /// kUserfaultfd or kMprotect: what kAuto came to.
  [[nodiscard]] Isolation isolation() const { return ram_.isolation(); }
  [[nodiscard]] guest::PlatformKind platform() const { return platform_; }

  /// From now on the host does what `rules` say; each rule counts from here. They outlive their
  /// use. Precondition: no guest instruction is under way; at most HostileScript::kMaxRules.
  void play(std::span<const host::HostileRule> rules) { script_.start(rules); }
  [[nodiscard]] const host::HostileScript& script() const { return script_; }

  /// Memory that the host spends on the guest now.
  [[nodiscard]] Bytes backed() const { return ram_.backed(); }
  [[nodiscard]] Counters counters() const { return counters_.read(); }

  /// The TD. Precondition: platform() is kTdx.
  [[nodiscard]] TdxVm& tdx();
  [[nodiscard]] host::TdMemory& td() { return tdx().memory(); }
  /// The SNP guest; also its way to the host. Precondition: platform() is kSnp.
  [[nodiscard]] SnpVm& snp();

 private:
  Testbed(GuestRam ram, guest::PlatformKind platform) : platform_{platform}, ram_{std::move(ram)} {}
  [[nodiscard]] std::expected<void, std::string> start(const TestbedConfig& config);
  [[nodiscard]] bool on_trap(const Trap& trap, CpuState& cpu) override;
  [[nodiscard]] std::expected<void, std::string> start_vm(const TestbedConfig& config);
  [[nodiscard]] bool on_instruction(CpuState& cpu);
  [[nodiscard]] bool on_touch(const Trap& trap, CpuState& cpu);

  guest::PlatformKind platform_;
  GuestRam ram_;
  host::HostileScript script_;
  LiveCounters counters_;
  std::unique_ptr<TdxVm> tdx_;  ///< one of the two
  std::unique_ptr<SnpVm> snp_;
  std::unique_ptr<TrapAttachment> traps_;  ///< last: no trap reaches an object half destroyed
};

}  // namespace accede::testbed
