#include "accede/efi/kernel/gdt.hpp"

#include "accede/emulator/cpu.hpp"

namespace accede::efi::kernel {
namespace {

constexpr std::uint64_t kCode64 = 0x00AF'9B00'0000'FFFF;
constexpr std::uint64_t kData = 0x00CF'9300'0000'FFFF;
constexpr std::uint64_t kAvailableTask = 0x0000'8900'0000'0000;

extern "C" void kernel_load_segments(const emulator::cpu::TableRegister* gdt);

}  // namespace

void Segments::load() {
  task_ = {};
  for (std::size_t i = 0; i < stacks_.size(); ++i) {
    task_.ist[i] = reinterpret_cast<std::uintptr_t>(&stacks_[i]) + kStackBytes;
  }
  task_.io_map = sizeof(task_);
  const auto base = reinterpret_cast<std::uintptr_t>(&task_);
  gdt_ = {0, kCode64, kData,
          kAvailableTask | (sizeof(task_) - 1) | ((base & 0xFF'FFFF) << 16) |
              ((base >> 24 & 0xFF) << 56),
          base >> 32};
  const emulator::cpu::TableRegister gdt{sizeof(gdt_) - 1, reinterpret_cast<std::uintptr_t>(&gdt_)};
  kernel_load_segments(&gdt);
}

}  // namespace accede::efi::kernel
