#include "accede/firmware/linux_boot_error.hpp"

namespace accede::firmware {

using namespace std::string_view_literals;

std::string_view to_string(LinuxBootErrorKind kind) {
  using enum LinuxBootErrorKind;
  switch (kind) {
    case kHeaderTruncated:
      return "the kernel's setup header is cut off"sv;
    case kNotLinux:
      return "the file is no Linux kernel image"sv;
    case kProtocolTooOld:
      return "the kernel's boot protocol is too old"sv;
    case kHeaderTooLong:
      return "the kernel's setup header is longer than the boot protocol allows"sv;
    case kNo64BitEntry:
      return "the kernel has no 64-bit entry point"sv;
    case kBadAlignment:
      return "the kernel's setup header asks for an alignment that makes no sense"sv;
    case kInitSizeTooSmall:
      return "the kernel's setup header asks for less memory than the kernel's code takes"sv;
    case kCommandLineTooLong:
      return "the command line is longer than the kernel takes"sv;
    case kCommandLineHasNul:
      return "the command line has a zero byte inside"sv;
    case kInitrdTooHigh:
      return "the initrd lies higher than the kernel takes"sv;
    case kAbove4G:
      return "the kernel cannot reach what lies above 4 GiB"sv;
    case kKernelMisplaced:
      return "the kernel cannot run at its load address"sv;
    case kBadStride:
      return "the descriptors of the memory map are smaller than a descriptor"sv;
    case kBadDescriptor:
      return "a descriptor of the memory map wraps or is not page aligned"sv;
    case kOverlap:
      return "two descriptors of the memory map claim the same memory as different things"sv;
    case kE820Storage:
      return "the memory map has more entries than there is room for"sv;
    case kExtensionStorage:
      return "the E820 extension is larger than its storage"sv;
    case kNoMemory:
      return "the memory map has no usable memory"sv;
  }
  return "unknown error of the boot protocol"sv;
}

}  // namespace accede::firmware
