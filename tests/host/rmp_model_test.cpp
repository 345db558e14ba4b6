// The RMP against a naive one: every call on a page in every state, every access check, and random
// sequences.
#include "tests/host/rmp_naive.hpp"
#include "tests/host/sept_fixture.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <variant>
#include <vector>

namespace accede::host {
namespace {

using test::gpa_at;
using test::kAllStates;
using test::kRmp2M;
using test::kRmp4K;
using test::kRmpAsid;
using test::spa_at;

using Outcome =
    std::variant<RmpUpdateCode, PsmashCode, FirmwareCode, PvalidateOutcome, RmpAdjustOutcome, bool>;

/// One call, for both tables.
struct Step {
  std::string name;
  std::function<Outcome(Rmp&)> real;
  std::function<Outcome(test::NaiveRmp&)> naive;
};
template <class Call>
Step step(std::string name, Call call) {
  return {std::move(name), [call](Rmp& rmp) -> Outcome { return call(rmp); },
          [call](test::NaiveRmp& rmp) -> Outcome { return call(rmp); }};
}

class Both {
 public:
  [[nodiscard]] std::string play(const Step& step) {
    return step.real(table_.rmp) == step.naive(naive_) ? "" : step.name + ": other outcome";
  }
  void bring(std::uint64_t offset, PageSize size, RmpState state) {
    test::bring(table_.rmp, offset, size, state);
    test::bring(naive_, offset, size, state);
  }
  /// Entries of the first two regions and the incomplete one.
  [[nodiscard]] std::string compare() const {
    for (const auto& [begin, end] : {std::pair{0U, 1024U}, std::pair{2048U, 2051U}}) {
      for (std::size_t i = begin; i < end; ++i) {
        const PhysAddr spa = spa_at(i * kRmp4K);
        if (table_.rmp.lookup(spa) != naive_.entry(i)) {
          return "page " + std::to_string(i) + " has another entry";
        }
        if (table_.rmp.in_use(spa, PageSize::k4K) != (naive_.pages[i].users != 0)) {
          return "page " + std::to_string(i) + " differs in use";
        }
      }
    }
    return table_.rmp.invariants() ? "" : "invariants() is false";
  }
  /// All checks of one page.
  [[nodiscard]] std::string compare_accesses(std::uint64_t offset) const {
    const PhysAddr spa = spa_at(offset);
    for (unsigned bits = 0; bits < 64; ++bits) {
      RmpAccess access{.gpa = gpa_at(offset), .asid = kRmpAsid + (bits & 1)};
      access.gpa += Bytes{(bits >> 1 & 1) * kRmp4K};
      access.write = (bits & 4) != 0;
      access.fetch = (bits & 8) != 0 && !access.write;
      access.user = (bits & 16) != 0;
      access.shadow_stack = (bits & 32) != 0;
      for (unsigned more = 0; more < 12; ++more) {
        access.vmpl = more % 4;
        access.nested_size = static_cast<PageSize>(more / 4);
        if (table_.rmp.check_private(spa, access) != naive_.check_private(spa, access)) {
          return "private access " + std::to_string(bits) + "/" + std::to_string(more);
        }
      }
    }
    for (unsigned bits = 0; bits < 6; ++bits) {
      const auto mapping = static_cast<PageSize>(bits / 2);
      if (table_.rmp.check_shared(spa, bits % 2 != 0, mapping) !=
          naive_.check_shared(spa, bits % 2 != 0, mapping)) {
        return "shared access " + std::to_string(bits);
      }
    }
    return "";
  }

  [[nodiscard]] test::NaiveRmp& naive() { return naive_; }

 private:
  test::RmpTable table_;
  test::NaiveRmp naive_{4 * 512 + 3};
};

/// Every call with the page at `offset`, with good operands and with bad ones.
std::vector<Step> all_steps(std::uint64_t offset) {
  const PhysAddr spa = spa_at(offset);
  const PhysAddr gpa = gpa_at(offset);
  std::vector<Step> steps;
  for (const PageSize size : {PageSize::k4K, PageSize::k2M}) {
    const std::string text = size == PageSize::k4K ? " 4K" : " 2M";
    const std::array updates{RmpUpdate::hypervisor(size),
                             RmpUpdate::firmware(size),
                             RmpUpdate::guest(gpa, size, kRmpAsid),
                             RmpUpdate::guest(gpa, size, 1023),
                             RmpUpdate::guest(gpa, size, 1024),
                             RmpUpdate::guest(gpa, size, 0),
                             RmpUpdate::guest(gpa + 1_B, size, kRmpAsid),
                             RmpUpdate::guest(PhysAddr{1ULL << 51}, size, kRmpAsid),
                             RmpUpdate::pre_guest(gpa, size, kRmpAsid),
                             RmpUpdate{.size = size, .immutable = true},
                             RmpUpdate{.size = size, .asid = 1}};
    for (std::size_t i = 0; i < updates.size(); ++i) {
      for (const std::uint32_t caller : {0U, kRmpAsid}) {
        steps.push_back(step("RMPUPDATE " + std::to_string(i) + text,
                             [=](auto& rmp) { return rmp.update(spa, updates[i], caller); }));
      }
    }
    for (const RmpState to : kAllStates) {
      steps.push_back(step("firmware to " + test::test_name(to) + text,
                           [=](auto& rmp) { return rmp.move(spa, size, to, test::kMetadata); }));
    }
    for (std::uint8_t type = 0; type < 8; ++type) {
      for (const std::uint32_t asid : {kRmpAsid, kRmpAsid + 1}) {
        steps.push_back(step("launch " + std::to_string(type) + text, [=](auto& rmp) {
          return rmp.launch_update(spa, {.type = LaunchPageType{type},
                                         .size = size,
                                         .asid = asid,
                                         .permissions = {1, 3, 0x1F}});
        }));
      }
    }
  }
  steps.push_back(step("PSMASH", [=](auto& rmp) { return rmp.psmash(spa); }));
  steps.push_back(step("PSMASH of a guest", [=](auto& rmp) { return rmp.psmash(spa, 1); }));
  steps.push_back(step("UNSMASH", [=](auto& rmp) { return rmp.unsmash(spa); }));
  for (std::uint32_t bits = 0; bits < 24; ++bits) {
    const std::uint32_t ecx = bits % 3;
    const std::uint32_t asid = kRmpAsid + (bits / 3 & 1);
    const PhysAddr at = gpa + Bytes{(bits / 6 & 1) * kRmp4K};
    steps.push_back(step("PVALIDATE " + std::to_string(bits), [=](auto& rmp) {
      return rmp.pvalidate(spa, at, asid, ecx, bits / 12 != 0);
    }));
  }
  for (unsigned vmpl = 0; vmpl < 4; ++vmpl) {
    for (const std::uint64_t rdx :
         {0x0001ULL, 0x1F02ULL, 0x10303ULL, 0x1FF03ULL, 0x10001ULL, 5ULL, 1ULL << 17 | 1, 0ULL}) {
      for (std::uint64_t rcx = 0; rcx < 3; ++rcx) {
        steps.push_back(step("RMPADJUST " + std::to_string(rdx), [=](auto& rmp) {
          return rmp.rmpadjust({.spa = spa, .gpa = gpa, .asid = kRmpAsid, .vmpl = vmpl}, rcx, rdx);
        }));
      }
    }
  }
  return steps;
}

struct Start {
  RmpState state;
  PageSize size;
  std::uint64_t offset;  ///< of the page
};

class RmpExhaustive : public ::testing::TestWithParam<RmpState> {
 protected:
  static std::vector<Start> starts() {
    std::vector<Start> all{{GetParam(), PageSize::k4K, 0},
                           {GetParam(), PageSize::k4K, 5 * kRmp4K},
                           {GetParam(), PageSize::k4K, 4 * kRmp2M + 2 * kRmp4K}};
    if (GetParam() != RmpState::kHvFixed) {
      all.push_back({GetParam(), PageSize::k2M, 0});
    }
    return all;
  }
};

TEST_P(RmpExhaustive, EveryCallOnEveryPageDoesWhatTheNaiveTableDoes) {
  for (const Start& start : starts()) {
    for (const bool used : {false, true}) {
      for (const std::uint64_t target : {start.offset, std::uint64_t{0}, 6 * kRmp4K}) {
        const std::vector<Step> steps = all_steps(target);
        for (std::size_t i = 0; i < steps.size(); ++i) {
          Both both;
          both.bring(start.offset, start.size, start.state);
          if (used) {
            (void)both.play(
                step("use", [&](auto& rmp) { return rmp.begin_use(spa_at(start.offset)); }));
          }
          ASSERT_EQ(both.play(steps[i]), "") << "offset " << start.offset << " used " << used;
          ASSERT_EQ(both.compare(), "") << steps[i].name << ", offset " << start.offset;
        }
      }
    }
  }
}

TEST_P(RmpExhaustive, EveryAccessGetsTheVerdictOfTheNaiveTable) {
  for (const Start& start : starts()) {
    Both both;
    both.bring(start.offset, start.size, start.state);
    const unsigned size = start.size == PageSize::k2M ? 1 : 0;
    for (const std::uint64_t rdx : {0x0001ULL, 0x0501ULL, 0x0A02ULL, 0x1003ULL, 0x10F01ULL}) {
      (void)both.play(step("RMPADJUST", [&](auto& rmp) {
        return rmp.rmpadjust(
            {.spa = spa_at(start.offset), .gpa = gpa_at(start.offset), .asid = kRmpAsid}, size,
            rdx);
      }));
      for (const std::uint64_t page : {start.offset, std::uint64_t{0}, 5 * kRmp4K, 511 * kRmp4K}) {
        ASSERT_EQ(both.compare_accesses(page), "") << "page " << page;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(From, RmpExhaustive, ::testing::ValuesIn(kAllStates),
                         [](const auto& row) { return test::test_name(row.param); });

// --- random sequences ---

/// Fills a region with equal 4 KiB pages, which random steps hardly ever do.
void fill(Both& both, std::uint64_t region, RmpState state) {
  for (std::uint64_t i = 0; i < 512; ++i) {
    const std::uint64_t offset = region + i * kRmp4K;
    const RmpUpdate update = state == RmpState::kPreGuest
                                 ? RmpUpdate::pre_guest(gpa_at(offset), PageSize::k4K, kRmpAsid)
                                 : RmpUpdate::guest(gpa_at(offset), PageSize::k4K, kRmpAsid);
    (void)both.play(step("fill", [&](auto& rmp) { return rmp.update(spa_at(offset), update); }));
  }
}

/// Makes the page at `offset` the host's again where some way leads there, so that random calls do
/// not end in states that few of them leave.
void clean(Both& both, std::uint64_t offset) {
  const PhysAddr spa = spa_at(offset);
  for (const PageSize size : {PageSize::k2M, PageSize::k4K}) {
    for (const RmpState to : {RmpState::kGuestValid, RmpState::kFirmware, RmpState::kReclaim}) {
      (void)both.play(
          step("clean", [&](auto& rmp) { return rmp.move(spa, size, to, test::kMetadata); }));
    }
    (void)both.play(
        step("clean", [&](auto& rmp) { return rmp.update(spa, RmpUpdate::hypervisor(size)); }));
  }
}

class RmpModel : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(RmpModel, MatchesANaiveTableUnderRandomCalls) {
  const std::uint64_t seed = test::seed_from_environment(GetParam());
  SCOPED_TRACE("ACCEDE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random{seed};
  constexpr std::array<std::uint64_t, 9> kOffsets{0,
                                                  kRmp4K,
                                                  5 * kRmp4K,
                                                  511 * kRmp4K,
                                                  kRmp2M,
                                                  kRmp2M + kRmp4K,
                                                  kRmp2M + 511 * kRmp4K,
                                                  4 * kRmp2M,
                                                  4 * kRmp2M + 2 * kRmp4K};
  std::vector<std::vector<Step>> steps;
  for (const std::uint64_t offset : kOffsets) {
    steps.push_back(all_steps(offset));
    // No way leads back from there.
    std::erase_if(steps.back(), [](const Step& step) { return step.name.contains("HVFixed"); });
  }
  Both both;
  for (int i = 0; i < 6000; ++i) {
    const std::size_t where = random() % kOffsets.size();
    const PhysAddr spa = spa_at(kOffsets[where]);
    unsigned& users = both.naive().pages[test::NaiveRmp::index(spa)].users;
    const std::uint64_t kind = random() % 100;
    if (kind < 2) {
      fill(both, random() % 2 * kRmp2M,
           random() % 2 == 0 ? RmpState::kGuestInvalid : RmpState::kPreGuest);
    } else if (kind < 6 && users < 3) {
      ASSERT_EQ(both.play(step("use", [&](auto& rmp) { return rmp.begin_use(spa); })), "");
    } else if (kind < 12 && users != 0) {
      ASSERT_EQ(both.play(step("unuse", [&](auto& rmp) { return rmp.end_use(spa), true; })), "");
    } else if (kind < 35) {
      clean(both, kOffsets[where]);
    } else {
      ASSERT_EQ(both.play(steps[where][random() % steps[where].size()]), "") << "step " << i;
    }
    if (i % 16 == 0) {
      ASSERT_EQ(both.compare(), "") << "step " << i;
      ASSERT_EQ(both.compare_accesses(kOffsets[where]), "") << "step " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RmpModel, ::testing::Range<std::uint64_t>(1, 7));

}  // namespace
}  // namespace accede::host
