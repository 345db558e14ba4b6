#include "accede/cli/decode_reading.hpp"

#include <array>

namespace accede::cli {
namespace {

constexpr std::string_view kList = "a malformed list of fields";
constexpr std::string_view kStream =
    "the bundle was changed on its way, or bundles arrive in another order";
constexpr std::string_view kOrder = "the hosts call in the wrong order";
constexpr std::string_view kNested = "normal for a TD that runs nested VMs";

constexpr auto kTexts = std::to_array<CodeText>({
    {"METADATA_LIST_OVERFLOW", "the list of fields does not fit its buffer", kList},
    {"INVALID_METADATA_LIST_HEADER", "the header of a list of fields is wrong", kList},
    {"REQUIRED_METADATA_FIELD_MISSING", "a list of fields lacks one that it must have", kList},
    {"METADATA_ELEMENT_SIZE_INCORRECT", "an element has another size", kList},
    {"METADATA_LAST_ELEMENT_INCORRECT", "an array field has another length", kList},
    {"METADATA_FIELD_CURRENTLY_NOT_WRITABLE", "the field cannot be written in this state",
     "written after the TD was finalized or began to run"},
    {"METADATA_WR_MASK_NOT_VALID", "the write mask covers bits that cannot be written",
     "a mask of all ones where only some bits are writable"},
    {"METADATA_FIELD_SKIP", "the field was left out; a warning", "normal when a TD is imported"},
    {"VIRTUAL_MSR_VALUE_NOT_VALID", "a virtual MSR refuses the value", "reserved bits set"},
    {"METADATA_FIELD_NOT_ALLOCATED", "the field belongs to something that the TD does not have",
     "a field of a nested VM beyond NUM_L2_VMS"},
    {"SERVTD_ALREADY_BOUND_FOR_TYPE", "a service TD of this type is bound already", "bound twice"},
    {"SERVTD_TYPE_MISMATCH", "the service TD has another type", "a wrong operand"},
    {"SERVTD_ATTR_MISMATCH", "the service TD's attributes are others than agreed",
     "PREBIND and BIND differ"},
    {"SERVTD_INFO_HASH_MISMATCH", "the service TD's measurement is not the agreed one",
     "another build of the migration TD"},
    {"SERVTD_UUID_MISMATCH", "the service TD has another id", "it was restarted"},
    {"SERVTD_NOT_BOUND", "no service TD is bound", "migration without SERVTD.BIND"},
    {"SERVTD_BOUND", "a service TD is bound", "the call is only allowed without one"},
    {"TARGET_UUID_MISMATCH", "the target TD has another id", "it was migrated or recreated"},
    {"TARGET_UUID_UPDATED", "the target TD's id changed", "it was migrated: use the new id"},
    {"INVALID_MBMD", "the header of a migration bundle is wrong", kStream},
    {"INCORRECT_MBMD_MAC", "the header of a migration bundle is not authentic", kStream},
    {"NOT_WRITE_BLOCKED", "the page must be blocked for writing first", "EXPORT.BLOCKW is missing"},
    {"ALREADY_WRITE_BLOCKED", "the page was blocked for writing already; a warning",
     "blocked twice"},
    {"NOT_EXPORTED", "the page was not exported", kOrder},
    {"MIGRATION_STREAM_STATE_INCORRECT", "the migration stream is in another state", kOrder},
    {"MAX_MIGS_NUM_EXCEEDED", "too many migration streams", "more streams than the TD allows"},
    {"EXPORTED_DIRTY_PAGES_REMAIN", "pages changed after their export and were not sent again",
     "EXPORT.TRACK before all dirty pages are sent"},
    {"MIGRATION_DECRYPTION_KEY_NOT_SET", "the migration TD gave no key yet", kOrder},
    {"TD_NOT_MIGRATABLE", "the TD was created without the attribute MIGRATABLE",
     "ATTRIBUTES.MIGRATABLE is clear"},
    {"PREVIOUS_EXPORT_CLEANUP_INCOMPLETE", "the export before this one was not cleaned up",
     "EXPORT.RESTORE is missing for pages of an aborted export"},
    {"NUM_MIGS_HIGHER_THAN_CREATED", "fewer migration streams exist", "MIG.STREAM.CREATE missing"},
    {"IMPORT_MISMATCH", "the bundle does not fit what was imported before", kStream},
    {"MIGRATION_EPOCH_OVERFLOW", "too many migration epochs", "a migration that never converges"},
    {"MAX_EXPORTS_EXCEEDED", "the TD was exported too often", "many aborted migrations"},
    {"INVALID_PAGE_MAC", "a migrated page is not authentic", kStream},
    {"MIGRATED_IN_CURRENT_EPOCH", "the page was migrated in this epoch already",
     "a page sent twice without EXPORT.TRACK between"},
    {"DISALLOWED_IMPORT_OVER_REMOVED", "the page was removed here", kOrder},
    {"SOME_VCPUS_NOT_MIGRATED", "vCPUs are missing", kOrder},
    {"ALL_VCPUS_IMPORTED", "all vCPUs are here already", "a vCPU sent twice"},
    {"MIN_MIGS_NOT_CREATED", "too few migration streams", "MIG.STREAM.CREATE is missing"},
    {"VCPU_ALREADY_EXPORTED", "the vCPU was exported already", "a vCPU sent twice"},
    {"INVALID_MIGRATION_DECRYPTION_KEY", "the migration key is wrong",
     "the two migration TDs agreed on another key"},
    {"L2_EXIT_HOST_ROUTED_ASYNC", "a nested VM stopped, and the host shall look", kNested},
    {"L2_EXIT_HOST_ROUTED_TDVMCALL", "a nested VM called the host", kNested},
    {"L2_EXIT_PENDING_INTERRUPT", "a nested VM stopped for an interrupt", kNested},
    {"L2_VM_ENTRY_FAILED", "the nested VM could not be entered", "wrong state of the nested VM"},
    {"PENDING_INTERRUPT", "an interrupt waits; the nested VM was not entered", kNested},
    {"TD_EXIT_BEFORE_L2_ENTRY", "the TD exits to the host before it enters the nested VM", kNested},
    {"TD_EXIT_ON_L2_VM_EXIT", "the TD exits to the host as its nested VM stops", kNested},
    {"TD_EXIT_ON_L2_TO_L1", "the TD exits to the host between nested VM and L1", kNested},
    {"GLA_NOT_CANONICAL", "a linear address is not canonical", "a wrong operand of INVVPID"},
});

}  // namespace

std::span<const CodeText> tdx_migration_texts() {
  return kTexts;
}

}  // namespace accede::cli
