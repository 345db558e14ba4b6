#include "accede/inspect/report.hpp"

namespace accede::inspect {

using namespace std::string_view_literals;

std::string_view to_string(ImageKind kind) {
  switch (kind) {
    case ImageKind::kBzImage:
      return "bzImage"sv;
    case ImageKind::kVmlinux:
      return "vmlinux"sv;
    case ImageKind::kUki:
      return "uki"sv;
    case ImageKind::kZboot:
      return "zboot"sv;
    case ImageKind::kImage:
      return "image"sv;
    case ImageKind::kOvmf:
      return "ovmf"sv;
    case ImageKind::kDisk:
      return "disk"sv;
  }
  return "unknown"sv;
}

Machine machine_of(image::PeMachine machine) {
  using image::PeMachine;
  switch (machine) {
    case PeMachine::kX86_64:
      return Machine::kX86_64;
    case PeMachine::kArm64:
      return Machine::kArm64;
    case PeMachine::kRiscv64:
      return Machine::kRiscv64;
    case PeMachine::kLoongArch64:
      return Machine::kLoongArch64;
    case PeMachine::kI386:
      return Machine::kOther;
  }
  return Machine::kOther;
}

std::string_view machine_tag(Machine machine) {
  switch (machine) {
    case Machine::kX86_64:
      return "X86_64"sv;
    case Machine::kArm64:
      return "ARM64"sv;
    case Machine::kRiscv64:
      return "RISCV64"sv;
    case Machine::kLoongArch64:
      return "LOONGARCH64"sv;
    case Machine::kUnknown:
    case Machine::kOther:
      return {};
  }
  return {};
}

std::string_view to_string(Feature feature) {
  switch (feature) {
    case Feature::kSevGuest:
      return "sev_guest"sv;
    case Feature::kSnpGuest:
      return "snp_guest"sv;
    case Feature::kTdxGuest:
      return "tdx_guest"sv;
    case Feature::kUnacceptedMemory:
      return "unaccepted_memory"sv;
    case Feature::kUnacceptedMemoryTdx:
      return "unaccepted_memory_tdx"sv;
    case Feature::kUnacceptedMemorySnp:
      return "unaccepted_memory_snp"sv;
    case Feature::kHandshake:
      return "handshake"sv;
    case Feature::kAcceptProtocol:
      return "accept_protocol"sv;
    case Feature::kKexec:
      return "kexec"sv;
    case Feature::kKexecTarget:
      return "kexec_target"sv;
    case Feature::kEmbeddedConfig:
      return "embedded_config"sv;
    case Feature::kEfiStub:
      return "efi_stub"sv;
  }
  return "unknown"sv;
}

std::string_view to_string(Confidence confidence) {
  return confidence == Confidence::kCertain ? "certain"sv : "likely"sv;
}

}  // namespace accede::inspect
