// The fake firmware with what the shim needs on top: variables, images that are started, a console,
// the service that accepts memory, and the DXE services over a memory space of its own.
#pragma once

#include "accede/abi/dxe_services.hpp"
#include "tests/efi/fake_firmware.hpp"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace accede::efi::test {

using wire::MemorySpaceType;

/// What a real firmware's descriptors of unaccepted memory can do: present, initialized, tested and
/// runtime among it.
inline constexpr std::uint64_t kCapabilities = 0x8700'0000'0000'000F;

class ShimFirmware : public FakeFirmware {
 public:
  struct Variable {
    std::uint32_t attributes = 0;
    std::vector<std::byte> data;
  };
  /// A piece of the memory space.
  struct Space {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    MemorySpaceType type = MemorySpaceType::kUnaccepted;
    std::uint64_t capabilities = kCapabilities;
  };

  ShimFirmware() {
    self() = this;
    add(wire::MemoryType::kConventional, 0, 1ULL << 31);
    wire::BootServices& boot = firmware().boot();
    boot.handle_protocol = handle_protocol;
    boot.locate_protocol = locate_protocol;
    boot.start_image = start_image;
    boot.unload_image = unload_image;
    boot.set_watchdog_timer = set_watchdog_timer;
    exit_below_ = boot.exit_boot_services;
    boot.exit_boot_services = exit_boot_services;
    runtime_.get_variable = get_variable;
    runtime_.set_variable = set_variable;
    console_.output_string = output_string;
    wire::SystemTable& system = firmware().system();
    system.runtime_services = &runtime_;
    system.console_out = &console_;
    services_.header.signature = wire::kDxeServicesSignature;
    services_.header.header_size = sizeof services_;
    services_.add_memory_space = add_memory_space;
    services_.remove_memory_space = remove_memory_space;
    services_.get_memory_space_descriptor = get_memory_space_descriptor;
    boot.install_configuration_table(&wire::kDxeServicesTable, &services_);
    acceptor_.accept_memory = accept_memory;
    handshake.allow_unaccepted_memory = allow_unaccepted_memory;
  }

  /// Unaccepted memory as both views of the firmware show it.
  void add_unaccepted(std::uint64_t begin, std::uint64_t end,
                      std::uint64_t capabilities = kCapabilities) {
    add(wire::MemoryType::kUnaccepted, begin, end);
    spaces.push_back({.begin = begin, .end = end, .capabilities = capabilities});
  }
  [[nodiscard]] std::uint64_t bytes_of(wire::MemoryType type) const {
    std::uint64_t sum = 0;
    for (const wire::MemoryDescriptor& entry : map) {
      sum += entry.type == static_cast<std::uint32_t>(type) ? entry.number_of_pages * 4096 : 0;
    }
    return sum;
  }

  /// An image as LoadImage placed it; `run` is what it does when it is started.
  wire::Handle load(std::vector<std::byte> placed, std::function<Status()> run) {
    images_.push_back({std::move(placed), std::move(run), {}});
    return reinterpret_cast<wire::Handle>(images_.size());
  }
  [[nodiscard]] bool printed(const std::string& text) const {
    return console.find(text) != std::string::npos;
  }

  std::map<std::u16string, Variable> variables;
  int variable_writes = 0;
  bool keeps_variables = true;
  std::string console;
  std::vector<Space> spaces;
  std::uint64_t added_capabilities = 0;
  std::uint64_t accepted_bytes = 0;
  bool accept_fails = false;
  bool add_fails = false;
  bool offers_acceptance = true;
  int promises = 0;
  wire::MemoryAcceptanceHandshake handshake{};
  std::vector<wire::Handle> unloaded;
  int starts = 0;
  int times_left = 0;  ///< successful calls of ExitBootServices

 private:
  struct Image {
    std::vector<std::byte> placed;
    std::function<Status()> run;
    wire::LoadedImage loaded;
  };

  static ShimFirmware*& self() {
    static ShimFirmware* instance = nullptr;
    return instance;
  }
  static Image& image_of(wire::Handle handle) {
    return self()->images_.at(reinterpret_cast<std::size_t>(handle) - 1);
  }
  /// As every call of boot services but two: not after the first ExitBootServices.
  static void count() { self()->other_calls_after_exit += self()->exit_calls != 0 ? 1 : 0; }

  static Status ACCEDE_EFIAPI handle_protocol(wire::Handle handle, const wire::Guid*,
                                              void** interface) {
    count();
    Image& image = image_of(handle);
    image.loaded.image_base = image.placed.data();
    image.loaded.image_bytes = image.placed.size();
    *interface = &image.loaded;
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI locate_protocol(const wire::Guid* guid, void*, void** interface) {
    count();
    if (*guid != wire::kMemoryAcceptProtocol || !self()->offers_acceptance) {
      return Status::kNotFound;
    }
    *interface = &self()->acceptor_;
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI start_image(wire::Handle handle, std::uint64_t*, wire::Char16**) {
    count();
    ++self()->starts;
    return image_of(handle).run();
  }
  static Status ACCEDE_EFIAPI exit_boot_services(wire::Handle handle, std::uint64_t map_key) {
    const Status status = self()->exit_below_(handle, map_key);
    self()->times_left += is_error(status) ? 0 : 1;
    return status;
  }
  static Status ACCEDE_EFIAPI unload_image(wire::Handle handle) {
    count();
    self()->unloaded.push_back(handle);
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI set_watchdog_timer(std::uint64_t, std::uint64_t, std::uint64_t,
                                                 const wire::Char16*) {
    count();
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI output_string(wire::SimpleTextOutput*, const wire::Char16* text) {
    count();
    for (; *text != 0; ++text) {
      self()->console.push_back(static_cast<char>(*text));
    }
    return Status::kSuccess;
  }

  static Status ACCEDE_EFIAPI get_variable(const wire::Char16* name, const wire::Guid*,
                                           std::uint32_t* attributes, std::uint64_t* bytes,
                                           void* data) {
    const auto found = self()->variables.find(name);
    if (found == self()->variables.end()) {
      return Status::kNotFound;
    }
    const std::uint64_t room = *bytes;
    *bytes = found->second.data.size();
    *attributes = found->second.attributes;
    if (room < *bytes) {
      return Status::kBufferTooSmall;
    }
    std::ranges::copy(found->second.data, static_cast<std::byte*>(data));
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI set_variable(const wire::Char16* name, const wire::Guid*,
                                           std::uint32_t attributes, std::uint64_t bytes,
                                           const void* data) {
    ShimFirmware& firmware = *self();
    ++firmware.variable_writes;
    if (!firmware.keeps_variables) {
      return Status::kOutOfResources;
    }
    if (bytes == 0) {
      return firmware.variables.erase(name) != 0 ? Status::kSuccess : Status::kNotFound;
    }
    const auto found = firmware.variables.find(name);
    if (found != firmware.variables.end() && found->second.attributes != attributes) {
      return Status::kInvalidParameter;
    }
    const auto* const first = static_cast<const std::byte*>(data);
    firmware.variables[name] = {.attributes = attributes, .data = {first, first + bytes}};
    return Status::kSuccess;
  }

  static Status ACCEDE_EFIAPI accept_memory(wire::MemoryAccept*, std::uint64_t,
                                            std::uint64_t bytes) {
    count();
    if (self()->accept_fails) {
      return Status::kDeviceError;
    }
    self()->accepted_bytes += bytes;
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI allow_unaccepted_memory(wire::MemoryAcceptanceHandshake*) {
    count();
    ++self()->promises;
    return Status::kSuccess;
  }

  static Status ACCEDE_EFIAPI get_memory_space_descriptor(std::uint64_t base,
                                                          wire::MemorySpaceDescriptor* to) {
    count();
    for (const Space& space : self()->spaces) {
      if (base >= space.begin && base < space.end) {
        *to = {.base = space.begin,
               .length = space.end - space.begin,
               .capabilities = space.capabilities,
               .attributes = 0,
               .type = space.type,
               .padding = 0,
               .image = nullptr,
               .device = nullptr};
        return Status::kSuccess;
      }
    }
    return Status::kNotFound;
  }
  /// Takes [begin, end) out of what is unaccepted in the map.
  void cut_map(std::uint64_t begin, std::uint64_t end) {
    std::vector<wire::MemoryDescriptor> old;
    old.swap(map);
    for (const wire::MemoryDescriptor& entry : old) {
      const std::uint64_t first = entry.physical_start;
      const std::uint64_t last = first + entry.number_of_pages * 4096;
      if (entry.type != static_cast<std::uint32_t>(wire::MemoryType::kUnaccepted) ||
          last <= begin || end <= first) {
        map.push_back(entry);
        continue;
      }
      if (first < begin) {
        add(wire::MemoryType::kUnaccepted, first, begin);
      }
      if (end < last) {
        add(wire::MemoryType::kUnaccepted, end, last);
      }
    }
  }
  static Status ACCEDE_EFIAPI remove_memory_space(std::uint64_t base, std::uint64_t bytes) {
    count();
    ShimFirmware& firmware = *self();
    const auto found = std::ranges::find_if(firmware.spaces, [&](const Space& space) {
      return space.begin <= base && base + bytes <= space.end;
    });
    if (found == firmware.spaces.end()) {
      return Status::kNotFound;
    }
    const Space whole = *found;
    firmware.spaces.erase(found);
    if (whole.begin < base) {
      firmware.spaces.push_back({whole.begin, base, whole.type, whole.capabilities});
    }
    if (base + bytes < whole.end) {
      firmware.spaces.push_back({base + bytes, whole.end, whole.type, whole.capabilities});
    }
    firmware.cut_map(base, base + bytes);
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI add_memory_space(MemorySpaceType type, std::uint64_t base,
                                               std::uint64_t bytes, std::uint64_t capabilities) {
    count();
    ShimFirmware& firmware = *self();
    if (firmware.add_fails || type != MemorySpaceType::kSystemMemory) {
      return Status::kUnsupported;
    }
    firmware.added_capabilities = capabilities;
    firmware.spaces.push_back({base, base + bytes, type, capabilities});
    firmware.add(wire::MemoryType::kConventional, base, base + bytes);
    ++firmware.key;
    return Status::kSuccess;
  }

  decltype(wire::BootServices::exit_boot_services) exit_below_ = nullptr;
  wire::RuntimeServices runtime_{};
  wire::SimpleTextOutput console_{};
  wire::DxeServices services_{};
  wire::MemoryAccept acceptor_{};
  std::vector<Image> images_;
};

}  // namespace accede::efi::test
