#include "accede/abi/efi.hpp"
#include "accede/abi/efi_status_names.hpp"
#include "accede/abi/rmp.hpp"
#include "accede/abi/snp_firmware_status.hpp"
#include "accede/abi/tdx_status_names.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string_view>

namespace accede::abi {
namespace {

TEST(TdxStatusNames, NoCodeAndNoNameIsThereTwice) {
  std::set<tdx::Status> codes;
  std::set<std::string_view> names;
  const auto add = [&](const tdx::StatusName& entry) {
    EXPECT_TRUE(codes.insert(entry.code).second) << entry.name;
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_EQ(tdx::any_name_of(entry.code), entry.name);
  };
  std::ranges::for_each(tdx::kStatusNames, add);
  std::ranges::for_each(tdx::kOtherStatusNames, add);
  EXPECT_EQ(tdx::any_name_of(static_cast<tdx::Status>(0xDEADBEEF)), std::nullopt);
}

TEST(TdxStatusNames, HasTheCodesOfTheModule) {
  EXPECT_EQ(tdx::any_name_of(tdx::code_of(0x8000080000000000)), "KEY_GENERATION_FAILED");
  EXPECT_EQ(tdx::any_name_of(tdx::code_of(0x8000070200000000)), "VCPU_NOT_ASSOCIATED");
  EXPECT_EQ(tdx::any_name_of(tdx::code_of(0xC0000E0900000000)), "TD_NOT_MIGRATABLE");
}

TEST(TdxStatusNames, EveryOperandHasOneName) {
  std::set<tdx::Operand> operands;
  for (const tdx::OperandName& entry : tdx::kOperandNames) {
    EXPECT_TRUE(operands.insert(entry.operand).second) << entry.name;
  }
  EXPECT_EQ(tdx::any_name_of(tdx::Operand::kRcx), "RCX");
  EXPECT_EQ(tdx::any_name_of(tdx::Operand::kSeptTree), "SEPT_TREE");
  EXPECT_EQ(tdx::any_name_of(tdx::Operand::kWbcache), "WBCACHE");
  EXPECT_EQ(tdx::any_name_of(static_cast<tdx::Operand>(4)), std::nullopt);
}

TEST(FirmwareStatusNames, AreThoseOfTheCodesThatPageStatesCause) {
  using enum rmp::FirmwareCode;
  for (const rmp::FirmwareCode code : {kSuccess, kInvalidAddress, kInvalidParam, kInvalidPageSize,
                                       kInvalidPageState, kInvalidPageOwner}) {
    EXPECT_EQ(rmp::firmware_status_name(static_cast<std::uint32_t>(code)), name_of(code));
  }
  EXPECT_EQ(rmp::firmware_status_name(0x27), "INVALID_KEY");
  EXPECT_EQ(rmp::firmware_status_name(0x1E), std::nullopt);
}

TEST(FirmwareStatusNames, Ascend) {
  EXPECT_TRUE(std::ranges::is_sorted(rmp::kFirmwareStatusNames, std::ranges::less{},
                                     &rmp::FirmwareStatusName::code));
}

TEST(EfiStatusNames, AreThoseOfTheStatusesThatProgramsCompareWith) {
  using enum efi::Status;
  const auto name = [](efi::Status status) {
    return efi::status_name(static_cast<std::uint64_t>(status));
  };
  EXPECT_EQ(name(kSuccess), "EFI_SUCCESS");
  EXPECT_EQ(name(kLoadError), "EFI_LOAD_ERROR");
  EXPECT_EQ(name(kInvalidParameter), "EFI_INVALID_PARAMETER");
  EXPECT_EQ(name(kUnsupported), "EFI_UNSUPPORTED");
  EXPECT_EQ(name(kBufferTooSmall), "EFI_BUFFER_TOO_SMALL");
  EXPECT_EQ(name(kDeviceError), "EFI_DEVICE_ERROR");
  EXPECT_EQ(name(kOutOfResources), "EFI_OUT_OF_RESOURCES");
  EXPECT_EQ(name(kNotFound), "EFI_NOT_FOUND");
}

TEST(EfiStatusNames, WarningsAndErrorsOfOneNumberDiffer) {
  EXPECT_EQ(efi::status_name(4), "EFI_WARN_BUFFER_TOO_SMALL");
  EXPECT_EQ(efi::status_name(efi::kStatusError | 4), "EFI_BAD_BUFFER_SIZE");
  EXPECT_EQ(efi::status_name(efi::kStatusError | 29), std::nullopt);
  EXPECT_EQ(efi::status_name(efi::kStatusError), std::nullopt);
}

}  // namespace
}  // namespace accede::abi
