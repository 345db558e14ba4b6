#include "accede/efi/firmware.hpp"

#include "accede/efi/boot_volume.hpp"
#include "accede/emulator/cpu.hpp"

#include <algorithm>
#include <array>

namespace accede::efi {

using namespace std::string_view_literals;

using abi::efi::Char16;
using abi::efi::Status;

void Firmware::print(std::string_view text) const {
  std::array<Char16, 128> wide{};
  while (!text.empty()) {
    std::size_t used = 0;
    while (!text.empty() && used + 2 < wide.size()) {
      if (text.front() == '\n') {
        wide[used++] = u'\r';
      }
      wide[used++] = static_cast<unsigned char>(text.front());
      text.remove_prefix(1);
    }
    wide[used] = 0;
    system_->console_out->output_string(system_->console_out, wide.data());
  }
}

void Firmware::report(emulator::JsonLine& line) {
  for (const char c : line.finish()) {
    emulator::cpu::out8(emulator::kReportPort, static_cast<std::uint8_t>(c));
  }
}

void Firmware::power_off() const {
  system_->runtime_services->reset_system(abi::efi::ResetType::kShutdown, Status::kSuccess, 0,
                                          nullptr);
  emulator::cpu::stop_for_ever();
}

void Firmware::give_up(const Failure& failure) const {
  emulator::JsonLine line{"error"sv};
  line.text("message"sv, failure.what).hex("status"sv, static_cast<std::uint64_t>(failure.status));
  report(line);
  print("accede: "sv);
  print(failure.what);
  print("\n"sv);
  power_off();
}

Result<std::span<std::byte>> Firmware::allocate(std::size_t bytes) const {
  void* buffer = nullptr;
  const Status status = boot_->allocate_pool(abi::efi::MemoryType::kLoaderData, bytes, &buffer);
  if (is_error(status)) {
    return std::unexpected{Failure{"out of memory"sv, status}};
  }
  return std::span{static_cast<std::byte*>(buffer), bytes};
}

Result<void> Firmware::install(abi::efi::Handle* handle, const abi::efi::Guid& guid,
                               void* interface) const {
  const Status status = boot_->install_protocol_interface(handle, &guid, 0, interface);
  if (is_error(status)) {
    return std::unexpected{Failure{"a protocol cannot be installed"sv, status}};
  }
  return {};
}

Result<std::span<std::byte>> Firmware::read_file(std::string_view path) const {
  const auto volume = BootVolume::open(*this);
  if (!volume) {
    return std::unexpected{volume.error()};
  }
  const auto file = volume->open_file(path);
  if (!file) {
    return std::unexpected{file.error()};
  }
  const Result<std::span<std::byte>> buffer = allocate(file->bytes());
  if (!buffer) {
    return buffer;
  }
  if (const auto read = file->read(*buffer); !read) {
    boot_->free_pool(buffer->data());
    return std::unexpected{read.error()};
  }
  return buffer;
}

std::uint64_t Firmware::measure_tsc() const {
  constexpr std::uint64_t kMicroseconds = 5'000;
  std::uint64_t least = ~0ULL;
  // Whatever takes this CPU away during a measurement makes it longer, never shorter.
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t start = emulator::cpu::read_tsc();
    boot_->stall(kMicroseconds);
    least = std::min(least, emulator::cpu::read_tsc() - start);
  }
  return least * (1'000'000 / kMicroseconds);
}

Status Firmware::refresh(MemoryMap& map) const {
  std::uint64_t bytes = map.buffer.size();
  std::uint64_t stride = 0;
  const Status status =
      boot_->get_memory_map(&bytes, map.buffer.data(), &map.key, &stride, &map.version);
  if (!is_error(status)) {
    map.bytes = map.buffer.first(std::min<std::size_t>(bytes, map.buffer.size()));
    map.stride = stride;
  }
  return status;
}

Result<Firmware::MemoryMap> Firmware::memory_map(std::size_t spare) const {
  MemoryMap map;
  std::uint64_t bytes = 0;
  std::uint64_t stride = 0;
  boot_->get_memory_map(&bytes, nullptr, &map.key, &stride, &map.version);
  const Result<std::span<std::byte>> buffer = allocate(bytes + spare * stride);
  if (!buffer) {
    return std::unexpected{buffer.error()};
  }
  map.buffer = *buffer;
  if (const Status status = refresh(map); is_error(status)) {
    boot_->free_pool(buffer->data());
    return std::unexpected{Failure{"the memory map cannot be read"sv, status}};
  }
  return map;
}

}  // namespace accede::efi
