#include "accede/efi/kernel/power.hpp"

#include "accede/abi/efi.hpp"

namespace accede::efi::kernel {
namespace {

using abi::efi::ResetType;
using abi::efi::RuntimeServices;
using abi::efi::Status;
using abi::efi::SystemTable;

constexpr std::uint64_t kSystemTableSignature = 0x5453'5953'2049'4249;      // "IBI SYST"
constexpr std::uint64_t kRuntimeServicesSignature = 0x5652'4553'544E'5552;  // "RUNTSERV"

}  // namespace

Power::Power(PhysAddr system_table) {
  const auto* const system = reinterpret_cast<const SystemTable*>(system_table.value());
  if (system == nullptr || system->header.signature != kSystemTableSignature) {
    return;
  }
  const RuntimeServices* const runtime = system->runtime_services;
  if (runtime != nullptr && runtime->header.signature == kRuntimeServicesSignature) {
    reset_system_ = reinterpret_cast<std::uintptr_t>(runtime->reset_system);
  }
}

void Power::power_off() const {
  asm volatile("cli" : : : "memory");
  if (reset_system_ != 0) {
    const auto reset = reinterpret_cast<decltype(RuntimeServices::reset_system)>(reset_system_);
    reset(ResetType::kShutdown, Status::kSuccess, 0, nullptr);
  }
}

}  // namespace accede::efi::kernel
