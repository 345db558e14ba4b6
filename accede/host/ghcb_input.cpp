#include "accede/host/ghcb_input.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/shared_word.hpp"

#include <bit>

namespace accede::host {

using abi::ghcb::ExitCode;
using abi::ghcb::GhcbPage;
using abi::ghcb::IoioInfo;
using abi::ghcb::MalformedReason;
using abi::ghcb::ValidBit;

namespace {

/// KVM compares the low half of info1, so a VMPL other than 0 is no destruction either.
bool is_destruction(const GhcbInput& input) {
  return static_cast<std::uint32_t>(input.info1) ==
         static_cast<std::uint32_t>(abi::ghcb::ApCreationRequest::kDestroy);
}

/// Collects the first mistake.
class Checker {
 public:
  explicit Checker(const GhcbInput& input) : input_{input} {}

  void fail(GhcbMistakeKind kind, GhcbField field, std::uint64_t value) {
    if (!mistake_) {
      mistake_ =
          GhcbMistake{.kind = kind, .field = field, .exit_code = input_.exit_code, .value = value};
    }
  }
  void require(ValidBit bit, GhcbField field) {
    if (!input_.has(bit)) {
      fail(GhcbMistakeKind::kMissingInput, field, 0);
    }
  }
  void require_snp(bool is_snp) {
    if (!is_snp) {
      fail(GhcbMistakeKind::kSnpOnly, GhcbField::kExitCode, input_.exit_code);
    }
  }
  void require_rax() { require(ValidBit::kRax, GhcbField::kRax); }
  void require_rcx() { require(ValidBit::kRcx, GhcbField::kRcx); }
  void require_rdx() { require(ValidBit::kRdx, GhcbField::kRdx); }
  void require_scratch() { require(ValidBit::kSwScratch, GhcbField::kScratch); }

  [[nodiscard]] const std::optional<GhcbMistake>& mistake() const { return mistake_; }

 private:
  const GhcbInput& input_;
  std::optional<GhcbMistake> mistake_;
};

void check_guest_request(Checker& check, const GhcbInput& input) {
  if (input.info1 % 4096 != 0) {
    check.fail(GhcbMistakeKind::kBadRequestPages, GhcbField::kExitInfo1, input.info1);
  }
  if (input.info2 % 4096 != 0 || input.info1 == input.info2) {
    check.fail(GhcbMistakeKind::kBadRequestPages, GhcbField::kExitInfo2, input.info2);
  }
}

void check_intercept(Checker& check, const GhcbInput& input) {
  switch (input.code()) {
    case ExitCode::kDr7Write:
      return check.require_rax();
    case ExitCode::kRdpmc:
      return check.require_rcx();
    case ExitCode::kCpuid:
      check.require_rax();
      check.require_rcx();
      if (input.rax == 0xD) {
        check.require(ValidBit::kXcr0, GhcbField::kXcr0);
      }
      return;
    case ExitCode::kIoio:
      if (IoioInfo::String::get(input.info1) != 0) {
        check.require_scratch();
      } else if (IoioInfo::In::get(input.info1) == 0) {
        check.require_rax();
      }
      return;
    case ExitCode::kMsr:
      check.require_rcx();
      if (input.info1 != 0) {
        check.require_rax();
        check.require_rdx();
      }
      return;
    case ExitCode::kVmmcall:
      check.require_rax();
      return check.require(ValidBit::kCpl, GhcbField::kCpl);
    case ExitCode::kMonitor:
      check.require_rax();
      check.require_rcx();
      return check.require_rdx();
    case ExitCode::kMwait:
      check.require_rax();
      return check.require_rcx();
    case ExitCode::kDr7Read:
    case ExitCode::kRdtsc:
    case ExitCode::kRdtscp:
    case ExitCode::kInvd:
    case ExitCode::kWbinvd:
      return;
    default:
      check.fail(GhcbMistakeKind::kUnknownEvent, GhcbField::kExitCode, input.exit_code);
  }
}

void check_event(Checker& check, const GhcbInput& input, bool is_snp) {
  switch (input.code()) {
    case ExitCode::kMmioRead:
    case ExitCode::kMmioWrite:
      return check.require_scratch();
    case ExitCode::kPageStateChange:
      check.require_snp(is_snp);
      return check.require_scratch();
    case ExitCode::kGuestRequest:
    case ExitCode::kExtGuestRequest:
      check.require_snp(is_snp);
      return check_guest_request(check, input);
    case ExitCode::kApCreation:
      check.require_snp(is_snp);
      if (!is_destruction(input)) {
        check.require_rax();
      }
      return;
    case ExitCode::kNmiComplete:
    case ExitCode::kApHltLoop:
    case ExitCode::kApJumpTable:
    case ExitCode::kHvFeatures:
    case ExitCode::kTerminate:
    case ExitCode::kUnsupported:
      return;
    default:
      return check_intercept(check, input);
  }
}

}  // namespace

GhcbInput take_input(GhcbPage& page) {
  GhcbInput input;
  input.valid = {load_shared(page.valid_bitmap[0]), load_shared(page.valid_bitmap[1])};
  const auto if_valid = [&input](ValidBit bit, auto& field) {
    const auto value = load_shared(field);
    return input.has(bit) ? value : decltype(value){0};
  };
  input.rax = if_valid(ValidBit::kRax, page.rax);
  input.rbx = if_valid(ValidBit::kRbx, page.rbx);
  input.rcx = if_valid(ValidBit::kRcx, page.rcx);
  input.rdx = if_valid(ValidBit::kRdx, page.rdx);
  input.rsi = if_valid(ValidBit::kRsi, page.rsi);
  input.xcr0 = if_valid(ValidBit::kXcr0, page.xcr0);
  input.xss = if_valid(ValidBit::kXss, page.xss);
  input.cpl = if_valid(ValidBit::kCpl, page.cpl);
  input.scratch = if_valid(ValidBit::kSwScratch, page.sw_scratch);
  input.exit_code = load_shared(page.sw_exit_code);
  input.info1 = load_shared(page.sw_exit_info_1);
  input.info2 = load_shared(page.sw_exit_info_2);
  input.usage = load_shared(page.usage);
  store_shared(page.valid_bitmap[0], std::uint64_t{0});
  store_shared(page.valid_bitmap[1], std::uint64_t{0});
  return input;
}

std::optional<GhcbMistake> check_input(const GhcbInput& input, bool is_snp) {
  Checker check{input};
  if (input.usage != abi::ghcb::kGhcbUsageStandard) {
    check.fail(GhcbMistakeKind::kBadUsage, GhcbField::kUsage, input.usage);
  }
  check.require(ValidBit::kSwExitCode, GhcbField::kExitCode);
  check.require(ValidBit::kSwExitInfo1, GhcbField::kExitInfo1);
  check.require(ValidBit::kSwExitInfo2, GhcbField::kExitInfo2);
  check_event(check, input, is_snp);
  return check.mistake();
}

MalformedReason malformed_reason(GhcbMistakeKind kind) {
  switch (kind) {
    case GhcbMistakeKind::kBadUsage:
      return MalformedReason::kBadUsage;
    case GhcbMistakeKind::kBadScratch:
      return MalformedReason::kBadScratch;
    case GhcbMistakeKind::kMissingInput:
    case GhcbMistakeKind::kSnpOnly:
    case GhcbMistakeKind::kBadRequestPages:
      return MalformedReason::kMissingInput;
    case GhcbMistakeKind::kUnknownEvent:
      return MalformedReason::kInvalidEvent;
    default:
      return MalformedReason::kInvalidInput;
  }
}

void put_output(GhcbPage& page, const GhcbOutput& output) {
  store_shared(page.rax, output.rax);
  store_shared(page.rbx, output.rbx);
  store_shared(page.rcx, output.rcx);
  store_shared(page.rdx, output.rdx);
  store_shared(page.sw_exit_info_1, output.info1);
  store_shared(page.sw_exit_info_2, output.info2);
  constexpr auto kValid =
      abi::ghcb::valid_bits(ValidBit::kRax, ValidBit::kRbx, ValidBit::kRcx, ValidBit::kRdx,
                            ValidBit::kSwExitInfo1, ValidBit::kSwExitInfo2);
  store_shared(page.valid_bitmap[0], kValid[0]);
  store_shared(page.valid_bitmap[1], kValid[1]);
}

std::optional<GhcbScratch> GhcbScratch::make(GhcbPage& page, PhysAddr ghcb, std::uint64_t scratch,
                                             std::uint64_t size) {
  using abi::ghcb::kSharedBufferBegin;
  using abi::ghcb::kSharedBufferEnd;
  const std::uint64_t offset = scratch - ghcb.value();
  if (scratch < ghcb.value() || offset < kSharedBufferBegin || offset > kSharedBufferEnd ||
      size > kSharedBufferEnd - offset) {
    return std::nullopt;
  }
  return GhcbScratch{page.shared_buffer, static_cast<std::size_t>(offset) - kSharedBufferBegin};
}

std::uint8_t* GhcbScratch::bytes(std::size_t offset, std::size_t size) const {
  ACCEDE_ASSERT(offset <= room() && size <= room() - offset);
  return reinterpret_cast<std::uint8_t*>(words_.data()) + begin_ + offset;
}

std::uint64_t* GhcbScratch::word(std::size_t offset, std::size_t size) const {
  ACCEDE_ASSERT(offset <= room() && size <= room() - offset);
  const bool is_word = size == 8 && (begin_ + offset) % 8 == 0;
  return is_word ? &words_[(begin_ + offset) / 8] : nullptr;
}

void GhcbScratch::read(std::size_t offset, std::span<std::uint8_t> to) const {
  std::uint8_t* const from = bytes(offset, to.size());
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = load_shared(from[i]);
  }
}

void GhcbScratch::write(std::size_t offset, std::span<const std::uint8_t> from) const {
  std::uint8_t* const to = bytes(offset, from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    store_shared(to[i], from[i]);
  }
}

std::uint64_t GhcbScratch::load(std::size_t offset, std::size_t size) const {
  ACCEDE_ASSERT(size <= 8);
  if (auto* const whole = word(offset, size); whole != nullptr) {
    return load_shared(*whole);
  }
  std::array<std::uint8_t, 8> raw{};
  read(offset, std::span{raw}.first(size));
  return std::bit_cast<std::uint64_t>(raw);
}

void GhcbScratch::store(std::size_t offset, std::size_t size, std::uint64_t value) const {
  ACCEDE_ASSERT(size <= 8);
  if (auto* const whole = word(offset, size); whole != nullptr) {
    store_shared(*whole, value);
    return;
  }
  const auto raw = std::bit_cast<std::array<std::uint8_t, 8>>(value);
  write(offset, std::span{raw}.first(size));
}

}  // namespace accede::host
