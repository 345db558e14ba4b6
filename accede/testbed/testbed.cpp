#include "accede/testbed/testbed.hpp"

#include "accede/base/assert.hpp"

#include <array>

namespace accede::testbed {
namespace {

using guest::PlatformKind;

constexpr std::array<std::uint8_t, 4> kTdcall{0x66, 0x0F, 0x01, 0xCC};
constexpr std::array<std::uint8_t, 4> kPvalidate{0xF2, 0x0F, 0x01, 0xFF};

/// RAM of `config`, or why there is none.
std::expected<PhysRange, std::string> ram_of(const TestbedConfig& config) {
  const auto range = PhysRange::make(config.ram_begin, config.memory);
  const PhysAddr limit{1ULL << (TdxVm::kGpaWidth - 1)};
  if (!config.ram_begin.is_aligned(2_MiB) || config.memory % 4_KiB != Bytes{0} ||
      config.memory == Bytes{0} || !range.has_value() || range->end() > limit) {
    return std::unexpected{
        std::string{"RAM must start at a multiple of 2 MiB, be some 4 KiB pages long and end by "
                    "2^47"}};
  }
  return *range;
}

}  // namespace

std::expected<std::unique_ptr<Testbed>, std::string> Testbed::make(const TestbedConfig& config) {
  if (config.platform == PlatformKind::kNone) {
    return std::unexpected{std::string{"the testbed has no "} +
                           std::string{guest::to_string(config.platform)}};
  }
  const std::expected<PhysRange, std::string> range = ram_of(config);
  if (!range.has_value()) {
    return std::unexpected{range.error()};
  }
  std::expected<GuestRam, std::string> ram = GuestRam::make(*range, config.isolation);
  if (!ram.has_value()) {
    return std::unexpected{ram.error()};
  }
  std::unique_ptr<Testbed> testbed{new Testbed{std::move(*ram), config.platform}};
  const std::expected<void, std::string> started = testbed->start(config);
  if (!started.has_value()) {
    return std::unexpected{started.error()};
  }
  return testbed;
}

std::expected<void, std::string> Testbed::start_vm(const TestbedConfig& config) {
  if (platform_ == PlatformKind::kSnp) {
    auto snp = SnpVm::make(config.backing, ram_, script_, counters_);
    if (!snp.has_value()) {
      return std::unexpected{snp.error()};
    }
    snp_ = std::move(*snp);
    return {};
  }
  auto tdx = TdxVm::make(
      {.backing = config.backing, .page_release = config.page_release, .vcpus = config.vcpus}, ram_,
      script_, counters_);
  if (!tdx.has_value()) {
    return std::unexpected{tdx.error()};
  }
  tdx_ = std::move(*tdx);
  return {};
}

std::expected<void, std::string> Testbed::start(const TestbedConfig& config) {
  if (auto started = start_vm(config); !started.has_value()) {
    return started;
  }
  for (const PhysRange range : config.accepted_at_start) {
    const auto adopted =
        platform_ == PlatformKind::kSnp ? snp().memory().adopt(range) : td().adopt(range);
    if (!adopted.has_value()) {
      return std::unexpected{"memory accepted at start: " +
                             std::string{host::name(adopted.error())}};
    }
  }
  TrapClient& client = *this;
  traps_ = std::make_unique<TrapAttachment>(
      platform_ == PlatformKind::kSnp ? TrapSlot::kSnp : TrapSlot::kTdx, client);
  if (!traps_->valid()) {
    return std::unexpected{std::string{"there is a testbed of this platform already"}};
  }
  return {};
}

TdxVm& Testbed::tdx() {
  ACCEDE_ASSERT(tdx_ != nullptr);
  return *tdx_;
}

SnpVm& Testbed::snp() {
  ACCEDE_ASSERT(snp_ != nullptr);
  return *snp_;
}

bool Testbed::on_trap(const Trap& trap, CpuState& cpu) {
  return trap.is_instruction ? on_instruction(cpu) : on_touch(trap, cpu);
}

bool Testbed::on_instruction(CpuState& cpu) {
  const std::uint64_t rip = cpu.rip();
  std::optional<StopReport> stop;
  if (tdx_ != nullptr && cpu.is_at(kTdcall)) {
    stop = tdx_->tdcall(cpu);
  } else if (snp_ != nullptr && cpu.is_at(kPvalidate)) {
    const auto* const page = reinterpret_cast<const void*>(cpu.get(CpuState::Gpr::kRax));
    const std::optional<PhysAddr> gpa = ram_.gpa_of(page);
    if (!gpa.has_value()) {
      return false;  // an address that the guest has not mapped
    }
    stop = snp_->pvalidate(cpu, *gpa);
  } else {
    return false;
  }
  if (stop.has_value()) {
    stop->rip = rip;
    stop_guest(*stop);
  }
  return true;
}

bool Testbed::on_touch(const Trap& trap, CpuState& cpu) {
  // The window is never executable, and each isolation has a signal of its own: anything else is
  // not about acceptance.
  const int expected = isolation() == Isolation::kUserfaultfd ? SIGBUS : SIGSEGV;
  const std::optional<PhysAddr> gpa = ram_.gpa_of(trap.address);
  if (trap.signal != expected || !gpa.has_value() || cpu.is_fetch()) {
    return false;
  }
  std::optional<StopReport> stop = snp_ != nullptr ? snp_->touch(*gpa) : tdx_->touch(*gpa);
  if (stop.has_value()) {
    stop->address = trap.address;
    stop->is_write = cpu.is_write();
    stop->rip = cpu.rip();
    stop_guest(*stop);
  }
  return true;
}

}  // namespace accede::testbed
