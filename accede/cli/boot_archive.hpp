// The initramfs of a guest that starts its kernel a second time.
#pragma once

#include "accede/cli/failure.hpp"

#include <expected>
#include <filesystem>

namespace accede::cli {

/// Creates or replaces `to`: the bytes of `init_cpio`, and behind them an archive with
/// /boot/vmlinuz (`kernel`) and /boot/initrd (`init_cpio` once more), where Linux's initramfs
/// unpacker finds it. The same files always give the same bytes. The error names the file that
/// cannot be read or written; nothing is left of `to` then.
[[nodiscard]] std::expected<void, Failure> write_boot_archive(
    const std::filesystem::path& init_cpio, const std::filesystem::path& kernel,
    const std::filesystem::path& to);

}  // namespace accede::cli
