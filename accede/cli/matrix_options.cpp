#include "accede/cli/matrix_command.hpp"
#include "accede/cli/size_text.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace accede::cli {
namespace {

std::expected<std::vector<std::string>, Failure> check_platforms(
    const std::optional<std::string>& text) {
  std::vector<std::string> platforms = split_list(text.value_or("tdx,snp"));
  for (const std::string& platform : platforms) {
    if (platform != "tdx" && platform != "snp") {
      return std::unexpected{usage("--platform '" + platform + "': expected tdx, snp")};
    }
    if (std::ranges::count(platforms, platform) > 1) {
      return std::unexpected{usage("--platform " + *text + ": " + platform + " is there twice")};
    }
  }
  return platforms;
}

std::expected<std::string, Failure> check_kernels(const std::optional<std::string>& text) {
  constexpr std::size_t kCount = 2;
  const std::string kernels = text.value_or("debian-6.1,debian-6.12");
  const std::vector<std::string> parts = split_list(kernels);
  if (parts.size() != kCount || std::ranges::find(parts, "") != parts.end()) {
    return std::unexpected{
        usage("--kernels '" + kernels +
              "': expected two files or names, one that cannot accept memory and one that can")};
  }
  if (std::ranges::find(parts, kGuestName) != parts.end()) {
    return std::unexpected{
        usage("--kernels " + kernels + ": the matrix boots Linux; accede's own kernel is no row")};
  }
  return kernels;
}

}  // namespace

std::expected<MatrixOptions, Failure> check_matrix_options(const RawMatrixOptions& raw) {
  const auto platforms = check_platforms(raw.platform);
  if (!platforms) {
    return std::unexpected{platforms.error()};
  }
  const auto kernels = check_kernels(raw.kernels);
  if (!kernels) {
    return std::unexpected{kernels.error()};
  }
  MatrixOptions options{.platforms = {}, .json = raw.json};
  for (const std::string& platform : *platforms) {
    RawBootOptions boot;
    boot.platform = platform;
    boot.memory = raw.memory;
    boot.kernel = *kernels;
    boot.accept_cost = raw.accept_cost;
    boot.timeout = raw.timeout;
    auto checked = check_boot_options(boot);
    if (!checked) {
      return std::unexpected{checked.error()};
    }
    if (checked->memory < kLeastMatrixMemory) {
      return std::unexpected{usage("--memory " + *raw.memory + ": such a VM has no memory above " +
                                   "4 GiB to accept; at least " + format_size(kLeastMatrixMemory))};
    }
    options.platforms.push_back(std::move(*checked));
  }
  return options;
}

}  // namespace accede::cli
