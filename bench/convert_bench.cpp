#include "bench/convert_bench.hpp"

#include "accede/host/bulk_conversion.hpp"
#include "accede/host/linux_memfd.hpp"
#include "bench/arena.hpp"
#include "bench/clock.hpp"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <expected>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace accede::bench {

namespace {

using namespace host;
using abi::ghcb::PageOp;
using abi::ghcb::PscEntry;
using abi::ghcb::PscHeader;

constexpr std::uint64_t kEntries = abi::ghcb::kPscMaxEntries;
constexpr PageAttribute kShared = PageAttribute::kShared;
constexpr PageAttribute kPrivate = PageAttribute::kPrivate;
constexpr std::uint64_t kMark = 0x6D61726B;

/// A launched guest with one slot from 4 GiB on, all of it shared.
class ConvertVm {
 public:
  ConvertVm(VmType type, std::uint64_t pages)
      : range_{*PhysRange::make(PhysAddr{4ULL << 30}, PageCount{pages}.bytes())},
        made_{linux_memfd(type, range_.size())},
        backing_{made_.value()},
        bits_(PageAttributes::storage_bound(range_).value() / 8),
        attributes_{range_, std::as_writable_bytes(std::span{bits_})},
        memory_{{.type = type},
                backing_,
                attributes_,
                {.slots = slots_,
                 .populated = populated_,
                 .consumers = consumers_,
                 .holds = holds_,
                 .claims = claims_}} {
    if (!memory_.add_slot(range_) || !memory_.bind(range_.begin(), Bytes{0}, Bytes{0}) ||
        !memory_.initialise() || !memory_.set_private(range_) || !memory_.launch()) {
      throw std::runtime_error{"a guest for Convert"};
    }
  }

  [[nodiscard]] PhysRange range() const { return range_; }
  [[nodiscard]] PrivateMemory<LinuxFileBacking>& memory() { return memory_; }
  [[nodiscard]] PageAttributes& attributes() { return attributes_; }
  [[nodiscard]] LinuxFileBacking& backing() { return backing_; }
  [[nodiscard]] std::uint64_t calls() const { return backing_.calls().total(); }
  [[nodiscard]] Bytes held() const { return backing_.file(kShared).backed(); }

  /// Makes everything shared and there, marked, and mapped by both views.
  void populate(bool private_there) {
    if (!memory_.convert(range_, kShared)) {
      throw std::runtime_error{"conversion to shared"};
    }
    const LinuxMemoryFile& shared = backing_.file(kShared);
    map(shared.host_view());
    map(shared.guest_view());
    for (std::size_t at = 0; at < shared.host_view().size(); at += 4096) {
      *reinterpret_cast<std::uint64_t*>(shared.host_view().data() + at) = kMark;
    }
    if (private_there) {
      map(backing_.file(kPrivate).guest_view());
    }
  }
  /// The first word of a shared page, which is not made by looking.
  [[nodiscard]] std::uint64_t content(std::uint64_t page) const {
    std::uint64_t word = 0;
    return pread(backing_.file(kShared).fd(), &word, sizeof word,
                 static_cast<off_t>(page * 4096)) == sizeof word
               ? word
               : ~std::uint64_t{0};
  }

 private:
  static void map(std::span<std::byte> view) {
    if (madvise(view.data(), view.size(), MADV_POPULATE_WRITE) != 0) {
      throw std::runtime_error{"MADV_POPULATE_WRITE"};
    }
  }

  PhysRange range_;
  std::expected<LinuxFileBacking, std::string> made_;
  LinuxFileBacking& backing_;
  std::vector<std::uint64_t> bits_;
  PageAttributes attributes_;
  std::array<MemorySlot, 1> slots_;
  std::array<PhysRange, 1> populated_;
  std::array<ConsumerEntry, 1> consumers_;
  std::array<MemoryHold, 1> holds_;
  std::array<MemoryClaim, 2> claims_;
  PrivateMemory<LinuxFileBacking> memory_;
};

/// A thread that runs in this address space, on another CPU than its maker, and touches 32 MiB of
/// its own.
class BusyThread {
 public:
  explicit BusyThread(bool wanted) {
    if (!wanted) {
      return;
    }
    CPU_ZERO(&before_);
    sched_getaffinity(0, sizeof before_, &before_);
    const auto nth = [this](int wanted_cpu) {
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &before_) && wanted_cpu-- == 0) {
          return cpu;
        }
      }
      return -1;
    };
    thread_ = std::thread{[this] { run(); }};
    if (CPU_COUNT(&before_) > 1) {
      pin(pthread_self(), nth(0));
      pin(thread_.native_handle(), nth(1));
    }
  }
  ~BusyThread() {
    stop_ = true;
    if (thread_.joinable()) {
      thread_.join();
      sched_setaffinity(0, sizeof before_, &before_);
    }
  }
  BusyThread(const BusyThread&) = delete;
  BusyThread& operator=(const BusyThread&) = delete;

 private:
  static void pin(pthread_t thread, int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread, sizeof one, &one);
  }
  void run() {
    constexpr std::size_t kWords = (32U << 20) / 8;
    std::vector<std::uint64_t> words(kWords, 1);
    for (std::size_t at = 0; !stop_; at = (at + 512) % kWords) {
      auto* const word = &words[at];
      *static_cast<volatile std::uint64_t*>(word) = *word + 1;
    }
  }

  cpu_set_t before_{};
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

/// One experiment: which pages, and the two ways to convert them.
class Rounds {
 public:
  explicit Rounds(const ConvertSetup& setup)
      : setup_{setup}, stride_{setup.alternating ? 2U : 1U}, bulk_{vm_.memory(), {}} {
    words_[0] = PscHeader::make(0, kEntries - 1);
    for (std::uint64_t i = 0; i < kEntries; ++i) {
      words_[1 + i] = PscEntry::make(gpa(i), PageSize::k4K, PageOp::kPrivate);
    }
  }

  /// Each page by a call of its own; beside that only its attribute changes.
  double each() {
    vm_.populate(setup_.private_there);
    const std::uint64_t calls = vm_.calls();
    const std::uint64_t begin = now_ns();
    for (std::uint64_t i = 0; i < kEntries; ++i) {
      const Bytes offset = gpa(i) - vm_.range().begin();
      wrong_ += vm_.backing().discard(kShared, *OffsetRange::make(offset, 4_KiB)) ? 0 : 1;
      if (!setup_.bare) {
        vm_.attributes().set(PhysRange::page(gpa(i), PageSize::k4K), kPrivate);
      }
    }
    const double time = static_cast<double>(now_ns() - begin) / 1e3;
    figures.each_calls = vm_.calls() - calls;
    look();
    return time;
  }
  /// The list that a guest sends.
  double list() {
    vm_.populate(setup_.private_there);
    std::array<std::uint64_t, abi::ghcb::kPscWords> words = words_;
    const std::uint64_t calls = vm_.calls();
    const auto report = [this](const GhcbMistake&) { ++wrong_; };
    const std::uint64_t begin = now_ns();
    std::array<PageStateList, 1> lists{PageStateList{GhcbScratch{words}, report}};
    bulk_.answer_lists(lists, [] { return false; }, report, [](PhysRange, PageOp) {});
    const double time = static_cast<double>(now_ns() - begin) / 1e3;
    figures.list_calls = vm_.calls() - calls;
    wrong_ += lists[0].result() == abi::ghcb::PscResult::kOk &&
                      PscHeader::CurEntry::get(words[0]) == kEntries
                  ? 0
                  : 1;
    look();
    return time;
  }

  [[nodiscard]] std::uint64_t wrong() const { return wrong_; }
  ConvertFigures figures;

 private:
  static constexpr std::uint64_t kPages = 2 * kEntries;

  [[nodiscard]] PhysAddr gpa(std::uint64_t index) const {
    return vm_.range().begin() + PageCount{index * stride_}.bytes();
  }
  /// What was converted is gone, the rest is there.
  void look() {
    bool right = vm_.held() == PageCount{kPages - kEntries}.bytes();
    for (std::uint64_t page = 0; page < kPages; ++page) {
      const bool gone = page % stride_ == 0 && page / stride_ < kEntries;
      right = right && vm_.content(page) == (gone ? 0 : kMark);
    }
    wrong_ += right ? 0 : 1;
  }

  ConvertSetup setup_;
  std::uint64_t stride_;
  ConvertVm vm_{VmType::kSnp, kPages};
  BulkConversion<LinuxFileBacking> bulk_;
  std::array<std::uint64_t, abi::ghcb::kPscWords> words_{};
  std::uint64_t wrong_ = 0;
};

}  // namespace

ConvertFigures convert_pairs(unsigned pairs, const ConvertSetup& setup) {
  Rounds rounds{setup};
  const BusyThread busy{setup.busy_thread};
  for (unsigned i = 0; i < pairs; ++i) {
    double each = i % 2 == 0 ? rounds.each() : 0;
    const double list = rounds.list();
    each = i % 2 == 0 ? each : rounds.each();
    rounds.figures.each_us.push_back(each);
    rounds.figures.list_us.push_back(list);
    rounds.figures.ratios.push_back(each / list);
  }
  rounds.figures.wrong = rounds.wrong();
  return rounds.figures;
}

ConvertRangeFigures convert_range(std::uint64_t pages) {
  constexpr std::uint64_t kSharedBit = 1ULL << 47;
  constexpr std::uint64_t kExitNs = 2'000'000;
  ConvertVm vm{VmType::kTdx, pages};
  ConvertRangeFigures figures;
  vm.populate(false);
  std::uint64_t begin = now_ns();
  (void)vm.backing().discard(kShared, *OffsetRange::make(Bytes{0}, vm.range().size()));
  figures.one_call_seconds = static_cast<double>(now_ns() - begin) / 1e9;

  vm.populate(false);
  BulkConversion bulk{vm.memory(), {.step = 2_MiB, .most = vm.range().size()}};
  const std::uint64_t calls = vm.calls();
  const std::uint64_t end = vm.range().end().value();
  MapGpaAnswer answer{.r10 = abi::tdx::VmcallStatus::kRetry, .r11 = vm.range().begin().value()};
  while (answer.r10 == abi::tdx::VmcallStatus::kRetry) {
    begin = now_ns();
    std::uint64_t last = begin;
    const auto step_ended = [&] {
      const std::uint64_t now = now_ns();
      figures.longest_step_ms = std::max(figures.longest_step_ms,
                                         static_cast<double>(now - std::exchange(last, now)) / 1e6);
      return now - begin >= kExitNs;
    };
    answer = bulk.map_gpa(answer.r11, end - answer.r11, kSharedBit, step_ended);
    const double exit = static_cast<double>(now_ns() - begin) / 1e6;
    figures.seconds += exit / 1e3;
    figures.longest_exit_ms = std::max(figures.longest_exit_ms, exit);
    ++figures.exits;
  }
  figures.calls = vm.calls() - calls;
  figures.left = vm.held().value();
  return figures;
}

namespace {

void check_pairs(Verdicts& verdicts, const char* what, unsigned pairs, const ConvertSetup& setup,
                 double at_least) {
  const ConvertFigures figures = convert_pairs(pairs, setup);
  verdicts.judge(figures.wrong == 0 && figures.each_calls == kEntries &&
                     figures.list_calls == (setup.alternating ? kEntries : 1),
                 text("Convert, %s: 4k-each %.0f calls, list253 %.0f; content and memory gone, the "
                      "neighbours' not (%.0f rounds wrong)",
                      what, static_cast<double>(figures.each_calls),
                      static_cast<double>(figures.list_calls), static_cast<double>(figures.wrong)));
  const std::string medians =
      text("4k-each %.0f us, list253 %.0f us", median(figures.each_us), median(figures.list_us));
  std::vector<double> inverse;
  std::ranges::transform(figures.ratios, std::back_inserter(inverse),
                         [](double ratio) { return 1 / ratio; });
  if (setup.bare) {
    verdicts.note(
        text("Convert, %s: %s; list / each %.3f", what, medians.c_str(), median(inverse)));
  } else if (setup.alternating) {
    verdicts.at_most(text("Convert, %s: %s; list / each in %u pairs", what, medians.c_str(), pairs),
                     median(inverse), 1.10);
  } else if (at_least != 0) {
    verdicts.at_least(text("Convert, %s: %s; each / list", what, medians.c_str()),
                      median(figures.ratios), at_least);
  } else {
    verdicts.note(
        text("Convert, %s: %s; each / list %.1f", what, medians.c_str(), median(figures.ratios)));
  }
}

}  // namespace

void check_convert(Verdicts& verdicts, bool quick) {
  const unsigned pairs = quick ? 2 : 400;
  check_pairs(verdicts, "253 pages", pairs, {}, 3);
  check_pairs(verdicts, "with a second thread", pairs, {.busy_thread = true}, 8);
  check_pairs(verdicts, "private side populated", pairs, {.private_there = true}, 0);
  check_pairs(verdicts, "alternating pages", pairs, {.alternating = true}, 0);
  check_pairs(verdicts, "alternating pages, against calls alone", pairs,
              {.alternating = true, .bare = true}, 0);
  const std::uint64_t pages = quick ? 8192 : 262144;
  const ConvertRangeFigures range = convert_range(pages);
  verdicts.judge(range.left == 0 && range.calls == pages / 512,
                 text("Convert/range1GiB: %.0f calls of 2 MiB in %.0f exits; %.0f bytes left",
                      static_cast<double>(range.calls), static_cast<double>(range.exits),
                      static_cast<double>(range.left)));
  verdicts.judge(range.longest_exit_ms <= 2 + 2 * range.longest_step_ms,
                 text("Convert/range1GiB: longest exit %.2f ms, asked for 2 ms; longest step %.2f",
                      range.longest_exit_ms, range.longest_step_ms));
  verdicts.note(text("Convert/range1GiB: %.3f s by exits, %.3f s by one call", range.seconds,
                     range.one_call_seconds));
}

}  // namespace accede::bench
