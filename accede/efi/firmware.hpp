// The firmware as our UEFI programs use it: a few calls with error values instead of statuses.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/emulator/reporter.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

namespace accede::efi {

/// What went wrong, as one line of text with the firmware's status.
struct Failure {
  std::string_view what;
  abi::efi::Status status = abi::efi::Status::kSuccess;
};

inline constexpr std::string_view kMissingProtocol = "a protocol is missing";

template <class T>
using Result = std::expected<T, Failure>;

/// The firmware's tables and our own image. Copyable; valid until ExitBootServices.
class Firmware {
 public:
  Firmware(abi::efi::Handle image, abi::efi::SystemTable& system)
      : image_{image}, system_{&system}, boot_{system.boot_services} {}

  [[nodiscard]] abi::efi::Handle image() const { return image_; }
  [[nodiscard]] abi::efi::SystemTable& system() const { return *system_; }
  [[nodiscard]] abi::efi::BootServices& boot() const { return *boot_; }

  /// Prints on the firmware's console.
  void print(std::string_view text) const;

  /// Writes one line to the report port.
  static void report(emulator::JsonLine& line);

  [[noreturn]] void power_off() const;
  /// Reports and prints the failure, then powers off.
  [[noreturn]] void give_up(const Failure& failure) const;

  /// `bytes` of pool memory of type LoaderData.
  [[nodiscard]] Result<std::span<std::byte>> allocate(std::size_t bytes) const;

  /// The protocol `guid` of `handle`.
  template <class Protocol>
  [[nodiscard]] Result<Protocol*> protocol(abi::efi::Handle handle,
                                           const abi::efi::Guid& guid) const {
    void* interface = nullptr;
    const abi::efi::Status status = boot_->handle_protocol(handle, &guid, &interface);
    if (is_error(status)) {
      return std::unexpected{Failure{kMissingProtocol, status}};
    }
    return static_cast<Protocol*>(interface);
  }

  /// Installs a protocol on `handle`, or on a new handle when it is null.
  [[nodiscard]] Result<void> install(abi::efi::Handle* handle, const abi::efi::Guid& guid,
                                     void* interface) const;

  /// The whole file at `path` (backslashes) on the volume that we were started from.
  [[nodiscard]] Result<std::span<std::byte>> read_file(std::string_view path) const;

  /// Time stamp counter ticks a second, measured against the firmware's timer: 15 ms.
  [[nodiscard]] std::uint64_t measure_tsc() const;

  /// A copy of the memory map with room for it to grow; the span is exactly the map.
  struct MemoryMap {
    std::span<std::byte> bytes;
    std::size_t stride;
  };
  [[nodiscard]] Result<MemoryMap> memory_map() const;

 private:
  abi::efi::Handle image_;
  abi::efi::SystemTable* system_;
  abi::efi::BootServices* boot_;
};

}  // namespace accede::efi
