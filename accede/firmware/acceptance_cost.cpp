#include "accede/firmware/acceptance_cost.hpp"

#include "accede/base/assert.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace accede::firmware {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
constexpr Bytes kPage = 4_KiB;

constexpr std::uint64_t add(std::uint64_t a, std::uint64_t b) {
  return a > kMost - b ? kMost : a + b;
}

constexpr std::uint64_t multiply(std::uint64_t a, std::uint64_t b) {
  return b != 0 && a > kMost / b ? kMost : a * b;
}

constexpr std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

/// Counts the page tables of one level, when ranges come in ascending order.
class TableCounter {
 public:
  /// `shift`: address bits below what one table covers.
  explicit TableCounter(unsigned shift) : shift_{shift} {}

  void add(PhysRange range) {
    const std::uint64_t first = range.begin().value() >> shift_;
    const std::uint64_t last = (range.end().value() - 1) >> shift_;
    count_ += last - first + (last_ == first ? 0U : 1U);
    last_ = last;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  unsigned shift_;
  std::uint64_t count_ = 0;
  std::optional<std::uint64_t> last_;
};

/// The tables below the root that map what was added.
class Tables {
 public:
  void add(const PageRun& run) {
    root_entry_.add(run.range);
    if (run.size < PageSize::k1G) {
      of_1g_.add(run.range);
    }
    if (run.size < PageSize::k2M) {
      of_2m_.add(run.range);
    }
  }
  [[nodiscard]] Bytes size() const {
    return kPage * (root_entry_.count() + of_1g_.count() + of_2m_.count());
  }

 private:
  TableCounter root_entry_{39};
  TableCounter of_1g_{30};
  TableCounter of_2m_{21};
};

Nanoseconds time_of(const Prediction& work, const CostModel& model, std::uint64_t cpus) {
  const std::uint64_t large = add(work.pages_2m, multiply(work.pages_1g, 512));
  const std::uint64_t parallel = add(multiply(work.pages_4k, model.page_4k.parallel.value),
                                     multiply(large, model.page_2m.parallel.value));
  const std::uint64_t serial = add(multiply(work.pages_4k, model.page_4k.serial.value),
                                   multiply(large, model.page_2m.serial.value));
  return {add(serial, divide_up(parallel, cpus))};
}

}  // namespace

Prediction predict(const AcceptancePlan& plan, const guest::MemoryMap& map, const CostModel& model,
                   std::uint32_t cpus) {
  ACCEDE_ASSERT(cpus != 0 && model.most_cpus != 0);
  Prediction predicted;
  Tables tables;
  plan.for_each_page_run([&](const PageRun& run) {
    std::uint64_t& pages = run.size == PageSize::k4K   ? predicted.pages_4k
                           : run.size == PageSize::k2M ? predicted.pages_2m
                                                       : predicted.pages_1g;
    pages += run.pages();
    tables.add(run);
  });
  // A CPU that gets no chunk does not help either.
  const std::uint64_t useful = std::max<std::uint64_t>(
      1, std::min<std::uint64_t>({cpus, model.most_cpus, plan.chunk_count()}));
  predicted.time = time_of(predicted, model, useful);
  predicted.accepted = plan.size();
  predicted.tables = tables.size();
  // Together they may be more than the address space.
  predicted.backed =
      Bytes{add((map.bytes_of(guest::MemoryKind::kUsable) + predicted.accepted).value(),
                predicted.tables.value())};
  return predicted;
}

Bytes acceptable_within(Nanoseconds limit, const CostModel& model, std::uint32_t cpus) {
  ACCEDE_ASSERT(cpus != 0 && model.most_cpus != 0);
  const std::uint64_t useful = std::min(cpus, model.most_cpus);
  const std::uint64_t each =
      add(model.page_2m.serial.value, divide_up(model.page_2m.parallel.value, useful));
  constexpr std::uint64_t kMostPages = kMost / bytes(PageSize::k2M).value();
  return bytes(PageSize::k2M) * (each == 0 ? kMostPages : std::min(limit.value / each, kMostPages));
}

}  // namespace accede::firmware
