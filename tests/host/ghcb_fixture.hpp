// A guest's GHCB page and a machine that writes down what it is asked for.
#pragma once

#include "accede/host/ghcb.hpp"
#include "accede/host/ghcb_recorder.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace accede::host::test {

using abi::ghcb::ExitCode;
using abi::ghcb::GhcbPage;
using abi::ghcb::MalformedReason;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;
using abi::ghcb::PscResult;
using abi::ghcb::ValidBit;

inline constexpr std::uint64_t kGhcb = 0x80'9000;
inline constexpr std::uint64_t kScratch = kGhcb + 0x800;

template <class... Parts>
std::string text(Parts... parts) {
  std::ostringstream out;
  out << std::hex;
  (out << ... << parts);
  return out.str();
}

/// Does what it is told, tells what it did. Pages that are not in `pages` cannot be mapped.
struct FakeHost {
  std::vector<std::string> log;
  std::vector<GhcbMistake> mistakes;
  std::map<std::uint64_t, GhcbPage*> pages;
  std::function<GhcbPageStateAnswer(const GhcbPageState&)> on_page_state;
  std::function<void()> on_call;  ///< the guest on another CPU
  std::map<std::uint32_t, std::uint64_t> msrs{{0x10, 0x1122'3344'5566'7788}};
  std::optional<GhcbGuestAnswer> guest_answer = GhcbGuestAnswer{};
  std::set<std::uint32_t> vcpus{0, 1};
  std::vector<std::uint32_t> port_input;
  std::uint64_t table = 0;
  bool accepts_ghcb = true;
  bool creates_aps = true;

  void add(std::string line) {
    log.push_back(std::move(line));
    if (on_call) {
      on_call();
    }
  }

  void report(const GhcbMistake& mistake) { mistakes.push_back(mistake); }
  GhcbPage* map_ghcb(PhysAddr gpa) {
    EXPECT_TRUE(gpa != PhysAddr{} && gpa.is_aligned(4_KiB)) << gpa.value();
    const auto found = pages.find(gpa.value());
    return found == pages.end() ? nullptr : found->second;
  }
  bool may_register(PhysAddr gpa) {
    add(text("register ", gpa.value()));
    return accepts_ghcb;
  }
  GhcbCpuidResult cpuid(const GhcbCpuidQuery& query) {
    add(text("cpuid ", query.leaf, " ", query.subleaf, " xcr0 ",
             query.xcr0 ? text(*query.xcr0) : "-", " xss ", query.xss ? text(*query.xss) : "-"));
    return {.eax = 0xA0, .ebx = 0xB0, .ecx = 0xC0, .edx = 0xD0};
  }
  GhcbPageStateAnswer change_page_state(const GhcbPageState& change) {
    add(text(name_of(change.op), change.size == PageSize::k2M ? " 2M " : " 4K ",
             change.range.begin().value(), "-", change.range.end().value()));
    return on_page_state ? on_page_state(change) : GhcbPageStateAnswer::all();
  }
  std::uint32_t read_port(GhcbPort port) {
    add(text("in ", port.port, "/", int{port.size}));
    if (port_input.empty()) {
      return 0x8899'AABB;
    }
    const std::uint32_t value = port_input.front();
    port_input.erase(port_input.begin());
    return value;
  }
  void write_port(GhcbPort port, std::uint32_t value) {
    add(text("out ", port.port, "/", int{port.size}, " ", value));
  }
  std::optional<std::uint64_t> read_msr(std::uint32_t index) {
    add(text("rdmsr ", index));
    const auto found = msrs.find(index);
    return found == msrs.end() ? std::nullopt : std::optional{found->second};
  }
  bool write_msr(std::uint32_t index, std::uint64_t value) {
    add(text("wrmsr ", index, " ", value));
    return msrs.contains(index);
  }
  void read_mmio(PhysAddr gpa, std::span<std::uint8_t> to) {
    add(text("mmio ", gpa.value(), "/", to.size()));
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] = static_cast<std::uint8_t>(0xE0 + i);
    }
  }
  void write_mmio(PhysAddr gpa, std::span<const std::uint8_t> from) {
    std::string line = text("mmio ", gpa.value(), "/", from.size(), " <-");
    for (const std::uint8_t byte : from) {
      line += text(" ", int{byte});
    }
    add(line);
  }
  GhcbTsc read_tsc() {
    add("tsc");
    return {.tsc = 0x0102'0304'0506'0708, .aux = 9};
  }
  std::optional<std::uint64_t> read_pmc(std::uint32_t index) {
    add(text("pmc ", index));
    return index == 0 ? std::optional<std::uint64_t>{0x1'0000'0002} : std::nullopt;
  }
  std::uint64_t read_dr7() {
    add("dr7");
    return 0x400;
  }
  void write_dr7(std::uint64_t value) { add(text("dr7 <- ", value)); }
  void execute(GhcbInstruction instruction) {
    add(text("execute ", static_cast<int>(instruction)));
  }
  std::uint64_t vmmcall(const GhcbVmmcall& call) {
    add(text("vmmcall ", call.rax, " ", call.rbx, " ", call.rcx, " ", call.rdx, " ", call.rsi));
    return 0x77;
  }
  void nmi_complete() { add("nmi complete"); }
  std::optional<GhcbGuestAnswer> guest_request(const GhcbGuestRequest& request) {
    add(text("guest request ", request.request.value(), " ", request.response.value(),
             request.extended ? " extended" : "",
             request.certificates
                 ? text(" ", request.certificates->data.value(), " ", request.certificates->pages)
                 : ""));
    return guest_answer;
  }
  bool has_vcpu(std::uint32_t apic_id) { return vcpus.contains(apic_id); }
  bool create_ap(const GhcbApCreation& ap) {
    add(text("ap ", ap.apic_id, " ", static_cast<int>(ap.request), " ", ap.vmsa.value(), " ",
             ap.sev_features));
    return creates_aps;
  }
  PhysAddr jump_table() { return PhysAddr{table}; }
  void set_jump_table(PhysAddr gpa) { table = gpa.value(); }
};
static_assert(GhcbHost<FakeHost>);

/// A guest with one registered GHCB page at kGhcb, and its host.
class GhcbVm {
 public:
  explicit GhcbVm(const GhcbConfig& config = {}) : ghcb{host, config} {
    host.pages[kGhcb] = page_.get();
    if (config.is_snp) {
      EXPECT_EQ(ghcb.exit(kGhcb | 0x012).msr, kGhcb | 0x013);
    }
    host.log.clear();
  }

  /// A new request in the page, with nothing else valid.
  GhcbVm& ask(ExitCode code, std::uint64_t info1 = 0, std::uint64_t info2 = 0) {
    page().valid_bitmap = {};
    page().usage = 0;
    page().sw_exit_code = static_cast<std::uint64_t>(code);
    page().sw_exit_info_1 = info1;
    page().sw_exit_info_2 = info2;
    return mark(ValidBit::kSwExitCode).mark(ValidBit::kSwExitInfo1).mark(ValidBit::kSwExitInfo2);
  }
  GhcbVm& mark(ValidBit bit, bool valid = true) {
    const auto index = static_cast<unsigned>(bit);
    const std::uint64_t mask = 1ULL << (index % 64);
    auto& word = page().valid_bitmap[index / 64];
    word = valid ? word | mask : word & ~mask;
    return *this;
  }
  GhcbVm& with(ValidBit bit, std::uint64_t value) {
    auto* const bytes = reinterpret_cast<std::byte*>(&page());
    if (bit == ValidBit::kCpl) {
      page().cpl = static_cast<std::uint8_t>(value);
    } else {
      std::memcpy(bytes + 8 * static_cast<unsigned>(bit), &value, sizeof(value));
    }
    return mark(bit);
  }
  [[nodiscard]] bool is_valid(ValidBit bit) {
    const auto index = static_cast<unsigned>(bit);
    return (page().valid_bitmap[index / 64] >> (index % 64) & 1) != 0;
  }
  GhcbOutcome exit() {
    host.log.clear();
    host.mistakes.clear();
    return ghcb.exit(kGhcb);
  }
  /// sw_exit_info_1 and _2 behind the exit.
  std::pair<std::uint64_t, std::uint64_t> answer() {
    EXPECT_EQ(exit(), (GhcbOutcome{.next = GhcbNext::kResume, .msr = kGhcb}));
    EXPECT_EQ(page().valid_bitmap, kOutputs);
    return {page().sw_exit_info_1, page().sw_exit_info_2};
  }
  static std::pair<std::uint64_t, std::uint64_t> malformed(MalformedReason reason) {
    return {2, static_cast<std::uint64_t>(reason)};
  }
  [[nodiscard]] GhcbPage& page() { return *page_; }

  static constexpr std::pair<std::uint64_t, std::uint64_t> kOk{0, 0};
  static constexpr auto kOutputs =
      abi::ghcb::valid_bits(ValidBit::kRax, ValidBit::kRbx, ValidBit::kRcx, ValidBit::kRdx,
                            ValidBit::kSwExitInfo1, ValidBit::kSwExitInfo2);

  FakeHost host;
  Ghcb<FakeHost> ghcb;

 private:
  std::unique_ptr<GhcbPage> page_ = std::make_unique<GhcbPage>();
};

}  // namespace accede::host::test
