#include "accede/cli/decode_reading.hpp"

#include <array>

namespace accede::cli {
namespace {

constexpr std::string_view kDevice = "a trusted device is not set up as the command expects";

constexpr auto kSnp = std::to_array<CodeText>({
    {"SUCCESS", "the command did what was asked", "nothing is wrong"},
    {"INVALID_PLATFORM_STATE", "the firmware is in a state that does not allow the command",
     "INIT missing or done twice; SNP commands after a legacy INIT"},
    {"INVALID_GUEST_STATE", "the guest is in a state that does not allow the command",
     "LAUNCH_UPDATE after LAUNCH_FINISH, or activation of a running guest"},
    {"INVALID_CONFIG", "the platform's configuration does not allow the command",
     "SNP, SEV-ES or encryption not enabled in the BIOS on every socket"},
    {"INVALID_LENGTH", "a buffer is too short or too long",
     "a size query (normal with length 0), or a structure of another firmware version"},
    {"ALREADY_OWNED", "the platform has an owner already", "a second owner's certificate"},
    {"INVALID_CERTIFICATE", "a certificate cannot be used", "wrong or old certificate chain"},
    {"POLICY_FAILURE", "the guest's policy forbids it",
     "debug of a guest without DEBUG; SMT on though the policy says off; firmware older than "
     "the policy's minimum"},
    {"INACTIVE", "the guest has no ASID", "the command needs ACTIVATE first"},
    {"INVALID_ADDRESS", "an address is misaligned or not allowed",
     "not a page boundary, in reserved memory, or with the C-bit set"},
    {"BAD_SIGNATURE", "a signature is wrong", "wrong ID block, key or firmware file"},
    {"BAD_MEASUREMENT", "the guest is not what was expected",
     "the ID block's launch digest is of another firmware image, kernel or number of vCPUs"},
    {"ASID_OWNED", "the ASID belongs to another guest", "ACTIVATE with an ASID in use"},
    {"INVALID_ASID", "there is no such ASID for this kind of guest",
     "outside of the BIOS's split of ASIDs for SEV and SEV-ES/SNP"},
    {"WBINVD_REQUIRED", "caches must be written back on all CPUs", "WBINVD, then retry"},
    {"DFFLUSH_REQUIRED", "the data fabric must be flushed", "DF_FLUSH, then retry"},
    {"INVALID_GUEST", "there is no such guest", "a wrong handle or context page"},
    {"INVALID_COMMAND", "the firmware does not know the command", "firmware too old"},
    {"ACTIVE", "the guest is active", "DECOMMISSION before DEACTIVATE"},
    {"HWERROR_PLATFORM", "a hardware error; the platform is safe, the buffers may not be", "retry"},
    {"HWERROR_UNSAFE", "a hardware error; the platform is not safe to go on with", "reset"},
    {"UNSUPPORTED", "the firmware does not have this function", "firmware or processor too old"},
    {"INVALID_PARAM", "a parameter or reserved field is wrong",
     "a reserved field not zero; guest request: message header or sequence number refused"},
    {"RESOURCE_LIMIT", "the firmware is out of a resource", "too many guests or commands at once"},
    {"SECURE_DATA_INVALID", "the firmware's stored data are damaged",
     "SPI flash contents; the platform's keys must be made anew"},
    {"INVALID_PAGE_SIZE", "the RMP entry has another page size",
     "a 4K command on a 2M entry or the other way round: PSMASH first"},
    {"INVALID_PAGE_STATE", "the page is in another state",
     "the page was not given to the firmware (RMPUPDATE, immutable) before the command"},
    {"INVALID_MDATA_ENTRY", "page metadata do not fit", "swap-in with an entry of another page"},
    {"INVALID_PAGE_OWNER", "the page belongs to another guest", "a wrong ASID in the RMP"},
    {"AEAD_OFLOW", "the counter of authenticated messages is used up",
     "too many guest requests or swapped pages: the guest must end"},
    {"EXIT_RING_BUFFER", "the firmware left ring buffer mode", "a command by mailbox meanwhile"},
    {"RMP_INIT_REQUIRED", "the RMP must be initialized again", "SNP_INIT without INIT_RMP"},
    {"BAD_SVN", "the security version is too low", "a firmware roll-back"},
    {"BAD_VERSION", "the version is too low", "a firmware below the committed one"},
    {"SHUTDOWN_REQUIRED", "the platform must be shut down first", "DOWNLOAD_FIRMWARE with guests"},
    {"UPDATE_FAILED", "the firmware update failed", "the old firmware still runs"},
    {"RESTORE_REQUIRED", "the committed firmware must be restored", "a failed update"},
    {"RMP_INITIALIZATION_FAILED", "the RMP could not be initialized",
     "no memory for it reserved by the BIOS, or not on every socket"},
    {"INVALID_KEY", "the key is not available", "a VLEK report though no VLEK is loaded"},
    {"SHUTDOWN_INCOMPLETE", "the shutdown did not end", "memory is still assigned: reclaim, retry"},
    {"INCORRECT_BUFFER_LENGTH", "a buffer has another length than the firmware expects", kDevice},
    {"EXPAND_BUFFER_LENGTH_REQUEST", "the firmware needs a larger buffer", "retry with more pages"},
    {"SPDM_REQUEST", "the firmware wants an SPDM message sent", "normal during device set-up"},
    {"SPDM_ERROR", "the device's SPDM answer is wrong", kDevice},
    {"ERR_IN_DEV_CONN", "the connection to the device failed", kDevice},
    {"INVALID_DEV_CTX", "the device context is wrong", kDevice},
    {"INVALID_TDI_CTX", "the device interface's context is wrong", kDevice},
    {"INVALID_TDI", "there is no such device interface", kDevice},
    {"RECLAIM_REQUIRED", "pages must be reclaimed first", kDevice},
    {"IN_USE", "the object is in use", "another command works on it: retry"},
    {"INVALID_DEV_STATE", "the device is in another state", kDevice},
    {"INVALID_TDI_STATE", "the device interface is in another state", kDevice},
    {"DEV_CERT_CHANGED", "the device has another certificate",
     "the device was replaced or updated"},
    {"RESYNC_REQ", "the connection to the device must be set up again", kDevice},
    {"RESPONSE_TOO_LARGE", "the answer does not fit", "retry with a larger buffer"},
});

}  // namespace

std::span<const CodeText> snp_firmware_texts() {
  return kSnp;
}

}  // namespace accede::cli
