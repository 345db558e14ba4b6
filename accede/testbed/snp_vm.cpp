#include "accede/testbed/snp_vm.hpp"

#include "accede/abi/rmp.hpp"
#include "accede/base/assert.hpp"

#include <algorithm>
#include <bit>
#include <span>

namespace accede::testbed {

using namespace std::string_view_literals;
namespace {

using abi::rmp::PvalidateCode;
using host::HostileAct;
using host::HostileDeed;
using host::HostileEvent;
using Gpr = CpuState::Gpr;

constexpr unsigned kPvalidateBytes = 4;

PageSize size_of(std::uint32_t ecx) {
  return ecx == abi::rmp::kSize2M ? PageSize::k2M : PageSize::k4K;
}

}  // namespace

std::expected<std::unique_ptr<SnpVm>, std::string> SnpVm::make(host::Backing backing, GuestRam& ram,
                                                               host::HostileScript& script,
                                                               LiveCounters& counters) {
  Mapping rmp = Mapping::anonymous(host::Rmp::storage_bound(ram.range()));
  Mapping attributes = Mapping::anonymous(host::PageAttributes::storage_bound(ram.range()));
  if (!rmp.valid() || !attributes.valid()) {
    return std::unexpected{std::string{"no address space for the page states"}};
  }
  return std::unique_ptr<SnpVm>{
      new SnpVm{backing, ram, script, counters, std::move(rmp), std::move(attributes)}};
}

SnpVm::SnpVm(host::Backing backing, GuestRam& ram, host::HostileScript& script,
             LiveCounters& counters, Mapping rmp_storage, Mapping attribute_storage)
    : ram_{ram},
      script_{script},
      counters_{counters},
      ranges_{ram.range()},
      rmp_storage_{std::move(rmp_storage)},
      attribute_storage_{std::move(attribute_storage)},
      rmp_{ram.range(), rmp_storage_.bytes()},
      attributes_{ram.range(), attribute_storage_.bytes()},
      memory_{rmp_, attributes_, ranges_, {.asid = 1, .backing = backing, .hpa_offset = {}}} {}

/// Runs `body` with hooks that keep the window in step with the model. `is_new`: what becomes valid
/// was not valid before, so that its content is undefined.
template <class Body>
auto SnpVm::with_hooks(bool is_new, Body&& body) {
  auto validated = [&](PhysAddr gpa, PhysAddr /*hpa*/, PageSize size) {
    const PhysRange pages = PhysRange::page(gpa, size);
    ram_.open(pages);
    for (PhysAddr page = pages.begin(); is_new && page < pages.end(); page += 4_KiB) {
      *ram_.window().pointer<volatile std::uint64_t>(page) = kUndefined;
    }
  };
  auto private_gone = [&](PhysRange pages) { ram_.drop(pages); };
  auto shared_gone = [&](PhysRange pages) { ram_.drop(pages); };
  return body(host::SnpMemoryHooks{
      .validated = validated, .private_gone = private_gone, .shared_gone = shared_gone});
}

StopReport SnpVm::report(StopCause cause, PhysAddr gpa) const {
  std::string_view state = abi::rmp::name_of(abi::rmp::state_of(memory_.entry(gpa)));
  if (!memory_.is_ram(PhysRange::page(gpa, PageSize::k4K))) {
    state = "no RAM"sv;
  } else if (memory_.attribute(gpa) == host::PageAttribute::kShared) {
    state = "shared"sv;
  }
  return {.cause = cause, .gpa = gpa, .state = state};
}

// --- PVALIDATE and touches ---

void SnpVm::complete(CpuState& cpu, std::uint32_t eax, bool carry) {
  cpu.set(Gpr::kRax, eax);
  cpu.set_carry(carry);
  cpu.advance(kPvalidateBytes);
  LiveCounters::add(counters_.instructions);
}

bool SnpVm::lie_about_pvalidate(CpuState& cpu, const HostileDeed& deed) {
  switch (deed.act) {
    case HostileAct::kStatus:
      complete(cpu, static_cast<std::uint32_t>(deed.value), false);
      break;
    case HostileAct::kPretend:
      complete(cpu, 0, false);
      break;
    case HostileAct::kUnchanged:
      complete(cpu, 0, true);
      break;
    default:
      return false;
  }
  LiveCounters::add(counters_.refused);
  return true;
}

void SnpVm::count(const host::SnpPvalidate& outcome, bool validate) {
  const std::uint64_t changed = outcome.bytes.value();
  if (changed == 0) {
    LiveCounters::add(counters_.refused);
  } else if (validate) {
    LiveCounters::add(outcome.bytes == 4_KiB ? counters_.accepts_4k : counters_.accepts_2m);
    LiveCounters::add(counters_.accepted_bytes, changed);
  } else {
    LiveCounters::add(counters_.released_bytes, changed);
  }
}

std::optional<StopReport> SnpVm::pvalidate(CpuState& cpu, PhysAddr gpa) {
  const AcceptUnderWay under_way{counters_};
  const auto ecx = static_cast<std::uint32_t>(cpu.get(Gpr::kRcx));
  const bool validate = (cpu.get(Gpr::kRdx) & 1) != 0;
  const HostileDeed deed =
      script_.consult(HostileEvent::kValidate, PhysRange::page(gpa, size_of(ecx)));
  if (lie_about_pvalidate(cpu, deed)) {
    return std::nullopt;
  }
  if (deed.act == HostileAct::kBackSmall) {
    back_small(gpa);
  }
  const host::SnpPvalidate outcome = with_hooks(true, [&](const host::SnpMemoryHooks& hooks) {
    return memory_.pvalidate(gpa, ecx, validate, hooks);
  });
  if (deed.act == HostileAct::kReplace) {
    replace(deed.target);
  }
  switch (outcome.kind) {
    case host::SnpPvalidateKind::kCompleted:
      count(outcome, validate);
      complete(cpu, static_cast<std::uint32_t>(outcome.code), outcome.carry);
      return std::nullopt;
    case host::SnpPvalidateKind::kNotRam:
      return report(StopCause::kNotRam, gpa);
    case host::SnpPvalidateKind::kRefused:
      break;
  }
  return report(StopCause::kRefused, gpa);
}

std::optional<StopReport> SnpVm::touch(PhysAddr gpa) {
  const host::SnpTouch touched = with_hooks(false, [&](const host::SnpMemoryHooks& hooks) {
    if (memory_.attribute(gpa) == host::PageAttribute::kPrivate) {
      return memory_.touch_private(gpa, hooks);
    }
    return memory_.touch_shared(
        gpa, [&](PhysAddr page, PhysAddr) { ram_.open(PhysRange::page(page, PageSize::k4K)); },
        hooks);
  });
  switch (touched.kind) {
    case host::SnpTouchKind::kMapped:
      return std::nullopt;
    case host::SnpTouchKind::kRefused:
      return report(StopCause::kRefused, gpa);
    default:
      return report(StopCause::kTouch, gpa);
  }
}

// --- VMGEXIT ---

std::uint64_t SnpVm::msr_exchange(std::uint64_t request) {
  using namespace abi::ghcb;
  switch (code_of(request)) {
    case MsrCode::kSevInfoRequest:
      return sev_info_response({.max_version = 2, .min_version = 1, .c_bit = 51});
    case MsrCode::kHvFeaturesRequest:
      return msr_word(MsrCode::kHvFeaturesResponse, kHvFeatureSnp);
    case MsrCode::kRegisterGhcbRequest:
      return msr_word(MsrCode::kRegisterGhcbResponse, MsrWord::Payload::get(request));
    case MsrCode::kPageStateRequest:
      return msr_page_state(request);
    default:
      return 0;
  }
}

std::uint64_t SnpVm::msr_page_state(std::uint64_t request) {
  using namespace abi::ghcb;
  LiveCounters::add(counters_.conversions);
  const PhysRange page = PhysRange::page(page_state_gpa(request), PageSize::k4K);
  const HostileDeed deed = script_.consult(HostileEvent::kPageStateChange, page);
  if (deed.act == HostileAct::kStatus || deed.act == HostileAct::kPretend) {
    return page_state_response(
        deed.act == HostileAct::kStatus ? static_cast<std::uint32_t>(deed.value) : 0);
  }
  const std::uint64_t response = with_hooks(false, [&](const host::SnpMemoryHooks& hooks) {
    return memory_.msr_page_state(request, hooks);
  });
  if (deed.act == HostileAct::kReplace) {
    replace(deed.target);
  }
  return deed.act == HostileAct::kReservedSet ? MsrWord::PageStateResponseReserved::set(response, 1)
                                              : response;
}

void SnpVm::page_exchange(PhysAddr ghcb) {
  using namespace abi::ghcb;
  const PhysRange where = PhysRange::page(ghcb, PageSize::k4K);
  if (!memory_.is_ram(where) || memory_.attribute(ghcb) != host::PageAttribute::kShared) {
    stop_guest(report(StopCause::kBadGhcb, ghcb));
  }
  auto& page = *ram_.window().pointer<GhcbPage>(where.begin());
  const auto load = [](std::uint64_t& word) {
    return std::atomic_ref{word}.load(std::memory_order_relaxed);
  };
  const auto answer = [&](ExitResult result, std::uint64_t info_2) {
    std::atomic_ref{page.sw_exit_info_1}.store(static_cast<std::uint64_t>(result));
    std::atomic_ref{page.sw_exit_info_2}.store(info_2);
  };
  if (load(page.sw_exit_code) != static_cast<std::uint64_t>(ExitCode::kPageStateChange)) {
    return answer(ExitResult::kMalformed,
                  static_cast<std::uint64_t>(MalformedReason::kInvalidEvent));
  }
  if (load(page.sw_scratch) != where.begin().value() + kSharedBufferBegin) {
    return answer(ExitResult::kMalformed, static_cast<std::uint64_t>(MalformedReason::kBadScratch));
  }
  // Worked on in a copy: the guest may have its own GHCB converted by the list in it.
  PscList list{};
  std::ranges::transform(page.shared_buffer, list.begin(), load);
  const std::uint64_t info_2 = answer_list(list);
  for (std::size_t i = 0; i < list.size(); ++i) {
    std::atomic_ref{page.shared_buffer[i]}.store(list[i], std::memory_order_relaxed);
  }
  answer(ExitResult::kOk, info_2);
}

/// Answers `list` in place, honestly or not; SW_EXITINFO2.
std::uint64_t SnpVm::answer_list(PscList& list) {
  using namespace abi::ghcb;
  LiveCounters::add(counters_.conversions);
  const std::uint64_t asked = list[0];
  const std::uint64_t cur = PscHeader::CurEntry::get(asked);
  const std::uint64_t end = PscHeader::EndEntry::get(asked);
  const std::uint64_t first = cur < kPscMaxEntries ? list[cur + 1] : 0;
  PhysRange pages = PhysRange::page(PscEntry::gpa(first), PscEntry::size(first));
  for (std::uint64_t i = cur + 1; i <= end && i < kPscMaxEntries; ++i) {
    const PhysRange page = PhysRange::page(PscEntry::gpa(list[i + 1]), PscEntry::size(list[i + 1]));
    pages =
        *PhysRange::make(std::min(pages.begin(), page.begin()), std::max(pages.end(), page.end()));
  }
  const HostileDeed deed = script_.consult(HostileEvent::kPageStateChange, pages);
  switch (deed.act) {
    case HostileAct::kStatus:
      return deed.value;
    case HostileAct::kPretend:
      list[0] = PscHeader::CurEntry::set(asked, (end + 1) & 0xFFFF);
      return 0;
    case HostileAct::kPartly:
      if (deed.value == 0) {
        return 0;
      }
      list[0] = PscHeader::EndEntry::set(asked, std::min(end, cur + deed.value - 1));
      break;
    default:
      break;
  }
  const std::uint64_t info_2 = do_list(list);
  if (deed.act == HostileAct::kReplace) {
    replace(deed.target);
  }
  list[0] = host::psc_header_lie(deed, asked, PscHeader::EndEntry::set(list[0], end));
  return info_2;
}

std::uint64_t SnpVm::do_list(PscList& list) {
  return with_hooks(false, [&](const host::SnpMemoryHooks& hooks) {
    return static_cast<std::uint64_t>(memory_.page_state_list(list, hooks));
  });
}

// --- What a hostile host does ---

void SnpVm::back_small(PhysAddr gpa) {
  const PhysRange large = PhysRange::page(gpa, PageSize::k2M);
  if (!ram_.range().contains(large)) {
    return;
  }
  if (rmp_.psmash(memory_.hpa_of(large.begin())) != abi::rmp::PsmashCode::kSuccess) {
    (void)rmp_.update(memory_.hpa_of(large.begin()),
                      host::RmpUpdate::guest(large.begin(), PageSize::k4K, 1));
  }
}

void SnpVm::replace(PhysRange pages) {
  const PhysRange ram = pages.intersect(ram_.range());
  with_hooks(false, [&](const host::SnpMemoryHooks& hooks) {
    for (PhysAddr page = ram.begin(); page < ram.end(); page += 4_KiB) {
      for (const abi::ghcb::PageOp op : {abi::ghcb::PageOp::kShared, abi::ghcb::PageOp::kPrivate}) {
        (void)memory_.msr_page_state(abi::ghcb::page_state_request(page, op), hooks);
      }
      (void)memory_.touch_private(page, hooks);
    }
  });
}

// --- GhcbPool ---

GhcbPool::GhcbPool(SnpVm& vm, PhysWindow window, PhysRange pages)
    : vm_{vm}, window_{window}, begin_{pages.begin()} {
  const std::uint64_t count = pages.size() / 4_KiB;
  ACCEDE_ASSERT(count <= kMaxPages && begin_.is_aligned(4_KiB));
  free_ = count == kMaxPages ? ~0ULL : (1ULL << count) - 1;
}

guest::GhcbRef GhcbPool::claim_ghcb() {
  std::uint64_t now = free_.load(std::memory_order_relaxed);
  while (now != 0) {
    // Without its lowest bit; acquire pairs with the release of whoever had the page before.
    if (free_.compare_exchange_weak(now, now & (now - 1), std::memory_order_acquire)) {
      const PhysAddr address = begin_ + 4_KiB * static_cast<unsigned>(std::countr_zero(now));
      return {.page = window_.pointer<abi::ghcb::GhcbPage>(address), .address = address};
    }
  }
  return {};
}

void GhcbPool::release_ghcb(guest::GhcbRef ghcb) {
  free_.fetch_or(1ULL << ((ghcb.address - begin_) / 4_KiB), std::memory_order_release);
}

}  // namespace accede::testbed
