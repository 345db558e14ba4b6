#include "accede/abi/ghcb.hpp"

#include "accede/abi/rmp.hpp"
#include "accede/abi/sev.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace accede::abi {
namespace {

using namespace ghcb;

// --- The worked values of the fact sheet ---

TEST(GhcbMsr, SevInformationOfKvmWithEncryptionBit51) {
  EXPECT_EQ(sev_info_response({.max_version = 2, .min_version = 1, .c_bit = 51}),
            0x0002000133000001U);
  EXPECT_EQ(sev_info_of(0x0002000133000001),
            (SevInfo{.max_version = 2, .min_version = 1, .c_bit = 51}));
  EXPECT_EQ(sev_info_of(0x0002000133000002), std::nullopt);
}

TEST(GhcbMsr, HypervisorFeatures) {
  EXPECT_EQ(msr_word(MsrCode::kHvFeaturesResponse, kHvFeatureSnp | kHvFeatureApCreation), 0x3081U);
  EXPECT_EQ(MsrWord::Payload::get(0x3081), 3U);
}

TEST(GhcbMsr, RegisteringAGhcb) {
  EXPECT_EQ(register_ghcb_request(PhysAddr{0x809000}), 0x809012U);
  EXPECT_EQ(register_ghcb_response(PhysAddr{0x809000}), 0x809013U);
}

TEST(GhcbMsr, PageStateChange) {
  const PhysAddr page{0x12345000};
  EXPECT_EQ(page_state_request(page, PageOp::kPrivate), 0x0010000012345014U);
  EXPECT_EQ(page_state_request(page, PageOp::kShared), 0x0020000012345014U);
  EXPECT_EQ(page_state_gpa(0x0020000012345014), page);
  EXPECT_EQ(page_state_op(0x0020000012345014), PageOp::kShared);
  EXPECT_EQ(page_state_response(0), 0x15U);
  EXPECT_EQ(page_state_response(kPageStateErrorKvm), 0x8000000000000015U);
  EXPECT_EQ(page_state_error_of(0x15), 0U);
  EXPECT_EQ(page_state_error_of(0x8000000000000015), kPageStateErrorKvm);
  EXPECT_EQ(page_state_error_of(0x14), std::nullopt);
  EXPECT_EQ(page_state_error_of(0x1015), std::nullopt) << "bits 31:12 are zero in a response";
}

TEST(GhcbMsr, Cpuid) {
  EXPECT_EQ(cpuid_request(0x8000001F, CpuidRegister::kEbx), 0x8000001F40000004U);
  const std::uint64_t response = cpuid_response(0x33, CpuidRegister::kEbx);
  EXPECT_EQ(response, 0x0000003340000005U);
  EXPECT_EQ(cpuid_value_of(response, CpuidRegister::kEbx), 0x33U);
  EXPECT_EQ(cpuid_value_of(response, CpuidRegister::kEcx), std::nullopt);
  EXPECT_EQ(cpuid_value_of(response | 0x1000, CpuidRegister::kEbx), std::nullopt);
}

TEST(GhcbMsr, Termination) {
  EXPECT_EQ(terminate_request(kTerminateLinuxPvalidate), 0x21100U);
  EXPECT_EQ(terminate_reason_of(0x21100), kTerminateLinuxPvalidate);
  EXPECT_EQ(TerminateInfo::Code::set(TerminateInfo::Set::set(0, 1), 2), 0x21U);
}

TEST(GhcbExits, ApCreation) {
  EXPECT_EQ(ApCreationInfo::Request::set(ApCreationInfo::ApicId::set(0, 1),
                                         static_cast<std::uint64_t>(ApCreationRequest::kCreate)),
            0x0000000100000001U);
}

TEST(GhcbMsr, AnApplicationProcessorIsStartedByAPayloadOfOne) {
  EXPECT_EQ(ap_reset_hold_response(false), 0x007U);
  EXPECT_EQ(ap_reset_hold_response(true), 0x1007U);
}

TEST(GhcbMsr, NoGhcbIsAllOnes) {
  EXPECT_EQ(msr_word(MsrCode::kRegisterGhcbResponse, kNoGhcb), 0xFFFFFFFFFFFFF013U);
}

TEST(GhcbExits, TerminationByPage) {
  EXPECT_EQ(TerminateInfo::reason(0x21), kTerminateLinuxPvalidate);
  EXPECT_EQ(TerminateInfo::reason(0xFFFFFFFFFFFFFFFF), (TerminateReason{.set = 15, .code = 255}));
}

TEST(GhcbExits, AGeneralProtectionAsKvmInjectsIt) {
  EXPECT_EQ(EventInjection::exception(kVectorGeneralProtection), 0x8000030DU);
}

TEST(GhcbExits, OutToASerialPort) {
  const std::uint64_t info =
      IoioInfo::Port::set(IoioInfo::Size8::set(IoioInfo::Address64::set(0, 1), 1), 0x3F8);
  EXPECT_EQ(info, 0x03F80210U);
  EXPECT_EQ(IoioInfo::In::get(info), 0U);
}

TEST(GhcbPsc, EntriesBeforeAndAfterKvm) {
  const std::uint64_t large = PscEntry::make(PhysAddr{0x12200000}, PageSize::k2M, PageOp::kPrivate);
  EXPECT_EQ(large, 0x0110000012200000U);
  EXPECT_EQ(PscEntry::CurPage::set(large, 512), 0x0110000012200200U);
  const std::uint64_t small = PscEntry::make(PhysAddr{0x12345000}, PageSize::k4K, PageOp::kShared);
  EXPECT_EQ(small, 0x0020000012345000U);
  EXPECT_EQ(PscEntry::CurPage::set(small, 1), 0x0020000012345001U);
  EXPECT_EQ(PscEntry::gpa(small), PhysAddr{0x12345000});
  EXPECT_EQ(PscEntry::size(large), PageSize::k2M);
  EXPECT_EQ(PscEntry::op(small), PageOp::kShared);
  EXPECT_EQ(PscEntry::pages(large), 512U);
  EXPECT_EQ(PscEntry::pages(small), 1U);
}

TEST(Sev, TheUsualGuestMinimumOfLeaf8000001F) {
  EXPECT_EQ(sev::kEaxSev | sev::kEaxSevEs | sev::kEaxSevSnp, 0x1AU);
}

// --- The rest ---

TEST(GhcbPsc, HeaderAndListFillTheSharedBuffer) {
  EXPECT_EQ(PscHeader::make(3, 252), 0x00FC0003U);
  EXPECT_EQ(PscHeader::Reserved::get(1ULL << 32), 1U);
  EXPECT_EQ(kPscWords * 8, sizeof(GhcbPage::shared_buffer));
  EXPECT_EQ(kSharedBufferBegin + sizeof(GhcbPage::shared_buffer), kSharedBufferEnd);
  EXPECT_EQ(static_cast<std::uint64_t>(PscResult::kGeneric), 0x0000010000000000U);
  EXPECT_EQ(static_cast<std::uint64_t>(PscResult::kBadEntry), 0x0000000100000002U);
}

TEST(GhcbPage, ValidBitsLieInBytes3F0AndUp) {
  const auto words = valid_bits(ValidBit::kSwExitCode, ValidBit::kRax);
  EXPECT_EQ(words[0], 1ULL << 63);
  EXPECT_EQ(words[1], 1ULL << (114 - 64));
}

TEST(GhcbNames, EveryCodeHasItsOwn) {
  std::set<std::string_view> names;
  for (unsigned code = 0; code < 0x200; ++code) {
    const auto name = name_of(static_cast<MsrCode>(code));
    EXPECT_TRUE(name == "unknown" || names.insert(name).second) << name;
  }
  EXPECT_EQ(names.size(), 17U);
  names.clear();
  for (std::uint64_t low = 0; low < 0x10000; ++low) {
    for (const std::uint64_t code : {low, low | 0x80000000}) {
      const auto name = name_of(static_cast<ExitCode>(code));
      EXPECT_TRUE(name == "unknown" || names.insert(name).second) << name;
    }
  }
  EXPECT_EQ(names.size(), 29U);
}

TEST(GhcbNames, EveryTerminationReasonHasItsOwn) {
  std::set<std::string_view> names;
  for (unsigned set = 0; set < 16; ++set) {
    for (unsigned code = 0; code < 256; ++code) {
      const auto name = name_of(TerminateReason{.set = static_cast<std::uint8_t>(set),
                                                .code = static_cast<std::uint8_t>(code)});
      EXPECT_TRUE(name == "unknown reason" || names.insert(name).second) << name;
    }
  }
  EXPECT_EQ(names.size(), 13U);
  EXPECT_EQ(name_of(kTerminateSnpFeatures), "SNP features unsupported");
  EXPECT_EQ(name_of(kTerminateLinuxSvsmCaa), "SVSM calling area misaligned");
}

TEST(GhcbNames, EveryErrorWordHasItsOwn) {
  std::set<std::string_view> names;
  for (unsigned reason = 0; reason < 16; ++reason) {
    names.insert(name_of(static_cast<MalformedReason>(reason)));
  }
  for (unsigned op = 0; op < 16; ++op) {
    names.insert(name_of(static_cast<PageOp>(op)));
  }
  for (const PscResult result :
       {PscResult::kOk, PscResult::kBadHeader, PscResult::kBadEntry, PscResult::kGeneric}) {
    names.insert(name_of(result));
  }
  EXPECT_EQ(names.size(), 6U + 4U + 4U + 1U);
  EXPECT_EQ(name_of(static_cast<PscResult>(7)), "unknown");
}

using rmp::RmpEntry;
using rmp::RmpState;

TEST(RmpEntryFormat, FieldsLieWhereTheProcessorPutsThem) {
  EXPECT_EQ(RmpEntry::SubpageCount::kMask, 0xFF8U);
  EXPECT_EQ(RmpEntry::Gfn::kMask, 0x0007FFFFFFFFF000U);
  EXPECT_EQ(RmpEntry::Asid::kMask, 0x1FF8000000000000U);
  EXPECT_EQ(RmpEntry::Lock::kMask | RmpEntry::Validated::kMask | RmpEntry::Vmsa::kMask |
                RmpEntry::Asid::kMask | RmpEntry::Gfn::kMask | RmpEntry::SubpageCount::kMask |
                RmpEntry::Immutable::kMask | RmpEntry::Large::kMask | RmpEntry::Assigned::kMask,
            ~std::uint64_t{0});
}

TEST(RmpEntryFormat, EveryStateOfTheManual) {
  const auto state = [](std::uint64_t assigned, std::uint64_t validated, std::uint64_t asid,
                        std::uint64_t immutable, std::uint64_t gfn, std::uint64_t vmsa) {
    std::uint64_t low = RmpEntry::Assigned::set(0, assigned);
    low = RmpEntry::Validated::set(low, validated);
    low = RmpEntry::Asid::set(low, asid);
    low = RmpEntry::Immutable::set(low, immutable);
    low = RmpEntry::Gfn::set(low, gfn);
    return rmp::state_of({.low = RmpEntry::Vmsa::set(low, vmsa), .high = 0});
  };
  EXPECT_EQ(state(0, 0, 0, 0, 0, 0), RmpState::kHypervisor);
  EXPECT_EQ(state(0, 0, 0, 1, 0, 0), RmpState::kHvFixed);
  EXPECT_EQ(state(1, 0, 0, 1, 0, 0), RmpState::kFirmware);
  EXPECT_EQ(state(1, 0, 0, 0, 5, 0), RmpState::kReclaim);
  EXPECT_EQ(state(1, 0, 0, 1, 0, 1), RmpState::kContext);
  EXPECT_EQ(state(1, 0, 0, 1, 5, 0), RmpState::kMetadata);
  EXPECT_EQ(state(1, 0, 1, 1, 5, 1), RmpState::kPreGuest);
  EXPECT_EQ(state(1, 1, 1, 1, 5, 0), RmpState::kPreSwap);
  EXPECT_EQ(state(1, 0, 1, 0, 5, 0), RmpState::kGuestInvalid);
  EXPECT_EQ(state(1, 1, 1, 0, 5, 1), RmpState::kGuestValid);
  EXPECT_EQ(name_of(RmpState::kGuestValid), "Guest-Valid");
  EXPECT_EQ(name_of(static_cast<RmpState>(99)), "unknown");
}

TEST(RmpCodes, HaveTheVendorsNames) {
  EXPECT_EQ(name_of(rmp::PvalidateCode::kFailSizeMismatch), "FAIL_SIZEMISMATCH");
  EXPECT_EQ(name_of(rmp::RmpUpdateCode::kFailOverlap), "FAIL_OVERLAP");
  EXPECT_EQ(name_of(rmp::PsmashCode::kFailInUse), "FAIL_INUSE");
  EXPECT_EQ(name_of(static_cast<rmp::PvalidateCode>(9)), "unknown");
}

}  // namespace
}  // namespace accede::abi
