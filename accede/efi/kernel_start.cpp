#include "accede/efi/kernel_start.hpp"

#include "accede/efi/disk_start.hpp"

#include <algorithm>
#include <array>
#include <new>

namespace accede::efi {

using namespace std::string_view_literals;
namespace {

using abi::efi::DevicePath;
using abi::efi::LoadFile2;
using abi::efi::Status;

/// The one-node device path under which Linux's stub looks for LoadFile2.
struct InitrdPath {
  DevicePath node;
  abi::efi::Guid vendor;
  DevicePath end;
};
static_assert(sizeof(InitrdPath) == 24);

constexpr InitrdPath kInitrdPath{
    .node = {.type = 4, .sub_type = 3, .length = {20, 0}},  // media, vendor
    .vendor = abi::efi::kLinuxInitrdMedia,
    .end = {.type = 0x7F, .sub_type = 0xFF, .length = {4, 0}}};

/// LoadFile2 over a buffer. The protocol comes first: `This` is the whole object.
struct InitrdFile {
  LoadFile2 protocol;
  std::span<const std::byte> data;
};

Status ACCEDE_EFIAPI load_initrd(LoadFile2* self, const DevicePath* /*path*/,
                                 std::uint8_t boot_policy, std::uint64_t* bytes, void* buffer) {
  const auto* file = reinterpret_cast<const InitrdFile*>(self);
  if (boot_policy != 0) {
    return Status::kUnsupported;
  }
  if (bytes == nullptr) {
    return Status::kInvalidParameter;
  }
  if (buffer == nullptr || *bytes < file->data.size()) {
    *bytes = file->data.size();
    return Status::kBufferTooSmall;
  }
  std::ranges::copy(file->data, static_cast<std::byte*>(buffer));
  *bytes = file->data.size();
  return Status::kSuccess;
}

template <class T>
Result<T*> create(const Firmware& firmware, const T& value) {
  const Result<std::span<std::byte>> memory = firmware.allocate(sizeof(T));
  if (!memory) {
    return std::unexpected{memory.error()};
  }
  return new (memory->data()) T{value};
}

Result<void> offer_initrd(const Firmware& firmware, std::string_view path) {
  const Result<std::span<std::byte>> data = firmware.read_file(path);
  if (!data) {
    return std::unexpected{Failure{"the initrd cannot be read"sv, data.error().status}};
  }
  // Both stay allocated: the kernel asks for the file long after this returns.
  const Result<InitrdFile*> file = create(firmware, InitrdFile{{.load_file = load_initrd}, *data});
  const Result<InitrdPath*> where = create(firmware, kInitrdPath);
  if (!file || !where) {
    return std::unexpected{Failure{"out of memory"sv}};
  }
  abi::efi::Handle handle = nullptr;
  if (auto done = firmware.install(&handle, abi::efi::kDevicePathProtocol, *where); !done) {
    return done;
  }
  return firmware.install(&handle, abi::efi::kLoadFile2Protocol, &(*file)->protocol);
}

/// What the image is told: the kernel's command line; a loader's or a shim's begins with where the
/// files are.
struct LoadOptions {
  std::array<std::string_view, 6> pieces{};

  explicit LoadOptions(const LauncherConfig& config) {
    if (!config.shim.empty()) {
      pieces = {"image="sv, config.kernel, " "sv, config.append};
    } else if (config.loader.empty()) {
      pieces = {config.append};
    } else if (config.initrd.empty()) {
      pieces = {"kernel="sv, config.kernel, " "sv, config.append};
    } else {
      pieces = {"kernel="sv, config.kernel, " initrd="sv, config.initrd, " "sv, config.append};
    }
  }
  [[nodiscard]] std::size_t size() const {
    std::size_t sum = 0;
    for (const std::string_view piece : pieces) {
      sum += piece.size();
    }
    return sum;
  }
};

Result<void> describe_start(const Firmware& firmware, abi::efi::Handle kernel,
                            const LauncherConfig& config) {
  const auto loaded =
      firmware.protocol<abi::efi::LoadedImage>(kernel, abi::efi::kLoadedImageProtocol);
  const auto own =
      firmware.protocol<abi::efi::LoadedImage>(firmware.image(), abi::efi::kLoadedImageProtocol);
  if (!loaded || !own) {
    return std::unexpected{(loaded ? own : loaded).error()};
  }
  const LoadOptions options{config};
  const Result<std::span<std::byte>> buffer = firmware.allocate((options.size() + 1) * 2);
  if (!buffer) {
    return std::unexpected{buffer.error()};
  }
  auto* wide = reinterpret_cast<abi::efi::Char16*>(buffer->data());
  (*loaded)->load_options = wide;
  (*loaded)->load_options_bytes = static_cast<std::uint32_t>(buffer->size());
  for (const std::string_view piece : options.pieces) {
    wide = std::ranges::transform(piece, wide, [](char c) {
             return static_cast<unsigned char>(c);
           }).out;
  }
  *wide = 0;
  // Loaded from memory, it has no volume of its own: ours is where its files are.
  (*loaded)->device_handle = (*own)->device_handle;
  return {};
}

/// The configured kernel or loader, loaded from our volume and told what it needs.
Result<abi::efi::Handle> load_kernel(const Firmware& firmware, const LauncherConfig& config) {
  const bool direct = config.loader.empty();
  const Result<std::span<std::byte>> file = firmware.read_file(!config.shim.empty() ? config.shim
                                                               : direct             ? config.kernel
                                                                        : config.loader);
  if (!file) {
    return std::unexpected{Failure{!config.shim.empty() ? "the shim cannot be read"sv
                                   : direct             ? "the kernel cannot be read"sv
                                                        : "the loader cannot be read"sv,
                                   file.error().status}};
  }
  abi::efi::Handle kernel = nullptr;
  const Status status =
      firmware.boot().load_image(0, firmware.image(), nullptr, file->data(), file->size(), &kernel);
  if (is_error(status)) {
    return std::unexpected{Failure{"the firmware does not take the EFI image"sv, status}};
  }
  firmware.boot().free_pool(file->data());
  if (auto done = describe_start(firmware, kernel, config); !done) {
    return std::unexpected{done.error()};
  }
  if (direct && !config.initrd.empty()) {
    if (auto done = offer_initrd(firmware, config.initrd); !done) {
      return std::unexpected{done.error()};
    }
  }
  return kernel;
}

}  // namespace

Result<std::uint64_t> start_kernel(const Firmware& firmware, const LauncherConfig& config,
                                   FunctionRef<void()> before_start) {
  const auto kernel = config.from_disk ? load_from_other_volume(firmware, config.kernel)
                                       : load_kernel(firmware, config);
  if (!kernel) {
    return std::unexpected{kernel.error()};
  }
  // The kernel has all the time it needs (UEFI's default is five minutes).
  firmware.boot().set_watchdog_timer(0, 0, 0, nullptr);
  before_start();
  return static_cast<std::uint64_t>(firmware.boot().start_image(*kernel, nullptr, nullptr));
}

}  // namespace accede::efi
