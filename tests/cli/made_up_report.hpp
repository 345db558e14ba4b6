// Report areas and runs for tests.
#pragma once

#include "accede/cli/run_result.hpp"
#include "accede/emulator/report_layout.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace accede::cli::test {

inline emulator::ReportHeader made_up_header() {
  emulator::ReportHeader header{};
  header.magic = emulator::kReportMagic;
  header.version = emulator::kReportVersion;
  header.tsc_hz = 1'000'000'000;
  header.lazy_bytes = 2ULL << 30;
  header.launch_bytes = 2ULL << 30;
  header.hidden_bytes = 16ULL << 20;
  header.counters.tdcall[6] = 300;
  header.counters.vmcall[static_cast<std::size_t>(emulator::VmcallSlot::kMapGpa)] = 4;
  header.counters.accepted_bytes = {0, 64ULL << 20, 512ULL << 20};
  header.counters.accept_calls = {12, 288, 0};
  header.counters.longest_step_bytes = 4ULL << 20;
  header.counters.accept_ticks = {0, 100'000'000, 400'000'000};
  header.event_offset = sizeof(emulator::ReportHeader);
  header.event_capacity = 8;
  return header;
}

/// `header` and `events` as they lie in memory.
inline std::vector<std::byte> made_up_area(emulator::ReportHeader header,
                                           std::span<const emulator::Event> events) {
  header.event_count = events.size();
  std::vector<std::byte> area(sizeof header + 8 * sizeof(emulator::Event));
  std::ranges::copy(std::as_bytes(std::span{&header, 1}), area.begin());
  std::ranges::copy(std::as_bytes(events), area.begin() + sizeof header);
  return area;
}

/// A lazy or eager 4 GiB boot that went well.
inline RunResult made_up_result(AcceptMode mode = AcceptMode::kLazy) {
  RunResult result;
  result.label = {.platform = Platform::kTdx,
                  .memory = Bytes{4ULL << 30},
                  .mode = mode,
                  .firmware = FirmwareKind::kNever,
                  .kernel = "6.12.1-made-up",
                  .accept_cost = std::nullopt};
  result.outcome = Outcome::kUserspace;
  result.boot_services_exited = 3.0;
  result.up_at = mode == AcceptMode::kLazy ? 5.0 : 9.0;
  result.total = *result.up_at + 0.5;
  result.up =
      GuestState{.uptime_seconds = 1.9,
                 .release = "6.12.1-made-up",
                 .mem_total = Bytes{4106096640},
                 .mem_free = Bytes{3ULL << 30},
                 .mem_available = Bytes{3ULL << 30},
                 .unaccepted = mode == AcceptMode::kLazy ? Bytes{1478656ULL << 10} : Bytes{},
                 .ram = Bytes{(4ULL << 30) - (20ULL << 20)}};
  result.at_up = Measurement{.report = ReportSnapshot{.header = made_up_header(), .events = {}},
                             .backed = Bytes{900ULL << 20}};
  result.encryption = "Intel TDX";
  return result;
}

/// The same as an SEV-SNP guest: no TDCALLs, GHCB exits instead.
inline RunResult made_up_snp_result(AcceptMode mode = AcceptMode::kLazy) {
  RunResult result = made_up_result(mode);
  result.label.platform = Platform::kSnp;
  result.label.firmware = FirmwareKind::kHandshake;
  result.encryption = "AMD SEV SEV-ES SEV-SNP";
  emulator::Counters& counters = result.at_up->report->header.counters;
  counters.tdcall = {};
  counters.vmcall = {};
  counters.ghcb[static_cast<std::size_t>(emulator::GhcbSlot::kMsrPageState)] = 512;
  counters.ghcb[static_cast<std::size_t>(emulator::GhcbSlot::kPageState)] = 40;
  counters.rescind_calls = 520;
  counters.rescinded_bytes = 520U << 12;
  counters.rmpadjust_calls = 3;
  counters.smashed_pages = 2;
  counters.page_state_entries = 3000;
  counters.implicit_conversions = 1;
  return result;
}

}  // namespace accede::cli::test
