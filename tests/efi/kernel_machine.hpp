// Our kernel in the testbed: what its EFI part leaves behind in a TD, and the services of a machine
// that ends in an exception.
#pragma once

#include "accede/efi/kernel/run_kernel.hpp"
#include "tests/efi/flat_image_sample.hpp"
#include "tests/testbed/guest_vm.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace accede::efi::kernel::test {

using efi::test::FlatImageSample;
using testbed::test::MachineConfig;
using testbed::test::must;
using testbed::test::range;
using testbed::test::Snp;
using testbed::test::Tdx;
using Json = nlohmann::json;

inline constexpr std::string_view kCommandLine = "quiet";

/// A confidential VM right before the kernel is entered: the table is built and named by EFI, the
/// kernel's image and all that BootInfo names lie in the first MiB.
template <class Side>
class BasicKernelMachine {
 public:
  explicit BasicKernelMachine(std::string_view command_line = kCommandLine,
                              MachineConfig config = {})
      : machine_{config} {
    testbed::test::Kernel<Side> stub{machine_};
    regions_ = machine_.regions();
    must(stub.read_efi_map(testbed::test::efi_map(regions_)), "map");
    must(stub.build_table(), "table");
    accepted_before_ = Bytes{bed().counters().accepted_bytes};
    if (stub.table().present()) {
      machine_.publish_in_efi(stub.table().where());
    }
    describe(command_line);
  }

  [[nodiscard]] testbed::test::Machine<Side>& machine() { return machine_; }
  [[nodiscard]] testbed::Testbed& bed() { return machine_.bed(); }
  [[nodiscard]] PhysWindow window() const { return machine_.window(); }
  [[nodiscard]] BootInfo& boot() const {
    return *window().template pointer<BootInfo>(info().begin());
  }
  [[nodiscard]] typename Side::Cpu::Platform& platform() { return cpu_.platform(); }
  [[nodiscard]] PhysRange image() const { return range(machine_.at(64_KiB), 192_KiB); }
  [[nodiscard]] PhysRange pristine() const { return range(machine_.at(512_KiB), 1_KiB); }
  [[nodiscard]] PhysRange info() const { return range(machine_.at(768_KiB), 16_KiB); }

  /// By kernels; the head that no bit can stand for was accepted before they began.
  [[nodiscard]] Bytes accepted() {
    return Bytes{bed().counters().accepted_bytes} - accepted_before_;
  }
  /// What is unaccepted when the first kernel begins.
  [[nodiscard]] Bytes unaccepted() { return machine_.unaccepted().size() - accepted_before_; }
  /// From now on the host says of every unit that is accepted that it was accepted before. A start
  /// accepts nothing there.
  void attack() {
    constexpr bool kIsTd = Side::kKind == guest::PlatformKind::kTdx;
    machine_.play(
        {{.event = kIsTd ? host::HostileEvent::kAccept : host::HostileEvent::kValidate,
          .act = kIsTd ? host::HostileAct::kAlreadyAccepted : host::HostileAct::kUnchanged,
          .where = *PhysRange::make(machine_.at(12_MiB), machine_.ram().end())}});
  }
  /// Nothing was accepted that was accepted before, or that is not there.
  void expect_no_rule_broken() {
    EXPECT_EQ(bed().counters().refused, 0U);
    EXPECT_LE(accepted(), unaccepted());
    EXPECT_TRUE(Side::sound(bed()));
  }

  /// Changes the word at `at`.
  void flip(PhysAddr at, std::uint64_t bits = 0x10) const {
    *window().template pointer<std::uint64_t>(at) ^= bits;
  }
  /// Writes the memory map that the kernel is told.
  void tell_map(std::vector<guest::MemoryRegion> regions) {
    regions_ = std::move(regions);
    describe(kCommandLine);
  }

 private:
  PhysAddr put(PhysAddr at, std::span<const std::byte> bytes) {
    std::ranges::copy(bytes, machine_.memory(range(at, Bytes{bytes.size()})).begin());
    return at;
  }
  void describe(std::string_view command_line) {
    const auto map = testbed::test::efi_map(regions_);
    put(pristine().begin(), FlatImageSample{}.bytes());
    const PhysAddr map_at = put(info().begin() + 4_KiB, map);
    const PhysAddr line_at = put(info().begin() + 8_KiB, std::as_bytes(std::span{command_line}));
    boot() = BootInfo{.magic = BootInfo::kMagic,
                      .version = BootInfo::kVersion,
                      .generation = 1,
                      .image = {image().begin().value(), image().end().value()},
                      .pristine = {pristine().begin().value(), pristine().end().value()},
                      .info = {info().begin().value(), info().end().value()},
                      .efi_map = map_at.value(),
                      .efi_map_bytes = map.size(),
                      .efi_stride = 48,
                      .efi_system_table = 0x1000,
                      .efi_entries = window().address(machine_.efi_entries().data()).value(),
                      .efi_entry_count = machine_.efi_entries().size() / guest::kEfiEntryBytes,
                      .hand_over = 0,
                      .command_line = line_at.value(),
                      .command_line_bytes = command_line.size(),
                      .tsc_hz = 2'000'000'000,
                      .tsc_entry = 5,
                      .marked_page = 0,
                      .marked_value = 0};
  }

  testbed::test::Machine<Side> machine_;
  typename Side::Cpu cpu_{machine_.bed(), machine_.ghcbs()};
  std::vector<guest::MemoryRegion> regions_;
  Bytes accepted_before_;
};

using KernelMachine = BasicKernelMachine<Tdx>;

/// A counter that every look moves on by 20 microseconds.
struct FakeClock {
  std::uint64_t* now;
  std::uint64_t operator()() const { return *now += 20'000; }
};
using Hooks = KernelHooks<FakeClock, NoInterrupts>;

/// One kernel's memory, started or not.
template <class Policy, class Platform = guest::TdxPlatform>
struct OneKernel {
  using Memory = KernelMemory<Policy, Hooks, Platform>;

  OneKernel(KernelMachine& machine, Platform& platform)
      : memory{std::make_unique<Memory>(platform, hooks, machine.window())} {}
  explicit OneKernel(KernelMachine& machine) : OneKernel{machine, machine.platform()} {}

  /// Starts it, or ends the test.
  OneKernel& start(const BootInfo& boot) {
    if (const auto started = memory->start(boot); !started) {
      throw std::runtime_error{std::string{started.error().text().view()}};
    }
    return *this;
  }
  std::unique_ptr<WorkResult> work(const WorkRequest& request) {
    auto result = std::make_unique<WorkResult>();
    Workload workload{*memory, FakeClock{&now}};
    workload.run(request, *result);
    return result;
  }

  std::uint64_t now = 0;
  Hooks hooks{FakeClock{&now}};
  std::unique_ptr<Memory> memory;
};

/// How a run ended.
struct Ended {
  enum class How { kPanic, kJump, kPowerOff, kHang } how;
  std::string text{};
  std::optional<NextKernelEntry> next{};
};

/// A model of KernelServices. Every service that does not return throws Ended.
class FakeServices {
 public:
  void write_line(std::string_view line) {
    constexpr std::string_view kPrefix = "ACCEDE-GUEST ";
    EXPECT_TRUE(line.starts_with(kPrefix)) << line;
    lines.push_back(Json::parse(line.substr(kPrefix.size())));
    waits.push_back(false);
  }
  void wait_for_host() { waits.back() = true; }
  std::uint64_t ticks() { return now += 20'000; }
  std::uint64_t ns_of(std::uint64_t ticks) const { return ticks; }
  std::uint64_t now_ns() { return ticks(); }
  [[noreturn]] void panic(std::string_view text) {
    throw Ended{.how = Ended::How::kPanic, .text = std::string{text}};
  }
  void break_rule(FaultKind kind) { broken = kind; }
  void set_table(const guest::UnacceptedTable* where) { table = where; }
  void prepare_jump() { prepared = true; }
  [[noreturn]] void jump(const NextKernelEntry& next) {
    throw Ended{.how = Ended::How::kJump, .next = next};
  }
  [[noreturn]] void power_off() { throw Ended{.how = Ended::How::kPowerOff}; }
  [[noreturn]] void idle() { throw Ended{.how = Ended::How::kHang}; }

  [[nodiscard]] std::vector<std::string> steps() const {
    std::vector<std::string> found;
    for (const Json& line : lines) {
      found.push_back(line["step"]);
    }
    return found;
  }
  [[nodiscard]] const Json& line(std::string_view step) const {
    const auto found =
        std::ranges::find_if(lines, [&](const Json& line) { return line["step"] == step; });
    if (found == lines.end()) {
      throw std::runtime_error{"no line " + std::string{step}};
    }
    return *found;
  }

  std::vector<Json> lines;
  std::vector<bool> waits;
  std::uint64_t now = 0;
  std::optional<FaultKind> broken;
  const guest::UnacceptedTable* table = nullptr;
  bool prepared = false;
};
static_assert(KernelServices<FakeServices>);

/// Runs a kernel from its BootInfo to its end, as main.cpp does.
template <class Side, class Platform>
Ended run_kernel(BasicKernelMachine<Side>& machine, const BootInfo& boot, FakeServices& services,
                 Platform& platform) {
  const auto reader = BootReader::make(boot, machine.window());
  EXPECT_TRUE(reader.has_value());
  const Options options = parse_options(reader->command_line(), [](const OptionProblem&) {});
  const auto storage = std::make_unique<RunStorage>();
  try {
    run_as_asked<NoInterrupts>(boot, options, platform, services, *storage, machine.window());
  } catch (const Ended& ended) {
    return ended;
  }
  throw std::runtime_error{"the kernel returned"};
}
template <class Side>
Ended run_kernel(BasicKernelMachine<Side>& machine, const BootInfo& boot, FakeServices& services) {
  return run_kernel(machine, boot, services, machine.platform());
}

}  // namespace accede::efi::kernel::test
