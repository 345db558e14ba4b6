// Random memory maps against a page-by-page reference.
#include "accede/firmware/linux_e820.hpp"

#include "tests/firmware/made_up_linux.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <random>
#include <vector>

namespace accede::firmware {
namespace {

using abi::e820::Entry;
using abi::efi::MemoryType;
using test::EfiMap;

constexpr std::size_t kPages = 64;
constexpr std::uint32_t kHole = 0;

/// What the reference says about each page; nothing when two descriptors disagree.
struct Reference {
  std::array<std::uint32_t, kPages> pages{};
  bool contradicts = false;
};

std::uint32_t e820_type(std::uint32_t efi_type, bool special, const E820Rules& rules) {
  constexpr std::array<std::uint32_t, 15> kTypes{2, 1, 1, 1, 1, 2, 2, 1, 5, 3, 4, 2, 2, 2, 7};
  if (efi_type >= kTypes.size()) {
    return 2;
  }
  const std::uint32_t type = kTypes[efi_type];
  return type == 1 && special && rules.soft_reserve ? 0xEFFF'FFFF : type;
}

struct Case {
  EfiMap map;
  Reference reference;
};

Case random_case(std::mt19937_64& random, const E820Rules& rules, bool disjoint) {
  Case made;
  std::array<std::uint32_t, kPages> raw{};  // before unaccepted memory is settled; 15 + 100: it
  const std::size_t count = random() % 20;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t begin = random() % kPages;
    std::size_t end = begin + random() % std::min<std::size_t>(12, kPages - begin + 1);
    if (disjoint) {
      end =
          static_cast<std::size_t>(std::find_if(raw.begin() + static_cast<std::ptrdiff_t>(begin),
                                                raw.begin() + static_cast<std::ptrdiff_t>(end),
                                                [](std::uint32_t type) { return type != kHole; }) -
                                   raw.begin());
    }
    const auto efi_type = static_cast<std::uint32_t>(random() % 18);
    const bool special = random() % 4 == 0;
    made.map.add(static_cast<MemoryType>(efi_type), begin * 4096, end * 4096,
                 special ? 1ULL << 18 : 0);
    const std::uint32_t type = efi_type == 15 ? 115 : e820_type(efi_type, special, rules);
    for (std::size_t page = begin; page < end; ++page) {
      made.reference.contradicts |= raw[page] != kHole && raw[page] != type;
      raw[page] = type;
    }
  }
  std::ranges::transform(raw, made.reference.pages.begin(), [&](std::uint32_t type) {
    return type != 115 ? type : rules.unaccepted == UnacceptedMemory::kUntold ? kHole : 1U;
  });
  return made;
}

void check(std::span<const Entry> entries, const Reference& reference) {
  std::array<std::uint32_t, kPages> pages{};
  std::uint64_t end = 0;
  std::uint32_t last_type = kHole;
  for (const Entry& entry : entries) {
    ASSERT_GT(auto{entry.bytes}, 0U);
    ASSERT_GE(auto{entry.address}, end);
    ASSERT_TRUE(entry.address > end || entry.type != last_type || end == 0) << "not merged";
    end = entry.address + entry.bytes;
    last_type = entry.type;
    ASSERT_LE(end, kPages * 4096);
    for (std::uint64_t at = entry.address; at < end; at += 4096) {
      pages[at / 4096] = entry.type;
    }
  }
  ASSERT_EQ(pages, reference.pages);
}

class LinuxE820Model : public testing::TestWithParam<UnacceptedMemory> {};

TEST_P(LinuxE820Model, AgreesWithAPageByPageReference) {
  const char* const given = std::getenv("ACCEDE_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 20'261'121;
  std::mt19937_64 random{seed};
  int good = 0;
  int contradicting = 0;
  for (int run = 0; run < 20'000; ++run) {
    SCOPED_TRACE(testing::Message() << "ACCEDE_SEED=" << seed << " run " << run);
    const E820Rules rules{.unaccepted = GetParam(), .soft_reserve = random() % 2 == 0};
    const Case made = random_case(random, rules, run % 4 != 0);
    std::vector<Entry> storage(made.map.size());
    const auto entries = build_e820(made.map.bytes(), EfiMap::kStride, rules, storage);
    const bool has_ram = std::ranges::count(made.reference.pages, 1U) != 0;
    if (made.reference.contradicts) {
      ++contradicting;
      ASSERT_FALSE(entries.has_value());
      ASSERT_EQ(entries.error().kind, LinuxBootErrorKind::kOverlap);
    } else if (!has_ram) {
      ASSERT_FALSE(entries.has_value());
      ASSERT_EQ(entries.error().kind, LinuxBootErrorKind::kNoMemory);
    } else {
      ++good;
      ASSERT_TRUE(entries.has_value());
      ASSERT_NO_FATAL_FAILURE(check(*entries, made.reference));
    }
  }
  EXPECT_GT(good, 5'000);
  EXPECT_GT(contradicting, 500);
}

INSTANTIATE_TEST_SUITE_P(AllRules, LinuxE820Model,
                         testing::Values(UnacceptedMemory::kUntold, UnacceptedMemory::kToldByTable,
                                         UnacceptedMemory::kAccepted));

}  // namespace
}  // namespace accede::firmware
