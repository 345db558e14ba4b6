// What an image that is about to be started says about the kernel in it.
#pragma once

#include "accede/guest/platform.hpp"
#include "accede/host/sha384.hpp"
#include "accede/image/unaccepted_support.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace accede::efi::shim {

/// Each for one platform. kUnknown never stands for one of the others.
struct KernelFacts {
  image::Knows accepts_on_tdx = image::Knows::kUnknown;
  image::Knows accepts_on_snp = image::Knows::kUnknown;
  /// Whether the kernel knows the platform at all: one that does not cannot run there.
  image::Knows knows_tdx = image::Knows::kUnknown;
  image::Knows knows_snp = image::Knows::kUnknown;

  /// kUnknown for PlatformKind::kNone.
  [[nodiscard]] image::Knows accepts_on(guest::PlatformKind platform) const;
  [[nodiscard]] image::Knows knows(guest::PlatformKind platform) const;

  friend bool operator==(const KernelFacts&, const KernelFacts&) = default;
};

/// A Linux in an image: where it is, and which bytes of it tell something.
class KernelInImage {
 public:
  /// The kernel in `placed`, a PE image as LoadImage placed it: itself, or its .linux section when
  /// it is a unified kernel image. Nothing when there is none: a boot loader, a driver, another
  /// system. Any bytes; `placed` outlives the result.
  [[nodiscard]] static std::optional<KernelInImage> find(std::span<const std::byte> placed);

  /// Release of the kernel; empty when it does not tell.
  [[nodiscard]] std::string_view release() const { return release_; }

  /// A hash of all that the facts depend on: the kernel without its compressed payload, and where
  /// that lies. The same for the file and for the image that LoadImage made of it.
  [[nodiscard]] host::Sha384::Digest identity() const;
  /// Reads what identity() does, byte by byte.
  [[nodiscard]] KernelFacts inspect() const;

 private:
  explicit KernelInImage(std::span<const std::byte> kernel);

  std::span<const std::byte> kernel_;
  /// What is looked at: before the payload and behind it.
  std::span<const std::byte> head_;
  std::span<const std::byte> tail_;
  std::string_view release_;
};

/// Why `file` is no program for this firmware; empty when it may be one. Any bytes.
[[nodiscard]] std::string_view why_no_program(std::span<const std::byte> file);

}  // namespace accede::efi::shim
