// The machine under the kernel: its parts in the order in which they come up, and what the sequence
// of run_kernel.hpp asks of them.
#pragma once

#include "accede/efi/kernel/boot_reader.hpp"
#include "accede/efi/kernel/clock.hpp"
#include "accede/efi/kernel/console.hpp"
#include "accede/efi/kernel/host_link.hpp"
#include "accede/efi/kernel/next_kernel.hpp"
#include "accede/efi/kernel/options.hpp"
#include "accede/efi/kernel/page_tables.hpp"
#include "accede/efi/kernel/power.hpp"
#include "accede/efi/platform.hpp"
#include "accede/guest/unaccepted_table.hpp"

#include <cstdint>
#include <expected>
#include <string_view>

namespace accede::efi::kernel {

/// A model of KernelServices. One object; its devices are in .bss.
class Machine {
 public:
  /// `platform` and what `host` names outlive the object. Precondition: the clock's frequency is
  /// possible.
  Machine(const BootReader& boot, MachinePlatform& platform, HostLink host);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Console, segments, traps, page tables, timer; interrupts are on afterwards. On SNP the console
  /// comes after the page tables, with the GHCB page that they show to the host. Does not return
  /// when one of them cannot be had.
  void start();

  void write_line(std::string_view line) const;
  void wait_for_host() const;
  [[nodiscard]] std::uint64_t ticks() const { return Clock::ticks(); }
  [[nodiscard]] std::uint64_t ns_of(std::uint64_t ticks) const { return clock_.ns_of(ticks); }
  [[nodiscard]] std::uint64_t now_ns() const { return clock_.now_ns(); }
  [[noreturn]] void panic(std::string_view text) const;
  void break_rule(FaultKind kind) const;
  void set_table(const guest::UnacceptedTable* table);
  void prepare_jump() const;
  [[noreturn]] void jump(const NextKernelEntry& next);
  [[noreturn]] void power_off();
  /// Gives the CPU away until the next interrupt; the timer's comes every millisecond.
  void idle() const;

 private:
  void map_memory();
  void share_ghcb();
  /// Nothing reaches the host through the GHCB afterwards, the console neither.
  void take_ghcb_back();
  [[nodiscard]] std::expected<void, PageTablesError> map_ghcb(guest::Visibility visibility);
  [[nodiscard]] bool is_snp() const { return host_.kind == guest::PlatformKind::kSnp; }

  const BootReader& boot_;
  MachinePlatform& platform_;
  HostLink host_;
  Clock clock_;
  Console console_;
  Power power_;
  PageTables page_tables_;
  const guest::UnacceptedTable* table_ = nullptr;
};

}  // namespace accede::efi::kernel
