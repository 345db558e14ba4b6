#include "accede/inspect/claims.hpp"

#include "accede/inspect/release.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace accede::inspect {
namespace {

using image::Knows;

constexpr std::array<std::pair<std::string_view, Feature>, 5> kFeatureTags{{
    {"SEV_CAPABLE", Feature::kSevGuest},
    {"SEV_SNP_CAPABLE", Feature::kSnpGuest},
    {"TDX_CAPABLE", Feature::kTdxGuest},
    {"UNACCEPTED_MEMORY", Feature::kUnacceptedMemory},
    {"UEFI_COMPATIBLE", Feature::kEfiStub},
}};
constexpr std::array kMachines{Machine::kX86_64, Machine::kArm64, Machine::kRiscv64,
                               Machine::kLoongArch64};
constexpr std::string_view kKernelTag = "KERNEL_";

std::string kernel_tag(Release release) {
  return std::string{kKernelTag} + std::to_string(release.major) + "_" +
         std::to_string(release.minor);
}

/// Whether `tag` is true of the image; kUnknown for a tag that an image does not show.
Knows judge(const Report& report, std::string_view tag) {
  const auto* const feature =
      std::ranges::find(kFeatureTags, tag, [](const auto& known) { return known.first; });
  if (feature != kFeatureTags.end()) {
    return report[feature->second].value;
  }
  if (std::ranges::find(kMachines, tag, machine_tag) != kMachines.end()) {
    return report.machine == Machine::kUnknown  ? Knows::kUnknown
           : machine_tag(report.machine) == tag ? Knows::kYes
                                                : Knows::kNo;
  }
  if (tag.starts_with(kKernelTag)) {
    const auto release = parse_release(report.version);
    return !release ? Knows::kUnknown : kernel_tag(*release) == tag ? Knows::kYes : Knows::kNo;
  }
  return Knows::kUnknown;
}

}  // namespace

std::vector<std::string> tags_of(const Report& report) {
  std::vector<std::string> tags;
  for (const auto& [tag, feature] : kFeatureTags) {
    if (report.has(feature)) {
      tags.emplace_back(tag);
    }
  }
  if (const auto machine = machine_tag(report.machine); !machine.empty()) {
    tags.emplace_back(machine);
  }
  if (const auto release = parse_release(report.version)) {
    tags.push_back(kernel_tag(*release));
  }
  std::ranges::sort(tags);
  return tags;
}

ClaimCheck check_claims(const Report& report, std::span<const std::string> claims) {
  ClaimCheck check;
  for (const std::string& claim : claims) {
    const Knows truth = judge(report, claim);
    if (truth == Knows::kNo) {
      check.wrong.push_back(claim);
    } else if (truth == Knows::kUnknown) {
      check.unproven.push_back(claim);
    }
  }
  return check;
}

std::expected<std::vector<std::string>, std::string> parse_tags(std::string_view list) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  std::vector<std::string> tags;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view tag = list.substr(begin, end - begin);
    if (tag.empty() || tag.find_first_not_of(kLetters) != tag.npos) {
      return std::unexpected{std::string{tag}};
    }
    tags.emplace_back(tag);
    begin = end + 1;
  }
  return tags;
}

}  // namespace accede::inspect
