#include "accede/testbed/guest_ram.hpp"

#include "accede/testbed/last_words.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

namespace accede::testbed {

using namespace std::string_view_literals;
namespace {

[[nodiscard]] std::unexpected<std::string> refused(std::string_view what) {
  return std::unexpected{std::string{what} + ": " + std::strerror(errno)};
}

[[noreturn]] void host_failed(std::string_view call, PhysRange pages) {
  LastWords{}
      .text("accede testbed: the host's "sv)
      .text(call)
      .text(" failed for guest pages ["sv)
      .hex(pages.begin().value())
      .text(", "sv)
      .hex(pages.end().value())
      .text("): errno "sv)
      .number(static_cast<std::uint64_t>(errno))
      .abort();
}

}  // namespace

std::string_view name(Isolation isolation) {
  switch (isolation) {
    case Isolation::kAuto:
      return "auto"sv;
    case Isolation::kUserfaultfd:
      return "userfaultfd"sv;
    case Isolation::kMprotect:
      return "mprotect"sv;
  }
  return "unknown"sv;
}

std::expected<GuestRam, std::string> GuestRam::make(PhysRange range, Isolation isolation) {
  OwnedFd file{memfd_create("accede-guest", MFD_CLOEXEC)};
  if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(range.size().value())) != 0) {
    return refused("memfd for guest memory");
  }
  // Room for a start at a multiple of 2 MiB, as the guest's own addresses have it: else the kernel
  // could not use huge pages where the guest does.
  const Bytes reserved = range.size() + 2_MiB;
  Mapping mapping{mmap(nullptr, reserved.value(), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                  reserved};
  if (!mapping.valid()) {
    return refused("address space for guest memory");
  }
  const auto at = reinterpret_cast<std::uintptr_t>(mapping.bytes().data());
  auto* const begin = mapping.bytes().data() + (-at & ((2_MiB).value() - 1));
  if (mmap(begin, range.size().value(), PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
           file.get(), 0) == MAP_FAILED ||
      madvise(begin, range.size().value(), MADV_DONTFORK) != 0) {
    return refused("mapping of guest memory");
  }
  GuestRam ram{range, std::move(file), std::move(mapping), begin};
  if (isolation != Isolation::kMprotect) {
    const std::expected<void, std::string> registered = ram.register_userfault();
    if (!registered.has_value()) {
      ram.userfault_ = OwnedFd{};
      if (isolation == Isolation::kUserfaultfd) {
        return std::unexpected{registered.error()};
      }
    }
  }
  return ram;
}

/// From here on an absent page raises SIGBUS.
std::expected<void, std::string> GuestRam::register_userfault() {
  // User mode only: what an unprivileged process may have, and all that is needed. A system call
  // that meets an absent page gets EFAULT.
  userfault_ = OwnedFd{
      static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY))};
  if (!userfault_.valid()) {
    return refused("userfaultfd");
  }
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM;
  if (ioctl(userfault_.get(), UFFDIO_API, &api) != 0) {
    return refused("UFFDIO_API");
  }
  uffdio_register request{};
  request.range.start = reinterpret_cast<std::uintptr_t>(window_.pointer<void>(range_.begin()));
  request.range.len = range_.size().value();
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (ioctl(userfault_.get(), UFFDIO_REGISTER, &request) != 0) {
    return refused("UFFDIO_REGISTER");
  }
  if ((request.ioctls & (1ULL << _UFFDIO_ZEROPAGE)) == 0) {
    return std::unexpected{std::string{"the kernel has no UFFDIO_ZEROPAGE for a memfd"}};
  }
  if (mprotect(window_.pointer<void>(range_.begin()), range_.size().value(),
               PROT_READ | PROT_WRITE) != 0) {
    return refused("mprotect of guest memory");
  }
  return {};
}

std::optional<PhysAddr> GuestRam::gpa_of(const void* pointer) const {
  const PhysAddr gpa = window_.address(pointer);
  return range_.contains(gpa) ? std::optional{gpa} : std::nullopt;
}

/// UFFDIO_ZEROPAGE of every page that is absent.
void GuestRam::populate(PhysRange pages) {
  for (PhysAddr at = pages.begin(); at < pages.end();) {
    uffdio_zeropage request{};
    request.range.start = reinterpret_cast<std::uintptr_t>(window_.pointer<void>(at));
    request.range.len = (pages.end() - at).value();
    if (ioctl(userfault_.get(), UFFDIO_ZEROPAGE, &request) == 0) {
      return;
    }
    if (request.zeropage > 0) {
      at += Bytes{static_cast<std::uint64_t>(request.zeropage)};
    } else if (errno == EEXIST) {
      at += 4_KiB;
    } else if (errno != EAGAIN) {
      host_failed("UFFDIO_ZEROPAGE", pages);
    }
  }
}

void GuestRam::protect(PhysRange pages, int protection) {
  if (mprotect(window_.pointer<void>(pages.begin()), pages.size().value(), protection) != 0) {
    host_failed("mprotect", pages);
  }
}

void GuestRam::open(PhysRange pages) {
  if (userfault_.valid()) {
    return populate(pages);
  }
  protect(pages, PROT_READ | PROT_WRITE);
#ifdef MADV_POPULATE_WRITE
  // Before Linux 5.14 the pages come when they are touched; the guest sees no difference.
  (void)madvise(window_.pointer<void>(pages.begin()), pages.size().value(), MADV_POPULATE_WRITE);
#endif
}

void GuestRam::drop(PhysRange pages) {
  if (!userfault_.valid()) {
    protect(pages, PROT_NONE);
  }
  if (fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>((pages.begin() - range_.begin()).value()),
                static_cast<off_t>(pages.size().value())) != 0) {
    host_failed("fallocate", pages);
  }
}

Bytes GuestRam::backed() const {
  struct stat status{};
  if (fstat(file_.get(), &status) != 0) {
    host_failed("fstat", range_);
  }
  return Bytes{512} * static_cast<std::uint64_t>(status.st_blocks);
}

}  // namespace accede::testbed
