// Boots for tests of the watcher, line by line.
#pragma once

#include "accede/cli/boot_watcher.hpp"
#include "tests/cli/made_up_report.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

namespace accede::cli::test {

inline constexpr const char* kReady =
    R"(ACCEDE-GUEST {"step":"ready","generation":1,"release":"accede-guest 0.1.0",)"
    R"("uptime_seconds":0.12,"policy":"lazy","ram_bytes":5000,"meminfo":{"MemTotal":4000,)"
    R"("MemFree":3000,"MemAvailable":3000,"Unaccepted":1000},"used_bytes":700,)"
    R"("page_info_bytes":70,"accepted_bytes":900,"table":"efi"})";
inline constexpr const char* kGuestWork =
    R"(ACCEDE-GUEST {"step":"work","touched_bytes":4096,"wrong_pages":0,"stopped":"done",)"
    R"("meminfo":{"Unaccepted":500},"first_touch_ns":{"count":1,"p50":7}})";
inline constexpr const char* kGuestKexec =
    R"(ACCEDE-GUEST {"step":"kexec","meminfo":{"Unaccepted":400}})";
inline constexpr const char* kGuestSecond =
    R"(ACCEDE-GUEST {"step":"ready","generation":2,"marked_page":"kept","table":"hand-over",)"
    R"("meminfo":{"Unaccepted":390}})";
inline constexpr const char* kGuestOff = R"(ACCEDE-GUEST {"step":"off"})";

inline constexpr const char* kUp =
    R"(ACCEDE-INIT {"step":"up","generation":1,"meminfo":{"MemTotal":4000,"Unaccepted":1000}})";
inline constexpr const char* kKexec =
    R"(ACCEDE-INIT {"step":"kexec","meminfo":{"MemTotal":4000,"Unaccepted":900}})";
inline constexpr const char* kSecond =
    R"(ACCEDE-INIT {"step":"up","generation":2,"meminfo":{"MemTotal":4000,"Unaccepted":800}})";
inline constexpr const char* kOff = R"(ACCEDE-INIT {"step":"off"})";

/// What the emulator counted when `mebibytes` were accepted, `doubles` of the accepts twice.
inline Measurement measurement(std::uint64_t mebibytes, std::uint64_t doubles = 0) {
  Measurement made{.report = ReportSnapshot{.header = made_up_header(), .events = {}},
                   .backed = Bytes{1}};
  made.report->header.counters.accepted_bytes = {0, 0, mebibytes << 20};
  made.report->header.counters.already_accepted = doubles;
  return made;
}

inline BootWatcher in_kernel(bool kexec, LoaderKind loader = LoaderKind::kStub) {
  RunLabel label = made_up_result().label;
  label.loader = loader;
  label.kexec = kexec;
  BootWatcher watcher{label, {}};
  watcher.report_line(1.0, R"({"event":"launcher","version":"0.1.0"})");
  watcher.report_line(1.1, R"({"event":"takeover","report_gpa":"0x1000","report_bytes":8192})");
  watcher.report_line(1.2, R"({"event":"kernel-start"})");
  watcher.report_line(2.0, R"({"event":"boot-services-exited"})");
  return watcher;
}

/// A line at which the guest waits: it is measured, then told to go on.
inline void at(BootWatcher& watcher, double now, const char* line, Measurement measured) {
  watcher.console_line(now, line);
  EXPECT_TRUE(watcher.wants_measurement()) << line;
  EXPECT_FALSE(watcher.take_resume()) << line;
  watcher.measured(now, std::move(measured));
  EXPECT_TRUE(watcher.take_resume()) << line;
}

inline RunResult finish(BootWatcher& watcher, Measurement last = measurement(9)) {
  EXPECT_TRUE(watcher.wants_measurement());
  watcher.measured(100, std::move(last));
  EXPECT_TRUE(watcher.wants_stop());
  return watcher.take_result();
}

}  // namespace accede::cli::test
