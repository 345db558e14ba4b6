#include "accede/inspect/kernel_capabilities.hpp"

#include "accede/inspect/release.hpp"

#include <array>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

namespace accede::inspect {
namespace {

using image::KernelSignal;
using image::Knows;

/// The stub's signals, as reports name them.
struct StubSignal {
  std::optional<std::size_t> image::UnacceptedSupport::* offset;
  std::string_view name;
};
constexpr StubSignal kTableReader{&image::UnacceptedSupport::table_reader,
                                  "stub: reads the unaccepted table"};
constexpr StubSignal kAcceptor{&image::UnacceptedSupport::acceptor, "stub: accepts memory"};
constexpr StubSignal kTableGuid{&image::UnacceptedSupport::table_guid,
                                "stub: GUID of the unaccepted table"};
constexpr StubSignal kTableBuilder{&image::UnacceptedSupport::table_builder,
                                   "stub: makes the unaccepted table"};
constexpr StubSignal kStubTdx{&image::UnacceptedSupport::tdx_accept, "stub: accepts on TDX"};
constexpr StubSignal kStubSnp{&image::UnacceptedSupport::sev_snp, "stub: knows SEV-SNP"};
constexpr StubSignal kHandshakeText{&image::UnacceptedSupport::handshake_text,
                                    "stub: message about the handshake"};
constexpr StubSignal kHandshakeGuid{&image::UnacceptedSupport::handshake_guid,
                                    "stub: GUID of the handshake protocol"};

class Conclusions {
 public:
  Conclusions(const Report& report, const KernelFindings& findings)
      : findings_{findings}, release_{parse_release(report.version)} {}

  /// Those of the signals that were found.
  [[nodiscard]] std::vector<Evidence> found(std::initializer_list<KernelSignal> kernel,
                                            std::initializer_list<StubSignal> stub = {}) const {
    std::vector<Evidence> evidence;
    for (const StubSignal& signal : stub) {
      if (findings_.stub && (*findings_.stub).*signal.offset) {
        evidence.push_back({std::string{signal.name}, "file",
                            findings_.stub_base + *((*findings_.stub).*signal.offset)});
      }
    }
    for (const KernelSignal signal : kernel) {
      if (findings_.kernel && (*findings_.kernel)[signal]) {
        evidence.push_back({std::string{image::to_string(signal)}, findings_.kernel_place,
                            findings_.kernel_base + *(*findings_.kernel)[signal]});
      }
    }
    return evidence;
  }

  /// What shows that a search of the kernel works; empty when it does not.
  [[nodiscard]] std::vector<Evidence> landmarks() const {
    auto evidence =
        found({KernelSignal::kBanner, KernelSignal::kFreePagesCounter, KernelSignal::kCommandLine});
    for (Evidence& landmark : evidence) {
      landmark.signal = "nothing of it where there is the " + landmark.signal;
    }
    return evidence.size() == 3 ? evidence : std::vector<Evidence>{};
  }

  /// What the configuration says of `option`; kUnknown without a configuration.
  [[nodiscard]] Knows configured(const char* option) const {
    if (!findings_.config) {
      return Knows::kUnknown;
    }
    return findings_.config->contains(option) ? Knows::kYes : Knows::kNo;
  }

  [[nodiscard]] Evidence config_evidence(const std::string& option) const {
    const auto mark = (*findings_.kernel)[KernelSignal::kConfig].value_or(0);
    const bool set = findings_.config->contains(option);
    return {"CONFIG_" + option + (set ? "=" + findings_.config->at(option) : " is not set"),
            findings_.kernel_place, findings_.kernel_base + mark};
  }

  /// The rule of conclude_kernel() for a feature with these signals, which `option` configures.
  /// `sufficient`: a kernel with the option has the feature.
  [[nodiscard]] Capability judge(std::vector<Evidence> signals, const char* option,
                                 bool sufficient) const {
    const Knows configuration = configured(option);
    Capability result{.evidence = std::move(signals)};
    const bool found_any = !result.evidence.empty();
    if (configuration == Knows::kNo) {
      result.value = found_any ? Knows::kUnknown : Knows::kNo;
      result.confidence = Confidence::kCertain;
      result.evidence.push_back(config_evidence(option));
      return result;
    }
    if (configuration == Knows::kYes && (sufficient || found_any)) {
      result.evidence.push_back(config_evidence(option));
    }
    if (!result.evidence.empty()) {
      result.value = Knows::kYes;
      result.confidence = result.evidence.size() > 1 ? Confidence::kCertain : Confidence::kLikely;
      return result;
    }
    result.evidence = landmarks();
    if (!result.evidence.empty()) {
      result.value = Knows::kNo;
      result.confidence = Confidence::kCertain;
    }
    return result;
  }

  [[nodiscard]] Capability unaccepted_memory() const;
  [[nodiscard]] Capability unaccepted_on(const Capability& everywhere, const Capability& guest,
                                         Knows by_stub, std::vector<Evidence> own) const;
  [[nodiscard]] Capability handshake(const Capability& unaccepted) const;

  void name_backport(Capability& capability, Release first) const {
    if (capability.value == Knows::kYes && release_ && *release_ < first) {
      capability.backported_from = to_string(first);
    }
  }

 private:
  const KernelFindings& findings_;
  std::optional<Release> release_;
};

/// The decompressor has to accept what the kernel is unpacked to, so its answer counts where there
/// is one; the kernel itself must agree.
Capability Conclusions::unaccepted_memory() const {
  Capability kernel =
      judge(found({KernelSignal::kUnacceptedCounter, KernelSignal::kUnacceptedMeminfo,
                   KernelSignal::kUnacceptedTable}),
            "UNACCEPTED_MEMORY", true);
  if (!findings_.stub) {
    return kernel;
  }
  const Knows stub = findings_.stub->accepts;
  auto evidence = found({}, {kTableReader, kAcceptor, kTableGuid, kTableBuilder});
  evidence.insert(evidence.end(), kernel.evidence.begin(), kernel.evidence.end());
  kernel.evidence = std::move(evidence);
  if (kernel.value == Knows::kUnknown) {
    // Not unpacked, or contradicting itself: the decompressor alone is one witness.
    const bool contradiction = findings_.config.has_value();
    kernel.value = contradiction ? Knows::kUnknown : stub;
    kernel.confidence = Confidence::kLikely;
  } else if (stub == Knows::kUnknown) {
    kernel.confidence = Confidence::kLikely;
  } else if (stub != kernel.value) {
    kernel.value = Knows::kUnknown;
  }
  return kernel;
}

/// `everywhere` for one platform, whose guest the kernel has to be, and whose own signs of
/// acceptance are `own`.
Capability Conclusions::unaccepted_on(const Capability& everywhere, const Capability& guest,
                                      Knows by_stub, std::vector<Evidence> own) const {
  Capability result = everywhere;
  if (everywhere.value == Knows::kYes) {
    result.evidence.insert(result.evidence.end(), own.begin(), own.end());
    const bool confirmed = by_stub == Knows::kYes || (!findings_.stub && !own.empty());
    if (guest.value == Knows::kNo) {
      result = guest;
    } else if (!confirmed) {
      result.value = Knows::kUnknown;
    }
  }
  return result;
}

/// Only the stub calls it: an image without one leaves the question to what starts it.
Capability Conclusions::handshake(const Capability& unaccepted) const {
  Capability result{.evidence = found({}, {kHandshakeText, kHandshakeGuid})};
  if (findings_.stub && findings_.stub->handshake != Knows::kUnknown) {
    result.value = findings_.stub->handshake;
    result.confidence = Confidence::kCertain;
    if (result.value == Knows::kNo) {
      result.evidence = landmarks();
    }
  } else if (result.evidence.empty() && unaccepted.value == Knows::kNo) {
    result = unaccepted;
  }
  return result;
}

/// What only x86 has is not in an image for another architecture.
void conclude_other_machine(Report& report, const KernelFindings& findings) {
  const std::string machine{machine_tag(report.machine)};
  for (const Feature feature :
       {Feature::kSevGuest, Feature::kSnpGuest, Feature::kTdxGuest, Feature::kUnacceptedMemory,
        Feature::kUnacceptedMemoryTdx, Feature::kUnacceptedMemorySnp, Feature::kHandshake}) {
    report[feature] = {.value = Knows::kNo,
                       .confidence = Confidence::kCertain,
                       .evidence = {{"for " + (machine.empty() ? "another machine" : machine),
                                     "file", findings.machine_offset}}};
  }
}

void conclude_x86(Report& report, const Conclusions& from, const KernelFindings& findings) {
  auto& sev = report[Feature::kSevGuest];
  auto& snp = report[Feature::kSnpGuest];
  auto& tdx = report[Feature::kTdxGuest];
  auto& unaccepted = report[Feature::kUnacceptedMemory];
  sev = from.judge(from.found({KernelSignal::kSev, KernelSignal::kSevOld, KernelSignal::kSevEs}),
                   "AMD_MEM_ENCRYPT", true);
  snp = from.judge(from.found({KernelSignal::kSnp, KernelSignal::kSnpDevice}, {kStubSnp}),
                   "AMD_MEM_ENCRYPT", false);
  tdx = from.judge(
      from.found({KernelSignal::kTdxGuest, KernelSignal::kTdxSignature, KernelSignal::kTdxAccept}),
      "INTEL_TDX_GUEST", true);
  unaccepted = from.unaccepted_memory();
  const auto& stub = findings.stub;
  report[Feature::kUnacceptedMemoryTdx] =
      from.unaccepted_on(unaccepted, tdx, stub ? stub->accepts_on_tdx() : Knows::kUnknown,
                         from.found({KernelSignal::kTdxAccept}, {kStubTdx}));
  report[Feature::kUnacceptedMemorySnp] =
      from.unaccepted_on(unaccepted, snp, stub ? stub->accepts_on_snp() : Knows::kUnknown,
                         from.found({KernelSignal::kSnp}, {kStubSnp}));
  report[Feature::kHandshake] = from.handshake(unaccepted);
}

constexpr std::array<std::pair<Feature, Release>, 7> kFirstUpstream{{
    {Feature::kSevGuest, {4, 15}},
    {Feature::kSnpGuest, {5, 19}},
    {Feature::kTdxGuest, {5, 19}},
    {Feature::kUnacceptedMemory, {6, 5}},
    {Feature::kUnacceptedMemoryTdx, {6, 5}},
    {Feature::kUnacceptedMemorySnp, {6, 5}},
    {Feature::kHandshake, {6, 5}},
}};

std::string only_on(const Report& report) {
  const bool tdx = report.has(Feature::kUnacceptedMemoryTdx);
  const bool snp = report.has(Feature::kUnacceptedMemorySnp);
  return tdx == snp ? "" : tdx ? " (TDX only)" : " (SEV-SNP only)";
}

}  // namespace

void conclude_kernel(Report& report, const KernelFindings& findings) {
  const Conclusions from{report, findings};
  if (report.machine == Machine::kX86_64) {
    conclude_x86(report, from, findings);
  } else if (report.machine != Machine::kUnknown) {
    conclude_other_machine(report, findings);
  }
  Capability& kexec = report[Feature::kKexec];
  kexec = from.judge(from.found({KernelSignal::kKexec}), "KEXEC_CORE", true);
  kexec.confidence = Confidence::kCertain;  // a message of the one file that does it
  Capability& config = report[Feature::kEmbeddedConfig];
  if (findings.config) {
    config = {.value = Knows::kYes,
              .confidence = Confidence::kCertain,
              .evidence = from.found({KernelSignal::kConfig})};
  } else if (from.found({KernelSignal::kConfig}).empty() && !from.landmarks().empty()) {
    config = {
        .value = Knows::kNo, .confidence = Confidence::kCertain, .evidence = from.landmarks()};
  }
  for (const auto& [feature, release] : kFirstUpstream) {
    from.name_backport(report[feature], release);
  }
  if (report.has(Feature::kUnacceptedMemory) && findings.kernel && !findings.stub &&
      !(*findings.kernel)[KernelSignal::kUnacceptedTable]) {
    report.notes.emplace_back("no GUID of the unaccepted table: perhaps the interface before 6.5");
  }
}

Verdict kernel_verdict(const Report& report) {
  const auto value = [&](Feature feature) { return report[feature].value; };
  if (value(Feature::kTdxGuest) == Knows::kNo && value(Feature::kSnpGuest) == Knows::kNo) {
    constexpr const char* kNoGuest = "cannot be a TDX or SEV-SNP guest";
    return {.accept_all = kNoGuest, .handshake = kNoGuest, .never = kNoGuest};
  }
  Verdict verdict{.accept_all = "works, boots slowly: the firmware accepts all memory",
                  .handshake = "works; boots slowly unless the kernel asks for the handshake",
                  .never = "unknown: take firmware that accepts all memory"};
  if (report.has(Feature::kHandshake)) {
    verdict.handshake = "safe with lazy firmware" + only_on(report);
  } else if (value(Feature::kHandshake) == Knows::kNo) {
    verdict.handshake = "works, boots slowly: the kernel does not ask for the handshake";
  }
  if (report.has(Feature::kUnacceptedMemory)) {
    verdict.never = "safe with lazy firmware" + only_on(report);
  } else if (value(Feature::kUnacceptedMemory) == Knows::kNo) {
    verdict.never = "needs accept-all: sees only memory that the firmware accepted";
  }
  return verdict;
}

}  // namespace accede::inspect
