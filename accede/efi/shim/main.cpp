// accede-shim.efi: started in place of a kernel or boot loader, which it starts. A kernel that
// cannot accept memory finds all of it accepted; one that can is left alone.

#include "accede/efi/machine_protocol.hpp"
#include "accede/efi/platform.hpp"
#include "accede/efi/shim/acceptance.hpp"
#include "accede/efi/shim/chain.hpp"
#include "accede/efi/shim/guide.hpp"
#include "accede/efi/shim/target.hpp"

namespace accede::efi::shim {

using namespace std::string_view_literals;
namespace {

using abi::efi::Handle;
using abi::efi::Status;

/// How long a message stays before the boot manager goes on and perhaps clears the screen.
constexpr std::uint64_t kReadingMicroseconds = 3'000'000;

/// Says why nothing was started; the status for the boot manager.
Status refuse(const Firmware& firmware, std::string_view image, std::string_view why,
              Status status) {
  say(firmware, image, image.empty() ? ""sv : ": "sv, why);
  firmware.boot().stall(kReadingMicroseconds);
  return is_error(status) ? status : Status::kUnsupported;
}

/// By the handles that have it: LocateProtocol finds what a kernel is to find, which on accede's
/// machine may be less.
abi::efi::MemoryAcceptanceHandshake* find_handshake(const Firmware& firmware) {
  constexpr auto& kGuid = abi::efi::kMemoryAcceptanceHandshakeProtocol;
  std::uint64_t count = 0;
  Handle* handles = nullptr;
  const Status status = firmware.boot().locate_handle_buffer(abi::efi::kLocateByProtocol, &kGuid,
                                                             nullptr, &count, &handles);
  if (is_error(status) || count == 0) {
    return nullptr;
  }
  const auto found = firmware.protocol<abi::efi::MemoryAcceptanceHandshake>(handles[0], kGuid);
  firmware.boot().free_pool(handles);
  return found.value_or(nullptr);
}

Surroundings look_around(const Firmware& firmware) {
  const auto platform = MachinePlatform::detect();
  if (!platform) {
    say(firmware, platform.error());
  }
  return {.platform = platform ? platform->kind() : guest::PlatformKind::kNone,
          .lenient = firmware.locate<MachineProtocol>(MachineProtocol::kGuid) != nullptr,
          .handshake = find_handshake(firmware)};
}

/// Starts `image` and watches what it starts.
Status watch(const Firmware& firmware, const Surroundings& around, UnacceptedMemory& memory,
             Handle image) {
  Guide guide{firmware, around, memory};
  Chain chain{firmware, guide};
  chain.begin();
  const Status status = firmware.boot().start_image(image, nullptr, nullptr);
  if (!chain.end()) {
    say(firmware, "an image left its hooks in the firmware: the machine starts again"sv);
    firmware.boot().stall(kReadingMicroseconds);
    firmware.system().runtime_services->reset_system(abi::efi::ResetType::kCold, Status::kSuccess,
                                                     0, nullptr);
  }
  return status;
}

Status start(const Firmware& firmware, const Target& target, Handle image) {
  const Surroundings around = look_around(firmware);
  auto memory = UnacceptedMemory::find(firmware);
  if (!memory) {
    firmware.boot().unload_image(image);
    return refuse(firmware, {}, memory.error().what, memory.error().status);
  }
  const bool plain = around.platform == guest::PlatformKind::kNone && memory->total() == Bytes{};
  if (plain) {
    memory->release();
    return firmware.boot().start_image(image, nullptr, nullptr);
  }
  const Status status = watch(firmware, around, *memory, image);
  memory->release();
  if (is_error(status)) {
    say(firmware, target.path.view(), ": came back"sv);
    firmware.boot().stall(kReadingMicroseconds);
  }
  return status;
}

Status run(const Firmware& firmware) {
  const auto target = choose_target(firmware);
  if (!target) {
    return refuse(firmware, {}, target.error().what, target.error().status);
  }
  const std::string_view path = target->path.view();
  const auto file = read_target(firmware, *target);
  if (!file) {
    return refuse(firmware, path, file.error().what, file.error().status);
  }
  if (const std::string_view why = why_no_program(*file); !why.empty()) {
    firmware.boot().free_pool(file->data());
    return refuse(firmware, path, why, Status::kUnsupported);
  }
  const auto image = load_target(firmware, *target, *file);
  firmware.boot().free_pool(file->data());
  if (!image) {
    return refuse(firmware, path, image.error().what, image.error().status);
  }
  return start(firmware, *target, *image);
}

}  // namespace
}  // namespace accede::efi::shim

extern "C" accede::abi::efi::Status efi_main(accede::abi::efi::Handle image,
                                             accede::abi::efi::SystemTable* system) {
  const accede::efi::Firmware firmware{image, *system};
  return accede::efi::shim::run(firmware);
}
