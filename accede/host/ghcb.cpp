#include "accede/host/ghcb.hpp"

#include "accede/host/ghcb_recorder.hpp"

namespace accede::host {

using namespace std::string_view_literals;

std::string_view name(GhcbMistakeKind kind) {
  constexpr std::array kNames{
      "no GHCB"sv,
      "GHCB not mappable"sv,
      "GHCB not registered"sv,
      "bad GHCB registration"sv,
      "unknown MSR code"sv,
      "request for SNP guests only"sv,
      "bad GHCB usage"sv,
      "missing input"sv,
      "bad pages of a guest request"sv,
      "unknown exit code"sv,
      "bad scratch area"sv,
      "invalid input"sv,
      "string I/O too long"sv,
      "unsupported event in the guest"sv,
      "bad header of a page state list"sv,
      "bad entry of a page state list"sv,
      "unknown operation in a page state list"sv,
      "unknown page operation"sv,
  };
  static_assert(kNames.size() == kGhcbMistakeKinds);
  const auto index = static_cast<std::size_t>(kind);
  return index < kNames.size() ? kNames[index] : "unknown"sv;
}

std::string_view name(GhcbField field) {
  constexpr std::array kNames{
      "GHCB MSR"sv,
      "usage"sv,
      "sw_exit_code"sv,
      "sw_exit_info_1"sv,
      "sw_exit_info_2"sv,
      "sw_scratch"sv,
      "RAX"sv,
      "RBX"sv,
      "RCX"sv,
      "RDX"sv,
      "CPL"sv,
      "XCR0"sv,
      "list header"sv,
      "list entry"sv,
  };
  static_assert(kNames.size() == kGhcbFields);
  const auto index = static_cast<std::size_t>(field);
  return index < kNames.size() ? kNames[index] : "unknown"sv;
}

std::string_view name(GhcbNext next) {
  switch (next) {
    case GhcbNext::kResume:
      return "resume"sv;
    case GhcbNext::kHold:
      return "hold until started"sv;
    case GhcbNext::kTerminate:
      return "terminate"sv;
    case GhcbNext::kStop:
      return "stop"sv;
  }
  return "unknown"sv;
}

namespace {

/// The seam at its smallest, so that the protocol is compiled with the library whoever uses it.
struct NullHost {
  GhcbRecorder mistakes;

  void report(const GhcbMistake& mistake) { mistakes.add(mistake); }
  abi::ghcb::GhcbPage* map_ghcb(PhysAddr) { return nullptr; }
  bool may_register(PhysAddr) { return false; }
  GhcbCpuidResult cpuid(const GhcbCpuidQuery&) { return {}; }
  GhcbPageStateAnswer change_page_state(const GhcbPageState&) { return {.refused = true}; }
  std::uint32_t read_port(GhcbPort) { return ~0U; }
  void write_port(GhcbPort, std::uint32_t) {}
  std::optional<std::uint64_t> read_msr(std::uint32_t) { return std::nullopt; }
  bool write_msr(std::uint32_t, std::uint64_t) { return false; }
  void read_mmio(PhysAddr, std::span<std::uint8_t> to) { std::ranges::fill(to, 0xFF); }
  void write_mmio(PhysAddr, std::span<const std::uint8_t>) {}
  GhcbTsc read_tsc() { return {}; }
  std::optional<std::uint64_t> read_pmc(std::uint32_t) { return std::nullopt; }
  std::uint64_t read_dr7() { return 0; }
  void write_dr7(std::uint64_t) {}
  void execute(GhcbInstruction) {}
  std::uint64_t vmmcall(const GhcbVmmcall&) { return 0; }
  void nmi_complete() {}
  std::optional<GhcbGuestAnswer> guest_request(const GhcbGuestRequest&) { return std::nullopt; }
  bool has_vcpu(std::uint32_t) { return false; }
  bool create_ap(const GhcbApCreation&) { return false; }
  PhysAddr jump_table() { return {}; }
  void set_jump_table(PhysAddr) {}
};
static_assert(GhcbHost<NullHost>);

}  // namespace

template class Ghcb<NullHost>;

}  // namespace accede::host
