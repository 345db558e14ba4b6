#include "accede/efi/kernel/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace accede::efi::kernel {
namespace {

struct Parsed {
  Options options;
  std::vector<std::string> problems;
};

Parsed parse(std::string_view line) {
  Parsed parsed;
  parsed.options = parse_options(line, [&](const OptionProblem& problem) {
    EXPECT_FALSE(problem.why.empty());
    parsed.problems.emplace_back(problem.word);
  });
  return parsed;
}

Options good(std::string_view line) {
  const Parsed parsed = parse(line);
  EXPECT_THAT(parsed.problems, testing::IsEmpty()) << line;
  return parsed.options;
}

TEST(KernelOptions, HaveTheDefaultsOfTheContract) {
  for (const std::string_view line :
       {"", " ", "\t\n", "quiet console=ttyS0 accede root=/dev/vda"}) {
    const Options options = good(line);
    EXPECT_EQ(options.policy, PolicyName::kLazy);
    EXPECT_FALSE(options.wants_work());
    EXPECT_EQ(options.work, WorkKind::kTouch);
    EXPECT_FALSE(options.kexec);
    EXPECT_EQ(options.exit, ExitKind::kPowerOff);
    EXPECT_FALSE(options.fault.has_value());
  }
}

TEST(KernelOptions, TakeEveryWord) {
  EXPECT_EQ(good("accede.policy=eager").policy, PolicyName::kEager);
  EXPECT_EQ(good("accede.policy=background").policy, PolicyName::kBackground);
  EXPECT_EQ(good("accede.policy=eager accede.policy=lazy").policy, PolicyName::kLazy);
  EXPECT_TRUE(good("accede.touch=all").touch_all);
  EXPECT_EQ(good("accede.touch=3G").touch, 3_GiB);
  EXPECT_EQ(good("accede.work=random").work, WorkKind::kRandom);
  EXPECT_EQ(good("accede.work=fill").work, WorkKind::kFill);
  EXPECT_EQ(good("accede.work=fill accede.work=touch").work, WorkKind::kTouch);
  EXPECT_TRUE(good("accede.kexec=1").kexec);
  EXPECT_EQ(good("accede.exit=hang").exit, ExitKind::kHang);
  EXPECT_EQ(good("accede.exit=hang accede.exit=poweroff").exit, ExitKind::kPowerOff);
  EXPECT_EQ(good("accede.fault=null").fault, FaultKind::kNull);
  EXPECT_EQ(good("accede.fault=unaccepted").fault, FaultKind::kUnaccepted);
  EXPECT_EQ(good("accede.fault=undefined").fault, FaultKind::kUndefined);
  EXPECT_EQ(good("accede.fault=stack").fault, FaultKind::kStack);
}

TEST(KernelOptions, TakeWordsInAnyOrderBetweenAnySeparators) {
  using namespace std::string_view_literals;
  const Options options =
      good("\taccede.exit=hang  quiet\r\naccede.touch=4K\0accede.policy=background\0"sv);
  EXPECT_EQ(options.exit, ExitKind::kHang);
  EXPECT_EQ(options.touch, 4_KiB);
  EXPECT_EQ(options.policy, PolicyName::kBackground);
}

TEST(KernelOptions, LetTheLastOfSeveralAmountsCount) {
  EXPECT_FALSE(good("accede.touch=all accede.touch=1M").touch_all);
  EXPECT_TRUE(good("accede.touch=1M accede.touch=all").touch_all);
  EXPECT_FALSE(good("accede.touch=0").wants_work());
}

TEST(KernelOptions, ReportWordsOfOursThatAreNotUnderstood) {
  for (const std::string word : {"accede.",
                                 "accede.polcy=lazy",
                                 "accede.policy",
                                 "accede.policy=",
                                 "accede.policy=Lazy",
                                 "accede.policy=lazy,",
                                 "accede.touch",
                                 "accede.touch=",
                                 "accede.touch=K",
                                 "accede.touch=1KB",
                                 "accede.touch=-1",
                                 "accede.touch=1.5G",
                                 "accede.touch=ALL",
                                 "accede.kexec=0",
                                 "accede.kexec=11",
                                 "accede.kexec",
                                 "accede.exit=reboot",
                                 "accede.fault=all",
                                 "accede.generation=2",
                                 "accede.=1"}) {
    const Parsed parsed = parse("a=b " + word + " c");
    EXPECT_THAT(parsed.problems, testing::ElementsAre(word));
    EXPECT_EQ(parsed.options.policy, PolicyName::kLazy) << word;
    EXPECT_FALSE(parsed.options.wants_work()) << word;
    EXPECT_FALSE(parsed.options.kexec) << word;
  }
}

TEST(KernelOptions, KeepWhatWasSaidBeforeAWordWithAProblem) {
  const Parsed parsed = parse("accede.touch=2M accede.touch=x accede.policy=eager accede.policy=y");
  EXPECT_THAT(parsed.problems, testing::ElementsAre("accede.touch=x", "accede.policy=y"));
  EXPECT_EQ(parsed.options.touch, 2_MiB);
  EXPECT_EQ(parsed.options.policy, PolicyName::kEager);
}

TEST(KernelOptions, ReadSizesUpToTheLargest) {
  EXPECT_EQ(parse_size("0"), 0_B);
  EXPECT_EQ(parse_size("4096"), 4_KiB);
  EXPECT_EQ(parse_size("1k"), 1_KiB);
  EXPECT_EQ(parse_size("007M"), 7_MiB);
  EXPECT_EQ(parse_size("2g"), 2_GiB);
  EXPECT_EQ(parse_size("3T"), 3_TiB);
  EXPECT_EQ(parse_size("18446744073709551615"), Bytes{~0ULL});
  EXPECT_EQ(parse_size("16777215T"), 16777215_TiB);
  for (const std::string_view wrong :
       {"", "M", "18446744073709551616", "16777216T", "17592186044416M", "99999999999999999999999",
        "1MM", "0x10", " 1", "1 ", "+1", "1P", "1\x0B"}) {
    EXPECT_FALSE(parse_size(wrong).has_value()) << wrong;
  }
}

TEST(KernelOptions, NameTheirValuesAsTheCommandLineDoes) {
  for (const auto policy : {PolicyName::kLazy, PolicyName::kEager, PolicyName::kBackground}) {
    EXPECT_EQ(good("accede.policy=" + std::string{to_string(policy)}).policy, policy);
  }
  for (const auto work : {WorkKind::kTouch, WorkKind::kRandom, WorkKind::kFill}) {
    EXPECT_EQ(good("accede.work=" + std::string{to_string(work)}).work, work);
  }
  for (const auto fault :
       {FaultKind::kNull, FaultKind::kUnaccepted, FaultKind::kUndefined, FaultKind::kStack}) {
    EXPECT_EQ(good("accede.fault=" + std::string{to_string(fault)}).fault, fault);
  }
}

}  // namespace
}  // namespace accede::efi::kernel
