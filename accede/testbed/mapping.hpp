// A piece of this process's address space, and a file descriptor, each with an owner.
#pragma once

#include "accede/base/units.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <span>
#include <utility>

namespace accede::testbed {

/// Closes its descriptor when destroyed. Negative: none.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_{fd} {}
  OwnedFd(OwnedFd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~OwnedFd() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Unmaps its memory when destroyed.
class Mapping {
 public:
  Mapping() = default;
  /// Takes over what mmap() returned; MAP_FAILED makes an empty mapping.
  Mapping(void* begin, Bytes size)
      : bytes_{begin == MAP_FAILED
                   ? std::span<std::byte>{}
                   : std::span{static_cast<std::byte*>(begin), std::size_t{size.value()}}} {}
  Mapping(Mapping&& other) noexcept : bytes_{std::exchange(other.bytes_, {})} {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (!bytes_.empty()) {
      munmap(bytes_.data(), bytes_.size());
    }
  }

  /// Zeroed memory that costs nothing until it is written: storage of the models, sized for their
  /// worst case. Empty when the kernel refuses.
  [[nodiscard]] static Mapping anonymous(Bytes size) {
    return {mmap(nullptr, size.value(), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            size};
  }

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] bool valid() const { return !bytes_.empty(); }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace accede::testbed
