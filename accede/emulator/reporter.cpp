#include "accede/emulator/reporter.hpp"

#include <algorithm>
#include <new>

namespace accede::emulator {

using namespace std::string_view_literals;

std::string_view name(EventKind kind) {
  switch (kind) {
    case EventKind::kPhase:
      return "phase"sv;
    case EventKind::kAccept:
      return "accept"sv;
    case EventKind::kConvertShared:
      return "convert-shared"sv;
    case EventKind::kConvertPrivate:
      return "convert-private"sv;
    case EventKind::kHostAug:
      return "host-aug"sv;
    case EventKind::kVmcall:
      return "vmcall"sv;
    case EventKind::kRescind:
      return "rescind"sv;
    case EventKind::kUnacceptedAccess:
      return "unaccepted-access"sv;
    case EventKind::kDoubleAccept:
      return "double-accept"sv;
    case EventKind::kPolarityMismatch:
      return "shared-private-mismatch"sv;
    case EventKind::kUnknownTdcall:
      return "unknown-tdcall"sv;
    case EventKind::kUnknownVmcall:
      return "unknown-vmcall"sv;
    case EventKind::kInvalidAccept:
      return "invalid-accept"sv;
    case EventKind::kEmulatorMemory:
      return "emulator-memory"sv;
    case EventKind::kShutdown:
      return "shutdown"sv;
    case EventKind::kBeyondAddressWidth:
      return "beyond-address-width"sv;
    case EventKind::kResourceExhausted:
      return "resource-exhausted"sv;
    case EventKind::kEmulatorBug:
      return "emulator-bug"sv;
    case EventKind::kHaltedForEver:
      return "halted-for-ever"sv;
    case EventKind::kGuestPanic:
      return "guest-panic"sv;
    case EventKind::kInvalidState:
      return "invalid-state"sv;
    case EventKind::kGuestTermination:
      return "guest-termination"sv;
    case EventKind::kBadGhcb:
      return "bad-ghcb"sv;
    case EventKind::kRmpViolation:
      return "rmp-violation"sv;
    case EventKind::kImplicitConversion:
      return "implicit-conversion"sv;
    case EventKind::kWrongCBit:
      return "wrong-c-bit"sv;
  }
  return "unknown"sv;
}

JsonLine::JsonLine(std::string_view event) {
  put('{');
  quoted("event"sv);
  put(':');
  quoted(event);
}

void JsonLine::put(char c) {
  if (used_ < buffer_.size() - kReserve) {
    buffer_[used_++] = c;
  }
}

void JsonLine::quoted(std::string_view value) {
  constexpr std::string_view kHex = "0123456789abcdef"sv;
  put('"');
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (used_ + 6 > buffer_.size() - kReserve) {
      break;
    }
    if (c == '"' || c == '\\') {
      put('\\');
      put(c);
    } else if (byte < 0x20 || byte >= 0x7F) {
      for (const char part : {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]}) {
        put(part);
      }
    } else {
      put(c);
    }
  }
  buffer_[used_++] = '"';  // in the reserve when the line is full
}

void JsonLine::key(std::string_view key) {
  put(',');
  quoted(key);
  put(':');
}

JsonLine& JsonLine::text(std::string_view name, std::string_view value) {
  if (used_ + name.size() + 16 < buffer_.size() - kReserve) {
    key(name);
    quoted(value);
  }
  return *this;
}

JsonLine& JsonLine::number(std::string_view name, std::uint64_t value) {
  if (used_ + name.size() + 32 < buffer_.size() - kReserve) {
    key(name);
    std::array<char, 20> digits{};
    std::size_t count = 0;
    do {
      digits[count++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    while (count != 0) {
      put(digits[--count]);
    }
  }
  return *this;
}

JsonLine& JsonLine::hex(std::string_view name, std::uint64_t value) {
  std::array<char, 18> digits{'0', 'x'};
  std::size_t count = 2;
  for (int shift = 60; shift >= 0; shift -= 4) {
    const unsigned digit = (value >> shift) & 15;
    if (digit != 0 || count > 2 || shift == 0) {
      digits[count++] = "0123456789abcdef"[digit];
    }
  }
  return text(name, std::string_view{digits.data(), count});
}

std::string_view JsonLine::finish() {
  buffer_[used_++] = '}';
  buffer_[used_++] = '\n';
  return {buffer_.data(), used_};
}

Reporter::Reporter(std::span<std::byte> area, bool log_events) {
  ACCEDE_ASSERT(area.size() >= sizeof(ReportHeader));
  header_ = new (area.data()) ReportHeader{};
  header_->magic = kReportMagic;
  header_->version = kReportVersion;
  header_->total_bytes = static_cast<std::uint32_t>(area.size());
  header_->event_offset = sizeof(ReportHeader);
  if (log_events) {
    header_->event_capacity = (area.size() - sizeof(ReportHeader)) / sizeof(Event);
    log_ = {reinterpret_cast<Event*>(area.data() + sizeof(ReportHeader)),
            static_cast<std::size_t>(header_->event_capacity)};
  }
}

void Reporter::raise(std::uint64_t& maximum, std::uint64_t value) {
  std::atomic_ref atomic{maximum};
  std::uint64_t seen = atomic.load(std::memory_order_relaxed);
  while (seen < value && !atomic.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

void Reporter::event(EventKind kind, std::uint8_t detail, PhysRange range, std::uint64_t tsc,
                     std::uint16_t vcpu) {
  if (log_.empty()) {
    return;
  }
  const SpinGuard guard{lock_};
  const std::uint64_t pages = range.size().value() / 4096;
  // Several kinds may take turns page by page (with 4 KiB backing: AUG, accept, AUG, ...), so a few
  // of the last events can grow.
  const std::uint64_t growing = pages != 0 ? std::min<std::uint64_t>(header_->event_count, 4) : 0;
  for (std::uint64_t i = 1; i <= growing; ++i) {
    Event& recent = log_[header_->event_count - i];
    if (recent.kind == EventKind::kPhase) {
      break;  // what comes after belongs to another phase
    }
    if (recent.kind == kind && recent.detail == detail && recent.vcpu == vcpu &&
        recent.gpa + std::uint64_t{recent.pages} * 4096 == range.begin().value() &&
        recent.pages + pages <= 0xFFFF'FFFF) {
      recent.pages += static_cast<std::uint32_t>(pages);
      return;
    }
  }
  if (header_->event_count == header_->event_capacity) {
    ++header_->event_dropped;
    return;
  }
  log_[header_->event_count] = {.tsc = tsc,
                                .gpa = range.begin().value(),
                                .pages = static_cast<std::uint32_t>(pages),
                                .kind = kind,
                                .detail = detail,
                                .vcpu = vcpu};
  // The host may read now: the event is complete before it counts.
  std::atomic_ref{header_->event_count}.fetch_add(1, std::memory_order_release);
}

void Reporter::violation(const Violation& violation) {
  const SpinGuard guard{lock_};
  ++header_->violation_total;
  const std::span<Violation> used{header_->violations.data(), header_->violation_slots};
  const auto same = std::find_if(used.begin(), used.end(), [&](const Violation& other) {
    return other.kind == violation.kind && other.rip == violation.rip &&
           other.detail == violation.detail;
  });
  if (same != used.end()) {
    ++same->count;
    return;
  }
  if (used.size() < header_->violations.size()) {
    header_->violations[used.size()] = violation;
    std::atomic_ref{header_->violation_slots}.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace accede::emulator
