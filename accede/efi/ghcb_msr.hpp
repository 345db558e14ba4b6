// The GHCB MSR and VMGEXIT: how a UEFI program, and our kernel, reach the host of an SNP guest.
#pragma once

#include "accede/abi/ghcb.hpp"
#include "accede/emulator/cpu.hpp"
#include "accede/guest/snp_platform.hpp"

#include <concepts>
#include <cstdint>

namespace accede::efi {

/// What reaches the MSR: the processor, or a test.
///   hold_interrupts()     turns maskable interrupts off; says whether they were on
///   release_interrupts()  turns them on again when `were_on`
template <class T>
concept GhcbPort = requires(T& port, std::uint64_t value, bool were_on) {
  { port.read() } -> std::same_as<std::uint64_t>;
  { port.write(value) } -> std::same_as<void>;
  { port.exit() } -> std::same_as<void>;
  { port.hold_interrupts() } -> std::same_as<bool>;
  { port.release_interrupts(were_on) } -> std::same_as<void>;
};

/// The processor. Preconditions: an SNP guest at CPL 0.
struct CpuGhcbPort {
  [[nodiscard]] std::uint64_t read() const { return emulator::cpu::read_msr(abi::ghcb::kMsrGhcb); }
  void write(std::uint64_t value) const { emulator::cpu::write_msr(abi::ghcb::kMsrGhcb, value); }
  /// VMGEXIT: F3 0F 01 D9.
  void exit() const { asm volatile(".byte 0xF3, 0x0F, 0x01, 0xD9" : : : "memory"); }
  [[nodiscard]] bool hold_interrupts() const {
    std::uint64_t flags = 0;
    asm volatile("pushfq\n\tpopq %0\n\tcli" : "=r"(flags) : : "memory");
    constexpr std::uint64_t kInterruptFlag = 1U << 9;
    return (flags & kInterruptFlag) != 0;
  }
  void release_interrupts(bool were_on) const {
    if (were_on) {
      asm volatile("sti" : : : "memory");
    }
  }
};

/// A model of guest::GhcbTransport that shares the CPU with somebody who has a GHCB of his own: the
/// firmware, until boot services end. His handlers take the page that the MSR names, so interrupts
/// stay off and the MSR holds afterwards what it held before; and a host takes one registered page
/// of a CPU only (GHCB: Register GHCB GPA), so his is registered again. Where the MSR names our
/// page already, none of this costs an exit.
///
/// Stateless but for the port: as thread-safe as that. Longest step: three exits.
template <GhcbPort Port = CpuGhcbPort>
class BasicGhcbMsr {
 public:
  explicit BasicGhcbMsr(Port port = {}) : port_{port} {}

  [[nodiscard]] std::uint64_t msr_exchange(std::uint64_t request) {
    const Turn turn{port_};
    return turn.ask(request);
  }

  /// Precondition: can_register(ghcb) was true. Should the host refuse now, the page stays as the
  /// caller wrote it: an answer without progress.
  void page_exchange(PhysAddr ghcb) {
    const Turn turn{port_};
    if (turn.before() == ghcb.value()) {
      port_.exit();
      return;
    }
    if (turn.take(ghcb)) {
      port_.write(ghcb.value());
      port_.exit();
    }
    turn.register_previous();
  }

  /// Whether the host takes `ghcb`, a shared page, as a GHCB of this CPU.
  [[nodiscard]] bool can_register(PhysAddr ghcb) {
    const Turn turn{port_};
    const bool taken = turn.take(ghcb);
    turn.register_previous();
    return taken;
  }

  /// For a program that owns the CPU: registers `ghcb` for good and leaves it in the MSR. False:
  /// the host refuses, and the MSR is as it was.
  [[nodiscard]] bool keep(PhysAddr ghcb) {
    if (!Turn{port_}.take(ghcb)) {
      return false;
    }
    port_.write(ghcb.value());
    return true;
  }

  /// Asks the host to end the guest. What it does then is its own affair: the caller stops the CPU.
  void terminate(abi::ghcb::TerminateReason reason) {
    static_cast<void>(port_.hold_interrupts());
    port_.write(abi::ghcb::terminate_request(reason));
    port_.exit();
  }

 private:
  /// The MSR for the caller alone, as it was afterwards.
  class Turn {
   public:
    explicit Turn(Port& port)
        : port_{port}, were_on_{port.hold_interrupts()}, before_{port.read()} {}
    ~Turn() {
      port_.write(before_);
      port_.release_interrupts(were_on_);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    [[nodiscard]] std::uint64_t before() const { return before_; }

    [[nodiscard]] std::uint64_t ask(std::uint64_t request) const {
      port_.write(request);
      port_.exit();
      return port_.read();
    }
    [[nodiscard]] bool take(PhysAddr ghcb) const {
      return ask(abi::ghcb::register_ghcb_request(ghcb)) == abi::ghcb::register_ghcb_response(ghcb);
    }
    /// A GHCB's address has no code in the low bits; 0 is no address (GHCB: MSR protocol).
    void register_previous() const {
      if (before_ != 0 && abi::ghcb::MsrWord::Code::get(before_) == 0) {
        static_cast<void>(take(PhysAddr{before_}));
      }
    }

   private:
    Port& port_;
    bool were_on_;
    std::uint64_t before_;
  };

  [[no_unique_address]] Port port_;
};

using GhcbMsr = BasicGhcbMsr<>;
static_assert(guest::GhcbTransport<GhcbMsr>);

}  // namespace accede::efi
