#include "tests/boot/probe/address_space.hpp"
#include "tests/boot/probe/probe.hpp"

#include <algorithm>
#include <array>

namespace probe {
namespace {

using accede::abi::efi::Status;
using accede::efi::Firmware;

constexpr auto kAborted = static_cast<Status>(21 | (1ULL << 63));

// An exception arrives without a context.
const Firmware* g_firmware = nullptr;

/// The command line as ASCII text.
std::string_view command_line(const Firmware& firmware, std::span<char> to) {
  const auto loaded = firmware.protocol<accede::abi::efi::LoadedImage>(
      firmware.image(), accede::abi::efi::kLoadedImageProtocol);
  if (!loaded) {
    firmware.give_up(loaded.error());
  }
  const auto* const wide = static_cast<const char16_t*>((*loaded)->load_options);
  const std::size_t length =
      std::min<std::size_t>((*loaded)->load_options_bytes / sizeof(char16_t), to.size());
  std::size_t used = 0;
  while (used < length && wide[used] != 0) {
    to[used] = static_cast<char>(wide[used]);
    ++used;
  }
  return {to.data(), used};
}

/// Takes the text up to `end` off the front of `rest`, and the separator.
std::string_view take_until(std::string_view& rest, char end) {
  const std::size_t length = static_cast<std::size_t>(std::ranges::find(rest, end) - rest.begin());
  const std::string_view part{rest.data(), length};
  rest.remove_prefix(std::min(length + 1, rest.size()));
  return part;
}

const Scenario* find(std::string_view name) {
  for (const auto family :
       {accept_scenarios(), conversion_scenarios(), vmcall_scenarios(),
        virtualization_exception_scenarios(), machine_scenarios(), snp_accept_scenarios(),
        snp_access_scenarios(), snp_ghcb_scenarios(), snp_ghcb_calls_scenarios(),
        snp_machine_scenarios(), snp_page_state_scenarios()}) {
    for (const Scenario& scenario : family) {
      if (scenario.name == name) {
        return &scenario;
      }
    }
  }
  return nullptr;
}

/// Runs the scenarios of a comma list in order; all of them, whatever goes wrong.
void run(Probe& probe, std::string_view names) {
  const AddressSpace address_space;
  while (!names.empty()) {
    const std::string_view name = take_until(names, ',');
    probe.begin(name);
    const Scenario* const scenario = find(name);
    if (scenario == nullptr) {
      probe.expect("the scenario exists", false);
      continue;
    }
    scenario->run(probe);
  }
}

Status run_command_line(const Firmware& firmware) {
  Probe probe{firmware};
  std::array<char, 1024> buffer{};
  std::string_view text = command_line(firmware, buffer);
  bool asked = false;
  while (!text.empty()) {
    constexpr std::string_view kKey = "probe=";
    std::string_view word = take_until(text, ' ');
    if (word.starts_with(kKey)) {
      asked = true;
      word.remove_prefix(kKey.size());
      run(probe, word);
    }
  }
  probe.expect("the command line names a scenario", asked);
  if (probe.good()) {
    firmware.print("probe: all good\n");
    return Status::kSuccess;
  }
  return kAborted;
}

}  // namespace

void stop_on_exception(const ExceptionFrame& frame) {
  Probe probe{*g_firmware};
  probe.begin("unexpected exception");
  probe.note("vector", frame.vector);
  probe.note("error code", frame.error);
  probe.note("RIP", frame.rip);
  g_firmware->give_up({"probe: an exception that no scenario expected"});
}

}  // namespace probe

extern "C" accede::abi::efi::Status efi_main(accede::abi::efi::Handle image,
                                             accede::abi::efi::SystemTable* system) {
  const accede::efi::Firmware firmware{image, *system};
  probe::g_firmware = &firmware;
  return probe::run_command_line(firmware);
}
