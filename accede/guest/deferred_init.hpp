// From the early allocator to the page allocator, on as many CPUs as there are.
#pragma once

#include "accede/base/phys_range.hpp"
#include "accede/base/phys_window.hpp"
#include "accede/guest/acceptor.hpp"
#include "accede/guest/early_allocator.hpp"
#include "accede/guest/zone.hpp"
#include "accede/guest/zone_plan.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace accede::guest {

/// Opens the planned zones of a page allocator, with page information from the early allocator: on
/// the zone's own node if it has room, else on any, and accepted before it is used. `window`
/// reaches that memory. Precondition: the page allocator has as many zones as `plan`, none opened.
template <class Allocator, class Early>
[[nodiscard, gnu::cold]] std::expected<void, EarlyError> open_zones(Allocator& allocator,
                                                                    Early& early,
                                                                    std::span<const ZonePlan> plan,
                                                                    PhysWindow window) {
  for (std::size_t i = 0; i < plan.size(); ++i) {
    const Bytes need = Zone::metadata_bytes(plan[i].span);
    auto place = early.allocate(need, Bytes{4096}, {.node = plan[i].node});
    if (!place && place.error().kind == EarlyErrorKind::kOutOfMemory) {
      place = early.allocate(need, Bytes{4096});
    }
    if (!place) {
      return std::unexpected{place.error()};
    }
    const std::span metadata{window.pointer<std::byte>(place->begin()), need.value()};
    allocator.open_zone(static_cast<unsigned>(i), plan[i].span, static_cast<unsigned>(plan[i].node),
                        metadata, place->begin());
  }
  return {};
}

/// Hands the early allocator's free memory to a page allocator whose zones are open. Any number of
/// CPUs call step() until it says that nothing is left; memory can be allocated from the first step
/// on. Under a lazy policy a step writes page information and nothing else.
///
/// The early allocator must not change any more: what it handed out stays with its users.
/// Thread-safe. Holds no lock of its own; a step works on 64 MiB.
template <class Allocator>
class DeferredInit {
 public:
  static constexpr Bytes kSection = 64_MiB;

  /// All outlive the object.
  DeferredInit(Allocator& allocator, const EarlyRanges& early)
      : allocator_{allocator}, early_{early} {}

  /// Adds the next section; false: every section is added or with another CPU. An error of the
  /// platform leaves the memory it happened in unaccepted; the steps go on.
  [[nodiscard]] std::expected<bool, AcceptError> step() {
    std::uint64_t number = next_.fetch_add(1, std::memory_order_relaxed);
    for (unsigned i = 0; i < allocator_.zone_count(); ++i) {
      const PhysRange span = allocator_.zone(i).span();
      const PhysAddr base = span.begin().align_down(kSection);
      const std::uint64_t sections = (span.end() - base + kSection - Bytes{1}) / kSection;
      if (number < sections) {
        const PhysAddr begin = base + kSection * number;
        return add(span.intersect(*PhysRange::make(begin, kSection)));
      }
      number -= sections;
    }
    return false;
  }

  /// All steps that are left.
  [[nodiscard]] std::expected<void, AcceptError> run() {
    std::expected<void, AcceptError> result;
    for (;;) {
      const auto more = step();
      if (!more) {
        result = result ? std::unexpected{more.error()} : result;
      } else if (!*more) {
        return result;
      }
    }
  }

 private:
  [[nodiscard]] std::expected<bool, AcceptError> add(PhysRange section) {
    constexpr Bytes kPage{4096};
    allocator_.prepare(section);
    std::expected<bool, AcceptError> result = true;
    PhysAddr from = section.begin();
    while (const auto free = early_.next_free(from)) {
      const PhysRange part = free->range.intersect(section);
      if (part.empty()) {
        break;
      }
      from = part.end();
      const PhysAddr begin = part.begin().align_up(kPage);
      const PhysAddr end = part.end().align_down(kPage);
      if (begin >= end) {
        continue;
      }
      const auto added = allocator_.add(*PhysRange::make(begin, end));
      if (!added && result) {
        result = std::unexpected{added.error()};
      }
    }
    return result;
  }

  Allocator& allocator_;
  const EarlyRanges& early_;
  std::atomic<std::uint64_t> next_ = 0;
};

}  // namespace accede::guest
