// UEFI wire formats: what a UEFI program and its firmware agree on in memory.
//
// Only the members that accede uses have a type; the rest of a table is an opaque pointer, so that
// every offset stays checked. Source: UEFI specification 2.10; EDKII protocols: edk2 headers'
// documented layouts (reference: boot flow sections 1 and 2).
#pragma once

#include "accede/base/byte_reader.hpp"
#include "accede/base/phys_range.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

/// UEFI functions use the Microsoft x64 calling convention whatever the compiler's own is.
#define ACCEDE_EFIAPI __attribute__((ms_abi))

namespace accede::abi::efi {

using Handle = void*;
using Char16 = char16_t;

/// EFI_STATUS. Errors have bit 63 set.
enum class Status : std::uint64_t {
  kSuccess = 0,
  kLoadError = 1 | (1ULL << 63),
  kInvalidParameter = 2 | (1ULL << 63),
  kUnsupported = 3 | (1ULL << 63),
  kBufferTooSmall = 5 | (1ULL << 63),
  kDeviceError = 7 | (1ULL << 63),
  kOutOfResources = 9 | (1ULL << 63),
  kNotFound = 14 | (1ULL << 63),
};

[[nodiscard]] constexpr bool is_error(Status status) {
  return (static_cast<std::uint64_t>(status) >> 63) != 0;
}

struct Guid {
  std::uint32_t data1;
  std::uint16_t data2;
  std::uint16_t data3;
  std::array<std::uint8_t, 8> data4;

  friend constexpr bool operator==(const Guid&, const Guid&) = default;
};
static_assert(sizeof(Guid) == 16);

inline constexpr Guid kLoadedImageProtocol{
    0x5B1B31A1, 0x9562, 0x11D2, {0x8E, 0x3F, 0x00, 0xA0, 0xC9, 0x69, 0x72, 0x3B}};
inline constexpr Guid kSimpleFileSystemProtocol{
    0x964E5B22, 0x6459, 0x11D2, {0x8E, 0x39, 0x00, 0xA0, 0xC9, 0x69, 0x72, 0x3B}};
inline constexpr Guid kDevicePathProtocol{
    0x09576E91, 0x6D3F, 0x11D2, {0x8E, 0x39, 0x00, 0xA0, 0xC9, 0x69, 0x72, 0x3B}};
inline constexpr Guid kLoadFile2Protocol{
    0x4006C0C1, 0xFCB3, 0x403E, {0x99, 0x6D, 0x4A, 0x6C, 0x87, 0x24, 0xE0, 0x6D}};
inline constexpr Guid kFileInfo{
    0x09576E92, 0x6D3F, 0x11D2, {0x8E, 0x39, 0x00, 0xA0, 0xC9, 0x69, 0x72, 0x3B}};
/// Vendor media device path under which Linux looks for its initrd (LoadFile2).
inline constexpr Guid kLinuxInitrdMedia{
    0x5568E427, 0x68FC, 0x4F3D, {0xAC, 0x74, 0xCA, 0x55, 0x52, 0x31, 0xCC, 0x68}};
/// EDKII_MEMORY_ACCEPT_PROTOCOL.
inline constexpr Guid kMemoryAcceptProtocol{
    0x38C74800, 0x5590, 0x4DB4, {0xA0, 0xF3, 0x67, 0x5D, 0x9B, 0x8E, 0x80, 0x26}};
/// OVMF_SEV_MEMORY_ACCEPTANCE_PROTOCOL: the handshake.
inline constexpr Guid kMemoryAcceptanceHandshakeProtocol{
    0xC5A010FE, 0x38A7, 0x4531, {0x8A, 0x4A, 0x05, 0x00, 0xD2, 0xFD, 0x16, 0x49}};

/// Configuration tables.
inline constexpr Guid kAcpi20Table{
    0x8868E871, 0xE4F1, 0x11D3, {0xBC, 0x22, 0x00, 0x80, 0xC7, 0x3C, 0x88, 0x81}};
inline constexpr Guid kAcpi10Table{
    0xEB9D2D30, 0x2D88, 0x11D3, {0x9A, 0x16, 0x00, 0x90, 0x27, 0x3F, 0xC1, 0x4D}};
/// LINUX_EFI_UNACCEPTED_MEM_TABLE_GUID.
inline constexpr Guid kLinuxUnacceptedTable{
    0xD5D1DE3C, 0x105C, 0x44F9, {0x9E, 0xA9, 0xBC, 0xEF, 0x98, 0x12, 0x00, 0x31}};
/// The confidential computing blob of an SEV-SNP guest (abi/sev.hpp).
inline constexpr Guid kConfidentialComputingBlob{
    0x067B1F5F, 0xCF26, 0x44C5, {0x85, 0x54, 0x93, 0xD7, 0x77, 0x91, 0x2D, 0x42}};

/// EFI_MEMORY_TYPE. Values from 0x80000000 belong to OS loaders.
enum class MemoryType : std::uint32_t {
  kReserved = 0,
  kLoaderCode = 1,
  kLoaderData = 2,
  kBootServicesCode = 3,
  kBootServicesData = 4,
  kRuntimeServicesCode = 5,
  kRuntimeServicesData = 6,
  kConventional = 7,
  kUnusable = 8,
  kAcpiReclaim = 9,
  kAcpiNvs = 10,
  kMemoryMappedIo = 11,
  kMemoryMappedIoPortSpace = 12,
  kPalCode = 13,
  kPersistent = 14,
  kUnaccepted = 15,
};

struct MemoryDescriptor {
  std::uint32_t type;
  std::uint32_t padding;
  std::uint64_t physical_start;
  std::uint64_t virtual_start;
  std::uint64_t number_of_pages;
  std::uint64_t attribute;
};
static_assert(sizeof(MemoryDescriptor) == 40);
static_assert(offsetof(MemoryDescriptor, physical_start) == 8);
static_assert(offsetof(MemoryDescriptor, number_of_pages) == 24);
static_assert(offsetof(MemoryDescriptor, attribute) == 32);

/// A GetMemoryMap result as untrusted bytes. Descriptors lie `stride` bytes apart, never
/// sizeof(MemoryDescriptor): firmware makes the two differ on purpose. Entries that do not fit
/// wholly are not there.
class MemoryMapView {
 public:
  /// Nothing when `stride` is smaller than a descriptor.
  [[nodiscard]] static constexpr std::optional<MemoryMapView> make(std::span<const std::byte> map,
                                                                   std::size_t stride) {
    if (stride < sizeof(MemoryDescriptor)) {
      return std::nullopt;
    }
    return MemoryMapView{map, stride};
  }

  [[nodiscard]] constexpr std::size_t size() const { return map_.size() / stride_; }

  /// Precondition: index < size().
  [[nodiscard]] constexpr MemoryDescriptor operator[](std::size_t index) const {
    ACCEDE_ASSERT(index < size());
    return *ByteReader{map_}.read_struct<MemoryDescriptor>(index * stride_);
  }

  /// The range that descriptor `index` names, or nothing when it wraps or is not page aligned.
  /// Precondition: index < size().
  [[nodiscard]] constexpr std::optional<PhysRange> range(std::size_t index) const {
    const MemoryDescriptor descriptor = (*this)[index];
    if (descriptor.number_of_pages > (~0ULL >> 12) || descriptor.physical_start % 4096 != 0) {
      return std::nullopt;
    }
    return PhysRange::make(PhysAddr{descriptor.physical_start},
                           PageCount{descriptor.number_of_pages}.bytes());
  }

 private:
  constexpr MemoryMapView(std::span<const std::byte> map, std::size_t stride)
      : map_{map}, stride_{stride} {}

  std::span<const std::byte> map_;
  std::size_t stride_;
};

struct TableHeader {
  std::uint64_t signature;
  std::uint32_t revision;
  std::uint32_t header_size;
  std::uint32_t crc32;
  std::uint32_t reserved;
};
static_assert(sizeof(TableHeader) == 24);

enum class AllocateType : std::uint32_t { kAnyPages = 0, kMaxAddress = 1, kAddress = 2 };
enum class ResetType : std::uint32_t { kCold = 0, kWarm = 1, kShutdown = 2 };

struct DevicePath {
  std::uint8_t type;
  std::uint8_t sub_type;
  std::array<std::uint8_t, 2> length;  ///< little-endian, header included
};
static_assert(sizeof(DevicePath) == 4);

struct SystemTable;

struct BootServices {
  using GetMemoryMapFn = Status(ACCEDE_EFIAPI*)(std::uint64_t* map_bytes, void* map,
                                                std::uint64_t* map_key, std::uint64_t* stride,
                                                std::uint32_t* version);
  using NotifyFn = void(ACCEDE_EFIAPI*)(void* event, void* context);

  TableHeader header;
  void* raise_tpl;
  void* restore_tpl;
  Status(ACCEDE_EFIAPI* allocate_pages)(AllocateType, MemoryType, std::uint64_t pages,
                                        std::uint64_t* address);
  Status(ACCEDE_EFIAPI* free_pages)(std::uint64_t address, std::uint64_t pages);
  GetMemoryMapFn get_memory_map;
  Status(ACCEDE_EFIAPI* allocate_pool)(MemoryType, std::uint64_t bytes, void** buffer);
  Status(ACCEDE_EFIAPI* free_pool)(void* buffer);
  Status(ACCEDE_EFIAPI* create_event)(std::uint32_t type, std::uint64_t tpl, NotifyFn,
                                      void* context, void** event);
  void* set_timer;
  void* wait_for_event;
  void* signal_event;
  void* close_event;
  void* check_event;
  Status(ACCEDE_EFIAPI* install_protocol_interface)(Handle*, const Guid*, std::uint32_t type,
                                                    void* interface);
  void* reinstall_protocol_interface;
  void* uninstall_protocol_interface;
  Status(ACCEDE_EFIAPI* handle_protocol)(Handle, const Guid*, void** interface);
  void* reserved;
  void* register_protocol_notify;
  void* locate_handle;
  void* locate_device_path;
  /// Adds a configuration table, replaces its address, or (nullptr) removes it.
  Status(ACCEDE_EFIAPI* install_configuration_table)(const Guid*, void* table);
  Status(ACCEDE_EFIAPI* load_image)(std::uint8_t boot_policy, Handle parent, const DevicePath*,
                                    const void* source, std::uint64_t source_bytes, Handle* image);
  Status(ACCEDE_EFIAPI* start_image)(Handle image, std::uint64_t* exit_data_bytes,
                                     Char16** exit_data);
  void* exit;
  Status(ACCEDE_EFIAPI* unload_image)(Handle image);
  Status(ACCEDE_EFIAPI* exit_boot_services)(Handle image, std::uint64_t map_key);
  void* get_next_monotonic_count;
  Status(ACCEDE_EFIAPI* stall)(std::uint64_t microseconds);
  Status(ACCEDE_EFIAPI* set_watchdog_timer)(std::uint64_t seconds, std::uint64_t code,
                                            std::uint64_t data_bytes, const Char16* data);
  void* connect_controller;
  void* disconnect_controller;
  void* open_protocol;
  void* close_protocol;
  void* open_protocol_information;
  void* protocols_per_handle;
  /// The handles, in pool memory that the caller frees, that have a protocol (kLocateByProtocol).
  Status(ACCEDE_EFIAPI* locate_handle_buffer)(std::uint32_t how, const Guid*, void* key,
                                              std::uint64_t* count, Handle** handles);
  Status(ACCEDE_EFIAPI* locate_protocol)(const Guid*, void* registration, void** interface);
  void* install_multiple_protocol_interfaces;
  void* uninstall_multiple_protocol_interfaces;
  Status(ACCEDE_EFIAPI* calculate_crc32)(const void* data, std::uint64_t bytes, std::uint32_t* crc);
};
static_assert(offsetof(BootServices, allocate_pages) == 40);
static_assert(offsetof(BootServices, get_memory_map) == 56);
static_assert(offsetof(BootServices, create_event) == 80);
static_assert(offsetof(BootServices, handle_protocol) == 152);
static_assert(offsetof(BootServices, install_configuration_table) == 192);
static_assert(offsetof(BootServices, load_image) == 200);
static_assert(offsetof(BootServices, exit_boot_services) == 232);
static_assert(offsetof(BootServices, stall) == 248);
static_assert(offsetof(BootServices, unload_image) == 224);
static_assert(offsetof(BootServices, locate_handle_buffer) == 312);
static_assert(offsetof(BootServices, locate_protocol) == 320);
static_assert(offsetof(BootServices, calculate_crc32) == 344);

inline constexpr std::uint32_t kLocateByProtocol = 2;

/// Event type of CreateEvent for a callback at ExitBootServices, and the level it runs at.
inline constexpr std::uint32_t kEventSignalExitBootServices = 0x201;
inline constexpr std::uint64_t kTplCallback = 8;

struct RuntimeServices {
  TableHeader header;
  std::array<void*, 6> unused;
  Status(ACCEDE_EFIAPI* get_variable)(const Char16* name, const Guid* vendor,
                                      std::uint32_t* attributes, std::uint64_t* bytes, void* data);
  void* get_next_variable_name;
  /// No bytes: removes the variable.
  Status(ACCEDE_EFIAPI* set_variable)(const Char16* name, const Guid* vendor,
                                      std::uint32_t attributes, std::uint64_t bytes,
                                      const void* data);
  void* get_next_high_monotonic_count;
  void(ACCEDE_EFIAPI* reset_system)(ResetType, Status, std::uint64_t bytes, const void* data);
};
static_assert(offsetof(RuntimeServices, get_variable) == 72);
static_assert(offsetof(RuntimeServices, set_variable) == 88);
static_assert(offsetof(RuntimeServices, reset_system) == 104);

/// Attributes of a variable.
inline constexpr std::uint32_t kVariableNonVolatile = 1;
inline constexpr std::uint32_t kVariableBootServices = 2;

struct SimpleTextOutput {
  void* reset;
  Status(ACCEDE_EFIAPI* output_string)(SimpleTextOutput*, const Char16*);
};

struct ConfigurationTable {
  Guid guid;
  void* table;
};

struct SystemTable {
  TableHeader header;
  const Char16* firmware_vendor;
  std::uint32_t firmware_revision;
  std::uint32_t padding;
  Handle console_in_handle;
  void* console_in;
  Handle console_out_handle;
  SimpleTextOutput* console_out;
  Handle standard_error_handle;
  void* standard_error;
  RuntimeServices* runtime_services;
  BootServices* boot_services;
  std::uint64_t number_of_table_entries;
  ConfigurationTable* configuration_table;
};
static_assert(offsetof(SystemTable, console_out) == 64);
static_assert(offsetof(SystemTable, runtime_services) == 88);
static_assert(offsetof(SystemTable, boot_services) == 96);
static_assert(offsetof(SystemTable, configuration_table) == 112);

struct LoadedImage {
  std::uint32_t revision;
  std::uint32_t padding;
  Handle parent_handle;
  SystemTable* system_table;
  Handle device_handle;
  DevicePath* file_path;
  void* reserved;
  std::uint32_t load_options_bytes;
  std::uint32_t padding2;
  void* load_options;
  void* image_base;
  std::uint64_t image_bytes;
  MemoryType image_code_type;
  MemoryType image_data_type;
  void* unload;
};
static_assert(offsetof(LoadedImage, device_handle) == 24);
static_assert(offsetof(LoadedImage, load_options) == 56);
static_assert(offsetof(LoadedImage, image_base) == 64);
static_assert(sizeof(LoadedImage) == 96);

struct FileProtocol {
  std::uint64_t revision;
  Status(ACCEDE_EFIAPI* open)(FileProtocol*, FileProtocol** opened, const Char16* name,
                              std::uint64_t mode, std::uint64_t attributes);
  Status(ACCEDE_EFIAPI* close)(FileProtocol*);
  void* remove;
  Status(ACCEDE_EFIAPI* read)(FileProtocol*, std::uint64_t* bytes, void* buffer);
  void* write;
  void* get_position;
  void* set_position;
  Status(ACCEDE_EFIAPI* get_info)(FileProtocol*, const Guid* type, std::uint64_t* bytes,
                                  void* buffer);
};
static_assert(offsetof(FileProtocol, get_info) == 64);
inline constexpr std::uint64_t kFileModeRead = 1;

/// Offset of FileSize (64 bits) in EFI_FILE_INFO.
inline constexpr std::size_t kFileInfoSizeOffset = 8;

struct SimpleFileSystem {
  std::uint64_t revision;
  Status(ACCEDE_EFIAPI* open_volume)(SimpleFileSystem*, FileProtocol** root);
};

struct LoadFile2 {
  Status(ACCEDE_EFIAPI* load_file)(LoadFile2*, const DevicePath*, std::uint8_t boot_policy,
                                   std::uint64_t* bytes, void* buffer);
};

struct MemoryAccept {
  Status(ACCEDE_EFIAPI* accept_memory)(MemoryAccept*, std::uint64_t start, std::uint64_t bytes);
};

/// The handshake: the caller says that the kernel it starts accepts memory itself.
struct MemoryAcceptanceHandshake {
  Status(ACCEDE_EFIAPI* allow_unaccepted_memory)(MemoryAcceptanceHandshake*);
};

}  // namespace accede::abi::efi
