// The firmware as our UEFI programs use it: a few calls with error values instead of statuses.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/emulator/reporter.hpp"

#include <cstddef>
#include <cstdint>
#include <expected>
#include <new>
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

  /// `count` default-made objects in pool memory.
  template <class T>
  [[nodiscard]] Result<std::span<T>> allocate_array(std::size_t count) const {
    const auto memory = allocate(count * sizeof(T));
    if (!memory) {
      return std::unexpected{memory.error()};
    }
    T* const first = reinterpret_cast<T*>(memory->data());
    for (std::size_t i = 0; i < count; ++i) {
      new (first + i) T{};
    }
    return std::span{first, count};
  }

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

  /// The one instance of a protocol, whoever has it; nullptr when nobody does.
  template <class Protocol>
  [[nodiscard]] Protocol* locate(const abi::efi::Guid& guid) const {
    void* interface = nullptr;
    const abi::efi::Status status = boot_->locate_protocol(&guid, nullptr, &interface);
    return is_error(status) ? nullptr : static_cast<Protocol*>(interface);
  }

  /// Installs a protocol on `handle`, or on a new handle when it is null.
  [[nodiscard]] Result<void> install(abi::efi::Handle* handle, const abi::efi::Guid& guid,
                                     void* interface) const;

  /// The whole file at `path` (backslashes) on the volume that we were started from.
  [[nodiscard]] Result<std::span<std::byte>> read_file(std::string_view path) const;

  /// Time stamp counter ticks a second, measured against the firmware's timer: 15 ms.
  [[nodiscard]] std::uint64_t measure_tsc() const;

  /// A copy of the memory map; `bytes` is exactly the map, at the begin of `buffer`.
  struct MemoryMap {
    std::span<std::byte> bytes;
    std::size_t stride = 0;
    std::span<std::byte> buffer{};
    std::uint64_t key = 0;
    std::uint32_t version = 0;
  };
  /// Descriptors by which a map may grow between two calls: each allocation can split one, and
  /// older firmware forgets the unaccepted ones when it says how much room it needs (fixed in
  /// edk2-stable202511).
  static constexpr std::size_t kSpareDescriptors = 64;
  /// With room for `spare` more descriptors than the firmware says. The buffer is pool memory.
  [[nodiscard]] Result<MemoryMap> memory_map(std::size_t spare = kSpareDescriptors) const;
  /// The map as it is now, into the same buffer. Allocates nothing.
  [[nodiscard]] abi::efi::Status refresh(MemoryMap& map) const;

 private:
  abi::efi::Handle image_;
  abi::efi::SystemTable* system_;
  abi::efi::BootServices* boot_;
};

}  // namespace accede::efi
