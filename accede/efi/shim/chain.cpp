#include "accede/efi/shim/chain.hpp"

#include "accede/efi/dxe_services.hpp"

#include <algorithm>
#include <span>

namespace accede::efi::shim {

namespace {

Chain* g_chain = nullptr;

}  // namespace

void Chain::begin() {
  BootServices& boot = firmware_.boot();
  g_chain = this;
  start_image_ = boot.start_image;
  exit_boot_services_ = boot.exit_boot_services;
  boot.start_image = start_image;
  boot.exit_boot_services = exit_boot_services;
  sum_up(firmware_, boot.header);
}

bool Chain::end() {
  BootServices& boot = firmware_.boot();
  if (boot.start_image != start_image || boot.exit_boot_services != exit_boot_services) {
    return false;
  }
  boot.start_image = start_image_;
  boot.exit_boot_services = exit_boot_services_;
  sum_up(firmware_, boot.header);
  g_chain = nullptr;
  return true;
}

Role Chain::look_at(Handle image) {
  const auto loaded =
      firmware_.protocol<abi::efi::LoadedImage>(image, abi::efi::kLoadedImageProtocol);
  if (!loaded || (*loaded)->image_base == nullptr) {
    return Role::kNoKernel;  // the firmware knows what it is, and says so when it starts it
  }
  return guide_.before_start(
      {static_cast<const std::byte*>((*loaded)->image_base), (*loaded)->image_bytes});
}

std::optional<Role> Chain::role_of(Handle image) const {
  const auto known = std::span{running_}.first(std::min(depth_, kMostRunning));
  const auto found = std::ranges::find(known, image, &Running::image);
  return found == known.end() ? std::nullopt : std::optional{found->role};
}

abi::efi::Status Chain::start_image(Handle image, std::uint64_t* exit_data_bytes,
                                    abi::efi::Char16** exit_data) {
  Chain& self = *g_chain;
  const Role role = self.look_at(image);
  if (role == Role::kRefused) {
    self.firmware_.boot().unload_image(image);  // as after every end of an application
    return Status::kUnsupported;
  }
  if (self.depth_ < kMostRunning) {
    self.running_[self.depth_] = {.image = image, .role = role};
  }
  ++self.depth_;
  const Status status = self.start_image_(image, exit_data_bytes, exit_data);
  --self.depth_;
  return status;
}

abi::efi::Status Chain::exit_boot_services(Handle image, std::uint64_t key) {
  Chain& self = *g_chain;
  const bool first = !self.exit_called_;
  self.exit_called_ = true;
  // After the first call only GetMemoryMap and ExitBootServices may be called, by us as well.
  if (first && !self.guide_.before_exit(self.role_of(image))) {
    // The caller's map is no more. The firmware is asked all the same: its own handlers run in the
    // first call, and what they change must not spoil the second. This key fits no map.
    const Status status = self.exit_boot_services_(image, ~key);
    return is_error(status) ? status : Status::kInvalidParameter;
  }
  return self.exit_boot_services_(image, key);
}

}  // namespace accede::efi::shim
