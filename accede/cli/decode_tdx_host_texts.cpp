#include "accede/cli/decode_reading.hpp"

#include <array>

namespace accede::cli {
namespace {

constexpr std::string_view kOrder = "the host calls in the wrong order";
constexpr std::string_view kBios = "the BIOS did not prepare all CPUs for TDX in the same way";
constexpr std::string_view kSmrr = "the BIOS left the SMM ranges unlocked or wrong";

constexpr auto kTexts = std::to_array<CodeText>({
    {"INVALID_RESUMPTION", "a resumed call has other operands than the interrupted one",
     "another call came between INTERRUPTED_RESUMABLE and its continuation"},
    {"EVENT_FILTER_INVALID", "a performance event filter is malformed", "a wrong TD_PARAMS"},
    {"EVENT_FILTER_ORDER_INVALID", "performance event filters do not ascend", "a wrong TD_PARAMS"},
    {"TD_ASSOCIATED_PAGES_EXIST", "the TD still owns pages",
     "the host reclaims the TDR before all other pages of the TD"},
    {"SYS_INIT_NOT_PENDING", "SYS.INIT was done already", "called twice, or after a failed start"},
    {"SYS_LP_INIT_NOT_DONE", "this CPU did not do SYS.LP.INIT",
     "the CPU came online after the module was started"},
    {"SYS_LP_INIT_DONE", "this CPU did SYS.LP.INIT already", "called twice on the CPU"},
    {"SYS_SHUTDOWN", "the module was shut down", "an update of the module, or a fatal error in it"},
    {"SYS_KEY_CONFIG_NOT_PENDING", "SYS.KEY.CONFIG is not due on this package",
     "done already on the package, or SYS.CONFIG is missing"},
    {"SYS_STATE_INCORRECT", "the module's state does not allow this call", kOrder},
    {"SYS_INVALID_HANDOFF", "the data of the module before the update cannot be taken over",
     "an update to a module that is too old or too new"},
    {"SYS_INCOMPATIBLE_SIGSTRUCT", "the module's signature structure does not fit",
     "an update with a file of another module"},
    {"SYS_LP_INIT_NOT_PENDING", "SYS.LP.INIT is not due", kOrder},
    {"INCOMPATIBLE_SEAM_CAPABILITIES", "the CPU lacks a SEAM capability that the module needs",
     "a module too new for the CPU's microcode"},
    {"CRYPTO_SELF_TEST_FAILED", "the module's cryptography failed its self-test",
     "a hardware fault or a damaged module"},
    {"TD_NON_DEBUG", "only a DEBUG TD allows this call",
     "reading or writing a TD's memory or registers from the host"},
    {"TDCS_NOT_ALLOCATED", "the TD has no control structure yet", "MNG.ADDCX is missing"},
    {"TDCX_NUM_INCORRECT", "the TD or vCPU has too few or too many control pages",
     "MNG.ADDCX or VP.ADDCX called too seldom or too often"},
    {"X2APIC_ID_NOT_UNIQUE", "two vCPUs would have the same x2APIC id",
     "VP.INIT with the id of another vCPU"},
    {"VCPU_ASSOCIATED", "the vCPU belongs to another CPU",
     "VP.FLUSH on the CPU where it ran last is missing"},
    {"VCPU_NOT_ASSOCIATED", "the vCPU belongs to no CPU",
     "VP.FLUSH of a vCPU that was flushed already: harmless"},
    {"TSC_ROLLBACK", "the time-stamp counter went back",
     "the host wrote the TSC or woke from sleep; or migration to a machine with less uptime"},
    {"INTERRUPTIBILITY_BLOCKED", "the vCPU cannot take an interrupt now", "nested VM entry"},
    {"TD_VMCS_FIELD_NOT_INITIALIZED", "a field of the TD's VMCS has no value yet",
     "the host did not write a field before VP.ENTER or nested entry"},
    {"TD_VMCS_FIELD_ERROR", "a field of the TD's VMCS has a wrong value", "nested VM entry"},
    {"KEY_GENERATION_FAILED", "the processor could make no key",
     "no entropy, or another CPU programs keys: retry"},
    {"TD_KEYS_NOT_CONFIGURED", "the TD's key is not configured on every package",
     "MNG.KEY.CONFIG missing on a package"},
    {"KEY_STATE_INCORRECT", "the TD's key is in another state", kOrder},
    {"KEY_CONFIGURED", "the key was configured already; a warning", "done twice on the package"},
    {"WBCACHE_NOT_COMPLETE", "caches are not written back on every package",
     "MNG.KEY.FREEID before PHYMEM.CACHE.WB was done everywhere"},
    {"HKID_NOT_FREE", "the private key id is in use", "a key id given twice"},
    {"NO_HKID_READY_TO_WBCACHE", "no key id waits for a cache write-back; a warning",
     "done already"},
    {"WBCACHE_RESUME_ERROR", "the cache write-back was continued on another package or afresh",
     "continue an interrupted write-back on the CPU where it began"},
    {"FLUSHVP_NOT_DONE", "vCPUs of the TD are still associated with CPUs",
     "MNG.VPFLUSHDONE before VP.FLUSH of each vCPU"},
    {"NUM_ACTIVATED_HKIDS_NOT_SUPPORTED", "more key ids than the module supports",
     "BIOS setting of the number of TDX keys"},
    {"INCORRECT_CPUID_VALUE", "CPUID does not say what the module needs", kBios},
    {"LIMIT_CPUID_MAXVAL_SET", "CPUID is limited to old leaves",
     "BIOS setting Limit CPUID Maximum"},
    {"INCONSISTENT_CPUID_FIELD", "CPUs disagree about CPUID", kBios},
    {"CPUID_MAX_SUBLEAVES_UNRECOGNIZED", "CPUID has more subleaves than the module knows",
     "a CPU newer than the module"},
    {"CPUID_LEAF_1F_FORMAT_UNRECOGNIZED",
     "the topology leaf has a form that the module "
     "does not know",
     "a CPU newer than the module"},
    {"INVALID_WBINVD_SCOPE", "WBINVD has a scope that the module cannot handle", kBios},
    {"INVALID_PKG_ID", "the package number is too high", "more sockets than the module supports"},
    {"ENABLE_MONITOR_FSM_NOT_SET", "MONITOR is disabled", kBios},
    {"CPUID_LEAF_NOT_SUPPORTED", "a needed CPUID leaf is missing", "a CPU older than the module"},
    {"SMRR_NOT_LOCKED", "the SMM range registers are not locked", kSmrr},
    {"INVALID_SMRR_CONFIGURATION", "the SMM range registers are wrong", kSmrr},
    {"SMRR_OVERLAPS_CMR", "the SMM range overlaps convertible memory", kSmrr},
    {"SMRR_LOCK_NOT_SUPPORTED", "the SMM range registers cannot be locked", kSmrr},
    {"SMRR_NOT_SUPPORTED", "there are no SMM range registers", kSmrr},
    {"INCONSISTENT_MSR", "CPUs disagree about an MSR", kBios},
    {"INCORRECT_MSR_VALUE", "an MSR does not hold what the module needs",
     "the BIOS or the host changed it; the low 32 bits are the number of the MSR"},
    {"SEAMREPORT_NOT_AVAILABLE", "the CPU cannot make attestation reports for the module",
     "microcode too old"},
    {"SEAMDB_GETREF_NOT_AVAILABLE", "the CPU has no SEAM database", "microcode too old"},
    {"SEAMDB_REPORT_NOT_AVAILABLE", "the CPU cannot report by the SEAM database",
     "microcode too old"},
    {"SEAMVERIFYREPORT_NOT_AVAILABLE", "the CPU cannot verify reports", "microcode too old"},
    {"INVALID_CPUSVN", "the report was made by a TCB that this CPU does not accept",
     "a report of another machine, or from before a microcode update"},
    {"INVALID_REPORTMACSTRUCT", "the report is not of this machine or was changed",
     "VERIFYREPORT of a report of another machine"},
});

}  // namespace

std::span<const CodeText> tdx_host_texts() {
  return kTexts;
}

}  // namespace accede::cli
