// Random exits of a hostile guest to a host that answers anything, checked against a naive
// reference of the lists. The model test feeds it a random generator, the fuzz target the fuzzer's
// bytes.
#pragma once

#include "accede/host/ghcb.hpp"
#include "tests/host/ghcb_any_host.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace accede::host::test {

/// Exits of one vCPU.
class GhcbActions {
 public:
  static constexpr std::uint64_t kGhcb = AnyHost::kGhcb;

  explicit GhcbActions(bool is_snp) : ghcb_{host_, {.is_snp = is_snp}}, is_snp_{is_snp} {}

  /// One exit. Text when something was wrong.
  std::string step(ByteSource& bytes) {
    bytes_ = &bytes;
    host_.begin(bytes);
    if (bytes.below(8) == 0) {
      msr_exit();
    } else {
      page_exit();
    }
    if (ghcb_.holds() && bytes.below(2) == 0) {
      static_cast<void>(ghcb_.start(kGhcb));
    }
    if (host_.steps > 2100) {
      host_.wrong("too many calls for one exit");
    }
    return host_.problem;
  }

 private:
  std::uint64_t raw64() {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < 8; ++i) {
      value = value << 8 | bytes_->next();
    }
    return value;
  }
  void msr_exit() {
    constexpr std::array<std::uint64_t, 9> kCodes{0x002, 0x004, 0x006, 0x010, 0x012,
                                                  0x014, 0x080, 0x100, 0x016};
    std::uint64_t msr = raw64();
    if (const std::uint32_t which = bytes_->below(10); which < kCodes.size()) {
      msr = (msr & ~0xFFFULL) | kCodes[which];
    }
    if (bytes_->below(4) == 0) {
      msr = kGhcb | 0x012;
    }
    const GhcbOutcome outcome = ghcb_.exit(msr);
    if (outcome.next == GhcbNext::kStop && (msr & 0xFFF) != 0) {
      host_.wrong("the MSR protocol stops nothing");
    }
  }

  std::uint64_t list_entry(std::uint64_t& gfn) {
    const std::uint32_t shape = bytes_->below(16);
    if (shape == 0) {
      return raw64();
    }
    const bool large = shape < 6;
    const std::uint64_t pages = large ? 512 : 1;
    gfn = (gfn + pages - 1) / pages * pages;
    std::uint64_t entry = gfn << 12 | (shape % 4 == 0 ? 2ULL : 1ULL) << 52;
    entry |= large ? 1ULL << 56 : 0;
    entry |= shape == 1 ? bytes_->below(514) : shape == 7 ? 1 : 0;
    gfn += pages + (shape == 9 ? 1 : 0);
    return entry;
  }

  void prepare_list() {
    std::uint64_t gfn = bytes_->below(4096);
    const std::uint64_t end = bytes_->below(32) == 1 ? bytes_->below(65536) : bytes_->below(24);
    const std::uint64_t cur = bytes_->below(8) == 1 ? bytes_->below(256) : 0;
    page().shared_buffer[0] = end << 16 | cur;
    for (std::size_t i = 0; i < std::min<std::uint64_t>(end + 1, 24); ++i) {
      page().shared_buffer[1 + i] = list_entry(gfn);
    }
  }

  void prepare_request() {
    constexpr std::array<std::uint64_t, 29> kCodes{
        0x27,       0x37,       0x6E,       0x6F,       0x72,       0x76,
        0x7B,       0x7B,       0x7C,       0x81,       0x87,       0x89,
        0x8A,       0x8B,       0x80000001, 0x80000002, 0x80000003, 0x80000004,
        0x80000005, 0x80000011, 0x80000012, 0x80000013, 0x80000014, 0x80000018,
        0x8000FFFD, 0x8000FFFE, 0x8000FFFF, 0x80000010, 0x80000010};
    page().valid_bitmap = {~0ULL, ~0ULL};
    page().usage = bytes_->below(64) == 1 ? 1 : 0;
    const std::uint32_t which = bytes_->below(64);
    page().sw_exit_code = which < kCodes.size() ? kCodes[which] : 0x80000010;
    page().sw_exit_info_1 = bytes_->below(2) == 0 ? bytes_->below(65536) : raw64();
    page().sw_exit_info_2 = bytes_->below(4) == 0 ? raw64() : bytes_->below(2100);
    page().sw_scratch = kGhcb + 0x800;
    page().cpl = 0;
    if (bytes_->below(8) == 1) {
      page().sw_scratch = bytes_->below(2) == 0 ? raw64() : kGhcb + bytes_->below(4200);
    }
    if (bytes_->below(8) == 1) {
      page().valid_bitmap = {raw64(), raw64()};
    }
    if (page().sw_exit_code == 0x80000010) {
      prepare_list();
    }
    if (bytes_->below(16) == 1) {
      host_.scribble();
    }
  }

  void page_exit() {
    if (!ghcb_.registered() && is_snp_ && bytes_->below(8) != 1) {
      static_cast<void>(ghcb_.exit(kGhcb | 0x012));
    }
    prepare_request();
    const abi::ghcb::GhcbPage before = page();
    const std::uint64_t msr = bytes_->below(32) == 1 ? raw64() & ~0xFFFULL : kGhcb;
    host_.begin(*bytes_);
    const GhcbOutcome outcome = ghcb_.exit(msr);
    if (outcome.msr != msr) {
      host_.wrong("the MSR changed");
    }
    if (msr == kGhcb && outcome.next == GhcbNext::kResume) {
      check_answer(before);
    }
  }

  /// The page behind an exit that was answered.
  void check_answer(const abi::ghcb::GhcbPage& before) {
    using enum abi::ghcb::ValidBit;
    constexpr auto kOutputs =
        abi::ghcb::valid_bits(kRax, kRbx, kRcx, kRdx, kSwExitInfo1, kSwExitInfo2);
    if (page().valid_bitmap != kOutputs) {
      host_.wrong("other valid bits than those of the outputs");
    }
    if (page().sw_exit_info_1 > 2) {
      host_.wrong("an unknown result");
    }
    if (before.sw_exit_code == 0x80000010 && page().sw_exit_info_1 == 0) {
      check_list(before);
    } else if (!host_.calls.empty()) {
      host_.wrong("a page state change without a list");
    }
  }

  static std::vector<std::uint64_t> words_at(const abi::ghcb::GhcbPage& page,
                                             std::uint64_t offset) {
    std::vector<std::uint64_t> words((0xFF0 - offset) / 8);
    std::memcpy(words.data(), reinterpret_cast<const std::byte*>(&page) + offset, words.size() * 8);
    return words;
  }

  void check_list(const abi::ghcb::GhcbPage& before) {
    const std::uint64_t offset = before.sw_scratch - kGhcb;
    if (!is_snp_ || offset < 0x800 || offset > 0xFE8) {
      return host_.wrong("a list where none may lie");
    }
    NaiveList naive{words_at(before, offset)};
    if (const std::string text = naive.run(host_.calls); !text.empty()) {
      return host_.wrong(text);
    }
    if (naive.result != page().sw_exit_info_2) {
      return host_.wrong("another result of the list");
    }
    if (!host_.rewritten && naive.words() != words_at(page(), offset)) {
      host_.wrong("other words in the list");
    }
  }

  [[nodiscard]] abi::ghcb::GhcbPage& page() { return *host_.page; }

  AnyHost host_;
  Ghcb<AnyHost> ghcb_;
  bool is_snp_;
  ByteSource* bytes_ = nullptr;
};

}  // namespace accede::host::test
