#include "accede/efi/start_emulator.hpp"

#include "accede/efi/flat_image_file.hpp"
#include "accede/emulator/machine.hpp"
#include "accede/emulator/takeover.hpp"

#include <algorithm>

extern "C" {
extern const std::byte accede_emulator_image[];
extern const std::byte accede_emulator_image_end[];
}

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::Status;
using emulator::LaunchInfo;

std::span<const std::byte> image_file() {
  return {accede_emulator_image,
          static_cast<std::size_t>(accede_emulator_image_end - accede_emulator_image)};
}

template <std::size_t N>
std::uint32_t copy_ranges(std::span<const PhysRange> from, std::array<LaunchInfo::Range, N>& to) {
  std::ranges::transform(from, to.begin(), [](PhysRange range) {
    return LaunchInfo::Range{range.begin().value(), range.end().value()};
  });
  return static_cast<std::uint32_t>(from.size());
}

emulator::Personality personality_of(const LauncherConfig& config) {
  return config.platform == LauncherConfig::Platform::kSnp ? emulator::Personality::kSnp
                                                           : emulator::Personality::kTdx;
}

LaunchInfo describe_launch(const PlacedEmulator& placed, const LauncherConfig& config,
                           const MemoryPlan& plan) {
  LaunchInfo info{};
  info.version = LaunchInfo::kVersion;
  info.ram_count = copy_ranges(plan.ram.view(), info.ram);
  info.pending_count = copy_ranges(plan.pending.view(), info.pending);
  info.back_with_4k = config.back_with_4k ? 1 : 0;
  info.log_events = config.log_events ? 1 : 0;
  info.personality = personality_of(config);
  info.stop_on_unaccepted = config.stop_on_unaccepted ? 1 : 0;
  info.accept_cost_ns = config.accept_cost_ns;
  info.tsc_hz = placed.tsc_hz;
  info.hidden = {placed.hidden.begin().value(), placed.hidden.end().value()};
  info.image = {info.hidden.begin, info.hidden.begin + placed.image_bytes.value()};
  return info;
}

/// Reserved memory of at least `bytes`, in whole 2 MiB pages so that hiding it splits no page.
Result<PhysRange> reserve(const Firmware& firmware, Bytes bytes) {
  using enum abi::efi::AllocateType;
  const Bytes size = PhysAddr{bytes.value()}.align_up(2_MiB) - PhysAddr{0};
  std::uint64_t address = 0;
  Status status = Status::kOutOfResources;
  for (const abi::efi::AllocateType how : {kMaxAddress, kAnyPages}) {
    address = (4_GiB).value() - 1;
    status = firmware.boot().allocate_pages(how, abi::efi::MemoryType::kReserved,
                                            (size + 2_MiB).value() / 4096, &address);
    if (!is_error(status)) {
      break;
    }
  }
  if (is_error(status)) {
    return std::unexpected{Failure{"no memory for the emulator"sv, status}};
  }
  return *PhysRange::make(PhysAddr{address}.align_up(2_MiB), size);
}

}  // namespace

Result<PlacedEmulator> place_emulator(const Firmware& firmware, const LauncherConfig& config,
                                      const RangeList& ram) {
  const auto file = FlatImageFile::parse(image_file());
  if (!file) {
    return std::unexpected{Failure{to_string(file.error().kind)}};
  }
  const PhysAddr ram_end = ram.view().back().end();
  const Result<PhysRange> hidden =
      reserve(firmware, file->memory_bytes() + emulator::emulator_storage(ram.size(), ram_end,
                                                                          personality_of(config)));
  if (!hidden) {
    return std::unexpected{hidden.error()};
  }
  file->place({reinterpret_cast<std::byte*>(hidden->begin().value()), hidden->size().value()},
              hidden->begin());
  return PlacedEmulator{.hidden = *hidden,
                        .image_bytes = file->memory_bytes(),
                        .entry = file->entry_offset(),
                        .tsc_hz = firmware.measure_tsc()};
}

Result<void> enter_emulator(const PlacedEmulator& emulator, const LauncherConfig& config,
                            const MemoryPlan& plan) {
  const LaunchInfo info = describe_launch(emulator, config, plan);
  const auto entry =
      reinterpret_cast<accede::emulator::EntryFn>(emulator.hidden.begin().value() + emulator.entry);
  // Between here and the return the processor's owner changes: no interrupt may come in between.
  asm volatile("cli" : : : "memory");
  const std::int64_t outcome = entry(&info);
  asm volatile("sti" : : : "memory");
  if (outcome != 0) {
    return std::unexpected{Failure{accede::emulator::describe_entry_error(outcome)}};
  }
  return {};
}

}  // namespace accede::efi
