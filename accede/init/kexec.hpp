// Starts this kernel a second time, by its own system calls.
#pragma once

#include "accede/init/proc_files.hpp"

#include <expected>
#include <string_view>

namespace accede::init {

/// What failed and its errno.
struct KexecError {
  std::string_view what;
  int error;
};

/// Loads /boot/vmlinuz with /boot/initrd as the next kernel (kexec_file_load). It does not start
/// yet. Among the errors: ENOSYS (a kernel without kexec), EPERM (lockdown), EKEYREJECTED (the
/// kernel wants a signature).
[[nodiscard]] std::expected<void, KexecError> load_next_kernel(const CommandLine& command_line);

/// Writes out file systems and jumps into the kernel that was loaded. Comes back only when that
/// fails.
[[nodiscard]] KexecError start_next_kernel();

}  // namespace accede::init
