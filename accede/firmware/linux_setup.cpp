#include "accede/firmware/linux_setup.hpp"

#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace accede::firmware {
namespace {

using abi::linux_boot::kSetupHeaderOffset;
using abi::linux_boot::SetupHeader;
using enum LinuxBootErrorKind;

constexpr PhysAddr k4GiB{(4_GiB).value()};
/// The byte after which the header's length is counted: the target of its jump instruction.
constexpr std::size_t kJumpEnd = 0x202 - kSetupHeaderOffset;
/// Through init_size, which protocol 2.12 has.
constexpr std::size_t kLeastHeader = offsetof(SetupHeader, init_size) + 4;

std::unexpected<LinuxBootError> fail(LinuxBootErrorKind kind, std::uint64_t value = 0,
                                     std::uint64_t limit = 0) {
  return std::unexpected{LinuxBootError{kind, value, limit}};
}

std::expected<void, LinuxBootError> check(const SetupHeader& header, Bytes code) {
  if ((header.xloadflags & abi::linux_boot::kXlfKernel64) == 0) {
    return fail(kNo64BitEntry);
  }
  const std::uint32_t alignment = header.kernel_alignment;
  if (!std::has_single_bit(alignment) || alignment < 4096) {
    return fail(kBadAlignment, alignment);
  }
  if (header.init_size < code.value() || header.init_size == 0) {
    return fail(kInitSizeTooSmall, header.init_size, code.value());
  }
  return {};
}

}  // namespace

std::expected<LinuxSetup, LinuxBootError> LinuxSetup::parse(std::span<const std::byte> header,
                                                            Bytes code) {
  const ByteReader reader{header};
  if (header.size() < kLeastHeader) {
    return fail(kHeaderTruncated, header.size(), kLeastHeader);
  }
  // So far everything that a check needs is there; the header's own length is judged after that.
  std::array<std::byte, sizeof(SetupHeader)> raw{};
  std::ranges::copy(header.first(std::min(header.size(), raw.size())), raw.begin());
  const auto seen = std::bit_cast<SetupHeader>(raw);
  if (seen.boot_flag != abi::linux_boot::kBootFlag ||
      seen.header != abi::linux_boot::kHeaderMagic) {
    return fail(kNotLinux);
  }
  if (seen.version < abi::linux_boot::kVersion212) {
    return fail(kProtocolTooOld, seen.version, abi::linux_boot::kVersion212);
  }
  const std::size_t declared = kJumpEnd + (seen.jump >> 8U);
  if (declared < kLeastHeader || declared > header.size()) {
    return fail(kHeaderTruncated, std::min(declared, header.size()),
                std::max(declared, kLeastHeader));
  }
  if (declared > kMostHeaderBytes) {
    return fail(kHeaderTooLong, declared, kMostHeaderBytes);
  }
  LinuxSetup setup;
  setup.declared_ = declared;
  std::ranges::copy(header.first(declared), setup.bytes_.begin());
  setup.header_ = *ByteReader{setup.bytes_}.read_struct<SetupHeader>(0);
  if (const auto good = check(setup.header_, code); !good) {
    return std::unexpected{good.error()};
  }
  return setup;
}

PlaceNeeds LinuxSetup::kernel_place() const {
  const PhysAddr preferred{header_.pref_address};
  return {.size = Bytes{header_.init_size},
          .alignment = Bytes{header_.kernel_alignment},
          .lowest = preferred,
          .limit = data_place(Bytes{0}).limit,
          .preferred = preferred,
          .only_preferred = header_.relocatable_kernel == 0};
}

PlaceNeeds LinuxSetup::initrd_place(Bytes size) const {
  PlaceNeeds needs{.size = size};
  if (!reaches_above_4g()) {
    needs.limit = PhysAddr{std::uint64_t{header_.initrd_addr_max} + 1};
  }
  return needs;
}

PlaceNeeds LinuxSetup::data_place(Bytes size) const {
  PlaceNeeds needs{.size = size};
  if (!reaches_above_4g()) {
    needs.limit = k4GiB;
  }
  return needs;
}

std::expected<void, LinuxBootError> LinuxSetup::check_command_line(std::string_view text) const {
  if (text.size() > header_.cmdline_size) {
    return fail(kCommandLineTooLong, text.size(), header_.cmdline_size);
  }
  const auto nul = std::ranges::find(text, '\0');
  if (nul != text.end()) {
    return fail(kCommandLineHasNul, static_cast<std::uint64_t>(nul - text.begin()));
  }
  return {};
}

std::expected<void, LinuxBootError> LinuxSetup::check_initrd(PhysRange initrd) const {
  if (!initrd.empty() && initrd_place(Bytes{0}).limit < initrd.end()) {
    return fail(kInitrdTooHigh, initrd.end().value() - 1, header_.initrd_addr_max);
  }
  return {};
}

std::expected<void, LinuxBootError> LinuxSetup::check_reach(PhysRange data) const {
  if (data_place(Bytes{0}).limit < data.end()) {
    return fail(kAbove4G, data.begin().value());
  }
  return {};
}

std::expected<void, LinuxBootError> LinuxSetup::check_kernel(PhysRange kernel) const {
  if (const auto reach = check_reach(kernel); !reach) {
    return reach;
  }
  if (!kernel_place().met_by(kernel)) {
    return fail(kKernelMisplaced, kernel.begin().value(), header_.pref_address);
  }
  return {};
}

}  // namespace accede::firmware
