#include "accede/host/linux_guest_memfd.hpp"

#include "accede/base/assert.hpp"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

namespace accede::host {

namespace {

// The kernel's interface, younger than the headers of some distributions (reference: SEV-SNP 6).
constexpr int kCapMemoryAttributes = 233;
constexpr int kCapGuestMemfd = 234;
constexpr int kCapGuestMemfdFlags = 244;
constexpr int kAttributePrivate = 1 << 3;
constexpr std::uint64_t kFlagMmap = 1U << 0;
constexpr std::uint64_t kFlagInitShared = 1U << 1;

struct CreateGuestMemfd {
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t reserved[6];
};
static_assert(sizeof(CreateGuestMemfd) == 64);
constexpr unsigned long kCreateGuestMemfd = _IOWR(KVMIO, 0xd4, CreateGuestMemfd);

/// Closes its descriptor when destroyed.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_{fd} {}
  ~Descriptor() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

std::unexpected<std::string> refused(std::string_view what) {
  return std::unexpected{std::string{what} + ": " + std::strerror(errno)};
}

}  // namespace

std::expected<GuestMemfdSupport, std::string> guest_memfd_support() {
  const Descriptor kvm{open("/dev/kvm", O_RDWR | O_CLOEXEC)};
  if (!kvm.valid()) {
    return refused("/dev/kvm");
  }
  const Descriptor vm{ioctl(kvm.get(), KVM_CREATE_VM, 0UL)};
  if (!vm.valid()) {
    return refused("KVM_CREATE_VM");
  }
  const auto extension = [&](int capability) {
    return ioctl(vm.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(capability));
  };
  constexpr int kBoth = static_cast<int>(kFlagMmap | kFlagInitShared);
  return GuestMemfdSupport{
      .guest_memfd = extension(kCapGuestMemfd) > 0,
      .memory_attributes = (std::max(extension(kCapMemoryAttributes), 0) & kAttributePrivate) != 0,
      .host_mapping = (std::max(extension(kCapGuestMemfdFlags), 0) & kBoth) == kBoth};
}

std::expected<LinuxFileBacking, std::string> linux_guest_memfd(VmType type, Bytes size,
                                                               GuestMemfdAccess access) {
  const bool mapped = access == GuestMemfdAccess::kMapped;
  ACCEDE_ASSERT(properties_of(type).two_backings != mapped);
  const Descriptor kvm{open("/dev/kvm", O_RDWR | O_CLOEXEC)};
  if (!kvm.valid()) {
    return refused("/dev/kvm");
  }
  // The file keeps its VM alive after both descriptors are closed.
  const Descriptor vm{ioctl(kvm.get(), KVM_CREATE_VM, 0UL)};
  if (!vm.valid()) {
    return refused("KVM_CREATE_VM");
  }
  CreateGuestMemfd request{
      .size = size.value(), .flags = mapped ? kFlagMmap | kFlagInitShared : 0, .reserved = {}};
  const int fd = ioctl(vm.get(), kCreateGuestMemfd, &request);
  if (fd < 0) {
    return refused("KVM_CREATE_GUEST_MEMFD");
  }
  auto inside = LinuxMemoryFile::take(fd, size, mapped);
  if (!inside) {
    return std::unexpected{std::move(inside.error())};
  }
  const Requirements fixed = Requirements::unmovable() | Requirements::unreclaimable();
  if (mapped) {
    return std::expected<LinuxFileBacking, std::string>{std::in_place, std::move(*inside),
                                                        fixed | Requirements::user_inaccessible()};
  }
  auto shared = LinuxMemoryFile::memfd(size);
  if (!shared) {
    return std::unexpected{std::move(shared.error())};
  }
  return std::expected<LinuxFileBacking, std::string>{std::in_place, std::move(*shared),
                                                      std::move(*inside),
                                                      fixed | Requirements::user_inaccessible()};
}

}  // namespace accede::host
