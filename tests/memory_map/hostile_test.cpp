// Inputs that were cut off, damaged, or made to take long, end in an error or an answer.
#include "accede/memory_map/memmap_option.hpp"
#include "accede/memory_map/recognise.hpp"
#include "accede/memory_map/srat.hpp"
#include "tests/memory_map/reader_check.hpp"
#include "tests/memory_map/samples.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <random>
#include <string>
#include <vector>

namespace accede::memory_map {
namespace {

using test::between;
using test::bytes_of;

struct Sample {
  std::string name;
  std::vector<std::byte> bytes;
};

Sample sample(std::string name, std::string_view text) {
  const auto bytes = bytes_of(text);
  return {std::move(name), {bytes.begin(), bytes.end()}};
}

std::vector<Sample> samples() {
  return {sample("iomem", test::kIomem),
          sample("dmesg", test::kDmesg),
          sample("json", test::kJson),
          sample("cmr_lines", test::kCmrLines),
          sample("memmap", "exactmap,640K@0,memmap=1G@1M,2G$4G,1G!8G,1M%1M-1+12,12G"),
          {"srat", test::example_srat()}};
}

class HostileMemoryMap : public testing::TestWithParam<Sample> {};

TEST_P(HostileMemoryMap, EveryPrefixGivesAnErrorOrAnAnswer) {
  const std::span<const std::byte> bytes{GetParam().bytes};
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    test::check_readers(bytes.first(length));
  }
}

TEST_P(HostileMemoryMap, TenThousandMutationsGiveAnErrorOrAnAnswer) {
  std::mt19937 random{1};
  for (int round = 0; round < 10000; ++round) {
    auto bytes = GetParam().bytes;
    for (unsigned change = 1 + random() % 4; change > 0; --change) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    test::check_readers(bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Samples, HostileMemoryMap, testing::ValuesIn(samples()),
                         [](const auto& each) { return each.param.name; });

/// The most that the command reads.
constexpr std::size_t kLargest = 16U << 20;

template <class Line>
std::string repeated(Line line) {
  std::string text;
  for (std::size_t i = 0; text.size() < kLargest; ++i) {
    text += line(i);
  }
  text.resize(kLargest);
  return text;
}

std::string hex(std::size_t value) {
  return text_of(between(value, value)).substr(2, text_of(between(value, value)).find('-') - 2);
}

struct Oversized {
  const char* name;
  std::string (*make)();
};

constexpr std::array<Oversized, 11> kOversized{{
    {"iomem_ascending",
     [] {
       return repeated(
           [](std::size_t i) { return hex(2 * i) + "-" + hex(2 * i) + " : Reserved\n"; });
     }},
    {"iomem_descending_ram",
     [] {
       return repeated([](std::size_t i) {
         const std::string at = hex((1ULL << 40) - 2 * i);
         return at + "-" + at + " : System RAM\n";
       });
     }},
    {"iomem_ram_inside",
     [] {
       return "0-ffffffffff : Soft Reserved\n" + repeated([](std::size_t i) {
                const std::string at = hex((1ULL << 39) - 2 * i);
                return " " + at + "-" + at + " : System RAM\n";
              });
     }},
    {"iomem_ever_deeper",
     [] {
       return repeated(
           [](std::size_t i) { return std::string(i, ' ') + "0-1 : PCI Bus 0000:00\n"; });
     }},
    {"iomem_devices", [] { return repeated([](std::size_t) { return "0-1:\n"; }); }},
    {"dmesg_many_maps",
     [] {
       return repeated([](std::size_t i) {
         return std::string{i % 2 == 0 ? "user: " : "BIOS-e820: "} + "[mem 0x1-0x2] usable\n";
       });
     }},
    {"dmesg_many_changes",
     [] {
       return repeated([](std::size_t i) {
         return i < kMostRanges / 2
                    ? "BIOS-e820: [mem 0x" + hex(4 * i) + "-0x" + hex(4 * i + 1) + "] usable\n"
                    : "e820: update [mem 0x0-0xffffffff] usable ==> usable\n";
       });
     }},
    {"one_line", [] { return std::string(kLargest, '['); }},
    {"json_deep", [] { return R"([{"base":)" + std::string(kLargest, '['); }},
    {"json_wide",
     [] { return "[" + repeated([](std::size_t) { return R"({"base":0,"size":1},)"; }) + "0]"; }},
    {"cmrs", [] { return repeated([](std::size_t) { return "CMR[0x1,0x2)\n"; }); }},
}};

class OversizedMemoryMap : public testing::TestWithParam<Oversized> {};

TEST_P(OversizedMemoryMap, IsReadOrRefusedInTime) {
  const std::string text = GetParam().make();
  const auto bytes = bytes_of(text);
  const auto start = std::chrono::steady_clock::now();
  test::check_memory_map(bytes);
  test::check_cmrs(bytes);
  test::check_srat(bytes);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  // It takes less than a second, more with sanitizers; a quadratic reader takes minutes.
  EXPECT_LT(seconds.count(), 60.0);
}

INSTANTIATE_TEST_SUITE_P(Files, OversizedMemoryMap, testing::ValuesIn(kOversized),
                         [](const auto& each) { return std::string{each.param.name}; });

}  // namespace
}  // namespace accede::memory_map
