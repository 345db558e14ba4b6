#include "accede/inspect/kernel_config.hpp"

#include "accede/inspect/decompress.hpp"

namespace accede::inspect {
namespace {

constexpr std::string_view kBegin = "IKCFG_ST";
constexpr std::string_view kEnd = "IKCFG_ED";
constexpr std::string_view kPrefix = "CONFIG_";
/// Real ones are 0.3 MB.
constexpr std::size_t kMostConfig = std::size_t{16} << 20;

}  // namespace

KernelConfig parse_kernel_config(std::string_view text) {
  KernelConfig config;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    const std::size_t equals = line.find('=');
    if (line.starts_with(kPrefix) && equals != line.npos) {
      config.emplace(line.substr(kPrefix.size(), equals - kPrefix.size()), line.substr(equals + 1));
    }
  }
  return config;
}

std::expected<KernelConfig, std::string> read_kernel_config(std::span<const std::byte> kernel,
                                                            std::size_t mark) {
  const auto behind = kernel.subspan(mark);
  const std::string_view text{reinterpret_cast<const char*>(behind.data()), behind.size()};
  const std::size_t end = text.find(kEnd);
  if (!text.starts_with(kBegin) || end == text.npos) {
    return std::unexpected{"embedded configuration has no end"};
  }
  const auto unpacked = decompress(behind.subspan(kBegin.size(), end - kBegin.size()), kMostConfig);
  if (!unpacked) {
    return std::unexpected{"embedded configuration: " + std::string{to_string(unpacked.error())}};
  }
  return parse_kernel_config({reinterpret_cast<const char*>(unpacked->data()), unpacked->size()});
}

}  // namespace accede::inspect
