// Remembers what a guest did wrong at its GHCB, for reports.
#pragma once

#include "accede/host/ghcb_types.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace accede::host {

/// The first kRoom different mistakes, each with a count; the number of all others. Two mistakes
/// are the same when kind, field and exit code are; the first value seen is kept. So a guest cannot
/// fill it by repeating itself. Thread-compatible.
class GhcbRecorder {
 public:
  static constexpr std::size_t kRoom = 32;

  struct Record {
    GhcbMistake first;
    std::uint64_t count = 0;
  };

  void add(const GhcbMistake& mistake) {
    const auto known = std::span{records_}.first(size_);
    const auto same = std::ranges::find_if(known, [&](const Record& record) {
      return record.first.kind == mistake.kind && record.first.field == mistake.field &&
             record.first.exit_code == mistake.exit_code;
    });
    if (same != known.end()) {
      ++same->count;
    } else if (size_ < kRoom) {
      records_[size_++] = {.first = mistake, .count = 1};
    } else {
      ++dropped_;
    }
  }

  /// In the order in which they were first made.
  [[nodiscard]] std::span<const Record> records() const { return std::span{records_}.first(size_); }
  /// Mistakes that found no room.
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

 private:
  std::array<Record, kRoom> records_{};
  std::size_t size_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace accede::host
