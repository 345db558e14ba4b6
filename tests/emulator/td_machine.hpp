// A TD without a processor: everything that answers TDCALLs, on pretended memory.
#pragma once

#include "accede/emulator/tdx_module.hpp"
#include "accede/host/td_memory.hpp"
#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

namespace accede::test {

using namespace accede::emulator;

inline constexpr std::uint64_t k4K = 4096;
inline constexpr std::uint64_t k2M = 1ULL << 21;
inline constexpr std::uint64_t k1G = 1ULL << 30;
inline constexpr std::uint64_t kShared = NestedPageTable::kViewMask;

/// What a test may choose about the machine.
struct TdOptions {
  host::Backing backing = host::Backing::k2M;
  bool sept_ve_disable = true;
  AcceptCost cost{};
  std::uint64_t pool_pages = 1024;
};

/// RAM as on a real machine, small: 640 KiB and 1..66 MiB in use at launch, with the emulator's own
/// 16 MiB inside it, and 32 MiB from 4 GiB on that nobody accepted. The members are in the order
/// and with the arguments of the emulator's own construction.
class TdMachine {
 public:
  static constexpr std::uint64_t kHidden = 48ULL << 20;
  static constexpr std::uint64_t kHiddenEnd = 64ULL << 20;
  static constexpr std::uint64_t kLowEnd = 66ULL << 20;  ///< of RAM below 4 GiB
  static constexpr std::uint64_t kPending = 4 * k1G;
  static constexpr std::uint64_t kPendingEnd = kPending + (32ULL << 20);
  static constexpr std::uint64_t kRip = 0x123000;
  static constexpr std::uint64_t kTscHz = 2'500'000'000;

  explicit TdMachine(const TdOptions& options = {})
      : sept_{{.gpa_width = 48,
               .pending_ve_disable = options.sept_ve_disable,
               .page_release = false},
              sept_storage_.span()},
        memory_{sept_, attributes_, ram_ranges_, options.backing, Bytes{0}},
        pool_{ram_.window(), PhysAddr{kHidden}, PhysAddr{kHidden + options.pool_pages * k4K}},
        tables_{ram_.window(), pool_, pool_.allocate().value(), ViewBit::kShared},
        view_{ram_.window(), machine_, touched_, tables_, reporter_, options.cost},
        pages_{view_, memory_},
        guest_{ram_.window(), machine_, tables_},
        vmcalls_{machine_, pages_, reporter_},
        module_{
            {.sept_ve_disable = options.sept_ve_disable, .vcpus = 1, .tsc_hz = kTscHz, .xfam = 7},
            pages_,
            guest_,
            vmcalls_,
            reporter_} {
    EXPECT_EQ(sept_.finalize(), 0U);
    EXPECT_TRUE(pages_.adopt(range_of(0, 0xA0000)));
    EXPECT_TRUE(pages_.adopt(range_of(1 << 20, kHidden)));
    EXPECT_TRUE(pages_.adopt(range_of(kHiddenEnd, kLowEnd)));
    EXPECT_TRUE(view_.map_low_devices());
    vcpu_.vmcb = vmcb_.get();
    vcpu_.save().rip = kRip;
    vcpu_.save().efer = kEferLma;
    vcpu_.save().cs.attributes = 0x29B;
  }

  [[nodiscard]] GuestRam& ram() { return ram_; }
  [[nodiscard]] TdPages& pages() { return pages_; }
  [[nodiscard]] GuestView& view() { return view_; }
  [[nodiscard]] NestedPageTable& tables() { return tables_; }
  [[nodiscard]] PagePool& pool() { return pool_; }
  [[nodiscard]] host::TdMemory& memory() { return memory_; }
  [[nodiscard]] TdxModule& module() { return module_; }
  [[nodiscard]] VmcallHandler& vmcalls() { return vmcalls_; }
  [[nodiscard]] Reporter& reporter() { return reporter_; }
  [[nodiscard]] const Counters& counters() { return reporter_.counters(); }
  [[nodiscard]] Vcpu& vcpu() { return vcpu_; }
  [[nodiscard]] std::uint64_t& gpr(Register r) { return vcpu_.gpr[r]; }

  [[nodiscard]] std::uint64_t& word(std::uint64_t gpa) {
    return ram_.at<std::uint64_t>(PhysAddr{gpa});
  }
  [[nodiscard]] bool reachable(View view, std::uint64_t gpa) const {
    return tables_.mapped(view, PhysAddr{gpa}).has_value();
  }

  /// Executes TDCALL with `rax`; the fault that ended the TD, if one did.
  std::optional<Fault> tdcall(std::uint64_t rax) {
    vcpu_.gpr[kRax] = rax;
    const Verdict verdict = module_.tdcall(vcpu_);
    return verdict ? std::nullopt : std::optional{verdict.error()};
  }

  /// TDG.MEM.PAGE.ACCEPT: the status word; a test failure when the TD ends.
  std::uint64_t accept(std::uint64_t gpa, unsigned level) {
    vcpu_.gpr[kRcx] = gpa | level;
    const std::optional<Fault> fault = tdcall(6);
    EXPECT_FALSE(fault.has_value()) << fault.value_or(Fault{}).message;
    return vcpu_.gpr[kRax];
  }
  /// The fault with which TDG.MEM.PAGE.ACCEPT ends the TD.
  std::optional<Fault> accept_fault(std::uint64_t gpa, unsigned level) {
    vcpu_.gpr[kRcx] = gpa | level;
    return tdcall(6);
  }

  struct Answer {
    std::uint64_t r10;
    std::uint64_t r11;
  };
  Answer map_gpa(std::uint64_t gpa, std::uint64_t bytes) {
    const auto conversion = pages_.convert(vcpu_, gpa, bytes);
    EXPECT_TRUE(conversion.has_value());
    return conversion ? Answer{conversion->r10, conversion->r11} : Answer{~0ULL, ~0ULL};
  }

 private:
  /// 4 KiB aligned storage for secure EPT tables.
  class Storage {
   public:
    [[nodiscard]] std::span<std::byte> span() const { return {bytes_.get(), kBytes}; }

   private:
    static constexpr std::size_t kBytes = 4 << 20;
    struct Free {
      void operator()(void* memory) const { std::free(memory); }
    };
    std::unique_ptr<std::byte, Free> bytes_{
        static_cast<std::byte*>(std::aligned_alloc(4096, kBytes))};
  };

  static constexpr PhysRange described() {
    return *PhysRange::make(PhysAddr{}, PhysAddr{kPendingEnd});
  }

  GuestRam ram_{Bytes{kPendingEnd}};
  std::vector<std::uint64_t> report_storage_ =
      std::vector<std::uint64_t>(Reporter::area_bytes(4096) / 8 + 1);
  Reporter reporter_{std::as_writable_bytes(std::span{report_storage_}), true};
  std::array<PhysRange, 4> ram_ranges_{range_of(0, 0xA0000), range_of(1 << 20, kHidden),
                                       range_of(kHiddenEnd, kLowEnd),
                                       range_of(kPending, kPendingEnd)};
  MachineMap machine_{ram_ranges_, range_of(kHidden, kHiddenEnd)};
  std::vector<std::uint64_t> attribute_storage_ =
      std::vector<std::uint64_t>(host::PageAttributes::storage_bound(described()).value() / 8 + 1);
  host::PageAttributes attributes_{described(),
                                   std::as_writable_bytes(std::span{attribute_storage_})};
  std::vector<std::uint64_t> touched_storage_ =
      std::vector<std::uint64_t>(TouchedPages::storage_bound(PhysAddr{kPendingEnd}).value() / 8);
  TouchedPages touched_{touched_storage_};
  Storage sept_storage_;
  host::SecureEpt sept_;
  host::TdMemory memory_;
  PagePool pool_;
  NestedPageTable tables_;
  GuestView view_;
  TdPages pages_;
  GuestMemory guest_;
  VmcallHandler vmcalls_;
  TdxModule module_;
  std::unique_ptr<Vmcb> vmcb_ = std::make_unique<Vmcb>();
  Vcpu vcpu_{};
};

}  // namespace accede::test
