// What comes out of the VM's channels: lines, report lines, console lines, QMP.
#include "accede/cli/console_line.hpp"
#include "accede/cli/line_splitter.hpp"
#include "accede/cli/qmp.hpp"
#include "accede/cli/report_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace accede::cli {
namespace {

using namespace std::string_view_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(LineSplitter, PutsSplitLinesTogether) {
  LineSplitter splitter{100};
  EXPECT_THAT(splitter.feed("fir"), IsEmpty());
  EXPECT_THAT(splitter.feed("st\nsecond\nth"), ElementsAre("first", "second"));
  EXPECT_EQ(splitter.partial(), "th");
  EXPECT_THAT(splitter.feed("ird\n\n"), ElementsAre("third", ""));
  EXPECT_EQ(splitter.partial(), "");
}

TEST(LineSplitter, LeavesOutCarriageReturnsAndNuls) {
  LineSplitter splitter{100};
  EXPECT_THAT(splitter.feed("a\0b\r\r\n"sv), ElementsAre("ab"));
}

TEST(LineSplitter, CutsALineThatIsTooLong) {
  LineSplitter splitter{4};
  EXPECT_THAT(splitter.feed("abcdefgh"), IsEmpty());
  EXPECT_THAT(splitter.feed(std::string(100'000, 'x') + "\nnext\n"), ElementsAre("abcd", "next"));
}

TEST(LineSplitter, KeepsAnyOtherByte) {
  LineSplitter splitter{100};
  EXPECT_THAT(splitter.feed("\xFF\x01\x80\n"), ElementsAre("\xFF\x01\x80"));
}

TEST(Printable, LeavesOutEscapeSequencesAndControls) {
  EXPECT_EQ(printable("\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading"), "BdsDxe: loading");
  EXPECT_EQ(printable("a\tb\x07"
                      "c\x7F"),
            "a bc");
  EXPECT_EQ(printable("\x1b"), "");
  EXPECT_EQ(printable("\x1b[12"), "");
}

template <class T>
T expect_line(std::string_view text) {
  const ReportLine line = parse_report_line(text);
  EXPECT_TRUE(std::holds_alternative<T>(line)) << text;
  return std::holds_alternative<T>(line) ? std::get<T>(line) : T{};
}

TEST(ReportLine, ReadsEveryLineOfTheContract) {
  EXPECT_EQ(expect_line<LauncherStarted>(R"({"event":"launcher","version":"0.1.0"})").version,
            "0.1.0");
  const auto takeover = expect_line<Takeover>(
      R"({"event":"takeover","report_gpa":"0x7f000000","report_bytes":4096})");
  EXPECT_EQ(takeover.report_gpa, PhysAddr{0x7F00'0000});
  EXPECT_EQ(takeover.report_size, Bytes{4096});
  expect_line<KernelStarted>(R"({"event":"kernel-start"})");
  expect_line<BootServicesExited>(R"({"event":"boot-services-exited"})");
  EXPECT_EQ(
      expect_line<KernelReturned>(R"({"event":"kernel-returned","status":9223372036854775822})")
          .status,
      0x8000'0000'0000'000E);
  EXPECT_EQ(expect_line<LauncherError>(R"({"event":"error","message":"no SVM"})").message,
            "no SVM");
  const auto fault = expect_line<Fault>(
      R"({"event":"fault","kind":"unaccepted-access","gpa":"0x1","rip":"0x2","state":"s","message":"m"})");
  EXPECT_EQ(fault.kind + fault.gpa + fault.rip + fault.state + fault.message,
            "unaccepted-access0x10x2sm");
  EXPECT_EQ(expect_line<GuestPanic>(R"({"event":"guest-panic","message":"bad"})").message, "bad");
}

TEST(ReportLine, IgnoresEverythingElse) {
  for (const std::string_view text :
       {""sv, "garbage"sv, "{"sv, "[]"sv, "1"sv, "null"sv, R"({"event":1})"sv,
        R"({"event":"new"})"sv, R"({"event":"takeover"})"sv,
        R"({"event":"takeover","report_gpa":"7f","report_bytes":1})"sv,
        R"({"event":"takeover","report_gpa":"0x","report_bytes":1})"sv,
        R"({"event":"takeover","report_gpa":"0x11112222333344445","report_bytes":1})"sv,
        R"({"event":"takeover","report_gpa":"0x1","report_bytes":-1})"sv,
        R"({"event":"takeover","report_gpa":1,"report_bytes":1})"sv,
        R"({"event":"kernel-returned"})"sv, R"({"event":"kernel-returned","status":"0"})"sv,
        "{\"event\":\"launcher\xFF\"}"sv}) {
    expect_line<UnknownLine>(text);
  }
}

TEST(ReportLine, FieldsOfAFaultMayBeMissing) {
  const auto fault = expect_line<Fault>(R"({"event":"fault","gpa":12})");
  EXPECT_EQ(fault.gpa, "");
  EXPECT_EQ(fault.kind, "");
}

template <class T>
T expect_console(std::string_view text) {
  const ConsoleLine line = parse_console_line(text);
  EXPECT_TRUE(std::holds_alternative<T>(line)) << text;
  return std::holds_alternative<T>(line) ? std::get<T>(line) : T{};
}

TEST(ConsoleLine, ReadsUp) {
  const auto up = expect_console<GuestUp>(
      R"(ACCEDE-INIT {"step":"up","uptime_seconds":3.41,"release":"6.12","ram_bytes":4294,)"
      R"("meminfo":{"MemTotal":4000,"MemFree":300,"MemAvailable":200,"Unaccepted":1478656}})");
  EXPECT_DOUBLE_EQ(up.state.uptime_seconds, 3.41);
  EXPECT_EQ(up.state.release, "6.12");
  EXPECT_EQ(up.state.mem_total, Bytes{4000});
  EXPECT_EQ(up.state.mem_free, Bytes{300});
  EXPECT_EQ(up.state.mem_available, Bytes{200});
  EXPECT_EQ(up.state.unaccepted, Bytes{1478656});
  EXPECT_EQ(up.state.ram, Bytes{4294});
}

TEST(ConsoleLine, AKernelWithoutTheFieldDoesNotKnowUnacceptedMemory) {
  const auto up = expect_console<GuestUp>(R"(ACCEDE-INIT {"step":"up","meminfo":{"MemTotal":1}})");
  EXPECT_FALSE(up.state.unaccepted);
  EXPECT_FALSE(up.state.ram);
}

TEST(ConsoleLine, ReadsWork) {
  const auto work = expect_console<GuestWork>(
      R"(ACCEDE-INIT {"step":"work","touched_bytes":8192,"wrong_pages":1,"touch_ns":2000000000,)"
      R"("stopped":"accepted","first_touch_ns":{"count":2,"p50":1,"p99":2,"p999":3,"p9999":4,)"
      R"("max":5,"histogram":[[1,1],3,[1],[1,"x"],[5,1]]}})");
  EXPECT_EQ(work.touched, Bytes{8192});
  EXPECT_EQ(work.wrong_pages, 1U);
  EXPECT_DOUBLE_EQ(work.seconds, 2.0);
  EXPECT_EQ(work.stopped, "accepted");
  EXPECT_EQ(work.first_touch.count, 2U);
  EXPECT_EQ(work.first_touch.p9999, 4U);
  EXPECT_EQ(work.first_touch.max, 5U);
  ASSERT_EQ(work.first_touch.histogram.size(), 2U);
  EXPECT_EQ(work.first_touch.histogram[1].upper_ns, 5U);
}

TEST(ConsoleLine, ReadsTheOtherLinesOfTheInit) {
  expect_console<GuestOff>(R"(ACCEDE-INIT {"step":"off"})");
  EXPECT_EQ(expect_console<GuestError>(R"(ACCEDE-INIT {"step":"error","message":"m"})").message,
            "m");
  expect_console<OtherLine>(R"(ACCEDE-INIT {"step":"later"})");
}

TEST(ConsoleLine, ABrokenLineOfTheInitIsSaidToBeBroken) {
  expect_console<GarbledInit>(R"(ACCEDE-INIT {"step":"up","meminfo":{[    3.1] random: crng})");
  expect_console<GarbledInit>("ACCEDE-INIT ");
}

TEST(ConsoleLine, ReadsWhatTheKernelSays) {
  EXPECT_EQ(expect_console<KernelPanic>(
                "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs")
                .message,
            "VFS: Unable to mount root fs");
  EXPECT_EQ(expect_console<KernelPanic>("Kernel panic - not syncing").message, "");
  EXPECT_EQ(expect_console<KernelMemory>(
                "[    0.1] Memory: 1887500K/2079332K available (16384K kernel code, 2K rwdata)")
                .ram,
            Bytes{2079332ULL * 1024});
  EXPECT_EQ(
      expect_console<EncryptionFeatures>("[    0.1] Memory Encryption Features active: Intel TDX")
          .text,
      "Intel TDX");
  expect_console<InitStarted>("[    2.3] Run /init as init process");
}

TEST(ConsoleLine, IgnoresEverythingElse) {
  for (const std::string_view text :
       {""sv, "[    0.1] Memory: lots"sv, "[    0.1] Memory: 1K/99999999999999999999K available"sv,
        "[    0.1] Memory: 1K/ available"sv, "[    2.3] Run away"sv, "ACCEDE-INI"sv,
        "Memory: 1K/2K available"sv}) {
    expect_console<OtherLine>(text);
  }
}

TEST(Qmp, ReadsWhatQemuSends) {
  EXPECT_TRUE(std::holds_alternative<QmpGreeting>(
      parse_qmp(R"({"QMP":{"version":{},"capabilities":["oob"]}})")));
  EXPECT_EQ(std::get<QmpDone>(parse_qmp(R"({"return":{},"id":7})")).id, 7U);
  const auto error = std::get<QmpError>(parse_qmp(R"({"id":8,"error":{"class":"G","desc":"no"}})"));
  EXPECT_EQ(error.id, 8U);
  EXPECT_EQ(error.message, "no");
  EXPECT_EQ(std::get<QmpShutdown>(
                parse_qmp(R"({"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}})"))
                .reason,
            "guest-reset");
  for (const std::string_view text : {"", "x", "[]", R"({"event":"STOP"})", "{}"}) {
    EXPECT_TRUE(std::holds_alternative<QmpOther>(parse_qmp(text))) << text;
  }
}

TEST(Qmp, QuotesFileNames) {
  const std::string line = qmp_save_memory(3, PhysAddr{0x1000}, Bytes{4096}, "/tmp/a \"b\"");
  EXPECT_EQ(line.back(), '\n');
  const auto command = nlohmann::json::parse(line);
  EXPECT_EQ(command["execute"], "pmemsave");
  EXPECT_EQ(command["id"], 3);
  EXPECT_EQ(command["arguments"]["val"], 4096);
  EXPECT_EQ(command["arguments"]["size"], 4096);
  EXPECT_EQ(command["arguments"]["filename"], "/tmp/a \"b\"");
}

TEST(ConsoleLine, ReadsTheLinesOfOurOwnKernel) {
  const auto ready = parse_console_line(
      R"(ACCEDE-GUEST {"step":"ready","generation":2,"marked_page":"kept","used_bytes":5,)"
      R"("table":"hand-over","meminfo":{"MemTotal":9}})");
  ASSERT_TRUE(std::holds_alternative<GuestUp>(ready));
  const auto& up = std::get<GuestUp>(ready);
  EXPECT_TRUE(up.own_kernel);
  EXPECT_EQ(up.generation, 2U);
  EXPECT_EQ(up.marked_page, "kept");
  EXPECT_EQ(up.state.used, Bytes{5});
  EXPECT_FALSE(up.state.page_info || up.state.accepted || up.state.unaccepted);
  EXPECT_EQ(up.state.table, "hand-over");
  const auto fault = parse_console_line(R"(ACCEDE-GUEST {"step":"fault","message":"m"})");
  ASSERT_TRUE(std::holds_alternative<GuestFaultLine>(fault));
  EXPECT_EQ(std::get<GuestFaultLine>(fault).message, "m");
  EXPECT_TRUE(
      std::holds_alternative<GuestKexec>(parse_console_line(R"(ACCEDE-GUEST {"step":"kexec"})")));
}

TEST(ConsoleLine, EachPartHasItsOwnWordForUp) {
  for (const char* const line :
       {R"(ACCEDE-GUEST {"step":"up"})", R"(ACCEDE-INIT {"step":"ready"})",
        R"(ACCEDE-INIT {"step":"fault"})", R"(ACCEDE-GUEST {"step":"later"})"}) {
    EXPECT_TRUE(std::holds_alternative<OtherLine>(parse_console_line(line))) << line;
  }
}

TEST(ConsoleLine, FieldsOfTheWrongTypeAreNotThere) {
  const auto line = parse_console_line(
      R"(ACCEDE-GUEST {"step":"ready","generation":"two","used_bytes":-1,"table":7})");
  ASSERT_TRUE(std::holds_alternative<GuestUp>(line));
  EXPECT_EQ(std::get<GuestUp>(line).generation, 1U);
  EXPECT_FALSE(std::get<GuestUp>(line).state.used);
  EXPECT_EQ(std::get<GuestUp>(line).state.table, "");
}

TEST(ConsoleLine, ReadsWhyOurLoaderRefuses) {
  const auto line = parse_console_line("accede-loader: the initrd is larger than memory");
  ASSERT_TRUE(std::holds_alternative<Refusal>(line));
  EXPECT_EQ(std::get<Refusal>(line).reason, "the initrd is larger than memory");
}

}  // namespace
}  // namespace accede::cli
