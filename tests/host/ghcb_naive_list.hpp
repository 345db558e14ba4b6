// Page state lists of the GHCB protocol, played as slowly and plainly as possible.
#pragma once

#include "accede/host/ghcb_page_state.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace accede::host::test {

/// One change and how it was answered.
struct PageStateCall {
  GhcbPageState change;
  GhcbPageStateAnswer answer;
};

/// A list: entries taken apart by hand, pages counted one by one.
class NaiveList {
 public:
  explicit NaiveList(std::vector<std::uint64_t> words) : words_{std::move(words)} {}

  /// Plays the list with the recorded answers. Text when a call was not the expected one.
  std::string run(std::span<const PageStateCall> calls) {
    const std::uint64_t end = words_[0] >> 16 & 0xFFFF;
    std::uint64_t cur = words_[0] & 0xFFFF;
    result = 0;
    if (end + 1 >= words_.size()) {
      result = 1ULL << 32 | 1;
    }
    while (result == 0 && cur <= end) {
      if (cur_page(cur) > pages(cur) || (large(cur) && gfn(cur) % 512 != 0)) {
        result = 1ULL << 32 | 2;
      } else if (cur_page(cur) == pages(cur)) {
        words_[0] = (words_[0] & ~0xFFFFULL) | ++cur;
      } else {
        const std::uint64_t begin = gfn(cur) + cur_page(cur);
        const bool is_large = large(cur) && cur_page(cur) == 0;
        std::uint64_t stop = gfn(cur) + pages(cur);
        std::uint64_t next = cur + 1;
        while (next <= end && op(next) == op(cur) && gfn(next) == stop && cur_page(next) == 0 &&
               large(next) == is_large) {
          stop += pages(next++);
        }
        std::uint64_t done = stop - begin;
        bool refused = false;
        if (op(cur) == 1 || op(cur) == 2) {
          if (calls.empty()) {
            return "a change is missing";
          }
          const PageStateCall& call = calls.front();
          calls = calls.subspan(1);
          if (call.change.range.begin().value() != begin << 12 ||
              call.change.range.end().value() != stop << 12 ||
              static_cast<std::uint64_t>(call.change.op) != op(cur) ||
              (call.change.size == PageSize::k2M) != is_large) {
            return "another change than expected";
          }
          done = std::min(done, call.answer.done.value());
          refused = call.answer.refused;
        }
        const bool all = done == stop - begin;
        for (; done != 0; --done) {
          ++words_[1 + cur];
          if (cur_page(cur) == pages(cur)) {
            ++cur;
          }
        }
        words_[0] = (words_[0] & ~0xFFFFULL) | cur;
        if (refused) {
          result = 0x100ULL << 32;
        } else if (!all) {
          break;
        }
      }
    }
    return calls.empty() ? "" : "one change too many";
  }

  std::uint64_t result = 0;
  [[nodiscard]] const std::vector<std::uint64_t>& words() const { return words_; }

 private:
  [[nodiscard]] std::uint64_t entry(std::uint64_t i) const { return words_[1 + i]; }
  [[nodiscard]] std::uint64_t cur_page(std::uint64_t i) const { return entry(i) & 0xFFF; }
  [[nodiscard]] std::uint64_t gfn(std::uint64_t i) const { return entry(i) >> 12 & 0xFF'FFFF'FFFF; }
  [[nodiscard]] std::uint64_t op(std::uint64_t i) const { return entry(i) >> 52 & 0xF; }
  [[nodiscard]] bool large(std::uint64_t i) const { return (entry(i) >> 56 & 1) != 0; }
  [[nodiscard]] std::uint64_t pages(std::uint64_t i) const { return large(i) ? 512 : 1; }

  std::vector<std::uint64_t> words_;  ///< the header and all entries that there is room for
};

}  // namespace accede::host::test
