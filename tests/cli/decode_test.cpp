#include "accede/abi/efi_status_names.hpp"
#include "accede/abi/ghcb_exits.hpp"
#include "accede/abi/ghcb_psc.hpp"
#include "accede/abi/rmp.hpp"
#include "accede/abi/snp_firmware_status.hpp"
#include "accede/abi/tdx_status_names.hpp"
#include "accede/abi/tdx_vmcall.hpp"
#include "accede/cli/command.hpp"
#include "accede/cli/decode_code.hpp"
#include "accede/cli/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

namespace ghcb = abi::ghcb;
namespace tdx = abi::tdx;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Answer {
  int exit_code;
  std::string out;
  std::string err;
};

Answer decode(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"accede", "decode"});
  std::ostringstream out;
  std::ostringstream err;
  const int code = run_command(static_cast<int>(arguments.size()), arguments.data(), out, err);
  return {.exit_code = code, .out = out.str(), .err = err.str()};
}

std::vector<Reading> readings(std::string_view text) {
  const auto query = parse_code(text);
  return query ? readings_of(*query) : std::vector<Reading>{};
}

/// The only reading of a code of `family`; one without any text when there is none or several.
Reading only(std::string_view family, std::uint64_t code) {
  const auto all = readings_of({.text = {}, .family = std::string{family}, .value = code});
  return all.size() == 1 ? all.front() : Reading{};
}

std::vector<std::string> families(std::string_view text) {
  std::vector<std::string> found;
  for (const Reading& reading : readings(text)) {
    found.push_back(reading.family);
  }
  return found;
}

void expect_explained(const Reading& reading, std::string_view name) {
  EXPECT_EQ(reading.name, name);
  EXPECT_THAT(reading.kind, Not(IsEmpty())) << name;
  EXPECT_THAT(reading.meaning, Not(IsEmpty())) << name;
  EXPECT_THAT(reading.usual_cause, Not(IsEmpty())) << name;
}

TEST(DecodeTexts, ExplainEveryTdxStatus) {
  for (const tdx::StatusName& entry : tdx::kStatusNames) {
    expect_explained(only("tdx", tdx::status(entry.code)), entry.name);
  }
  for (const tdx::StatusName& entry : tdx::kOtherStatusNames) {
    expect_explained(only("tdx", tdx::status(entry.code)), entry.name);
  }
}

TEST(DecodeTexts, ExplainEveryTdvmcallStatus) {
  using enum tdx::VmcallStatus;
  for (const tdx::VmcallStatus status :
       {kSuccess, kRetry, kInvalidOperand, kGpaInUse, kAlignError, kSubfuncUnsupported}) {
    expect_explained(only("vmcall", static_cast<std::uint64_t>(status)), name_of(status));
  }
}

TEST(DecodeTexts, ExplainEveryFirmwareStatus) {
  for (const abi::rmp::FirmwareStatusName& entry : abi::rmp::kFirmwareStatusNames) {
    expect_explained(only("snp-fw", entry.code), entry.name);
  }
}

TEST(DecodeTexts, ExplainEveryEfiStatus) {
  for (const abi::efi::StatusName& entry : abi::efi::kStatusNames) {
    expect_explained(only("efi", entry.code), entry.name);
  }
}

TEST(DecodeTexts, ExplainEveryGhcbExitAndWord) {
  for (const std::uint64_t base : {0x0ULL, 0x8000'0000ULL, 0x8000'FF00ULL}) {
    for (std::uint64_t code = base; code < base + 0x100; ++code) {
      const std::string_view name = name_of(static_cast<ghcb::ExitCode>(code));
      if (name != "unknown") {
        expect_explained(only("ghcb-exit", code), name);
      }
    }
  }
  for (std::uint64_t code = 1; code < 0x1000; ++code) {
    const std::string_view name = name_of(static_cast<ghcb::MsrCode>(code));
    if (name != "unknown") {
      expect_explained(only("ghcb-msr", code), name);
    }
  }
}

TEST(DecodeTexts, ExplainEveryGhcbError) {
  for (std::uint64_t reason = 1; reason <= 6; ++reason) {
    expect_explained(only("ghcb-error", reason),
                     name_of(static_cast<ghcb::MalformedReason>(reason)));
  }
  using enum ghcb::PscResult;
  for (const ghcb::PscResult result : {kBadHeader, kBadEntry, kGeneric}) {
    expect_explained(only("ghcb-error", static_cast<std::uint64_t>(result)), name_of(result));
  }
}

TEST(DecodeTexts, ExplainEveryTerminationReason) {
  int explained = 0;
  for (std::uint8_t set = 0; set < 16; ++set) {
    for (std::uint8_t code = 0; code < 255; ++code) {
      const std::string_view name = name_of(ghcb::TerminateReason{.set = set, .code = code});
      const auto reading = read_termination_reason(set, code);
      EXPECT_EQ(reading.has_value(), name != "unknown reason");
      if (reading) {
        expect_explained(*reading, name);
        ++explained;
      }
    }
  }
  EXPECT_EQ(explained, 13);
}

TEST(DecodeTdx, NamesTheLevelOfAPageStatus) {
  EXPECT_EQ(readings("0xC0000B0B00000001").at(0).operand, "level 1 (2 MiB)");
  EXPECT_EQ(readings("0x00000B0A00000000").at(0).operand, "level 0 (4 KiB)");
}

TEST(DecodeTdx, NamesTheOperandThatAnErrorBlames) {
  EXPECT_EQ(readings("0xC000010000000001").at(0).operand, "RCX (operand id 1)");
  EXPECT_EQ(readings("0xC000010000000000").at(0).operand, "RAX (operand id 0)");
  EXPECT_EQ(readings("0x8000020000000092").at(0).operand, "SEPT_TREE (operand id 146)");
  EXPECT_EQ(readings("0xC000010000000004").at(0).operand, "details 0x4");
}

TEST(DecodeTdx, TellsErrorsFromWarnings) {
  EXPECT_EQ(readings("0x00000B0A00000000").at(0).kind, "TDX status: secure EPT, no error");
  EXPECT_THAT(readings("0xC0000B0B00000001").at(0).kind, HasSubstr("secure EPT, error"));
  EXPECT_THAT(readings("0xE000060400000000").at(0).kind, HasSubstr("fatal"));
}

TEST(DecodeTdx, KnowsTheWordsOfLinuxForARefusedSeamcall) {
  EXPECT_EQ(readings("0x8000FF00FFFF0000").at(0).name, "SEAMCALL_VMFAILINVALID");
  EXPECT_EQ(readings("0x8000FF0000000006").at(0).name, "SEAMCALL_UD");
  EXPECT_EQ(readings("0x8000FF000000000D").at(0).name, "SEAMCALL_GP");
}

TEST(DecodeTdx, ReadsAPlainNumberAsSuccessWithAnExitReasonOnlyWhenAsked) {
  EXPECT_EQ(readings("tdx:0x4D").at(0).operand, "VMX exit reason 77");
  EXPECT_THAT(readings("0x4D"), IsEmpty());
}

TEST(Decode, GivesEveryReadingMostSpecificFirst) {
  EXPECT_THAT(families("4"),
              ElementsAre("rmpupdate", "psmash", "ghcb-error", "snp-fw", "efi", "ghcb-msr"));
  EXPECT_THAT(families("6"),
              ElementsAre("pvalidate", "rmpadjust", "ghcb-error", "snp-fw", "efi", "ghcb-msr"));
  EXPECT_THAT(families("0x8000000000000003"), ElementsAre("vmcall", "efi"));
}

TEST(Decode, ATdxStatusIsNothingElse) {
  EXPECT_THAT(families("0xC0000B0B00000001"), ElementsAre("tdx"));
  EXPECT_THAT(families("0x00000B0A00000001"), ElementsAre("tdx"));
  EXPECT_THAT(families("0x8000020000000001"), ElementsAre("tdx"));
}

TEST(Decode, APrefixChoosesOneReading) {
  EXPECT_THAT(families("rmpupdate:4"), ElementsAre("rmpupdate"));
  EXPECT_THAT(families("efi:4"), ElementsAre("efi"));
  EXPECT_THAT(families("pvalidate:4"), IsEmpty());
}

TEST(Decode, ReadsHexadecimalAndDecimal) {
  EXPECT_EQ(parse_code("0x10")->value, 16U);
  EXPECT_EQ(parse_code("0XfF")->value, 255U);
  EXPECT_EQ(parse_code("10")->value, 10U);
  EXPECT_EQ(parse_code("18446744073709551615")->value, ~std::uint64_t{0});
}

TEST(Decode, RefusesWhatIsNoNumber) {
  for (const char* const text :
       {"", "x", "0x", "1x", "ff", "-1", "+1", " 1", "18446744073709551616", "0x10000000000000000",
        "1:", ":2", "1:2:3", "16:0", "1:256", "tdx:", "tdx:1:2", "bogus:1"}) {
    EXPECT_FALSE(parse_code(text)) << text;
  }
}

TEST(DecodeTermination, ReadsSetAndCode) {
  EXPECT_EQ(readings("1:2").at(0).name, "PVALIDATE failed");
  EXPECT_EQ(readings("sev-term:0:1").at(0).name, "unsupported protocol version");
  EXPECT_EQ(readings("1:2").at(0).code, "1:2");
}

TEST(DecodeTermination, ReadsTheMsrWordAndTheExitInformation) {
  EXPECT_EQ(readings("sev-term:0x21100").at(0).code, "1:2");
  EXPECT_EQ(readings("sev-term:0x21").at(0).code, "1:2");
  EXPECT_THAT(readings("sev-term:0x121100"), IsEmpty());
  EXPECT_THAT(readings("sev-term:0x1000000"), IsEmpty());
}

TEST(DecodeGhcbMsr, SaysWhatAWordCarries) {
  EXPECT_EQ(readings("0x0010000012345014").at(0).operand, "GPA 0x12345000, to private");
  EXPECT_EQ(readings("ghcb-msr:0x8000000000000015").at(0).operand, "error 0x80000000");
  EXPECT_EQ(readings("0x8000001F40000004").at(0).operand, "leaf 0x8000001f, register EBX");
  EXPECT_EQ(readings("0x0002000133000001").at(0).operand, "versions 1 to 2, C-bit 51");
  EXPECT_EQ(readings("0x21100").at(0).operand, "set:code 1:2 (PVALIDATE failed)");
}

TEST(DecodeGhcbMsr, ReadsAnAddressOnlyWhenAsked) {
  EXPECT_THAT(families("0x809000"), IsEmpty());
  EXPECT_EQ(readings("ghcb-msr:0x809000").at(0).name, "GHCB address");
}

TEST(DecodeCommand, PrintsAlignedLines) {
  EXPECT_EQ(decode({"rmpupdate:2"}).out,
            "0x2  FAIL_PERMISSION  [rmpupdate]\n"
            "  class        RMPUPDATE (EAX)\n"
            "  meaning      the entry is immutable\n"
            "  usual cause  the firmware owns the page: SNP_PAGE_RECLAIM first\n");
}

TEST(DecodeCommand, PrintsOneJsonObjectForOneReadingAndAnArrayForMore) {
  const auto one = nlohmann::json::parse(decode({"--json", "0xC0000B0B00000001"}).out);
  ASSERT_TRUE(one.is_object());
  EXPECT_EQ(one.at("code"), "0xc0000b0b00000001");
  EXPECT_EQ(one.at("name"), "PAGE_SIZE_MISMATCH");
  EXPECT_EQ(one.at("operand"), "level 1 (2 MiB)");
  for (const char* const field : {"class", "meaning", "usual_cause", "family"}) {
    EXPECT_TRUE(one.at(field).is_string()) << field;
  }
  const auto several = nlohmann::json::parse(decode({"1:2", "1:1", "--json"}).out);
  ASSERT_TRUE(several.is_array());
  EXPECT_EQ(several.size(), 2U);
  EXPECT_TRUE(several.at(0).at("operand").is_null());
}

TEST(DecodeCommand, FailsForAnUnknownCodeAndExplainsTheOthers) {
  const Answer answer = decode({"0xdeadbeef", "1:2", "efi:0xdeadbeef"});
  EXPECT_EQ(answer.exit_code, kExitTestedFailed);
  EXPECT_EQ(answer.err,
            "accede decode: 0xdeadbeef is no known code.\n"
            "accede decode: efi:0xdeadbeef is no known efi code.\n");
  EXPECT_THAT(answer.out, HasSubstr("PVALIDATE failed"));
  EXPECT_EQ(decode({"--json", "0xdeadbeef"}).out, "[]\n");
}

TEST(DecodeCommand, WhatIsNoNumberIsUsage) {
  for (const std::vector<const char*>& arguments :
       {std::vector<const char*>{"1:2", "rubbish"}, {"\x1b[31m"}, {}, {"--bogus", "1"}}) {
    const Answer answer = decode(arguments);
    EXPECT_EQ(answer.exit_code, kExitUsage);
    EXPECT_THAT(answer.out, IsEmpty());
    EXPECT_EQ(std::ranges::count(answer.err, '\n'), 1) << answer.err;
    EXPECT_THAT(answer.err, Not(HasSubstr("\x1b")));
  }
}

TEST(DecodeCommand, HelpNamesEveryFamily) {
  const Answer answer = decode({"--help"});
  EXPECT_EQ(answer.exit_code, kExitDone);
  EXPECT_THAT(answer.out, HasSubstr("Examples:\n  accede decode"));
  for (const char* const family :
       {"tdx", "vmcall", "pvalidate", "rmpadjust", "rmpupdate", "psmash", "ghcb-error", "ghcb-exit",
        "snp-fw", "sev-term", "efi", "ghcb-msr"}) {
    EXPECT_THAT(answer.out, HasSubstr(family));
  }
}

}  // namespace
}  // namespace accede::cli
