#include "accede/abi/tdx.hpp"

#include <gtest/gtest.h>

#include <set>

namespace accede::abi::tdx {
namespace {

TEST(TdxStatus, HasTheExactWordsOfTheAcceptDecisionTable) {
  EXPECT_EQ(status(Status::kOperandInvalid, Operand::kRcx), 0xC000010000000001);
  EXPECT_EQ(status(Status::kOperandInvalid, Operand::kRax), 0xC000010000000000);
  EXPECT_EQ(status(Status::kOperandBusy, Operand::kRcx), 0x8000020000000001);
  EXPECT_EQ(status(Status::kPageAlreadyAccepted, PageSize::k4K), 0x00000B0A00000000);
  EXPECT_EQ(status(Status::kPageAlreadyAccepted, PageSize::k2M), 0x00000B0A00000001);
  EXPECT_EQ(status(Status::kPageSizeMismatch, PageSize::k2M), 0xC0000B0B00000001);
  EXPECT_EQ(status(Status::kHostPriorityBusyTimeout), 0x9000020500000000);
  EXPECT_EQ(status(Status::kNoValidVeInfo), 0xC000070400000000);
}

TEST(TdxStatus, TellsErrorsFromWarnings) {
  EXPECT_FALSE(is_error(0));
  EXPECT_FALSE(is_error(0x00000B0A00000001));
  EXPECT_TRUE(is_error(0xC0000B0B00000001));
  EXPECT_TRUE(is_error(0x8000020000000001));
}

TEST(TdxStatus, NamesEveryCodeOnceAndRoundTrips) {
  std::set<std::uint32_t> codes;
  for (const StatusName& entry : kStatusNames) {
    EXPECT_TRUE(codes.insert(static_cast<std::uint32_t>(entry.code)).second) << entry.name;
    EXPECT_EQ(name_of(status(entry.code, 0x1234)), entry.name);
    EXPECT_EQ(code_of(status(entry.code, 7)), entry.code);
    EXPECT_EQ(details_of(status(entry.code, 7)), 7U);
  }
  EXPECT_EQ(name_of(0xDEAD'BEEF'0000'0000), "unknown");
}

TEST(TdxAccept, EncodesRcx) {
  EXPECT_EQ(PageOperand::make(PhysAddr{0x40000000}, PageSize::k2M), 0x40000001U);
  EXPECT_EQ(PageOperand::gpa(0x000F'FFFF'FFFF'FFFF), PhysAddr{0x000F'FFFF'FFFF'F000});
  EXPECT_EQ(PageOperand::ReservedHigh::kMask, 0xFFF0'0000'0000'0000);
  EXPECT_EQ(PageOperand::ReservedLow::kMask, 0xFF8U);
  EXPECT_EQ(PageOperand::ReservedHigh::kMask | PageOperand::Gpa::kMask |
                PageOperand::ReservedLow::kMask | PageOperand::Level::kMask,
            ~std::uint64_t{0});
}

TEST(TdxSept, StatesHaveDistinctMasksInsideTheStateBits) {
  EXPECT_EQ(SeptEntry::kStateMask, 0x01E0'0000'0000'02C0U);
  std::set<std::uint64_t> masks;
  std::set<SeptState> states;
  for (const SeptStateInfo& info : kSeptStates) {
    EXPECT_EQ(info.mask & ~SeptEntry::kStateMask, 0U) << info.name;
    EXPECT_TRUE(masks.insert(info.mask).second) << info.name;
    EXPECT_TRUE(states.insert(info.state).second) << info.name;
    EXPECT_EQ(name_of(info.state), info.name);
  }
  EXPECT_EQ(states.size(), 16U);
  EXPECT_EQ(name_of(static_cast<SeptState>(77)), "unknown");
}

TEST(TdxSept, PendingIsMappedPlusTdpAndFreshIsFreePlusSuppressVe) {
  const auto mask = [](SeptState state) {
    for (const SeptStateInfo& info : kSeptStates) {
      if (info.state == state) {
        return info.mask;
      }
    }
    return ~std::uint64_t{0};
  };
  EXPECT_EQ(mask(SeptState::kPending), mask(SeptState::kMapped) | SeptEntry::Tdp::kMask);
  EXPECT_EQ(mask(SeptState::kPendingExportedDirty),
            mask(SeptState::kExportedDirty) | SeptEntry::Tdp::kMask);
  EXPECT_EQ(mask(SeptState::kBlockedW), mask(SeptState::kMapped) | SeptEntry::Tdbw::kMask);
  EXPECT_EQ(SeptEntry::kFresh, mask(SeptState::kFree) | SeptEntry::SuppressVe::kMask);
}

TEST(TdxSept, LevelsCoverTheirSizes) {
  EXPECT_EQ(level_bytes(SeptLevel::k4K), 4_KiB);
  EXPECT_EQ(level_bytes(sept_level(PageSize::k1G)), 1_GiB);
  EXPECT_EQ(level_bytes(SeptLevel::k256T), 256_TiB);
  EXPECT_EQ(name_of(SeptLevel::k512G), "512G");
  EXPECT_EQ(name_of(static_cast<SeptLevel>(9)), "unknown");
}

TEST(TdxFields, LinuxsNotifyEnablesIdMatchesTheModules) {
  EXPECT_TRUE(same_field(kFieldNotifyEnables, kFieldNotifyEnablesLinux));
  EXPECT_FALSE(same_field(kFieldTdCtls, kFieldConfigFlags));
  EXPECT_EQ(FieldId::kSingleElementZeroMask & kFieldNotifyEnables, 0U);
  EXPECT_EQ(FieldId::ElementSize::get(kFieldConfigFlags), 3U);
}

TEST(TdxVmcall, UsualMaskExposesNothingForbidden) {
  EXPECT_EQ(VmcallMask::kUsual & (VmcallMask::kForbidden | VmcallMask::kForbiddenRbp), 0U);
  EXPECT_TRUE(VmcallMask::exposes(VmcallMask::kUsual, Gpr::kR15));
  EXPECT_TRUE(VmcallMask::exposes(VmcallMask::kUsual, Gpr::kRdx));
  EXPECT_FALSE(VmcallMask::exposes(VmcallMask::kUsual, Gpr::kRcx));
  EXPECT_EQ(name_of(Vmcall::kMapGpa), "MapGPA");
  EXPECT_EQ(name_of(VmcallStatus::kAlignError), "ALIGN_ERROR");
  EXPECT_EQ(name_of(TdcallLeaf::kMemPageAccept), "MEM.PAGE.ACCEPT");
}

TEST(TdxDetection, CpuidSpellsIntelTdx) {
  std::string text;
  for (const std::uint32_t word : {kCpuidEbx, kCpuidEdx, kCpuidEcx}) {
    for (unsigned i = 0; i < 4; ++i) {
      text += static_cast<char>(word >> (8 * i));
    }
  }
  EXPECT_EQ(text, "IntelTDX    ");
  EXPECT_EQ(shared_bit(48), 1ULL << 47);
  EXPECT_EQ(shared_bit(52), 1ULL << 51);
}

TEST(TdxExit, ExtendedQualificationFieldsLieInTheUpperHalf) {
  using X = ExtendedQualification;
  EXPECT_EQ(X::RequestedLevel::kMask, 0x7ULL << 32);
  EXPECT_EQ(X::ErrorLevel::kMask, 0x7ULL << 35);
  EXPECT_EQ(X::ErrorState::kMask, 0xFFULL << 38);
  EXPECT_EQ(X::IsLeaf::kMask, 1ULL << 46);
  EXPECT_EQ(X::VmIndex::kMask, 0x3ULL << 52);
}

}  // namespace
}  // namespace accede::abi::tdx
