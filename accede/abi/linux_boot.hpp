// The x86 Linux boot protocol: the setup header of a bzImage, the zero page ("boot_params") that a
// boot loader fills, E820 entries and setup_data nodes.
//
// Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst, protocol 2.15 (reference: boot
// flow 3.2, 5.1).
#pragma once

#include "accede/abi/e820.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace accede::abi::linux_boot {

/// The setup header as it lies in the file and in the zero page, both at offset kSetupHeaderOffset.
struct [[gnu::packed]] SetupHeader {
  std::uint8_t setup_sects;  ///< 512-byte sectors of real-mode code; 0 means 4
  std::uint16_t root_flags;
  std::uint32_t syssize;  ///< protected-mode code in units of 16 bytes
  std::uint16_t ram_size;
  std::uint16_t vid_mode;
  std::uint16_t root_dev;
  std::uint16_t boot_flag;  ///< kBootFlag
  std::uint16_t jump;       ///< its high byte says where the header ends: 0x202 + that
  std::uint32_t header;     ///< kHeaderMagic
  std::uint16_t version;    ///< 0x020F is 2.15
  std::uint32_t realmode_switch;
  std::uint16_t start_sys_segment;
  std::uint16_t kernel_version;  ///< + 0x200: offset in the file of the version text; 0: none
  std::uint8_t type_of_loader;
  std::uint8_t loadflags;
  std::uint16_t setup_move_size;
  std::uint32_t code32_start;
  std::uint32_t ramdisk_image;
  std::uint32_t ramdisk_size;
  std::uint32_t bootsect_kludge;
  std::uint16_t heap_end_ptr;
  std::uint8_t ext_loader_version;
  std::uint8_t ext_loader_type;
  std::uint32_t cmd_line_ptr;
  std::uint32_t initrd_addr_max;   ///< highest address that the last byte of an initrd may have
  std::uint32_t kernel_alignment;  ///< of the load address, when relocatable
  std::uint8_t relocatable_kernel;
  std::uint8_t min_alignment;  ///< log2
  std::uint16_t xloadflags;    ///< kXlf*
  std::uint32_t cmdline_size;  ///< longest command line, without its final zero
  std::uint32_t hardware_subarch;
  std::uint64_t hardware_subarch_data;
  std::uint32_t payload_offset;  ///< from the start of the protected-mode code
  std::uint32_t payload_length;
  std::uint64_t setup_data;    ///< physical address of the first SetupData node
  std::uint64_t pref_address;  ///< where the kernel likes to lie
  std::uint32_t init_size;     ///< memory that it needs from its load address on
  std::uint32_t handover_offset;
  std::uint32_t kernel_info_offset;
};
inline constexpr std::size_t kSetupHeaderOffset = 0x1F1;
/// Where the header's place in the zero page ends.
inline constexpr std::size_t kSetupHeaderLimit = 0x290;
static_assert(sizeof(SetupHeader) == 0x26C - kSetupHeaderOffset);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, boot_flag) == 0x1FE);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, header) == 0x202);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, version) == 0x206);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, kernel_version) == 0x20E);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, type_of_loader) == 0x210);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, ramdisk_image) == 0x218);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, cmd_line_ptr) == 0x228);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, kernel_alignment) == 0x230);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, xloadflags) == 0x236);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, cmdline_size) == 0x238);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, payload_offset) == 0x248);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, setup_data) == 0x250);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, pref_address) == 0x258);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, init_size) == 0x260);
static_assert(kSetupHeaderOffset + offsetof(SetupHeader, kernel_info_offset) == 0x268);

inline constexpr std::uint16_t kBootFlag = 0xAA55;
inline constexpr std::uint32_t kHeaderMagic = 0x5372'6448;  // "HdrS"
/// First protocol with everything that a 64-bit loader needs (xloadflags).
inline constexpr std::uint16_t kVersion212 = 0x020C;
/// type_of_loader of a loader without a number of its own.
inline constexpr std::uint8_t kUndefinedLoader = 0xFF;
inline constexpr std::uint8_t kLoadedHigh = 1 << 0;  ///< loadflags

inline constexpr std::uint16_t kXlfKernel64 = 1 << 0;       ///< has the 64-bit entry point
inline constexpr std::uint16_t kXlfAbove4G = 1 << 1;        ///< all may lie above 4 GiB
inline constexpr std::uint16_t kXlfEfiHandover64 = 1 << 3;  ///< 64-bit EFI handover entry
inline constexpr std::uint16_t kXlfEfiKexec = 1 << 4;       ///< understands SETUP_EFI

/// Of the 64-bit entry point, from the load address of the protected-mode code.
inline constexpr std::uint64_t kEntry64Offset = 0x200;
/// The descriptors that a loader's GDT has: CS, and DS, ES, SS.
inline constexpr std::uint16_t kBootCs = 0x10;
inline constexpr std::uint16_t kBootDs = 0x18;

/// Entries that the zero page holds; more go into a SETUP_E820_EXT node.
inline constexpr std::size_t kMostE820Entries = 128;

/// How the kernel reaches EFI's tables; all addresses in two halves.
struct EfiInfo {
  std::uint32_t signature;  ///< kEfiLoader64
  std::uint32_t systab;
  std::uint32_t memdesc_size;
  std::uint32_t memdesc_version;
  std::uint32_t memmap;
  std::uint32_t memmap_size;
  std::uint32_t systab_hi;
  std::uint32_t memmap_hi;
};
static_assert(sizeof(EfiInfo) == 32);
inline constexpr std::uint32_t kEfiLoader64 = 0x3436'4C45;  // "EL64"

/// The zero page: what the kernel is told. Zero but for what the loader knows.
struct [[gnu::packed]] BootParams {
  std::array<std::byte, 0x70> screen_info_and_apm;
  std::uint64_t acpi_rsdp_addr;
  std::array<std::byte, 0xC0 - 0x78> disks;
  std::uint32_t ext_ramdisk_image;  ///< upper half of ramdisk_image
  std::uint32_t ext_ramdisk_size;
  std::uint32_t ext_cmd_line_ptr;
  std::array<std::byte, 0x13C - 0xCC> reserved1;
  std::uint32_t cc_blob_address;
  std::array<std::byte, 0x1C0 - 0x140> edid;
  EfiInfo efi_info;
  std::array<std::byte, 8> reserved2;
  std::uint8_t e820_entries;
  std::array<std::byte, 6> reserved3;
  std::uint8_t sentinel;  ///< 0, else the kernel takes the page for filled by an old loader
  std::uint8_t reserved4;
  SetupHeader hdr;
  std::array<std::byte, 0x2D0 - 0x26C> reserved5;
  std::array<e820::Entry, kMostE820Entries> e820_table;
  std::array<std::byte, 0x1000 - 0xCD0> reserved6;
};
static_assert(sizeof(BootParams) == 4096);
static_assert(offsetof(BootParams, acpi_rsdp_addr) == 0x70);
static_assert(offsetof(BootParams, ext_ramdisk_image) == 0xC0);
static_assert(offsetof(BootParams, cc_blob_address) == 0x13C);
static_assert(offsetof(BootParams, efi_info) == 0x1C0);
static_assert(offsetof(BootParams, e820_entries) == 0x1E8);
static_assert(offsetof(BootParams, sentinel) == 0x1EF);
static_assert(offsetof(BootParams, hdr) == kSetupHeaderOffset);
static_assert(offsetof(BootParams, e820_table) == 0x2D0);

/// Head of a setup_data node; `length` bytes follow.
struct SetupData {
  std::uint64_t next;  ///< physical address; 0: the last
  std::uint32_t type;
  std::uint32_t length;
};
static_assert(sizeof(SetupData) == 16);
inline constexpr std::uint32_t kSetupE820Ext = 1;  ///< data: e820::Entry each
inline constexpr std::uint32_t kSetupEfi = 4;

}  // namespace accede::abi::linux_boot
