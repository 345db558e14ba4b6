// The baseline: when Linux accepts memory, on our allocator.
#pragma once

#include "accede/guest/page_info.hpp"
#include "accede/guest/zone.hpp"

#include <cmath>
#include <cstdint>

namespace accede::bench {

/// Linux 6.12 (reference: boot flow 3.5): blocks of 4 MiB in the order in which they were added,
/// the guard unit behind each; every request first asks whether the zone's accepted free memory is
/// below the promotion watermark, and accepts blocks until it is not. Watermarks of zero, as early
/// in boot, accept one block at every request.
class LinuxPolicy {
 public:
  static constexpr bool kKnowsUnaccepted = true;
  static constexpr bool kAcceptsWhenAdded = false;
  static constexpr bool kChecksEveryRequest = true;

  [[nodiscard]] guest::Order step(guest::Order, guest::Order) const { return guest::kMaxOrder; }
  [[nodiscard]] guest::ZoneEnd end() const { return guest::ZoneEnd::kBottom; }
  [[nodiscard]] bool wants(const guest::Zone& zone, unsigned done) const {
    if (!zone.has_unaccepted()) {
      return false;
    }
    return watermark_ == PageCount{} ? done == 0 : zone.counters().free < watermark_;
  }
  template <class Wake>
  void taken(const guest::Zone&, unsigned, PageCount, Wake) {}

  void set_watermark(PageCount pages) { watermark_ = pages; }

  /// The promotion watermark that Linux computes for a zone that is all of a machine's memory:
  /// min = sqrt(16 * KiB of memory) KiB, and three times the distance max(min / 4, 0.1 % of the
  /// zone) above it.
  [[nodiscard]] static PageCount promotion_watermark(Bytes zone) {
    const double kib = static_cast<double>(zone.value()) / 1024;
    const double min = std::sqrt(16 * kib) / 4;
    const double distance = std::max(min / 4, kib / 4 * 0.001);
    return PageCount{static_cast<std::uint64_t>(min + 3 * distance)};
  }

 private:
  PageCount watermark_;
};

}  // namespace accede::bench
