// An SNP guest without a processor: everything that answers its instructions, on pretended memory.
#pragma once

#include "accede/emulator/snp_processor.hpp"
#include "accede/host/snp_memory.hpp"
#include "tests/emulator/guest_ram.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

namespace accede::test {

using namespace accede::emulator;

inline constexpr std::uint64_t k4K = 4096;
inline constexpr std::uint64_t k2M = 1ULL << 21;
inline constexpr std::uint64_t k1G = 1ULL << 30;
inline constexpr std::uint64_t kCBit = NestedPageTable::kViewMask;

/// What a test may choose about the machine.
struct SnpOptions {
  host::Backing backing = host::Backing::k2M;
  bool stop_on_unaccepted = true;
  AcceptCost cost{};
  std::uint64_t pool_pages = 1024;
};

/// An instruction as the guest's code has it.
using Code = std::array<std::uint8_t, 4>;
inline constexpr Code kPvalidate{0xF2, 0x0F, 0x01, 0xFF};
inline constexpr Code kRmpAdjust{0xF3, 0x0F, 0x01, 0xFE};
inline constexpr Code kRmpQuery{0xF3, 0x0F, 0x01, 0xFD};
inline constexpr Code kVmgexit{0xF3, 0x0F, 0x01, 0xD9};

/// RAM as on a real machine, small: 640 KiB and 1..66 MiB validated at launch, with the emulator's
/// own 16 MiB inside it, and 32 MiB from 4 GiB on that nobody validated. The members are in the
/// order and with the arguments of the emulator's own construction.
///
/// The guest's page tables are those that a firmware is left with at the take-over: an identity map
/// with the C-bit in its leaves and without it in the entries that refer to tables. `window(i)` are
/// pages whose leaves a test writes itself.
class SnpMachine {
 public:
  static constexpr std::uint64_t kHidden = 48ULL << 20;
  static constexpr std::uint64_t kHiddenEnd = 64ULL << 20;
  static constexpr std::uint64_t kLowEnd = 66ULL << 20;  ///< of RAM below 4 GiB
  static constexpr std::uint64_t kPending = 4 * k1G;
  static constexpr std::uint64_t kPendingEnd = kPending + (32ULL << 20);
  static constexpr std::uint64_t kRip = 0x123000;
  static constexpr std::uint64_t kTables = 2ULL << 20;  ///< five pages of page tables
  static constexpr std::uint64_t kPresent = 0x3;

  explicit SnpMachine(const SnpOptions& options = {})
      : memory_{rmp_, attributes_, ram_ranges_, {.asid = 1, .backing = options.backing}},
        pool_{ram_.window(), PhysAddr{kHidden}, PhysAddr{kHidden + options.pool_pages * k4K}},
        tables_{ram_.window(), pool_, pool_.allocate().value(), ViewBit::kPrivate},
        view_{ram_.window(), machine_, touched_, tables_, reporter_, options.cost},
        pages_{{.stop_on_unaccepted = options.stop_on_unaccepted}, view_, memory_} {
    EXPECT_TRUE(pages_.adopt(range_of(0, 0xA0000)));
    EXPECT_TRUE(pages_.adopt(range_of(1 << 20, kHidden)));
    EXPECT_TRUE(pages_.adopt(range_of(kHiddenEnd, kLowEnd)));
    EXPECT_TRUE(view_.map_low_devices());
    vcpu_.vmcb = vmcb_.get();
    vcpu_.save().rip = kRip;
    vcpu_.save().efer = kEferLma;
    vcpu_.save().cs.attributes = 0x29B;
    vcpu_.save().cr0 = 1U << 31;
    vcpu_.save().cr4 = 1U << 5;  // PAE
    vcpu_.save().cr3 = kTables;
    build_tables();
  }

  [[nodiscard]] SnpPages& pages() { return pages_; }
  [[nodiscard]] SnpProcessor& processor() { return processor_; }
  [[nodiscard]] GuestView& view() { return view_; }
  [[nodiscard]] NestedPageTable& tables() { return tables_; }
  [[nodiscard]] host::SnpMemory& memory() { return memory_; }
  [[nodiscard]] host::Rmp& rmp() { return rmp_; }
  [[nodiscard]] Reporter& reporter() { return reporter_; }
  [[nodiscard]] const Counters& counters() { return reporter_.counters(); }
  [[nodiscard]] Vcpu& vcpu() { return vcpu_; }
  [[nodiscard]] std::uint64_t& gpr(Register r) { return vcpu_.gpr[r]; }
  /// The event that the guest meets when it goes on; 0: none.
  [[nodiscard]] std::uint64_t& event() { return vmcb_->control.event_injection; }

  [[nodiscard]] std::uint64_t& word(std::uint64_t gpa) {
    return ram_.at<std::uint64_t>(PhysAddr{gpa});
  }
  [[nodiscard]] abi::ghcb::GhcbPage& ghcb(std::uint64_t gpa) {
    return ram_.at<abi::ghcb::GhcbPage>(PhysAddr{gpa});
  }
  [[nodiscard]] bool reachable(View view, std::uint64_t gpa) const {
    return tables_.mapped(view, PhysAddr{gpa}).has_value();
  }
  [[nodiscard]] abi::rmp::RmpState state(std::uint64_t gpa) const {
    return abi::rmp::state_of(memory_.entry(PhysAddr{gpa}));
  }
  [[nodiscard]] bool is_shared(std::uint64_t gpa) const {
    return memory_.attribute(PhysAddr{gpa}) == host::PageAttribute::kShared;
  }
  /// The first violation of a kind, or null.
  [[nodiscard]] const Violation* violation(EventKind kind) {
    const ReportHeader& header = reporter_.header();
    for (std::uint64_t i = 0; i < header.violation_slots; ++i) {
      if (header.violations[i].kind == kind) {
        return &header.violations[i];
      }
    }
    return nullptr;
  }

  /// The linear address of the page number `i` of the window, and its leaf.
  [[nodiscard]] static constexpr std::uint64_t window(std::uint64_t i) { return k512G + i * k4K; }
  [[nodiscard]] std::uint64_t& leaf(std::uint64_t i) { return word(kTables + 0x4000 + i * 8); }

  /// A guest access that the nested tables do not allow, at a guest physical address with or
  /// without the C-bit; the fault that ended the guest, if one did.
  std::optional<Fault> touch(std::uint64_t gpa, std::uint64_t error = 0) {
    return fault_of(processor_.touch(vcpu_, gpa, error));
  }

  /// Executes an instruction that raised #UD at kRip.
  std::optional<Fault> execute(const Code& code) {
    put(code);
    return fault_of(processor_.invalid_opcode(vcpu_));
  }
  /// PVALIDATE of linear address `linear`; the fault that ended the guest, if one did.
  std::optional<Fault> try_pvalidate(std::uint64_t linear, std::uint64_t rcx, std::uint64_t rdx) {
    gpr(kRax) = linear;
    gpr(kRcx) = rcx;
    gpr(kRdx) = rdx;
    return execute(kPvalidate);
  }

  struct Result {
    std::uint64_t rax;
    bool carry;

    friend bool operator==(const Result&, const Result&) = default;
  };
  /// PVALIDATE through the identity map; a test failure when it does not complete.
  Result pvalidate(std::uint64_t gpa, std::uint64_t rcx, bool validate = true) {
    const std::optional<Fault> fault = try_pvalidate(gpa, rcx, validate ? 1 : 0);
    EXPECT_FALSE(fault.has_value()) << fault.value_or(Fault{}).message;
    EXPECT_EQ(event(), 0U);
    EXPECT_EQ(vcpu_.save().rip, kRip + 4);
    return {gpr(kRax), (vcpu_.save().rflags & 1) != 0};
  }

  /// Writes the GHCB MSR and executes VMGEXIT; the fault that ended the guest, if one did.
  std::optional<Fault> try_vmgexit(std::uint64_t msr) {
    gpr(kRcx) = abi::ghcb::kMsrGhcb;
    gpr(kRax) = msr & 0xFFFF'FFFF;
    gpr(kRdx) = msr >> 32;
    EXPECT_TRUE(processor_.msr(vcpu_, abi::ghcb::kMsrGhcb, true));
    put(kVmgexit);
    const auto answered = processor_.vmmcall(vcpu_);
    EXPECT_TRUE(!answered.has_value() || *answered) << "not taken for VMGEXIT";
    return answered ? std::nullopt : std::optional{answered.error()};
  }
  /// The same; the value of the MSR afterwards.
  std::uint64_t vmgexit(std::uint64_t msr) {
    const std::optional<Fault> fault = try_vmgexit(msr);
    EXPECT_FALSE(fault.has_value()) << fault.value_or(Fault{}).message;
    return read_msr(abi::ghcb::kMsrGhcb);
  }
  /// RDMSR; a test failure when there is no such register.
  std::uint64_t read_msr(std::uint32_t index) {
    gpr(kRax) = ~0ULL;
    gpr(kRdx) = ~0ULL;
    EXPECT_TRUE(processor_.msr(vcpu_, index, false));
    return gpr(kRdx) << 32 | gpr(kRax);
  }

  /// A page state change by MSR; a test failure when it is refused.
  void change_state(std::uint64_t gpa, abi::ghcb::PageOp op) {
    EXPECT_EQ(vmgexit(abi::ghcb::page_state_request(PhysAddr{gpa}, op)), 0x15U);
  }
  /// Makes the page at `gpa` this guest's GHCB.
  void make_ghcb(std::uint64_t gpa) {
    change_state(gpa, abi::ghcb::PageOp::kShared);
    EXPECT_EQ(vmgexit(abi::ghcb::register_ghcb_request(PhysAddr{gpa})),
              abi::ghcb::register_ghcb_response(PhysAddr{gpa}));
  }

 private:
  static constexpr std::uint64_t k512G = 1ULL << 39;

  static constexpr PhysRange described() {
    return *PhysRange::make(PhysAddr{}, PhysAddr{kPendingEnd});
  }
  static std::optional<Fault> fault_of(const Verdict& verdict) {
    return verdict ? std::nullopt : std::optional{verdict.error()};
  }

  void build_tables() {
    constexpr std::uint64_t kLarge = 0x80;
    word(kTables) = (kTables + 0x1000) | kPresent;
    for (std::uint64_t i = 0; i < 5; ++i) {
      word(kTables + 0x1000 + i * 8) = i * k1G | kCBit | kPresent | kLarge;
    }
    word(kTables + 8) = (kTables + 0x2000) | kPresent;
    word(kTables + 0x2000) = (kTables + 0x3000) | kPresent;
    word(kTables + 0x3000) = (kTables + 0x4000) | kPresent;
  }
  /// Puts the code where the guest is about to execute.
  void put(const Code& code) {
    vcpu_.save().rip = kRip;
    event() = 0;
    std::copy(code.begin(), code.end(), &ram_.at<std::uint8_t>(PhysAddr{kRip}));
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
  std::vector<host::RmpEntry> rmp_storage_ = std::vector<host::RmpEntry>(
      host::Rmp::storage_bound(described()).value() / sizeof(host::RmpEntry));
  host::Rmp rmp_{described(), std::as_writable_bytes(std::span{rmp_storage_})};
  host::SnpMemory memory_;
  PagePool pool_;
  NestedPageTable tables_;
  GuestView view_;
  SnpPages pages_;
  GuestMemory guest_{ram_.window(), machine_, tables_};
  std::unique_ptr<Vmcb> vmcb_ = std::make_unique<Vmcb>();
  Vcpu vcpu_{};
  SnpVcpu own_{vcpu_, DeviceAccess{machine_, ram_.window()}, pages_, reporter_};
  std::array<SnpVcpu*, 1> by_index_{&own_};
  SnpProcessor processor_{pages_, guest_, by_index_};
};

}  // namespace accede::test
