// A file in memory (memfd or guest_memfd), this process's view of it, and what is done to its
// pages.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/private_memory_backing.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <utility>

namespace accede::host {

/// Owns a file descriptor and up to two mappings of all of the file: the host's, whose access is
/// taken away and given back, and the guest's, which stays. Offsets are multiples of 4 KiB, inside
/// the file. Each member makes one system call (again after EINTR), all or nothing.
///
/// Thread-safe for ranges that do not overlap.
class LinuxMemoryFile {
 public:
  /// A memfd. Fails with a line of text.
  [[nodiscard]] static std::expected<LinuxMemoryFile, std::string> memfd(Bytes size);
  /// Takes over a descriptor of `size` bytes; `mapped`: this process may map it.
  [[nodiscard]] static std::expected<LinuxMemoryFile, std::string> take(int fd, Bytes size,
                                                                        bool mapped);

  /// No file: every member fails.
  [[nodiscard]] static LinuxMemoryFile none() { return {}; }

  LinuxMemoryFile(LinuxMemoryFile&& other) noexcept { swap(other); }
  LinuxMemoryFile& operator=(LinuxMemoryFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~LinuxMemoryFile();

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] Bytes size() const { return size_; }
  /// The host's mapping; empty when the file cannot be mapped. A touch where access was taken away
  /// is a SIGSEGV.
  [[nodiscard]] std::span<std::byte> host_view() const { return host_; }
  /// What a guest would see of the same pages. Who touches a page that is not there makes it.
  [[nodiscard]] std::span<std::byte> guest_view() const { return guest_; }
  /// Memory that the file holds now.
  [[nodiscard]] Bytes backed() const;

  /// fallocate(): the pages are there; new ones are zero.
  [[nodiscard]] BackingResult allocate(OffsetRange range);
  /// fallocate(FALLOC_FL_PUNCH_HOLE): content and memory are gone.
  [[nodiscard]] BackingResult discard(OffsetRange range);
  /// mprotect() of the host's mapping; nothing without one.
  [[nodiscard]] BackingResult set_host_access(OffsetRange range, bool allowed);
  /// pwrite(); by the host's mapping where the file has no write (guest_memfd). EOPNOTSUPP:
  /// neither.
  [[nodiscard]] BackingResult write(Bytes offset, std::span<const std::byte> content);

 private:
  LinuxMemoryFile() = default;
  void swap(LinuxMemoryFile& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(size_, other.size_);
    std::swap(host_, other.host_);
    std::swap(guest_, other.guest_);
  }

  int fd_ = -1;
  Bytes size_;
  std::span<std::byte> host_;
  std::span<std::byte> guest_;
};

/// BackingCalls that several threads count.
class LinuxCallCounts {
 public:
  void count_allocate() { add(allocate_); }
  void count_discard() { add(discard_); }
  void count_host_access() { add(host_access_); }
  void count_write() { add(write_); }
  [[nodiscard]] BackingCalls get() const {
    return {.allocate = allocate_.load(std::memory_order_relaxed),
            .discard = discard_.load(std::memory_order_relaxed),
            .host_access = host_access_.load(std::memory_order_relaxed),
            .write = write_.load(std::memory_order_relaxed)};
  }

 private:
  static void add(std::atomic<std::uint64_t>& count) {
    count.fetch_add(1, std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> allocate_ = 0;
  std::atomic<std::uint64_t> discard_ = 0;
  std::atomic<std::uint64_t> host_access_ = 0;
  std::atomic<std::uint64_t> write_ = 0;
};

/// A PrivateMemoryBacking of one file for both sides, or of one for each.
class LinuxFileBacking {
 public:
  /// In place: one file for both sides.
  explicit LinuxFileBacking(LinuxMemoryFile both, Requirements guarantees)
      : shared_{std::move(both)}, in_place_{true}, guarantees_{guarantees} {}
  LinuxFileBacking(LinuxMemoryFile shared, LinuxMemoryFile inside, Requirements guarantees)
      : shared_{std::move(shared)},
        inside_{std::move(inside)},
        in_place_{false},
        guarantees_{guarantees} {}

  [[nodiscard]] Bytes size(PageAttribute side) const { return file(side).size(); }
  [[nodiscard]] bool in_place() const { return in_place_; }
  [[nodiscard]] Requirements guarantees() const { return guarantees_; }
  [[nodiscard]] BackingResult allocate(PageAttribute side, OffsetRange range) {
    calls_.count_allocate();
    return mine(side).allocate(range);
  }
  [[nodiscard]] BackingResult discard(PageAttribute side, OffsetRange range) {
    calls_.count_discard();
    return mine(side).discard(range);
  }
  [[nodiscard]] BackingResult set_host_access(PageAttribute side, OffsetRange range, bool allowed) {
    calls_.count_host_access();
    return mine(side).set_host_access(range, allowed);
  }
  [[nodiscard]] BackingResult write(PageAttribute side, Bytes offset,
                                    std::span<const std::byte> content) {
    calls_.count_write();
    return mine(side).write(offset, content);
  }
  [[nodiscard]] BackingCalls calls() const { return calls_.get(); }

  [[nodiscard]] const LinuxMemoryFile& file(PageAttribute side) const {
    return in_place_ || side == PageAttribute::kShared ? shared_ : inside_;
  }

 private:
  [[nodiscard]] LinuxMemoryFile& mine(PageAttribute side) {
    return in_place_ || side == PageAttribute::kShared ? shared_ : inside_;
  }

  LinuxMemoryFile shared_;
  LinuxMemoryFile inside_ = LinuxMemoryFile::none();
  bool in_place_;
  Requirements guarantees_;
  LinuxCallCounts calls_;
};

static_assert(PrivateMemoryBacking<LinuxFileBacking>);

}  // namespace accede::host
