// Decides for every image that is started what becomes of unaccepted memory, and does it.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/shim/acceptance.hpp"
#include "accede/efi/shim/kernel_facts.hpp"
#include "accede/guest/platform.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::efi::shim {

/// One line on the console: "accede-shim: " and the pieces, texts.
template <class... Pieces>
void say(const Firmware& firmware, const Pieces&... pieces) {
  for (const std::string_view piece : {std::string_view{"accede-shim: ", 13},
                                       std::string_view{pieces}..., std::string_view{"\n", 1}}) {
    firmware.print(piece);
  }
}

/// What an image that was started means for who leaves boot services.
enum class Role : std::uint8_t {
  kNoKernel,  ///< a boot loader or something else: what it starts decides
  kAccepts,   ///< a kernel that accepts memory itself
  kServed,    ///< a kernel for which everything was accepted before it started
  kRefused,   ///< a kernel that cannot run here: it was not started
};

/// What the machine is, as far as a kernel's fate depends on it.
struct Surroundings {
  guest::PlatformKind platform = guest::PlatformKind::kNone;
  /// The platform runs kernels that do not know it: accede's emulator, as it is today.
  bool lenient = false;
  /// Speaks to the firmware for the kernel; nullptr: nobody to speak to.
  abi::efi::MemoryAcceptanceHandshake* handshake = nullptr;
};

/// Thread-compatible. Before ExitBootServices.
class Guide {
 public:
  Guide(const Firmware& firmware, const Surroundings& surroundings, UnacceptedMemory& memory)
      : firmware_{firmware}, around_{surroundings}, memory_{memory} {}

  /// `placed`, an image as LoadImage placed it, is about to be started. A kernel that cannot accept
  /// memory, or of which that is unknown, finds everything accepted; of everything that is not
  /// plain there is a line on the console.
  [[nodiscard]] Role before_start(std::span<const std::byte> placed);

  /// An image of that role leaves boot services. Returns false when memory was accepted for it: the
  /// map that it knows is wrong, and it has to read it again. Nothing: it was never seen.
  [[nodiscard]] bool before_exit(std::optional<Role> role);

 private:
  [[nodiscard]] KernelFacts facts_of(const KernelInImage& kernel);
  [[nodiscard]] bool may_run(const KernelInImage& kernel, const KernelFacts& facts) const;
  void accept_everything(Bytes total);

  const Firmware& firmware_;
  Surroundings around_;
  UnacceptedMemory& memory_;
};

}  // namespace accede::efi::shim
