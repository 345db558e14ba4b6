#include "accede/efi/shim/device_path.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"

#include <algorithm>
#include <array>

namespace accede::efi::shim {

namespace {

using abi::efi::DevicePath;

constexpr std::byte kEndType{0x7F};
constexpr std::array<std::byte, 4> kEnd{kEndType, std::byte{0xFF}, std::byte{4}, std::byte{0}};

std::byte byte_of(std::size_t value, unsigned index) {
  return static_cast<std::byte>(value >> (8 * index));
}

}  // namespace

abi::efi::Char16 DevicePathNode::character(std::size_t index) const {
  ACCEDE_ASSERT(index < characters());
  return *ByteReader{bytes_}.read<std::uint16_t>(kHeader + index * 2);
}

std::optional<DevicePathNode> DevicePathReader::next() {
  if (at_ == nullptr || at_[0] == kEndType) {
    return std::nullopt;
  }
  const std::size_t size =
      std::to_integer<std::size_t>(at_[2]) | std::to_integer<std::size_t>(at_[3]) << 8;
  if (size < DevicePathNode::kHeader || size > kMostBytes - used_) {
    at_ = nullptr;
    return std::nullopt;
  }
  const DevicePathNode node{{at_, size}};
  at_ += size;
  used_ += size;
  return node;
}

Result<DevicePath*> make_file_path(const Firmware& firmware, abi::efi::Handle device,
                                   std::string_view path) {
  const auto parent = firmware.protocol<DevicePath>(device, abi::efi::kDevicePathProtocol);
  if (!parent) {
    return nullptr;
  }
  std::size_t parent_bytes = 0;
  for (DevicePathReader nodes{*parent}; const auto node = nodes.next();) {
    parent_bytes += node->bytes().size();
  }
  const std::size_t node_bytes = DevicePathNode::kHeader + (path.size() + 1) * 2;
  const auto memory = firmware.allocate(parent_bytes + node_bytes + kEnd.size());
  if (!memory) {
    return std::unexpected{memory.error()};
  }
  auto at = std::ranges::copy(std::span{reinterpret_cast<const std::byte*>(*parent), parent_bytes},
                              memory->begin())
                .out;
  const std::array head{std::byte{4}, std::byte{4}, byte_of(node_bytes, 0), byte_of(node_bytes, 1)};
  at = std::ranges::copy(head, at).out;
  for (const char c : path) {
    *at++ = static_cast<std::byte>(c);
    *at++ = std::byte{0};
  }
  *at++ = std::byte{0};
  *at++ = std::byte{0};
  std::ranges::copy(kEnd, at);
  return reinterpret_cast<DevicePath*>(memory->data());
}

}  // namespace accede::efi::shim
