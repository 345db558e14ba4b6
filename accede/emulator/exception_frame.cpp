#include "accede/emulator/exception_frame.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <optional>
#include <span>

namespace accede::emulator {
namespace {

constexpr std::uint64_t kTrapFlag = 1ULL << 8;
constexpr std::uint64_t kInterruptFlag = 1ULL << 9;
constexpr std::uint64_t kNestedTask = 1ULL << 14;
constexpr std::uint64_t kResumeFlag = 1ULL << 16;

/// Calls `access(gpa, offset, bytes)` for the pieces of guest linear memory; false when one fails.
template <class Access>
bool for_each_page(const GuestMemory& memory, const VmcbSave& save, std::uint64_t linear,
                   std::size_t size, Access access) {
  for (std::size_t done = 0; done < size;) {
    const std::size_t part = std::min<std::size_t>(size - done, 4096 - linear % 4096);
    const std::optional<std::uint64_t> gpa = memory.translate(save, linear);
    if (!gpa || !access(*gpa, done, part)) {
      return false;
    }
    done += part;
    linear += part;
  }
  return true;
}

template <class T>
std::optional<T> read(const GuestMemory& memory, const VmcbSave& save, std::uint64_t linear) {
  std::array<std::byte, sizeof(T)> raw{};
  const bool done = for_each_page(memory, save, linear, raw.size(),
                                  [&](std::uint64_t gpa, std::size_t offset, std::size_t size) {
                                    return memory.read(gpa, std::span{raw}.subspan(offset, size));
                                  });
  return done ? std::optional{std::bit_cast<T>(raw)} : std::nullopt;
}

/// A gate of the IDT in long mode.
struct Gate {
  static constexpr std::uint64_t kBytes = 16;

  std::uint64_t low;
  std::uint64_t high;

  [[nodiscard]] std::uint64_t handler() const {
    return (low & 0xFFFF) | (low >> 32 & 0xFFFF'0000) | high << 32;
  }
  [[nodiscard]] std::uint16_t selector() const { return static_cast<std::uint16_t>(low >> 16); }
  [[nodiscard]] unsigned stack_index() const { return low >> 32 & 7; }
  [[nodiscard]] bool is_present() const { return (low >> 47 & 1) != 0; }
  [[nodiscard]] bool masks_interrupts() const { return (low >> 40 & 0x1F) == 0xE; }
  [[nodiscard]] bool is_usable() const {
    return is_present() && (masks_interrupts() || (low >> 40 & 0x1F) == 0xF);
  }
};

std::optional<Gate> gate_of(const GuestMemory& memory, const VmcbSave& save, std::uint8_t vector) {
  const std::uint64_t offset = vector * Gate::kBytes;
  if (offset + Gate::kBytes - 1 > save.idtr.limit) {
    return std::nullopt;
  }
  const auto gate = read<Gate>(memory, save, save.idtr.base + offset);
  return gate && gate->is_usable() ? gate : std::nullopt;
}

/// CS as the gate names it: 64-bit code that is not less privileged than what is interrupted.
std::optional<VmcbSegment> code_segment(const GuestMemory& memory, const VmcbSave& save,
                                        std::uint16_t selector) {
  constexpr std::uint64_t kWhat = 1ULL << 53 | 0x98ULL << 40;  // L; present, S, code
  const std::uint64_t offset = selector & ~7U;
  if (offset == 0 || (selector & 4) != 0 || offset + 7 > save.gdtr.limit) {
    return std::nullopt;
  }
  const auto descriptor = read<std::uint64_t>(memory, save, save.gdtr.base + offset);
  if (!descriptor || (*descriptor & kWhat) != kWhat) {
    return std::nullopt;
  }
  const bool conforming = (*descriptor >> 42 & 1) != 0;
  const auto privilege = static_cast<std::uint8_t>(*descriptor >> 45 & 3);
  if (privilege > save.cpl) {
    return std::nullopt;
  }
  const std::uint8_t level = conforming ? save.cpl : privilege;
  return VmcbSegment{.selector = static_cast<std::uint16_t>(offset | level),
                     .attributes = static_cast<std::uint16_t>((*descriptor >> 40 & 0xFF) |
                                                              (*descriptor >> 44 & 0xF00)),
                     .limit = 0xFFFF'FFFF,
                     .base = 0};
}

/// Where the frame goes: the stack of the gate, that of the new privilege level, or the same.
std::optional<std::uint64_t> stack_top(const GuestMemory& memory, const Vcpu& vcpu,
                                       const Gate& gate, std::uint8_t level) {
  const VmcbSave& save = vcpu.save();
  constexpr std::uint64_t kFirstPrivilegeStack = 0x04;
  constexpr std::uint64_t kFirstInterruptStack = 0x24;
  if (gate.stack_index() != 0) {
    return read<std::uint64_t>(memory, save,
                               save.tr.base + kFirstInterruptStack + 8 * (gate.stack_index() - 1));
  }
  return level == save.cpl
             ? std::optional{vcpu.gpr[kRsp]}
             : read<std::uint64_t>(memory, save, save.tr.base + kFirstPrivilegeStack + 8 * level);
}

bool deliver(const GuestMemory& memory, Vcpu& vcpu, std::uint8_t vector, std::uint32_t error) {
  VmcbSave& save = vcpu.save();
  const auto gate = gate_of(memory, save, vector);
  const auto code = gate ? code_segment(memory, save, gate->selector()) : std::nullopt;
  if (!code) {
    return false;
  }
  const auto level = static_cast<std::uint8_t>(code->selector & 3);
  const auto stack = stack_top(memory, vcpu, *gate, level);
  if (!stack) {
    return false;
  }
  const std::array<std::uint64_t, 6> frame{
      error,          save.rip,        save.cs.selector, save.rflags | kResumeFlag,
      vcpu.gpr[kRsp], save.ss.selector};
  const std::uint64_t rsp = (*stack & ~0xFULL) - sizeof frame;
  const auto bytes = std::as_bytes(std::span{frame});
  // Whether all of it can be written is found out first: a frame goes whole or not at all.
  for (const bool for_good : {false, true}) {
    const bool done = for_each_page(memory, save, rsp, bytes.size(),
                                    [&](std::uint64_t gpa, std::size_t offset, std::size_t size) {
                                      std::array<std::byte, sizeof frame> old{};
                                      return for_good
                                                 ? memory.write(gpa, bytes.subspan(offset, size))
                                                 : memory.read(gpa, std::span{old}.first(size));
                                    });
    if (!done) {
      return false;
    }
  }
  if (level != save.cpl) {
    save.ss = {.selector = level,
               .attributes = static_cast<std::uint16_t>(level << 5),
               .limit = 0,
               .base = 0};
  }
  save.cs = *code;
  save.cpl = level;
  save.rip = gate->handler();
  save.rflags &= ~(kTrapFlag | kNestedTask | kResumeFlag);
  save.rflags &= gate->masks_interrupts() ? ~kInterruptFlag : ~0ULL;
  vcpu.gpr[kRsp] = rsp;
  vcpu.vmcb->control.interrupt_shadow = 0;
  return true;
}

}  // namespace

void deliver_with_error(const GuestMemory& memory, Vcpu& vcpu, std::uint8_t vector,
                        std::uint32_t error) {
  if (!deliver(memory, vcpu, vector, error)) {
    vcpu.inject_with_error(Vcpu::kDoubleFault, 0);
  }
}

}  // namespace accede::emulator
