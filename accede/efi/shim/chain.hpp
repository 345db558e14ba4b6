// The images that are started one by another, watched by way of the firmware's own services.
#pragma once

#include "accede/efi/firmware.hpp"
#include "accede/efi/shim/guide.hpp"

#include <array>
#include <cstddef>

namespace accede::efi::shim {

/// From begin() to end() StartImage and ExitBootServices of the boot services go through `guide`:
/// it sees every image before it runs, and whoever leaves. One at a time: a UEFI service has no
/// context argument. Not copied or moved.
class Chain {
 public:
  Chain(const Firmware& firmware, Guide& guide) : firmware_{firmware}, guide_{guide} {}
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  void begin();
  /// False when somebody else replaced a service after begin() and did not put it back: the
  /// firmware calls this program for ever.
  [[nodiscard]] bool end();

  /// Images that run at the same time, one started by another; more than anybody chains. Those
  /// above it are not remembered.
  static constexpr std::size_t kMostRunning = 16;

 private:
  using BootServices = abi::efi::BootServices;
  using Handle = abi::efi::Handle;
  using Status = abi::efi::Status;

  static Status ACCEDE_EFIAPI start_image(Handle image, std::uint64_t* exit_data_bytes,
                                          abi::efi::Char16** exit_data);
  static Status ACCEDE_EFIAPI exit_boot_services(Handle image, std::uint64_t key);

  [[nodiscard]] Role look_at(Handle image);
  [[nodiscard]] std::optional<Role> role_of(Handle image) const;

  struct Running {
    Handle image = nullptr;
    Role role = Role::kNoKernel;
  };

  const Firmware& firmware_;
  Guide& guide_;
  decltype(BootServices::start_image) start_image_ = nullptr;
  decltype(BootServices::exit_boot_services) exit_boot_services_ = nullptr;
  std::array<Running, kMostRunning> running_{};
  std::size_t depth_ = 0;  ///< may be more than kMostRunning
  bool exit_called_ = false;
};

}  // namespace accede::efi::shim
