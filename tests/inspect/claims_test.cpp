#include "accede/inspect/claims.hpp"

#include "accede/inspect/inspect.hpp"
#include "tests/inspect/made_up.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::inspect {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Report report_of(const test::ByteVector& file) {
  return inspect(file).value_or(Report{});
}

ClaimCheck check(const Report& report, std::vector<std::string> claims) {
  return check_claims(report, claims);
}

TEST(Tags, SayWhatThereIsEvidenceFor) {
  EXPECT_THAT(tags_of(report_of(test::bzimage({}))),
              ElementsAre("KERNEL_6_12", "SEV_CAPABLE", "SEV_SNP_CAPABLE", "TDX_CAPABLE",
                          "UEFI_COMPATIBLE", "UNACCEPTED_MEMORY", "X86_64"));
  EXPECT_THAT(
      tags_of(report_of(test::bzimage(test::old_features()))),
      ElementsAre("KERNEL_6_1", "SEV_CAPABLE", "SEV_SNP_CAPABLE", "UEFI_COMPATIBLE", "X86_64"));
  EXPECT_THAT(tags_of(report_of(test::zboot({}))),
              ElementsAre("ARM64", "KERNEL_6_12", "UEFI_COMPATIBLE"));
}

TEST(Claims, AnArmImageIsNotSevCapable) {
  const auto claims = check(report_of(test::zboot({})), {"SEV_CAPABLE", "ARM64"});
  EXPECT_THAT(claims.wrong, ElementsAre("SEV_CAPABLE"));
  EXPECT_THAT(claims.unproven, IsEmpty());
}

TEST(Claims, OfKernelAndArchitectureAreChecked) {
  const auto claims = check(report_of(test::bzimage(test::old_features())),
                            {"KERNEL_6_1", "KERNEL_6_12", "X86_64", "ARM64", "TDX_CAPABLE"});
  EXPECT_THAT(claims.wrong, ElementsAre("KERNEL_6_12", "ARM64", "TDX_CAPABLE"));
}

TEST(Claims, ThatAnImageDoesNotShowAreUnproven) {
  const auto claims = check(report_of(test::bzimage({})), {"GVNIC", "SEV_CAPABLE"});
  EXPECT_THAT(claims.wrong, IsEmpty());
  EXPECT_THAT(claims.unproven, ElementsAre("GVNIC"));
}

TEST(Claims, AreWordsBetweenCommas) {
  EXPECT_THAT(*parse_tags("TDX_CAPABLE,KERNEL_6_12"), ElementsAre("TDX_CAPABLE", "KERNEL_6_12"));
  for (const char* const list : {"", ",", "A,", ",A", "tdx", "A B", "A,,B"}) {
    EXPECT_FALSE(parse_tags(list)) << list;
  }
}

}  // namespace
}  // namespace accede::inspect
