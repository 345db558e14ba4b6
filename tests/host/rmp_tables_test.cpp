// The tables of the reference, row by row: states (2.2), transitions (2.3), access checks (2.4).
#include "tests/host/rmp_fixture.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <tuple>

namespace accede::host {
namespace {

using test::kAllStates;
using test::kRmp2M;
using test::kRmp4K;
using test::kRmpAsid;
using E = RmpEntry;

constexpr std::uint64_t kPage = 5 * kRmp4K;

bool is_immutable(RmpState state) {
  return state == RmpState::kHvFixed || state == RmpState::kFirmware ||
         state == RmpState::kContext || state == RmpState::kMetadata ||
         state == RmpState::kPreGuest || state == RmpState::kPreSwap;
}

// --- 2.2 states ---

struct StateRow {
  RmpState state;
  unsigned assigned, validated, asid, immutable;
  std::optional<std::uint64_t> gpa;
  unsigned vmsa;
};
constexpr std::uint64_t kOwnGpa = test::kRmpBase + test::kRmpGpa + kPage;
constexpr std::array kStateRows{
    StateRow{RmpState::kHypervisor, 0, 0, 0, 0, {}, 0},
    StateRow{RmpState::kHvFixed, 0, 0, 0, 1, {}, 0},
    StateRow{RmpState::kFirmware, 1, 0, 0, 1, 0, 0},
    StateRow{RmpState::kReclaim, 1, 0, 0, 0, {}, 0},
    StateRow{RmpState::kContext, 1, 0, 0, 1, 0, 1},
    StateRow{RmpState::kMetadata, 1, 0, 0, 1, test::kMetadata.value(), 0},
    StateRow{RmpState::kPreGuest, 1, 0, kRmpAsid, 1, kOwnGpa, 0},
    StateRow{RmpState::kPreSwap, 1, 1, kRmpAsid, 1, kOwnGpa, 0},
    StateRow{RmpState::kGuestInvalid, 1, 0, kRmpAsid, 0, kOwnGpa, 0},
    StateRow{RmpState::kGuestValid, 1, 1, kRmpAsid, 0, kOwnGpa, 0},
};

class RmpStateTable : public ::testing::TestWithParam<StateRow> {};

TEST_P(RmpStateTable, TheEntryHasTheBitsOfTheRow) {
  const StateRow row = GetParam();
  test::RmpTable table;
  table.bring(kPage, PageSize::k4K, row.state);
  const RmpEntry entry = table.rmp.lookup(test::spa_at(kPage));
  EXPECT_EQ(E::Assigned::get(entry.low), row.assigned);
  EXPECT_EQ(E::Validated::get(entry.low), row.validated);
  EXPECT_EQ(E::Asid::get(entry.low), row.asid);
  EXPECT_EQ(E::Immutable::get(entry.low), row.immutable);
  EXPECT_EQ(E::Vmsa::get(entry.low), row.vmsa);
  EXPECT_EQ(E::Lock::get(entry.low), 0U);
  if (row.gpa.has_value()) {
    EXPECT_EQ(E::Gfn::get(entry.low) << 12, *row.gpa);
  }
  EXPECT_EQ(table.state(kPage), row.state);
  EXPECT_EQ(E::SubpageCount::get(table.raw(0).low), row.assigned) << "counted at the 2M entry";
  const RmpStateWords words = *table.rmp.read(test::spa_at(kPage));
  EXPECT_EQ(words.assigned, row.assigned);
  EXPECT_EQ(words.page_size, row.assigned != 0 ? abi::rmp::kRegionStatus : 0);
  EXPECT_EQ(words.immutable, row.immutable);
  EXPECT_EQ(words.asid, row.asid);
  EXPECT_TRUE(table.rmp.invariants());
}

INSTANTIATE_TEST_SUITE_P(Rows, RmpStateTable, ::testing::ValuesIn(kStateRows),
                         [](const auto& row) { return test::test_name(row.param.state); });

// --- 2.3 transitions ---

using EdgeRow = std::tuple<RmpState, RmpState>;
std::string edge_name(const ::testing::TestParamInfo<EdgeRow>& row) {
  return test::test_name(std::get<0>(row.param)) + "To" + test::test_name(std::get<1>(row.param));
}

/// From every state to every state, by the one call that may do it.
class RmpTransitionTable : public ::testing::TestWithParam<EdgeRow> {
 protected:
  void SetUp() override {
    std::tie(from, to) = GetParam();
    table.bring(kPage, PageSize::k4K, from);
  }
  void TearDown() override { EXPECT_TRUE(table.rmp.invariants()); }
  [[nodiscard]] RmpEntry entry() const { return table.rmp.lookup(test::spa_at(kPage)); }

  test::RmpTable table;
  RmpState from{};
  RmpState to{};
};

/// To the four states that RMPUPDATE has operands for.
class RmpUpdateTable : public RmpTransitionTable {};

TEST_P(RmpUpdateTable, RmpUpdateLeadsFromWhatIsNotImmutableToFourStates) {
  RmpUpdate update;
  switch (to) {
    case RmpState::kGuestInvalid:
      update = RmpUpdate::guest(test::gpa_at(kPage), PageSize::k4K, kRmpAsid);
      break;
    case RmpState::kPreGuest:
      update = RmpUpdate::pre_guest(test::gpa_at(kPage), PageSize::k4K, kRmpAsid);
      break;
    case RmpState::kFirmware:
      update = RmpUpdate::firmware(PageSize::k4K);
      break;
    default:
      ASSERT_EQ(to, RmpState::kHypervisor);
  }
  const RmpEntry before = entry();
  const RmpUpdateCode code = table.rmp.update(test::spa_at(kPage), update);
  if (is_immutable(from)) {
    EXPECT_EQ(code, RmpUpdateCode::kFailPermission);
    EXPECT_EQ(entry(), before);
    return;
  }
  EXPECT_EQ(code, RmpUpdateCode::kSuccess);
  EXPECT_EQ(table.state(kPage), to);
  EXPECT_EQ(E::Validated::get(entry().low), 0U);
  EXPECT_EQ(E::Vmsa::get(entry().low), 0U);
  EXPECT_EQ(entry().high, to == RmpState::kHypervisor ? 0U : 0x1FU) << "VMPL 0 alone may";
}

INSTANTIATE_TEST_SUITE_P(
    Rows, RmpUpdateTable,
    ::testing::Combine(::testing::ValuesIn(kAllStates),
                       ::testing::Values(RmpState::kHypervisor, RmpState::kGuestInvalid,
                                         RmpState::kPreGuest, RmpState::kFirmware)),
    edge_name);

TEST_P(RmpTransitionTable, PvalidateLeadsBetweenGuestInvalidAndGuestValid) {
  const bool is_guest = from == RmpState::kGuestInvalid || from == RmpState::kGuestValid;
  const RmpEntry before = entry();
  const PvalidateOutcome outcome = table.pvalidate(kPage, 0, to == RmpState::kGuestValid);
  if (!is_guest) {
    EXPECT_NE(outcome.fault, RmpVerdict::kAllowed);
    EXPECT_EQ(entry(), before);
  } else if (to == RmpState::kGuestInvalid || to == RmpState::kGuestValid) {
    EXPECT_EQ(outcome, PvalidateOutcome{.carry = from == to});
    EXPECT_EQ(table.state(kPage), to);
    EXPECT_EQ(entry().low & ~E::Validated::kMask, before.low & ~E::Validated::kMask);
    EXPECT_EQ(entry().high, before.high);
  }
}

TEST_P(RmpTransitionTable, TheFirmwareHasEdgesOfItsOwn) {
  using S = RmpState;
  const std::array<std::pair<S, S>, 9> edges{{{S::kHypervisor, S::kHvFixed},
                                              {S::kFirmware, S::kReclaim},
                                              {S::kPreGuest, S::kReclaim},
                                              {S::kFirmware, S::kContext},
                                              {S::kContext, S::kFirmware},
                                              {S::kFirmware, S::kMetadata},
                                              {S::kMetadata, S::kFirmware},
                                              {S::kGuestValid, S::kPreSwap},
                                              {S::kPreSwap, S::kGuestValid}}};
  const bool legal = std::ranges::find(edges, std::pair{from, to}) != edges.end();
  const RmpEntry before = entry();
  const FirmwareCode code = table.rmp.move(test::spa_at(kPage), PageSize::k4K, to, test::kMetadata);
  EXPECT_EQ(code, legal ? FirmwareCode::kSuccess : FirmwareCode::kInvalidPageState);
  EXPECT_EQ(table.state(kPage), legal ? to : from);
  if (!legal) {
    EXPECT_EQ(entry(), before);
  }
}

TEST_P(RmpTransitionTable, LaunchUpdateLeadsFromPreGuestToGuestValid) {
  const FirmwareCode code = table.rmp.launch_update(test::spa_at(kPage), {.asid = kRmpAsid});
  const bool legal = from == RmpState::kPreGuest;
  EXPECT_EQ(code, legal ? FirmwareCode::kSuccess : FirmwareCode::kInvalidPageState);
  EXPECT_EQ(table.state(kPage), legal ? RmpState::kGuestValid : from);
}

INSTANTIATE_TEST_SUITE_P(Rows, RmpTransitionTable,
                         ::testing::Combine(::testing::ValuesIn(kAllStates),
                                            ::testing::ValuesIn(kAllStates)),
                         edge_name);

/// A 2 MiB page in each state that it can have.
class RmpLargePage : public ::testing::TestWithParam<RmpState> {
 protected:
  void SetUp() override { table.bring(kRmp2M, PageSize::k2M, GetParam()); }
  void TearDown() override { EXPECT_TRUE(table.rmp.invariants()); }
  test::RmpTable table;
};

TEST_P(RmpLargePage, IsReadThroughItsFirstEntry) {
  for (const std::uint64_t page : {kRmp4K, kRmp2M - kRmp4K}) {
    EXPECT_EQ(table.raw(kRmp2M + page), RmpEntry{});
    EXPECT_EQ(table.state(kRmp2M + page), GetParam());
    const RmpStateWords words = *table.rmp.read(test::spa_at(kRmp2M + page));
    EXPECT_EQ(words, RmpStateWords{.page_size = abi::rmp::kRegionStatus}) << "RMPREAD: raw";
  }
  EXPECT_EQ(table.rmp.read(test::spa_at(kRmp2M))->page_size, 1 | abi::rmp::kRegionStatus);
}

TEST_P(RmpLargePage, IsSmashedUnlessImmutable) {
  const RmpEntry before = table.rmp.lookup(test::spa_at(kRmp2M + 7 * kRmp4K));
  const PsmashCode code = table.rmp.psmash(test::spa_at(kRmp2M));
  if (is_immutable(GetParam())) {
    EXPECT_EQ(code, PsmashCode::kFailPermission);
    return;
  }
  EXPECT_EQ(code, PsmashCode::kSuccess);
  RmpEntry after = table.rmp.lookup(test::spa_at(kRmp2M + 7 * kRmp4K));
  EXPECT_EQ(after.low, before.low & ~E::Large::kMask) << "all fields copied, the GPA counts";
  EXPECT_EQ(after.high, before.high);
  EXPECT_EQ(E::SubpageCount::get(table.raw(kRmp2M).low), 511U);
}

INSTANTIATE_TEST_SUITE_P(Rows, RmpLargePage,
                         ::testing::Values(RmpState::kFirmware, RmpState::kReclaim,
                                           RmpState::kContext, RmpState::kMetadata,
                                           RmpState::kPreGuest, RmpState::kPreSwap,
                                           RmpState::kGuestInvalid, RmpState::kGuestValid),
                         [](const auto& row) { return test::test_name(row.param); });

// --- 2.4 access checks ---

/// EXITINFO1 of every private fault here: present, user level, RMP, final address, encrypted.
constexpr std::uint64_t kPrivateNpf = 0x5'8000'0005;

RmpVerdict expected_private(RmpState state) {
  switch (state) {
    case RmpState::kGuestValid:
      return RmpVerdict::kAllowed;
    case RmpState::kGuestInvalid:
      return RmpVerdict::kNotValidated;
    case RmpState::kPreGuest:
    case RmpState::kPreSwap:
      return RmpVerdict::kImmutable;
    default:
      return RmpVerdict::kNotAssigned;
  }
}
bool hypervisor_owned(RmpState state) {
  return state == RmpState::kHypervisor || state == RmpState::kHvFixed;
}

class RmpAccessTable : public ::testing::TestWithParam<RmpState> {
 protected:
  void SetUp() override { table.bring(kPage, PageSize::k4K, GetParam()); }
  [[nodiscard]] RmpFault private_fault(RmpAccess access) const {
    access.gpa = test::gpa_at(kPage);
    access.asid = kRmpAsid;
    const RmpVerdict verdict = table.rmp.check_private(test::spa_at(kPage), access);
    EXPECT_EQ(verdict, expected_private(GetParam()));
    return fault_of(verdict, access);
  }
  /// What a private access gets, given the bits that its kind adds.
  [[nodiscard]] RmpFault expected(std::uint64_t code) const {
    switch (expected_private(GetParam())) {
      case RmpVerdict::kAllowed:
        return {};
      case RmpVerdict::kNotValidated:
        return {.kind = RmpFaultKind::kNotValidated, .code = 0x404};
      default:
        return {.kind = RmpFaultKind::kNestedPageFault, .code = code};
    }
  }
  [[nodiscard]] RmpVerdict shared(bool write, PageSize mapping = PageSize::k4K) const {
    return table.rmp.check_shared(test::spa_at(kPage), write, mapping);
  }
  test::RmpTable table;
};

TEST_P(RmpAccessTable, HostWritesAndPageTablesNeedAHypervisorPage) {
  const RmpFault fault = host_fault_of(shared(true));
  EXPECT_EQ(fault, hypervisor_owned(GetParam())
                       ? RmpFault{}
                       : (RmpFault{.kind = RmpFaultKind::kHostPageFault, .code = 0x8000'0003}));
  EXPECT_EQ(shared(true, PageSize::k2M), shared(true)) << "2M: all 512 must be";
  EXPECT_EQ(table.rmp.check_shared(test::spa_at(0), true, PageSize::k1G), shared(true))
      << "1G is checked as 2M";
  EXPECT_EQ(table.rmp.check_shared(test::spa_at(0), true), RmpVerdict::kAllowed);
}

TEST_P(RmpAccessTable, HostReadsAreFree) {
  EXPECT_EQ(host_fault_of(shared(false)), RmpFault{});
}

TEST_P(RmpAccessTable, SharedWritesOfAnyGuestNeedAHypervisorPage) {
  EXPECT_EQ(shared_fault_of(shared(true)),
            hypervisor_owned(GetParam())
                ? RmpFault{}
                : (RmpFault{.kind = RmpFaultKind::kNestedPageFault, .code = 0x1'8000'0007}));
}

TEST_P(RmpAccessTable, SharedReadsOfAnyGuestAreFree) {
  EXPECT_EQ(shared_fault_of(shared(false)), RmpFault{});
}

TEST_P(RmpAccessTable, PrivateReadsNeedAValidPageOfTheGuest) {
  EXPECT_EQ(private_fault({}), expected(kPrivateNpf));
}
TEST_P(RmpAccessTable, PrivateWritesNeedAValidPageOfTheGuest) {
  EXPECT_EQ(private_fault({.write = true}), expected(kPrivateNpf | 1 << 1));
}
TEST_P(RmpAccessTable, FetchesNeedAValidPageOfTheGuest) {
  EXPECT_EQ(private_fault({.fetch = true}), expected(kPrivateNpf | 1 << 4));
}
TEST_P(RmpAccessTable, PageTableWalksNeedAValidPageOfTheGuest) {
  const std::uint64_t table_bits = (kPrivateNpf & ~(1ULL << 32)) | 1ULL << 33;
  EXPECT_EQ(private_fault({.table_walk = true}), expected(table_bits));
  EXPECT_EQ(private_fault({.write = true, .table_walk = true}), expected(table_bits | 1 << 1));
}

INSTANTIATE_TEST_SUITE_P(Rows, RmpAccessTable, ::testing::ValuesIn(kAllStates),
                         [](const auto& row) { return test::test_name(row.param); });

TEST(RmpSizeTable, NestedLeafAndEntryMustHaveOneSizeAndThisIsCheckedBeforeValidation) {
  test::RmpTable table;
  table.bring(0, PageSize::k2M, RmpState::kGuestInvalid);
  table.bring(kRmp2M, PageSize::k4K, RmpState::kGuestInvalid);
  for (const std::uint64_t page : {std::uint64_t{0}, kRmp2M}) {
    for (const PageSize nested : {PageSize::k4K, PageSize::k2M, PageSize::k1G}) {
      const RmpAccess access{
          .gpa = test::gpa_at(page), .asid = kRmpAsid, .nested_size = nested, .write = true};
      const RmpVerdict verdict = table.rmp.check_private(test::spa_at(page), access);
      const bool agree = (page == 0) == (nested != PageSize::k4K);
      EXPECT_EQ(verdict, agree ? RmpVerdict::kNotValidated : RmpVerdict::kSizeMismatch);
      EXPECT_EQ(fault_of(verdict, access).code, agree ? 0x404U : 0xD'8000'0007U)
          << "RMP 31, final 32, ENC 34, SIZEM 35";
    }
  }
}

struct PermissionRow {
  const char* name;
  unsigned bit;
  RmpAccess access;
};
const std::array kPermissionRows{
    PermissionRow{"Read", 0, {}},
    PermissionRow{"Write", 1, {.write = true}},
    PermissionRow{"UserFetch", 2, {.fetch = true, .user = true}},
    PermissionRow{"SupervisorFetch", 3, {.fetch = true}},
    PermissionRow{"ShadowStack", 4, {.write = true, .shadow_stack = true}},
};

class RmpPermissionTable : public ::testing::TestWithParam<PermissionRow> {};

TEST_P(RmpPermissionTable, AVmplNeedsTheBitOfTheAccess) {
  test::RmpTable table;
  table.bring(kPage, PageSize::k4K, RmpState::kGuestValid);
  RmpAccess access = GetParam().access;
  access.gpa = test::gpa_at(kPage);
  access.asid = kRmpAsid;
  for (const unsigned vmpl : {1U, 2U, 3U}) {
    access.vmpl = vmpl;
    for (unsigned mask = 0; mask <= abi::rmp::kPermAll; ++mask) {
      const auto operand = abi::rmp::RmpAdjustOperand::make(vmpl, static_cast<std::uint8_t>(mask));
      ASSERT_EQ(table.rmp.rmpadjust(table.page(kPage), 0, operand), RmpAdjustOutcome{});
      const RmpVerdict verdict = table.rmp.check_private(test::spa_at(kPage), access);
      const bool may = (mask >> GetParam().bit & 1) != 0;
      EXPECT_EQ(verdict, may ? RmpVerdict::kAllowed : RmpVerdict::kNoPermission);
      const std::uint64_t code = fault_of(verdict, access).code;
      EXPECT_EQ(code >> 31 & 1, may ? 0U : 1U) << "RMP";
      EXPECT_EQ(code >> 36 & 1, may ? 0U : 1U) << "VMPL";
      EXPECT_EQ(code >> 37 & 1, !may && access.shadow_stack ? 1U : 0U) << "SSS";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, RmpPermissionTable, ::testing::ValuesIn(kPermissionRows),
                         [](const auto& row) { return std::string{row.param.name}; });

}  // namespace
}  // namespace accede::host
