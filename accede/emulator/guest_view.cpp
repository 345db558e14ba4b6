#include "accede/emulator/guest_view.hpp"

#include "accede/emulator/cpu.hpp"

namespace accede::emulator {

using namespace std::string_view_literals;

bool GuestView::map_low_devices() {
  constexpr PhysAddr k4GiB{1ULL << 32};
  const auto map_hole = [&](PhysAddr begin, PhysAddr end) {
    const auto hole = PhysRange::make(begin, end);
    return !hole || hole->empty() || !machine_.is_device(*hole) ||
           (tables_.map(View::kPrivate, *hole) && tables_.map(View::kShared, *hole));
  };
  PhysAddr at;
  for (const PhysRange& range : machine_.ram()) {
    if (!map_hole(at, std::min(range.begin(), k4GiB))) {
      return false;
    }
    at = std::min(range.end(), k4GiB);
  }
  return map_hole(at, k4GiB);
}

bool GuestView::map_device(View view, PhysAddr gpa) {
  for (const PageSize size : {PageSize::k1G, PageSize::k2M, PageSize::k4K}) {
    const PhysRange page = PhysRange::page(gpa, size);
    if (machine_.is_device(page)) {
      return tables_.map(view, page);
    }
  }
  return true;
}

void GuestView::map(View view, PhysRange range) {
  touched_.mark(range);
  if (!tables_.map(view, range)) {
    exhausted_.store(true, std::memory_order_relaxed);
  }
}

void GuestView::unmap(View view, PhysRange range) {
  if (!tables_.unmap(view, range)) {
    exhausted_.store(true, std::memory_order_relaxed);
  }
  flushes_.fetch_add(1, std::memory_order_release);
}

void GuestView::scrub(PhysRange range) {
  for (PhysAddr page = range.begin(); page < range.end(); page += 4_KiB) {
    if (touched_.test(page)) {
      cpu::zero_page(window_.pointer<std::byte>(page));
    }
  }
}

void GuestView::zero_accepted(PhysAddr page) {
  if (cost_.ticks_per_2m == 0 || touched_.test(page)) {
    cpu::zero_page(window_.pointer<std::byte>(page));
  }
}

void GuestView::wait_out(std::uint64_t started, Bytes accepted) const {
  if (cost_.ticks_per_2m == 0) {
    return;
  }
  const std::uint64_t ticks = cost_.ticks_per_2m * (accepted.value() / 4096) / 512;
  while (cpu::read_tsc() - started < ticks) {
    cpu::pause();
  }
}

void GuestView::count_accept(Vcpu& vcpu, PhysAddr gpa, PageSize size, std::uint64_t started) {
  Counters& counters = reporter_.counters();
  const std::uint64_t accepted = bytes(size).value();
  const auto who = static_cast<std::size_t>(accepting_phase());
  Reporter::add(counters.accepted_bytes[who], accepted);
  Reporter::add(counters.accept_calls[static_cast<std::size_t>(size)]);
  Reporter::add(counters.accept_ticks[who], cpu::read_tsc() - started);
  const bool continues = vcpu.step_end == gpa.value() && vcpu.step_bytes != 0;
  vcpu.step_bytes = continues ? vcpu.step_bytes + accepted : accepted;
  vcpu.step_end = gpa.value() + accepted;
  Reporter::raise(counters.longest_step_bytes, vcpu.step_bytes);
  reporter_.event(EventKind::kAccept, static_cast<std::uint8_t>(size), PhysRange::page(gpa, size),
                  started, vcpu.index);
}

void GuestView::enter_phase(Phase next) {
  Phase now = phase();
  while (now < next && !phase_.compare_exchange_weak(now, next, std::memory_order_relaxed)) {
  }
}

Phase GuestView::accepting_phase() const {
  const Phase now = phase();
  return now != Phase::kKernel && firmware_accepts_.load(std::memory_order_relaxed)
             ? Phase::kFirmware
             : now;
}

Fault GuestView::emulator_memory(std::uint64_t gpa) {
  return {.kind = EventKind::kEmulatorMemory,
          .gpa = gpa,
          .state = "reserved by the firmware; belongs to the emulator"sv,
          .message = "use of memory that the EFI memory map lists as reserved"sv};
}

Fault GuestView::beyond_width(std::uint64_t gpa) {
  return {.kind = EventKind::kBeyondAddressWidth,
          .gpa = gpa,
          .state = "no such address"sv,
          .message = "access above the guest physical address width"sv};
}

Fault GuestView::triple_fault() {
  return {.kind = EventKind::kShutdown,
          .gpa = 0,
          .state = "triple fault"sv,
          .message =
              "the guest's processor shut down: an exception could not be delivered "sv
              "(missing handler, or handler and stack not reachable)"sv};
}

Fault GuestView::out_of_storage(PhysAddr gpa, std::string_view state) {
  return {.kind = EventKind::kResourceExhausted,
          .gpa = gpa.value(),
          .state = state,
          .message =
              "the emulator has no memory left to describe pages in so many different "sv
              "states; give the VM less memory or convert in larger ranges"sv};
}

}  // namespace accede::emulator
