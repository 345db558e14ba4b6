// A hostile host's script: who acts when, and the wording of its answers.
#include "accede/host/hostile_script.hpp"

#include "accede/abi/ghcb.hpp"
#include "accede/abi/tdx.hpp"
#include "accede/base/assert.hpp"

namespace accede::host {

using namespace std::string_view_literals;

using abi::tdx::Operand;
using abi::tdx::PageOperand;
using abi::tdx::Status;
using abi::tdx::VmcallStatus;

std::string_view name(HostileEvent event) {
  switch (event) {
    case HostileEvent::kAccept:
      return "accept"sv;
    case HostileEvent::kConvert:
      return "MapGPA"sv;
    case HostileEvent::kPageStateChange:
      return "page-state change"sv;
    case HostileEvent::kValidate:
      return "PVALIDATE"sv;
  }
  return "unknown"sv;
}

std::string_view name(HostileAct act) {
  switch (act) {
    case HostileAct::kNothing:
      return "nothing"sv;
    case HostileAct::kStatus:
      return "answer a status"sv;
    case HostileAct::kPretend:
      return "claim success without effect"sv;
    case HostileAct::kReplace:
      return "remove the page and add it again"sv;
    case HostileAct::kBusy:
      return "busy"sv;
    case HostileAct::kAlreadyAccepted:
      return "already accepted"sv;
    case HostileAct::kBackSmall:
      return "back in 4K pages"sv;
    case HostileAct::kRetryBackwards:
      return "retry below the request"sv;
    case HostileAct::kRetryOutOfRange:
      return "retry past the request"sv;
    case HostileAct::kRetryInPlace:
      return "retry without progress"sv;
    case HostileAct::kRetryAt:
      return "retry anywhere"sv;
    case HostileAct::kPartly:
      return "do a part"sv;
    case HostileAct::kListGrown:
      return "make the list longer"sv;
    case HostileAct::kListMovedBack:
      return "move the list's start back"sv;
    case HostileAct::kReservedSet:
      return "change a reserved field"sv;
    case HostileAct::kUnchanged:
      return "validated before"sv;
  }
  return "unknown"sv;
}

void HostileScript::start(std::span<const HostileRule> rules) {
  ACCEDE_ASSERT(rules.size() <= kMaxRules);
  rules_ = rules;
  for (std::size_t i = 0; i < kMaxRules; ++i) {
    seen_[i].store(0, std::memory_order_relaxed);
    acted_[i].store(0, std::memory_order_relaxed);
  }
}

HostileDeed HostileScript::consult(HostileEvent event, PhysRange pages) {
  const HostileRule* due = nullptr;
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const HostileRule& rule = rules_[i];
    const bool here = rule.where.empty() || rule.where.overlaps(pages);
    if (rule.event != event || !here) {
      continue;
    }
    const std::uint64_t count = seen_[i].fetch_add(1, std::memory_order_relaxed) + 1;
    if (due == nullptr && count >= rule.first && count - rule.first < rule.times) {
      acted_[i].fetch_add(1, std::memory_order_relaxed);
      due = &rule;
    }
  }
  if (due == nullptr) {
    return {};
  }
  return {
      .act = due->act, .value = due->value, .target = due->target.empty() ? pages : due->target};
}

std::uint64_t HostileScript::acted(std::size_t rule) const {
  ACCEDE_ASSERT(rule < kMaxRules);
  return acted_[rule].load(std::memory_order_relaxed);
}

std::optional<std::uint64_t> accept_lie(const HostileDeed& deed, std::uint64_t rcx) {
  switch (deed.act) {
    case HostileAct::kStatus:
      return deed.value;
    case HostileAct::kPretend:
      return 0;
    case HostileAct::kBusy:
      return abi::tdx::status(Status::kOperandBusy, Operand::kRcx);
    case HostileAct::kAlreadyAccepted:
      return abi::tdx::status(Status::kPageAlreadyAccepted,
                              static_cast<std::uint32_t>(PageOperand::Level::get(rcx)));
    default:
      return std::nullopt;
  }
}

std::optional<MapGpaLie> map_gpa_lie(const HostileDeed& deed, std::uint64_t start,
                                     std::uint64_t size) {
  constexpr std::uint64_t kPage = 4096;
  constexpr auto kRetry = static_cast<std::uint64_t>(VmcallStatus::kRetry);
  switch (deed.act) {
    case HostileAct::kStatus:
      return MapGpaLie{.r10 = deed.value, .r11 = start};
    case HostileAct::kPretend:
      return MapGpaLie{.r10 = static_cast<std::uint64_t>(VmcallStatus::kSuccess), .r11 = 0};
    case HostileAct::kRetryBackwards:
      return MapGpaLie{.r10 = kRetry, .r11 = start - kPage};
    case HostileAct::kRetryOutOfRange:
      return MapGpaLie{.r10 = kRetry, .r11 = start + size + kPage};
    case HostileAct::kRetryInPlace:
      return MapGpaLie{.r10 = kRetry, .r11 = start};
    case HostileAct::kRetryAt:
      return MapGpaLie{.r10 = kRetry, .r11 = deed.value};
    default:
      return std::nullopt;
  }
}

std::uint64_t psc_header_lie(const HostileDeed& deed, std::uint64_t asked, std::uint64_t honest) {
  using abi::ghcb::PscHeader;
  switch (deed.act) {
    case HostileAct::kListGrown:
      return PscHeader::EndEntry::set(honest, (PscHeader::EndEntry::get(honest) + 1) & 0xFFFF);
    case HostileAct::kListMovedBack:
      return PscHeader::CurEntry::set(honest, (PscHeader::CurEntry::get(asked) - 1) & 0xFFFF);
    case HostileAct::kReservedSet:
      return PscHeader::Reserved::set(honest, 1);
    default:
      return honest;
  }
}

}  // namespace accede::host
