#include "accede/efi/firmware.hpp"

#include "accede/emulator/cpu.hpp"

#include <algorithm>
#include <array>

namespace accede::efi {

using namespace std::string_view_literals;

using abi::efi::Char16;
using abi::efi::FileProtocol;
using abi::efi::Status;

void Firmware::print(std::string_view text) const {
  std::array<Char16, 128> wide{};
  while (!text.empty()) {
    std::size_t used = 0;
    while (!text.empty() && used + 2 < wide.size()) {
      if (text.front() == '\n') {
        wide[used++] = u'\r';
      }
      wide[used++] = static_cast<unsigned char>(text.front());
      text.remove_prefix(1);
    }
    wide[used] = 0;
    system_->console_out->output_string(system_->console_out, wide.data());
  }
}

void Firmware::report(emulator::JsonLine& line) {
  for (const char c : line.finish()) {
    emulator::cpu::out8(emulator::kReportPort, static_cast<std::uint8_t>(c));
  }
}

void Firmware::power_off() const {
  system_->runtime_services->reset_system(abi::efi::ResetType::kShutdown, Status::kSuccess, 0,
                                          nullptr);
  emulator::cpu::stop_for_ever();
}

void Firmware::give_up(const Failure& failure) const {
  emulator::JsonLine line{"error"sv};
  line.text("message"sv, failure.what).hex("status"sv, static_cast<std::uint64_t>(failure.status));
  report(line);
  print("accede: "sv);
  print(failure.what);
  print("\n"sv);
  power_off();
}

Result<std::span<std::byte>> Firmware::allocate(std::size_t bytes) const {
  void* buffer = nullptr;
  const Status status = boot_->allocate_pool(abi::efi::MemoryType::kLoaderData, bytes, &buffer);
  if (is_error(status)) {
    return std::unexpected{Failure{"out of memory"sv, status}};
  }
  return std::span{static_cast<std::byte*>(buffer), bytes};
}

Result<void> Firmware::install(abi::efi::Handle* handle, const abi::efi::Guid& guid,
                               void* interface) const {
  const Status status = boot_->install_protocol_interface(handle, &guid, 0, interface);
  if (is_error(status)) {
    return std::unexpected{Failure{"a protocol cannot be installed"sv, status}};
  }
  return {};
}

namespace {

/// Closes a file when the scope ends.
class FileCloser {
 public:
  explicit FileCloser(FileProtocol* file) : file_{file} {}
  ~FileCloser() { file_->close(file_); }
  FileCloser(const FileCloser&) = delete;
  FileCloser& operator=(const FileCloser&) = delete;

 private:
  FileProtocol* file_;
};

Result<std::uint64_t> file_size(FileProtocol* file) {
  alignas(8) std::array<std::byte, 512> info{};
  std::uint64_t bytes = info.size();
  const Status status = file->get_info(file, &abi::efi::kFileInfo, &bytes, info.data());
  if (is_error(status)) {
    return std::unexpected{Failure{"a file's size cannot be read"sv, status}};
  }
  return *ByteReader{info}.read<std::uint64_t>(abi::efi::kFileInfoSizeOffset);
}

}  // namespace

Result<std::span<std::byte>> Firmware::read_file(std::string_view path) const {
  const auto loaded = protocol<abi::efi::LoadedImage>(image_, abi::efi::kLoadedImageProtocol);
  if (!loaded) {
    return std::unexpected{loaded.error()};
  }
  const auto volume = protocol<abi::efi::SimpleFileSystem>((*loaded)->device_handle,
                                                           abi::efi::kSimpleFileSystemProtocol);
  if (!volume) {
    return std::unexpected{Failure{"the boot volume has no file system"sv, volume.error().status}};
  }
  std::array<Char16, 256> wide{};
  if (path.size() >= wide.size()) {
    return std::unexpected{Failure{"a path is too long"sv}};
  }
  std::ranges::copy(path, wide.begin());

  FileProtocol* root = nullptr;
  if (const Status status = (*volume)->open_volume(*volume, &root); is_error(status)) {
    return std::unexpected{Failure{"the boot volume cannot be opened"sv, status}};
  }
  const FileCloser close_root{root};
  FileProtocol* file = nullptr;
  if (const Status status = root->open(root, &file, wide.data(), abi::efi::kFileModeRead, 0);
      is_error(status)) {
    return std::unexpected{Failure{"a file is missing on the boot volume"sv, status}};
  }
  const FileCloser close_file{file};

  const Result<std::uint64_t> size = file_size(file);
  if (!size) {
    return std::unexpected{size.error()};
  }
  const Result<std::span<std::byte>> buffer = allocate(*size);
  if (!buffer) {
    return buffer;
  }
  std::uint64_t bytes = *size;
  if (const Status status = file->read(file, &bytes, buffer->data());
      is_error(status) || bytes != *size) {
    boot_->free_pool(buffer->data());
    return std::unexpected{Failure{"a file cannot be read"sv, status}};
  }
  return buffer;
}

std::uint64_t Firmware::measure_tsc() const {
  constexpr std::uint64_t kMicroseconds = 5'000;
  std::uint64_t least = ~0ULL;
  // Whatever takes this CPU away during a measurement makes it longer, never shorter.
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t start = emulator::cpu::read_tsc();
    boot_->stall(kMicroseconds);
    least = std::min(least, emulator::cpu::read_tsc() - start);
  }
  return least * (1'000'000 / kMicroseconds);
}

Result<Firmware::MemoryMap> Firmware::memory_map() const {
  std::uint64_t bytes = 0;
  std::uint64_t key = 0;
  std::uint64_t stride = 0;
  std::uint32_t version = 0;
  boot_->get_memory_map(&bytes, nullptr, &key, &stride, &version);
  // The allocation itself changes the map, and older firmware reports too small a size when
  // memory is unaccepted (fixed in edk2-stable202511).
  const Result<std::span<std::byte>> buffer = allocate(bytes + 64 * stride);
  if (!buffer) {
    return std::unexpected{buffer.error()};
  }
  bytes = buffer->size();
  const Status status = boot_->get_memory_map(&bytes, buffer->data(), &key, &stride, &version);
  if (is_error(status)) {
    return std::unexpected{Failure{"the memory map cannot be read"sv, status}};
  }
  return MemoryMap{buffer->first(bytes), stride};
}

}  // namespace accede::efi
