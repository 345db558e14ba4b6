// A host that answers a GHCB anything.
#pragma once

#include "accede/host/ghcb.hpp"
#include "tests/host/ghcb_naive_list.hpp"
#include "tests/host/sept_actions.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace accede::host::test {

/// A machine with one GHCB page. Its answers, and what the guest on another CPU writes into the
/// page during a call, come from the bytes of the test case.
class AnyHost {
 public:
  static constexpr std::uint64_t kGhcb = 0x80'9000;

  /// The next exit takes its answers from `bytes`.
  void begin(ByteSource& bytes) {
    bytes_ = &bytes;
    problem.clear();
    calls.clear();
    rewritten = false;
    steps = 0;
  }
  void wrong(const std::string& what) { problem = problem.empty() ? what : problem; }
  void scribble() {
    auto* const raw = reinterpret_cast<std::uint8_t*>(page.get());
    const std::size_t at = bytes_->below(4096);
    for (std::size_t i = at; i < std::min<std::size_t>(at + 16, 4096); ++i) {
      raw[i] = bytes_->next();
    }
  }

  void report(const GhcbMistake& mistake) {
    ++steps;
    if (name(mistake.kind) == "unknown" || name(mistake.field) == "unknown") {
      wrong("a mistake without a name");
    }
  }
  abi::ghcb::GhcbPage* map_ghcb(PhysAddr gpa) {
    const bool sound = gpa != PhysAddr{} && gpa.is_aligned(4_KiB) && gpa < PhysAddr{1ULL << 51};
    if (!sound) {
      wrong("an address that cannot be mapped");
    }
    return gpa == PhysAddr{kGhcb} ? page.get() : nullptr;
  }
  bool may_register(PhysAddr) { return answer() % 8 != 0; }
  GhcbCpuidResult cpuid(const GhcbCpuidQuery&) { return {.eax = answer(), .ebx = answer()}; }
  GhcbPageStateAnswer change_page_state(const GhcbPageState& change) {
    using abi::ghcb::PageOp;
    if (change.range.empty() || !change.range.begin().is_aligned(4_KiB) ||
        !change.range.end().is_aligned(4_KiB) || change.range.end() > PhysAddr{1ULL << 52} ||
        (change.op != PageOp::kPrivate && change.op != PageOp::kShared)) {
      wrong("an unsound change");
    }
    GhcbPageStateAnswer result = GhcbPageStateAnswer::all();
    if (const std::uint32_t how = answer() % 8; how < 2) {
      result = {.done = PageCount{answer() % 1100}, .refused = how == 0};
    }
    calls.push_back({change, result});
    return result;
  }
  std::uint32_t read_port(GhcbPort port) {
    check_size(port.size);
    return answer();
  }
  void write_port(GhcbPort port, std::uint32_t value) {
    check_size(port.size);
    if (port.size < 4 && value >> (8 * port.size) != 0) {
      wrong("a value wider than the port");
    }
    static_cast<void>(answer());
  }
  std::optional<std::uint64_t> read_msr(std::uint32_t) { return maybe(); }
  bool write_msr(std::uint32_t, std::uint64_t) { return answer() % 2 != 0; }
  void read_mmio(PhysAddr, std::span<std::uint8_t> to) {
    check_mmio(to.size());
    std::ranges::fill(to, static_cast<std::uint8_t>(answer()));
  }
  void write_mmio(PhysAddr, std::span<const std::uint8_t> from) {
    check_mmio(from.size());
    static_cast<void>(answer());
  }
  GhcbTsc read_tsc() { return {.tsc = answer(), .aux = answer()}; }
  std::optional<std::uint64_t> read_pmc(std::uint32_t) { return maybe(); }
  std::uint64_t read_dr7() { return answer(); }
  void write_dr7(std::uint64_t) { static_cast<void>(answer()); }
  void execute(GhcbInstruction) { static_cast<void>(answer()); }
  std::uint64_t vmmcall(const GhcbVmmcall&) { return answer(); }
  void nmi_complete() { static_cast<void>(answer()); }
  std::optional<GhcbGuestAnswer> guest_request(const GhcbGuestRequest&) {
    return answer() % 2 == 0 ? std::nullopt
                             : std::optional{GhcbGuestAnswer{answer(), answer(), answer()}};
  }
  bool has_vcpu(std::uint32_t) { return answer() % 4 != 0; }
  bool create_ap(const GhcbApCreation& ap) {
    const bool destroys = ap.request == abi::ghcb::ApCreationRequest::kDestroy;
    if (!destroys && (!ap.vmsa.is_aligned(4_KiB) || ap.vmsa.is_aligned(2_MiB))) {
      wrong("an unsound VMSA");
    }
    return answer() % 2 != 0;
  }
  PhysAddr jump_table() { return PhysAddr{answer()}; }
  void set_jump_table(PhysAddr) { static_cast<void>(answer()); }

  std::unique_ptr<abi::ghcb::GhcbPage> page = std::make_unique<abi::ghcb::GhcbPage>();
  std::string problem;               ///< the first thing that was wrong with this exit
  std::vector<PageStateCall> calls;  ///< of this exit
  bool rewritten = false;            ///< the guest wrote during this exit
  unsigned steps = 0;

 private:
  void check_size(unsigned size) {
    if (size != 1 && size != 2 && size != 4) {
      wrong("a port access of another size");
    }
  }
  void check_mmio(std::size_t size) {
    if (size == 0 || size > 8) {
      wrong("an MMIO access of another size");
    }
  }

  /// Any answer; meanwhile the guest may write its page.
  std::uint32_t answer() {
    ++steps;
    if (bytes_->below(16) == 1) {
      rewritten = true;
      scribble();
    }
    return bytes_->below(65536);
  }
  std::optional<std::uint64_t> maybe() {
    return answer() % 2 == 0 ? std::nullopt : std::optional<std::uint64_t>{answer()};
  }

  ByteSource* bytes_ = nullptr;
};
static_assert(GhcbHost<AnyHost>);

}  // namespace accede::host::test
