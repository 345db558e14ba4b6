// The matrix as it is reported: what exists outside, upgrades that hurt, table and JSON.
#include "accede/cli/matrix_fidelity.hpp"
#include "accede/cli/matrix_json.hpp"
#include "accede/cli/matrix_text.hpp"
#include "accede/cli/matrix_upgrades.hpp"
#include "tests/cli/made_up_matrix.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

using test::cell_at;
using test::fast;
using test::figures;
using test::limited;
using test::made_up_matrix;
using test::panicked;
using test::slow;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

constexpr auto kOld = KernelColumn::kUnenlightened;
constexpr auto kNew = KernelColumn::kEnlightened;
constexpr auto kDropped = KernelColumn::kHandshakeDropped;
constexpr auto kAll = FirmwareKind::kAcceptAll;
constexpr auto kAsks = FirmwareKind::kHandshake;
constexpr auto kNever = FirmwareKind::kNever;

MatrixCell cell(Platform platform, FirmwareKind firmware, KernelColumn column) {
  return {.place = {.platform = platform, .firmware = firmware, .column = column},
          .figures = slow()};
}

TEST(MatrixFidelity, IsAsShippedWhereFirmwareAndKernelAre) {
  EXPECT_EQ(fidelity(cell(Platform::kSnp, kAll, kOld)), "as shipped");
  EXPECT_EQ(fidelity(cell(Platform::kSnp, kAsks, kOld)), "as shipped");
  EXPECT_EQ(fidelity(cell(Platform::kSnp, kAsks, kNew)), "as shipped");
  EXPECT_EQ(fidelity(cell(Platform::kTdx, kAll, kNew)), "as shipped");
  EXPECT_EQ(fidelity(cell(Platform::kTdx, kNever, kNew)), "as shipped");
}

TEST(MatrixFidelity, NamesFirmwareThatNobodyShips) {
  EXPECT_EQ(fidelity(cell(Platform::kTdx, kAsks, kNew)),
            "emulator only, because OVMF never had the handshake for TDX");
  EXPECT_THAT(fidelity(cell(Platform::kSnp, kNever, kNew)),
              StartsWith("emulator only, because no OVMF for SEV-SNP"));
}

TEST(MatrixFidelity, NamesAKernelThatDidNotKnowThePlatform) {
  MatrixCell old = cell(Platform::kTdx, kNever, kOld);
  old.figures.encryption.clear();
  old.figures.kernel = "6.1.0";
  EXPECT_THAT(fidelity(old),
              AllOf(StartsWith("emulator only, because 6.1.0 has no code for Intel TDX guests"),
                    HasSubstr("#VE")));
  old.place.platform = Platform::kSnp;
  old.place.firmware = kAll;
  old.figures.encryption = "AMD SEV SEV-ES";
  EXPECT_THAT(fidelity(old), HasSubstr("no code for SEV-SNP guests"));
}

TEST(MatrixFidelity, DoesNotCallAKernelShippedThatDidNotGetAsFarAsNamingThePlatform) {
  MatrixCell failed = cell(Platform::kTdx, kNever, kNew);
  failed.figures = panicked();
  EXPECT_EQ(fidelity(failed), "as shipped") << "it named the platform before it panicked";
  failed.figures.encryption.clear();
  EXPECT_EQ(fidelity(failed),
            "emulator only, because nobody can tell whether 6.12.1-made-up+deb12 has code for "
            "Intel TDX guests: it did not come up");
}

TEST(MatrixFidelity, GivesEveryReason) {
  EXPECT_THAT(only_here_because(cell(Platform::kSnp, kNever, kDropped)),
              ElementsAre(HasSubstr("no OVMF"), HasSubstr("no released Linux has dropped")));
}

TEST(MatrixUpgrades, OfThePredictedMatrixHurtTwice) {
  const UpgradeSurvey survey = survey_upgrades(made_up_matrix().cells);
  EXPECT_EQ(survey.compared, 12U);
  ASSERT_EQ(survey.worse.size(), 2U);
  const Upgrade& kernel = survey.worse[1];
  EXPECT_EQ(kernel.regression, Regression::kSlower);
  EXPECT_FALSE(kernel.of_firmware());
  EXPECT_EQ(kernel.from.place.column, kNew);
  EXPECT_EQ(kernel.to.place.column, kDropped);
  EXPECT_EQ(kernel.to.place.firmware, kAsks);
  const Upgrade& firmware = survey.worse[0];
  EXPECT_EQ(firmware.regression, Regression::kSmaller);
  EXPECT_TRUE(firmware.of_firmware());
  EXPECT_EQ(firmware.from.place.firmware, kAsks);
  EXPECT_EQ(firmware.to.place.firmware, kNever);
  EXPECT_EQ(firmware.to.place.column, kOld);
}

TEST(MatrixUpgrades, AreComputedFromWhatWasMeasured) {
  MatrixReport report = made_up_matrix();
  cell_at(report, kAsks, kDropped).figures = fast();
  cell_at(report, kNever, kOld).figures = slow();
  EXPECT_THAT(survey_upgrades(report.cells).worse, IsEmpty());
}

TEST(MatrixUpgrades, ThatGiveRamBackAtThePriceOfASlowBootAreSlower) {
  MatrixReport report = made_up_matrix();
  report.cells = {cell(Platform::kTdx, kAll, kNew), cell(Platform::kTdx, kAsks, kNew)};
  report.cells[0].figures = limited();
  const UpgradeSurvey survey = survey_upgrades(report.cells);
  ASSERT_EQ(survey.worse.size(), 1U);
  EXPECT_EQ(survey.worse[0].regression, Regression::kSlower);
}

TEST(MatrixUpgrades, ThatLoseStillMoreRamAreSmaller) {
  MatrixReport report = made_up_matrix();
  report.cells = {cell(Platform::kTdx, kAll, kNew), cell(Platform::kTdx, kAsks, kNew)};
  report.cells[0].figures = limited();
  report.cells[1].figures = figures(Bytes{}, Bytes{}, Bytes{3ULL << 30});
  const UpgradeSurvey survey = survey_upgrades(report.cells);
  ASSERT_EQ(survey.worse.size(), 1U);
  EXPECT_EQ(survey.worse[0].regression, Regression::kSmaller);
}

TEST(MatrixUpgrades, ThatNoLongerBootAreNothingElse) {
  MatrixReport report = made_up_matrix();
  cell_at(report, kNever, kNew).figures = panicked();
  const UpgradeSurvey survey = survey_upgrades(report.cells);
  ASSERT_EQ(survey.worse.size(), 4U);  // the two as predicted, and two ways into the panic
  EXPECT_EQ(std::ranges::count(survey.worse, Regression::kNoLongerBoots, &Upgrade::regression), 2);
}

TEST(MatrixUpgrades, FromABootThatFailedCannotHurt) {
  MatrixReport report = made_up_matrix();
  cell_at(report, kAsks, kNew).figures = panicked();
  for (const Upgrade& upgrade : survey_upgrades(report.cells).worse) {
    EXPECT_NE(upgrade.from.place, cell_at(report, kAsks, kNew).place);
  }
}

TEST(MatrixUpgrades, AreSingleSteps) {
  MatrixReport report{.memory = Bytes{4ULL << 30}, .cells = {}};
  report.cells = {cell(Platform::kTdx, kAll, kOld), cell(Platform::kTdx, kNever, kOld),
                  cell(Platform::kTdx, kAsks, kNew), cell(Platform::kSnp, kAsks, kOld)};
  EXPECT_EQ(survey_upgrades(report.cells).compared, 0U);
}

TEST(MatrixUpgrades, LeaveOutWhatWasNotMeasured) {
  MatrixReport report = made_up_matrix();
  cell_at(report, kAsks, kNew).figures.lost.reset();
  EXPECT_EQ(survey_upgrades(report.cells).compared, 8U);
}

TEST(MatrixText, ShowsEachCellsOutcomeSecondsRamAndWhoAccepted) {
  const std::string text = matrix_text(made_up_matrix());
  EXPECT_THAT(text, StartsWith("SEV-SNP, 4 GiB, 1 vCPU, QEMU TCG\n"));
  for (const char* const part :
       {"deployed", "near future", "far future", "unenlightened", "handshake dropped",
        "6.12.1-made-up", "7.50 s, RAM 3.80 GiB", "accepted 2 GiB + 0", "accepted 0 + 600 MiB",
        "loses 2.01 GiB", "fast boot", "slow boot", "2 GiB being unaccepted at the start"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(MatrixText, FitsAHundredColumns) {
  MatrixReport report = made_up_matrix(Platform::kTdx);
  for (MatrixCell& made : report.cells) {
    made.figures.kernel = "6.12.117-cloud-amd64";
    made.figures.seconds = 119.25;
  }
  std::istringstream lines{matrix_text(report)};
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 100U) << line;
  }
}

TEST(MatrixText, SaysThatEveryPredictionHolds) {
  const std::string text = matrix_text(made_up_matrix());
  EXPECT_THAT(text, Not(HasSubstr("DIFFERS")));
  EXPECT_THAT(text, Not(HasSubstr("(!)")));
}

TEST(MatrixText, MarksWhatDiffersAndSaysWhy) {
  MatrixReport report = made_up_matrix();
  cell_at(report, kAsks, kNew).figures = slow();
  const std::string text = matrix_text(report);
  EXPECT_THAT(text, AllOf(HasSubstr("slow boot (!)"), HasSubstr("DIFFERS"),
                          HasSubstr("(!) near future, enlightened: nothing is left unaccepted")));
}

TEST(MatrixText, ListsAReasonOnceHoweverManyCellsHaveIt) {
  const std::string text = matrix_text(made_up_matrix());
  const std::string reason = "no released Linux has dropped the handshake";
  const std::size_t first = text.find(reason);
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(text.find(reason, first + 1), std::string::npos);
  EXPECT_THAT(text, HasSubstr("only here (a) (b)"));
}

TEST(MatrixText, NamesUpgradesThatHurtWithTheirFigures) {
  const std::string text = matrix_text(made_up_matrix());
  EXPECT_THAT(text, HasSubstr("of 12 single upgrades"));
  EXPECT_THAT(text, HasSubstr("SEV-SNP: kernel enlightened -> handshake dropped on near future "
                              "firmware\n    slower: accepted before user space 600 MiB -> 2 GiB"));
  EXPECT_THAT(text, HasSubstr("SEV-SNP: firmware near future -> far future under the "
                              "unenlightened kernel\n    smaller: RAM 3.80 GiB -> 1.80 GiB"));
}

TEST(MatrixText, SaysWhenNoUpgradeHurts) {
  MatrixReport report = made_up_matrix();
  for (MatrixCell& made : report.cells) {
    made.figures = fast();
  }
  EXPECT_THAT(matrix_text(report), HasSubstr("None of 12 single upgrades makes a user slower"));
}

TEST(MatrixText, ShowsAMatrixThatWasCutShort) {
  MatrixReport report = made_up_matrix();
  report.cells.resize(1);
  const std::string text = matrix_text(report);
  EXPECT_THAT(text, AllOf(HasSubstr("-"), HasSubstr("None of 0 single upgrades")));
}

ScarceBoot scarce(bool out_of_memory) {
  return {.platform = Platform::kSnp,
          .asked_to_accept = Bytes{256U << 20},
          .wanted = Bytes{1ULL << 30},
          .figures = limited(),
          .touched = Bytes{128U << 20},
          .out_of_memory = out_of_memory};
}

TEST(MatrixText, SaysHowFarAnOldKernelGetsWithLittleMemory) {
  MatrixReport report = made_up_matrix();
  report.scarce = {scarce(true)};
  EXPECT_THAT(
      matrix_text(report),
      AllOf(HasSubstr("firmware that accepts 256 MiB"),
            HasSubstr("SEV-SNP: RAM 1.80 GiB; of 1 GiB that a program wants it gets 128 MiB, "
                      "then it is out of memory\n")));
  report.scarce = {scarce(false)};
  EXPECT_THAT(matrix_text(report), Not(HasSubstr("out of memory")));
  report.scarce[0].figures = panicked();
  EXPECT_THAT(matrix_text(report), HasSubstr("SEV-SNP: panic: System is deadlocked on memory\n"));
}

TEST(MatrixJson, HasTheBootsWithLittleMemory) {
  MatrixReport report = made_up_matrix();
  report.scarce = {scarce(true)};
  const Json json = Json::parse(matrix_json(report));
  ASSERT_EQ(json["scarce"].size(), 1U);
  EXPECT_EQ(json["scarce"][0]["platform"], "snp");
  EXPECT_EQ(json["scarce"][0]["firmware_accept_bytes"], 256U << 20);
  EXPECT_EQ(json["scarce"][0]["touched_bytes"], 128U << 20);
  EXPECT_EQ(json["scarce"][0]["out_of_memory"], true);
}

TEST(MatrixText, ShowsABootThatFailed) {
  MatrixReport report = made_up_matrix();
  cell_at(report, kNever, kOld).figures = panicked();
  EXPECT_THAT(matrix_text(report),
              AllOf(HasSubstr("panic (!)"), HasSubstr("RAM -"),
                    HasSubstr("it did not boot: panic, System is deadlocked on memory"),
                    HasSubstr("no longer boots: panic")));
}

TEST(MatrixJson, HasTheFieldsOfTheContract) {
  const Json json = Json::parse(matrix_json(made_up_matrix()));
  ASSERT_EQ(json["cells"].size(), 9U);
  const Json& first = json["cells"][0];
  EXPECT_EQ(first["platform"], "snp");
  EXPECT_EQ(first["fidelity"], "as shipped");
  EXPECT_EQ(first["firmware"], "accept-all");
  EXPECT_EQ(first["kernel"], "6.12.1-made-up+deb12");
  EXPECT_EQ(first["kernel_kind"], "unenlightened");
  EXPECT_EQ(first["outcome"], "slow boot");
  EXPECT_EQ(first["seconds"], 7.5);
  EXPECT_EQ(first["mem_total_bytes"], 3892ULL << 20);
  EXPECT_EQ(first["accepted_by_firmware_bytes"], 2ULL << 30);
  EXPECT_EQ(first["accepted_by_kernel_bytes"], 0U);
  EXPECT_EQ(first["predicted"], "slow boot");
  EXPECT_EQ(first["holds"], true);
  EXPECT_TRUE(first["difference"].is_null());
  EXPECT_EQ(json["cells"][6]["outcome"], "limited RAM");
  EXPECT_EQ(json["cells"][6]["predicted"], "limited RAM");
}

TEST(MatrixJson, SaysWhatDiffers) {
  MatrixReport report = made_up_matrix();
  report.cells[0].figures = fast();
  const Json json = Json::parse(matrix_json(report));
  EXPECT_EQ(json["cells"][0]["holds"], false);
  EXPECT_THAT(json["cells"][0]["difference"].get<std::string>(), HasSubstr("still unaccepted"));
}

TEST(MatrixJson, ListsUpgradesThatHurt) {
  const Json json = Json::parse(matrix_json(made_up_matrix()));
  ASSERT_EQ(json["upgrades"].size(), 2U);
  EXPECT_EQ(json["upgrades"][0]["effect"], "smaller");
  EXPECT_EQ(json["upgrades"][0]["part"], "firmware");
  EXPECT_EQ(json["upgrades"][0]["from"]["firmware"], "handshake");
  EXPECT_EQ(json["upgrades"][0]["to"]["firmware"], "never");
  EXPECT_EQ(json["upgrades"][0]["to"]["kernel_kind"], "unenlightened");
  EXPECT_EQ(json["upgrades"][1]["effect"], "slower");
  EXPECT_EQ(json["upgrades"][1]["part"], "kernel");
}

TEST(MatrixJson, HasNullForWhatIsNotKnownAndSurvivesWhatAGuestSays) {
  MatrixReport report = made_up_matrix();
  CellFigures& failed = report.cells[0].figures;
  failed = panicked();
  failed.message = "\xff bad \"text\"";
  failed.accepted.reset();
  failed.lost.reset();
  const Json json = Json::parse(matrix_json(report));
  EXPECT_EQ(json["cells"][0]["outcome"], "panic");
  EXPECT_TRUE(json["cells"][0]["accepted_by_firmware_bytes"].is_null());
  EXPECT_TRUE(json["cells"][0]["mem_total_bytes"].is_null());
  EXPECT_THAT(json["cells"][0]["message"].get<std::string>(), HasSubstr("bad \"text\""));
}

}  // namespace
}  // namespace accede::cli
