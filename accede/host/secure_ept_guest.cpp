// The guest's calls on the secure EPT: MEM.PAGE.ACCEPT and MEM.PAGE.RELEASE.
#include "accede/host/secure_ept.hpp"

#include "accede/base/assert.hpp"
#include "accede/host/sept_entry.hpp"
#include "accede/host/sept_lock.hpp"

#include <atomic>

namespace accede::host {

using namespace internal;
using abi::tdx::PageOperand;

namespace {

GuestCallResult completed(std::uint64_t rax) {
  return {.kind = GuestCallKind::kCompleted, .rax = rax, .rcx = 0, .exit = {}};
}

/// Checks the operand of ACCEPT and RELEASE against everything but the GPA width.
bool operand_ok(std::uint64_t rcx) {
  return PageOperand::ReservedHigh::get(rcx) == 0 && PageOperand::ReservedLow::get(rcx) == 0 &&
         PageOperand::Level::get(rcx) <= static_cast<std::uint64_t>(SeptLevel::k2M);
}

GuestCallResult violation_exit(PhysAddr gpa, SeptLevel requested, SeptLevel at, SeptState state) {
  GuestCallResult result{.kind = GuestCallKind::kExit, .rax = 0, .rcx = 0, .exit = {}};
  result.exit = TdExit{.rax = static_cast<std::uint64_t>(abi::tdx::ExitReason::kEptViolation),
                       .gpa = gpa,
                       .requested_level = requested,
                       .error_level = at,
                       .error_state = state,
                       .is_leaf = is_leaf(state)};
  return result;
}

/// Decision table rows 1, 2 and 4 to 6: an entry in which an ACCEPT of `requested` ends without
/// accepting. Nothing: row 7.
std::optional<GuestCallResult> refusal(PhysAddr gpa, SeptLevel requested, SeptLevel at,
                                       SeptState state) {
  if (is_usable(state)) {
    return completed(status(Status::kPageAlreadyAccepted, static_cast<std::uint32_t>(at)));
  }
  if (at == requested && is_non_leaf(state)) {
    return completed(status(Status::kPageSizeMismatch, static_cast<std::uint32_t>(at)));
  }
  if (at == requested && accepted(state).has_value()) {
    return std::nullopt;
  }
  return violation_exit(gpa, requested, at, state);
}

}  // namespace

std::optional<GuestCallResult> SecureEpt::injected_busy() {
  std::uint64_t word = busy_left_.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::uint32_t>(word) == 0) {
      return std::nullopt;
    }
  } while (!busy_left_.compare_exchange_weak(word, word - 1, std::memory_order_relaxed));
  if (static_cast<BusyCause>(word >> 32) == BusyCause::kHostPriorityTimeout) {
    GuestCallResult result{.kind = GuestCallKind::kExit, .rax = 0, .rcx = 0, .exit = {}};
    result.exit.rax = status(Status::kHostPriorityBusyTimeout);
    return result;
  }
  return completed(status(Status::kOperandBusy, Operand::kRcx));
}

void SecureEpt::inject_busy(std::uint32_t count, BusyCause cause) {
  busy_left_.store((std::uint64_t{static_cast<std::uint8_t>(cause)} << 32) | count,
                   std::memory_order_relaxed);
}

GuestCallResult SecureEpt::accept(std::uint64_t rcx, ZeroPage zero_page,
                                  InterruptPending interrupt_pending) {
  return accept_impl(rcx, &zero_page, &interrupt_pending);
}

GuestCallResult SecureEpt::accept_keeping_content(std::uint64_t rcx) {
  return accept_impl(rcx, nullptr, nullptr);
}

GuestCallResult SecureEpt::accept_impl(std::uint64_t rcx, const ZeroPage* zero_page,
                                       const InterruptPending* interrupt_pending) {
  const auto level = static_cast<SeptLevel>(PageOperand::Level::get(rcx));
  const PhysAddr gpa = PageOperand::gpa(rcx);
  if (!operand_ok(rcx) || !legal(gpa, level)) {
    return completed(status(Status::kOperandInvalid, Operand::kRcx));
  }
  Entry* guard = nullptr;
  std::uint64_t pending = 0;
  {
    Locked entry{*this, gpa, level};
    if (entry.reached()) {
      if (const std::optional<GuestCallResult> busy = injected_busy()) {
        return *busy;
      }
      if (entry.busy()) {
        return completed(status(Status::kOperandBusy, Operand::kRcx));
      }
    }
    if (const auto refused = refusal(gpa, level, entry.at(), entry.state())) {
      return *refused;
    }
    pending = entry.value();
    if (!entry.store(pending | SeptEntry::Tdel::kMask)) {
      return {.kind = GuestCallKind::kOutOfStorage, .rax = 0, .rcx = 0, .exit = {}};
    }
    guard = entry.guard();
  }
  // TDEL keeps the entry and the tables above it in place while no spin bit is held.
  const PhysAddr hpa = leaf_hpa(pending, level);
  const std::uint64_t pages = level_bytes(level) / kTableBytes;
  std::uint64_t done = level == SeptLevel::k2M ? SeptEntry::AcceptCounter::get(pending) : 0;
  while (zero_page != nullptr && done < pages) {
    (*zero_page)(hpa + PageCount{done}.bytes());
    ++done;
    if (done < pages && (*interrupt_pending)()) {
      Locked entry{*this, gpa, level, guard};
      const bool stored = entry.store(SeptEntry::AcceptCounter::set(pending, done));
      ACCEDE_ASSERT(stored);
      return {.kind = GuestCallKind::kInterrupted, .rax = 0, .rcx = 0, .exit = {}};
    }
  }
  Locked entry{*this, gpa, level, guard};
  const bool stored = entry.store(make_entry(*accepted(state_of(pending)), hpa));
  ACCEDE_ASSERT(stored);
  return completed(0);
}

GuestCallResult SecureEpt::release(std::uint64_t rcx) {
  if (!page_release_) {
    return completed(status(Status::kOperandInvalid, Operand::kRax));
  }
  const auto level = static_cast<SeptLevel>(PageOperand::Level::get(rcx));
  const PhysAddr gpa = PageOperand::gpa(rcx);
  if (!operand_ok(rcx) || !legal(gpa, level)) {
    return completed(status(Status::kOperandInvalid, Operand::kRcx));
  }
  Locked entry{*this, gpa, level};
  const auto answer = [&](std::uint64_t rax) {
    GuestCallResult result = completed(rax);
    result.rcx = PageOperand::PendingFlag::set(
        PageOperand::Level::set(PageOperand::Gpa::kMask & rcx,
                                static_cast<std::uint64_t>(entry.at())),
        is_pending(entry.state()) ? 1 : 0);
    return result;
  };
  const SeptState state = entry.state();
  if (is_free(state)) {
    return answer(status(Status::kEptEntryFree, Operand::kRcx));
  }
  if ((!entry.reached() && is_leaf(state)) || (entry.reached() && is_non_leaf(state))) {
    return answer(status(Status::kPageSizeMismatch, static_cast<std::uint32_t>(entry.at())));
  }
  if (entry.reached() && entry.busy()) {
    return answer(status(Status::kOperandBusy, Operand::kRcx));
  }
  if (state != SeptState::kMapped) {
    return answer(status(Status::kEptEntryStateIncorrect, Operand::kRcx));
  }
  if (!entry.store(make_entry(SeptState::kPending, entry.hpa()))) {
    return {.kind = GuestCallKind::kOutOfStorage, .rax = 0, .rcx = 0, .exit = {}};
  }
  return answer(0);
}

}  // namespace accede::host
