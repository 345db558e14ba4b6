// Where C++ begins in our kernel.

#include "accede/efi/kernel/machine.hpp"
#include "accede/efi/kernel/panic.hpp"
#include "accede/efi/kernel/run_kernel.hpp"
#include "accede/efi/platform.hpp"

namespace accede::efi::kernel {
namespace {

constinit RunStorage g_run{};

/// Nothing is there to say anything with yet but the serial port; in an SNP guest not even that.
[[noreturn]] void give_up(std::string_view what, HostLink host) {
  const Console console{PortIo{host}};
  console.init();
  set_last_words({.console = &console, .host = host});
  panic(what);
}

[[noreturn]] void start(const BootInfo& boot) {
  auto platform = MachinePlatform::detect();
  if (!platform) {
    give_up(platform.error(), {});
  }
  GhcbMsr ghcb_msr;
  Ghcb ghcb{ghcb_msr};
  const HostLink host{.kind = platform->kind(), .ghcb = &ghcb};
  const auto reader = BootReader::make(boot, PhysWindow{});
  if (!reader) {
    give_up(reader.error().text().view(), host);
  }
  Machine machine{*reader, *platform, host};
  machine.start();
  const Options options = parse_options(reader->command_line(), [&](const OptionProblem& problem) {
    machine.write_line(error_line(problem).view());
  });
  run_as_asked(boot, options, *platform, machine, g_run);
  panic("the kernel came to an end"sv);
}

}  // namespace
}  // namespace accede::efi::kernel

extern "C" [[noreturn]] void kernel_main(const accede::efi::kernel::BootInfo* boot) {
  accede::efi::kernel::start(*boot);
}
