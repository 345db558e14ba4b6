// UEFI boot services in a process: a memory map that a test makes up, and services that fail when
// it wants them to. Allocated memory is real, and its address is not in the map.
#pragma once

#include "accede/abi/efi.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/guest/memory_map.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

namespace accede::efi::test {

namespace wire = abi::efi;
using wire::Status;

/// One at a time: a UEFI service has no context argument.
class FakeFirmware {
 public:
  FakeFirmware() {
    current() = this;
    services_.get_memory_map = get_memory_map;
    services_.allocate_pool = allocate_pool;
    services_.free_pool = free_pool;
    services_.allocate_pages = allocate_pages;
    services_.free_pages = free_pages;
    services_.install_configuration_table = install_configuration_table;
    services_.exit_boot_services = exit_boot_services;
    services_.calculate_crc32 = calculate_crc32;
    system_.boot_services = &services_;
  }
  ~FakeFirmware() {
    for (const auto& [address, bytes] : memory_) {
      std::free(reinterpret_cast<void*>(address));
    }
    current() = nullptr;
  }
  FakeFirmware(const FakeFirmware&) = delete;
  FakeFirmware& operator=(const FakeFirmware&) = delete;

  void add(wire::MemoryType type, std::uint64_t begin, std::uint64_t end) {
    map.push_back({.type = static_cast<std::uint32_t>(type),
                   .padding = 0,
                   .physical_start = begin,
                   .virtual_start = 0,
                   .number_of_pages = (end - begin) / 4096,
                   .attribute = 0xF});
  }
  [[nodiscard]] Firmware firmware() { return Firmware{nullptr, system_}; }
  /// Pages and pools that were not freed.
  [[nodiscard]] std::size_t allocations() const { return memory_.size(); }
  /// The unaccepted table that the configuration table names.
  [[nodiscard]] const void* published() const {
    const auto found =
        std::ranges::find(tables_, wire::kLinuxUnacceptedTable, &wire::ConfigurationTable::guid);
    return found == tables_.end() ? nullptr : found->table;
  }
  void publish(void* table) { install_configuration_table(&wire::kLinuxUnacceptedTable, table); }

  static constexpr std::uint64_t kStride = 48;
  /// What every table has that was summed up anew.
  static constexpr std::uint32_t kCrc = 0xC0C0;

  std::vector<wire::MemoryDescriptor> map;
  /// Descriptors that the size question forgets (edk2 before stable202511).
  std::size_t forgotten = 0;
  bool no_reclaim_memory = false;
  bool no_tables = false;
  /// Called at each ExitBootServices, before the key is looked at; may change the map.
  std::function<void(int call)> before_exit = [](int) {};
  int exit_calls = 0;
  int map_calls_after_exit = 0;
  int other_calls_after_exit = 0;
  std::uint64_t key = 1;

 private:
  static FakeFirmware*& current() {
    static FakeFirmware* instance = nullptr;
    return instance;
  }
  void count_call() { other_calls_after_exit += exit_calls != 0 ? 1 : 0; }

  void* take(std::uint64_t bytes, std::size_t alignment) {
    const std::uint64_t size =
        (std::max<std::uint64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* const memory = std::aligned_alloc(alignment, size);
    std::memset(memory, 0xAF, size);  // what edk2 fills pool memory with
    memory_[reinterpret_cast<std::uintptr_t>(memory)] = size;
    return memory;
  }
  Status release(std::uintptr_t address) {
    if (memory_.erase(address) == 0) {
      return Status::kNotFound;
    }
    std::free(reinterpret_cast<void*>(address));
    return Status::kSuccess;
  }

  static Status ACCEDE_EFIAPI get_memory_map(std::uint64_t* bytes, void* to, std::uint64_t* map_key,
                                             std::uint64_t* stride, std::uint32_t* version) {
    FakeFirmware& self = *current();
    self.map_calls_after_exit += self.exit_calls != 0 ? 1 : 0;
    *stride = kStride;
    *version = 1;
    *map_key = self.key;
    const std::uint64_t room = *bytes;
    const std::uint64_t need = self.map.size() * kStride;
    if (room < need) {
      *bytes = need - self.forgotten * kStride;
      return Status::kBufferTooSmall;
    }
    *bytes = need;
    for (std::size_t i = 0; i < self.map.size(); ++i) {
      std::memcpy(static_cast<std::byte*>(to) + i * kStride, &self.map[i], sizeof self.map[i]);
    }
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI allocate_pool(wire::MemoryType, std::uint64_t bytes, void** buffer) {
    current()->count_call();
    *buffer = current()->take(bytes, 16);
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI free_pool(void* buffer) {
    current()->count_call();
    return current()->release(reinterpret_cast<std::uintptr_t>(buffer));
  }
  static Status ACCEDE_EFIAPI allocate_pages(wire::AllocateType, wire::MemoryType type,
                                             std::uint64_t pages, std::uint64_t* address) {
    current()->count_call();
    if (current()->no_reclaim_memory && type == wire::MemoryType::kAcpiReclaim) {
      return Status::kOutOfResources;
    }
    *address = reinterpret_cast<std::uintptr_t>(current()->take(pages * 4096, 4096));
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI free_pages(std::uint64_t address, std::uint64_t) {
    current()->count_call();
    return current()->release(address);
  }
  static Status ACCEDE_EFIAPI install_configuration_table(const wire::Guid* guid, void* table) {
    FakeFirmware& self = *current();
    self.count_call();
    if (self.no_tables) {
      return Status::kOutOfResources;
    }
    std::erase_if(self.tables_, [&](const auto& entry) { return entry.guid == *guid; });
    if (table != nullptr) {
      self.tables_.push_back({.guid = *guid, .table = table});
    }
    self.system_.number_of_table_entries = self.tables_.size();
    self.system_.configuration_table = self.tables_.data();
    return Status::kSuccess;
  }
  static Status ACCEDE_EFIAPI exit_boot_services(wire::Handle, std::uint64_t map_key) {
    FakeFirmware& self = *current();
    self.before_exit(++self.exit_calls);
    return map_key == self.key ? Status::kSuccess : Status::kInvalidParameter;
  }

  static Status ACCEDE_EFIAPI calculate_crc32(const void*, std::uint64_t, std::uint32_t* crc) {
    *crc = kCrc;
    return Status::kSuccess;
  }

  wire::BootServices services_{};
  wire::SystemTable system_{};
  std::vector<wire::ConfigurationTable> tables_;
  std::map<std::uintptr_t, std::uint64_t> memory_;
};

}  // namespace accede::efi::test
