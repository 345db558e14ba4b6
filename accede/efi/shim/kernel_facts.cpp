#include "accede/efi/shim/kernel_facts.hpp"

#include "accede/image/bzimage.hpp"
#include "accede/image/pattern.hpp"
#include "accede/image/pe.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace accede::efi::shim {

using namespace std::string_view_literals;
namespace {

using guest::PlatformKind;
using image::BzImage;
using image::BzImageErrorKind;
using image::Knows;
using image::PeErrorKind;
using image::PeImage;
using image::PeMachine;

/// What a kernel compares CPUID's answer with (Linux arch/x86/boot/compressed/tdx.c, 5.19 and
/// later): a text, or the operand of an instruction.
constexpr image::PatternSet<1> kTdxSignature{{{image::text_pattern("IntelTDX"sv)}}};

bool has_tdx_signature(std::span<const std::byte> bytes) {
  bool found = false;
  kTdxSignature.search(bytes, 0, bytes.size(),
                       [&](std::size_t /*index*/, std::size_t /*offset*/) { found = true; });
  return found;
}

/// Whether a kernel knows a platform whose sign was `found` in it. Only of a kernel of which all
/// was looked at can one say that it does not.
Knows knows_by(bool found, const image::UnacceptedSupport& support) {
  if (found) {
    return Knows::kYes;
  }
  return support.accepts == Knows::kNo ? Knows::kNo : Knows::kUnknown;
}

bool is_linux(std::span<const std::byte> bytes) {
  const auto header = BzImage::parse(bytes);
  return header || (header.error().kind != BzImageErrorKind::kNotLinux &&
                    header.error().kind != BzImageErrorKind::kTooShort);
}

std::string_view first_word(std::string_view text) {
  const auto end = std::ranges::find(text, ' ');
  return text.substr(0, static_cast<std::size_t>(end - text.begin()));
}

}  // namespace

Knows KernelFacts::accepts_on(PlatformKind platform) const {
  switch (platform) {
    case PlatformKind::kTdx:
      return accepts_on_tdx;
    case PlatformKind::kSnp:
      return accepts_on_snp;
    case PlatformKind::kNone:
      break;
  }
  return Knows::kUnknown;
}

Knows KernelFacts::knows(PlatformKind platform) const {
  switch (platform) {
    case PlatformKind::kTdx:
      return knows_tdx;
    case PlatformKind::kSnp:
      return knows_snp;
    case PlatformKind::kNone:
      break;
  }
  return Knows::kUnknown;
}

KernelInImage::KernelInImage(std::span<const std::byte> kernel) : kernel_{kernel}, head_{kernel} {
  const auto header = BzImage::parse(kernel);
  if (!header) {
    return;
  }
  const auto offset_of = [&](const std::byte* at) {
    return static_cast<std::size_t>(at - kernel.data());
  };
  const auto code = header->protected_mode();
  const auto payload = header->payload();
  const std::size_t end = offset_of(code.data()) + code.size();
  const std::size_t skip = payload.empty() ? end : offset_of(payload.data());
  head_ = kernel.first(skip);
  tail_ = kernel.subspan(skip + payload.size(), end - skip - payload.size());
  release_ = first_word(header->version_text());
}

std::optional<KernelInImage> KernelInImage::find(std::span<const std::byte> placed) {
  if (const auto pe = PeImage::parse(placed)) {
    if (const auto inner = pe->find_placed_section(".linux"sv)) {
      return KernelInImage{inner->content};
    }
  }
  if (!is_linux(placed)) {
    return std::nullopt;
  }
  return KernelInImage{placed};
}

host::Sha384::Digest KernelInImage::identity() const {
  const std::array<std::uint64_t, 2> place{head_.size(), tail_.size()};
  host::Sha384 hash;
  hash.update(std::as_bytes(std::span{place}));
  hash.update(head_);
  hash.update(tail_);
  return hash.digest();
}

KernelFacts KernelInImage::inspect() const {
  const image::UnacceptedSupport support = image::find_unaccepted_support(kernel_);
  const bool tdx = has_tdx_signature(head_) || has_tdx_signature(tail_) || support.tdx_accept;
  return {.accepts_on_tdx = support.accepts_on_tdx(),
          .accepts_on_snp = support.accepts_on_snp(),
          .knows_tdx = knows_by(tdx, support),
          .knows_snp = knows_by(support.sev_snp.has_value(), support)};
}

std::string_view why_no_program(std::span<const std::byte> file) {
  const auto pe = PeImage::parse(file);
  if (!pe) {
    return pe.error().kind == PeErrorKind::kNotPe32Plus ? "it is not for a 64-bit processor"sv
                                                        : "it is not an EFI program"sv;
  }
  switch (pe->machine()) {
    case PeMachine::kX86_64:
      return {};
    case PeMachine::kI386:
      return "it is for 32-bit x86"sv;
    case PeMachine::kArm64:
      return "it is for 64-bit Arm"sv;
    case PeMachine::kRiscv64:
      return "it is for RISC-V"sv;
    case PeMachine::kLoongArch64:
      return "it is for LoongArch"sv;
  }
  return "it is for another processor"sv;
}

}  // namespace accede::efi::shim
