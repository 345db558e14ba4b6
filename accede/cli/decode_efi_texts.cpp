#include "accede/cli/decode_reading.hpp"

#include <array>

namespace accede::cli {
namespace {

constexpr std::string_view kNetwork = "network boot: server or cable";
constexpr std::string_view kDisk = "a damaged or removed medium";

constexpr auto kTexts = std::to_array<CodeText>({
    {"EFI_SUCCESS", "the call did what was asked", "nothing is wrong"},
    {"EFI_WARN_UNKNOWN_GLYPH", "characters could not be shown; a warning", "a text console"},
    {"EFI_WARN_DELETE_FAILURE", "the file was closed, not deleted; a warning",
     "a read-only medium"},
    {"EFI_WARN_WRITE_FAILURE", "the file was closed, not all was written; a warning", kDisk},
    {"EFI_WARN_BUFFER_TOO_SMALL", "data were cut to the buffer's size; a warning",
     "the buffer is too small"},
    {"EFI_WARN_STALE_DATA", "the data may be old; a warning", "a cache that was not refreshed"},
    {"EFI_WARN_FILE_SYSTEM", "the buffer holds a file system; a warning", "HTTP boot of an image"},
    {"EFI_WARN_RESET_REQUIRED", "a reset is needed; a warning", "firmware update"},
    {"EFI_LOAD_ERROR", "the image could not be loaded",
     "not a PE image for this machine, or a kernel's EFI stub that gave up: look for its own "
     "message"},
    {"EFI_INVALID_PARAMETER", "a parameter is wrong",
     "ExitBootServices: the map changed after GetMemoryMap (get it again and retry); allocation of "
     "type 15; memory acceptance that failed in EDK II"},
    {"EFI_UNSUPPORTED", "the function is not there, or not for this",
     "firmware without the protocol; Linux: an unaccepted-memory table of a version that it does "
     "not "
     "know, or SEV features that it does not know"},
    {"EFI_BAD_BUFFER_SIZE", "the buffer's size is not a multiple of the block size", "block I/O"},
    {"EFI_BUFFER_TOO_SMALL", "the buffer is too small; the needed size was returned",
     "normal for the first GetMemoryMap call; else the map grew between two calls"},
    {"EFI_NOT_READY", "nothing is there yet", "normal when a key is polled"},
    {"EFI_DEVICE_ERROR", "the device failed", kDisk},
    {"EFI_WRITE_PROTECTED", "the medium cannot be written", "a read-only medium or variable store"},
    {"EFI_OUT_OF_RESOURCES", "memory or another resource is used up",
     "little accepted memory: firmware gives out no unaccepted memory, so that a loader or stub "
     "below "
     "4 GiB runs out"},
    {"EFI_VOLUME_CORRUPTED", "the file system is damaged", kDisk},
    {"EFI_VOLUME_FULL", "the file system is full", "the EFI system partition is full"},
    {"EFI_NO_MEDIA", "no medium", "an empty drive"},
    {"EFI_MEDIA_CHANGED", "the medium was changed", "open the file system again"},
    {"EFI_NOT_FOUND", "what was looked for is not there",
     "no such file, variable, protocol or configuration table; a failed boot option"},
    {"EFI_ACCESS_DENIED", "access was refused",
     "Secure Boot refuses the image; memory-space calls on memory that the firmware owns"},
    {"EFI_NO_RESPONSE", "no answer", kNetwork},
    {"EFI_NO_MAPPING", "no address", kNetwork},
    {"EFI_TIMEOUT", "it took too long", "a device or server that does not answer"},
    {"EFI_NOT_STARTED", "it was not started", "a driver or network interface that is down"},
    {"EFI_ALREADY_STARTED", "it was started already", "installed or started twice"},
    {"EFI_ABORTED", "it was aborted", "a key was pressed, or a boot image returned"},
    {"EFI_ICMP_ERROR", "an ICMP error came", kNetwork},
    {"EFI_TFTP_ERROR", "a TFTP error came", kNetwork},
    {"EFI_PROTOCOL_ERROR", "a network protocol was broken", kNetwork},
    {"EFI_INCOMPATIBLE_VERSION", "the version does not fit", "a driver for other firmware"},
    {"EFI_SECURITY_VIOLATION", "a security rule was broken",
     "Secure Boot: the image is not signed by a key that the firmware trusts"},
    {"EFI_CRC_ERROR", "a checksum is wrong", kDisk},
    {"EFI_END_OF_MEDIA", "the medium ends here", "a read beyond the end"},
    {"EFI_END_OF_FILE", "the file ends here", "a read beyond the end"},
    {"EFI_INVALID_LANGUAGE", "the language is not known", "a wrong PlatformLang variable"},
    {"EFI_COMPROMISED_DATA", "the data were changed or are not trusted",
     "a failed integrity check; in EDK II also memory or CPUID of a confidential VM"},
    {"EFI_IP_ADDRESS_CONFLICT", "two machines have one address", kNetwork},
    {"EFI_HTTP_ERROR", "an HTTP error came", kNetwork},
});

}  // namespace

std::span<const CodeText> efi_texts() {
  return kTexts;
}

}  // namespace accede::cli
