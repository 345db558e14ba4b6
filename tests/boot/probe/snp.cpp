#include "tests/boot/probe/snp.hpp"

namespace probe {
namespace {

using ghcb::ValidBit;

PhysAddr g_page;  // 0: there is none yet

constexpr std::size_t offset_of(ValidBit bit) {
  return static_cast<std::size_t>(bit) * 8;
}
constexpr std::size_t kValidBitmap = offsetof(ghcb::GhcbPage, valid_bitmap);

}  // namespace

PhysAddr take_validated_unit(Probe& probe) {
  const PhysAddr unit = probe.take_unit();
  probe.expect("PVALIDATE of a fresh unit", validate(unit, PageSize::k2M), 0);
  return unit;
}

Ghcb::Ghcb(Probe& probe) : probe_{probe} {
  if (g_page == PhysAddr{}) {
    g_page = probe.take_unit() + 4_KiB;
    probe.expect("the GHCB page becomes shared", change_page(g_page, ghcb::PageOp::kShared),
                 kPageStateDone);
  }
  gpa_ = g_page;
  probe.expect("the GHCB page is registered", vmgexit(ghcb::register_ghcb_request(gpa_)),
               ghcb::register_ghcb_response(gpa_));
}

void Ghcb::write(const GhcbRequest& request) const {
  std::array<std::uint64_t, 2> valid{};
  const auto field = [&](ValidBit bit, std::optional<std::uint64_t> value) {
    const auto index = static_cast<unsigned>(bit);
    if (value) {
      put(offset_of(bit), *value);
      valid[index / 64] |= 1ULL << (index % 64);
    }
  };
  field(ValidBit::kSwExitCode, request.code);
  field(ValidBit::kSwExitInfo1, request.info1);
  field(ValidBit::kSwExitInfo2, request.info2);
  field(ValidBit::kRax, request.rax);
  field(ValidBit::kRbx, request.rbx);
  field(ValidBit::kRcx, request.rcx);
  field(ValidBit::kRdx, request.rdx);
  field(ValidBit::kSwScratch, request.scratch);
  field(ValidBit::kXcr0, request.xcr0);
  // One byte, the last of its word.
  field(ValidBit::kCpl, request.cpl ? std::optional{*request.cpl << 24} : std::nullopt);
  put(kValidBitmap, valid[0]);
  put(kValidBitmap + 8, valid[1]);
  constexpr std::uint16_t kVersion = 2;
  store<std::uint16_t>(at_shared(gpa_ + Bytes{offsetof(ghcb::GhcbPage, protocol_version)}),
                       kVersion);
  store<std::uint32_t>(at_shared(gpa_ + Bytes{offsetof(ghcb::GhcbPage, usage)}), request.usage);
}

GhcbAnswer Ghcb::call(const GhcbRequest& request) const {
  write(request);
  probe_.expect("the GHCB MSR keeps the page", vmgexit(gpa_.value()), gpa_.value());
  constexpr auto kGiven =
      ghcb::valid_bits(ValidBit::kRax, ValidBit::kRbx, ValidBit::kRcx, ValidBit::kRdx,
                       ValidBit::kSwExitInfo1, ValidBit::kSwExitInfo2);
  probe_.expect("fields that are valid", get(kValidBitmap), kGiven[0]);
  probe_.expect("fields that are valid", get(kValidBitmap + 8), kGiven[1]);
  return {.info1 = get(offset_of(ValidBit::kSwExitInfo1)),
          .info2 = get(offset_of(ValidBit::kSwExitInfo2)),
          .rax = get(offset_of(ValidBit::kRax)),
          .rbx = get(offset_of(ValidBit::kRbx)),
          .rcx = get(offset_of(ValidBit::kRcx)),
          .rdx = get(offset_of(ValidBit::kRdx))};
}

void Ghcb::refused(std::string_view what, const GhcbRequest& request,
                   ghcb::MalformedReason reason) const {
  const GhcbAnswer answer = call(request);
  probe_.expect(what, answer.info1, static_cast<std::uint64_t>(ghcb::ExitResult::kMalformed));
  probe_.expect(what, answer.info2, static_cast<std::uint64_t>(reason));
}

void Ghcb::raises_gp(std::string_view what, const GhcbRequest& request) const {
  const GhcbAnswer answer = call(request);
  probe_.expect(what, answer.info1, static_cast<std::uint64_t>(ghcb::ExitResult::kException));
  probe_.expect(what, answer.info2,
                ghcb::EventInjection::exception(ghcb::kVectorGeneralProtection));
}

std::uint64_t Ghcb::page_states(std::span<const std::uint64_t> entries, std::uint16_t current,
                                std::uint16_t last) const {
  put(kGhcbBuffer, ghcb::PscHeader::make(current, last));
  for (std::size_t i = 0; i < entries.size(); ++i) {
    put(kGhcbBuffer + 8 + 8 * i, entries[i]);
  }
  const GhcbAnswer answer = call(
      {.code = static_cast<std::uint64_t>(ghcb::ExitCode::kPageStateChange), .scratch = scratch()});
  probe_.expect("a list is answered", answer.info1, 0);
  return answer.info2;
}

}  // namespace probe
