#include "accede/efi/kernel/traps.hpp"

#include "accede/efi/kernel/fault_report.hpp"
#include "accede/efi/kernel/gdt.hpp"
#include "accede/efi/kernel/panic.hpp"
#include "accede/efi/kernel/vmcall.hpp"
#include "accede/emulator/cpu.hpp"

namespace accede::efi::kernel {

using namespace std::string_view_literals;
namespace cpu = emulator::cpu;

extern "C" {
extern const std::byte kernel_trap_entries[];
void kernel_trap(TrapFrame* frame);
}

namespace {

constexpr std::size_t kEntryStride = 16;  // of kernel_trap_entries
constexpr std::uint64_t kInterruptGate = 0x8E00;

// The processor comes here without a context.
Traps* g_traps = nullptr;

constexpr FaultStack stack_of(std::size_t vector) {
  switch (vector) {
    case kNmiVector:
      return FaultStack::kNmi;
    case kDoubleFaultVector:
      return FaultStack::kDoubleFault;
    case kPageFaultVector:
      return FaultStack::kPageFault;
    default:
      return FaultStack::kNone;
  }
}

std::uint64_t read_cr2() {
  std::uint64_t value = 0;
  asm volatile("mov %%cr2, %0" : "=r"(value));
  return value;
}

std::uint64_t read_physical(PhysAddr address) {
  return *reinterpret_cast<const volatile std::uint64_t*>(address.value());
}

}  // namespace

void kernel_trap(TrapFrame* frame) {
  g_traps->handle(*frame);
}

void Traps::load(const Console& console, PhysRange image, guest::PlatformKind platform,
                 std::uint64_t private_mask) {
  console_ = &console;
  image_ = image;
  platform_ = platform;
  private_mask_ = private_mask;
  for (std::size_t vector = 0; vector < gates_.size(); ++vector) {
    const auto entry =
        reinterpret_cast<std::uintptr_t>(kernel_trap_entries) + vector * kEntryStride;
    const auto stack = static_cast<std::uint64_t>(stack_of(vector));
    gates_[vector] = {(entry & 0xFFFF) | (std::uint64_t{kCodeSelector} << 16) | (stack << 32) |
                          (kInterruptGate << 32) | ((entry >> 16 & 0xFFFF) << 48),
                      entry >> 32};
  }
  g_traps = this;
  const cpu::TableRegister idt{sizeof(gates_) - 1, reinterpret_cast<std::uintptr_t>(&gates_)};
  asm volatile("lidt %0" : : "m"(idt) : "memory");
}

void Traps::set_handler(std::uint8_t vector, Handler handler, void* context) {
  ACCEDE_ASSERT(vector >= kExceptions);
  handlers_[vector - kExceptions] = {handler, context};
}

void Traps::handle(TrapFrame& frame) {
  if (frame.vector < kExceptions) {
    fault(frame);
  }
  Entry entry = handlers_[frame.vector - kExceptions];
  if (entry.handler == nullptr) {
    entry = stray_handler_;
  }
  if (entry.handler != nullptr) {
    entry.handler(entry.context);
  }
}

void Traps::fault(const TrapFrame& frame) {
  // Before anything else: a #VE that comes while the information of one is pending is a #DF.
  const bool has_info =
      platform_ == guest::PlatformKind::kTdx && frame.vector == kVirtualizationVector;
  const auto ve = has_info ? virtualization_exception_info() : std::nullopt;
  const FaultFacts facts{.frame = frame,
                         .cr0 = cpu::read_cr0(),
                         .cr2 = read_cr2(),
                         .cr3 = cpu::read_cr3(),
                         .cr4 = cpu::read_cr4(),
                         .private_mask = private_mask_,
                         .image = image_,
                         .table = table_,
                         .ve = ve};
  const unsigned depth = begin_fault(exception_name(frame.vector));
  const FaultText message = fault_message(facts);
  improve_fault_message(message.view());
  const auto write = [this](std::string_view text) { console_->write(text); };
  if (depth == 1) {
    write_fault_report(facts, read_physical, write);
  } else {
    write("\nand another fault while that was reported: "sv);
    write(message.view());
    write("\n"sv);
  }
  stop();
}

}  // namespace accede::efi::kernel
