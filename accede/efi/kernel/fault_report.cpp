#include "accede/efi/kernel/fault_report.hpp"

#include "accede/abi/rmp.hpp"

#include <span>
#include <utility>

namespace accede::efi::kernel {

using namespace std::string_view_literals;
using abi::tdx::ExitReason;

namespace {

constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kLarge = 1ULL << 7;
constexpr std::uint64_t kNoExecute = 1ULL << 63;
constexpr std::uint64_t kAddress = 0x000F'FFFF'FFFF'F000;

bool is_set(std::uint64_t word, unsigned bit) {
  return (word >> bit & 1) != 0;
}

bool is_canonical(std::uint64_t address) {
  const std::uint64_t top = address >> 47;
  return top == 0 || top == (1ULL << 17) - 1;
}

bool is_unaccepted(const guest::UnacceptedTable* table, PhysAddr address) {
  return table != nullptr && table->covered().contains(address) &&
         table->any_unaccepted(PhysRange::page(address, PageSize::k4K));
}

bool is_not_validated(const FaultFacts& facts) {
  return facts.frame.vector == kVmmCommunicationVector &&
         facts.frame.error == abi::rmp::kVcNotValidated;
}

/// Whether CR2 belongs to the fault.
bool has_cr2(const FaultFacts& facts) {
  return facts.frame.vector == kPageFaultVector || is_not_validated(facts);
}

/// The address that the fault is about, where it has one.
std::optional<PhysAddr> subject_of(const FaultFacts& facts) {
  if (facts.ve && facts.ve->exit_reason == static_cast<std::uint64_t>(ExitReason::kEptViolation)) {
    return PhysAddr{facts.ve->gpa};
  }
  if (has_cr2(facts)) {
    return PhysAddr{facts.cr2};  // the mapping is the identity
  }
  return std::nullopt;
}

/// " at 0x1234" and, inside the image, " (image + 0x34)".
void add_rip(FaultText& text, const FaultFacts& facts) {
  text.text(" at RIP "sv).hex(facts.frame.rip);
  if (facts.image.contains(PhysAddr{facts.frame.rip})) {
    text.text(" (image + "sv).hex(facts.frame.rip - facts.image.begin().value()).text(")"sv);
  }
}

class Report {
 public:
  Report(const FaultFacts& facts, FunctionRef<void(std::string_view)> write)
      : facts_{facts}, write_{write} {}

  void headline() {
    FaultText line;
    line.text("\naccede-guest: "sv).text(exception_name(facts_.frame.vector));
    const FaultText error = describe_error(facts_.frame.vector, facts_.frame.error);
    if (!error.view().empty()) {
      line.text(": "sv).text(error.view());
    }
    say(line);
    FaultText where;
    where.text(" "sv);
    add_rip(where, facts_);
    say(where.text(", error code "sv).hex(facts_.frame.error));
  }

  void registers() {
    const TrapFrame& f = facts_.frame;
    using Named = std::pair<std::string_view, std::uint64_t>;
    row(std::array<Named, 4>{
        {{"rax"sv, f.rax}, {"rbx"sv, f.rbx}, {"rcx"sv, f.rcx}, {"rdx"sv, f.rdx}}});
    row(std::array<Named, 4>{
        {{"rsi"sv, f.rsi}, {"rdi"sv, f.rdi}, {"rbp"sv, f.rbp}, {"rsp"sv, f.rsp}}});
    row(std::array<Named, 4>{
        {{"r8 "sv, f.r8}, {"r9 "sv, f.r9}, {"r10"sv, f.r10}, {"r11"sv, f.r11}}});
    row(std::array<Named, 4>{
        {{"r12"sv, f.r12}, {"r13"sv, f.r13}, {"r14"sv, f.r14}, {"r15"sv, f.r15}}});
    row(std::array<Named, 4>{{{"cr0"sv, facts_.cr0},
                              {"cr2"sv, facts_.cr2},
                              {"cr3"sv, facts_.cr3},
                              {"cr4"sv, facts_.cr4}}});
    row(std::array<Named, 3>{{{"rfl"sv, f.rflags}, {"cs "sv, f.cs}, {"ss "sv, f.ss}}});
  }

  void virtualization() {
    if (facts_.frame.vector != kVirtualizationVector) {
      return;
    }
    FaultText line;
    if (!facts_.ve) {
      say(line.text("  #VE without information from the TDX module"sv));
      return;
    }
    const abi::tdx::VeInfo& ve = *facts_.ve;
    line.text("  #VE reason "sv).number(ve.exit_reason).text(" ("sv);
    line.text(exit_reason_name(ve.exit_reason)).text("), qualification "sv);
    line.hex(ve.exit_qualification).text(", GPA "sv).hex(ve.gpa).text(", GLA "sv).hex(ve.gla);
    say(line);
  }

  void walk(FunctionRef<std::uint64_t(PhysAddr)> read) {
    if (!has_cr2(facts_)) {
      return;
    }
    constexpr std::array<std::string_view, 5> kLevels{""sv, "PT"sv, "PD"sv, "PDPT"sv, "PML4"sv};
    FaultText heading;
    say(heading.text("  page tables of "sv).hex(facts_.cr2));
    const PageWalk found = walk_page_tables(facts_.cr3, facts_.cr2, facts_.private_mask, read);
    for (const PageWalk::Step& step : std::span{found.steps}.first(found.count)) {
      FaultText line;
      line.text("    "sv).text(kLevels[step.level]).text(" ["sv);
      line.number(facts_.cr2 >> (12 + 9 * (step.level - 1)) & 511).text("] "sv);
      line.hex(step.entry, 16);
      if ((step.entry & kPresent) == 0) {
        say(line.text(" not present"sv));
        continue;
      }
      line.text(is_set(step.entry, 1) ? " writable"sv : " read-only"sv);
      line.text((step.entry & kNoExecute) != 0 ? ", no-execute"sv : ", executable"sv);
      if (facts_.private_mask != 0) {
        line.text((step.entry & facts_.private_mask) != 0 ? ", private"sv : ", shared"sv);
      }
      say(line);
    }
    if (!is_canonical(facts_.cr2)) {
      FaultText line;
      say(line.text("    the address is not canonical"sv));
    }
  }

  void page_state() {
    const auto subject = subject_of(facts_);
    if (!subject) {
      return;
    }
    FaultText line;
    line.text("  page at "sv).hex(subject->value()).text(": "sv);
    say(line.text(describe_page(facts_.table, *subject).view()));
  }

 private:
  void say(FaultText& line) {
    write_(line.view());
    write_("\n"sv);
  }
  void row(std::span<const std::pair<std::string_view, std::uint64_t>> named) {
    FaultText line;
    for (const auto& [name, value] : named) {
      line.text("  "sv).text(name).text(" "sv).hex(value, 16);
    }
    say(line);
  }

  const FaultFacts& facts_;
  FunctionRef<void(std::string_view)> write_;
};

}  // namespace

PageWalk walk_page_tables(std::uint64_t cr3, std::uint64_t address, std::uint64_t private_mask,
                          FunctionRef<std::uint64_t(PhysAddr)> read) {
  PageWalk walk;
  if (!is_canonical(address)) {
    return walk;
  }
  std::uint64_t table = cr3 & kAddress & ~private_mask;
  for (unsigned level = 4; level > 0; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const std::uint64_t entry = read(PhysAddr{table + (address >> shift & 511) * 8});
    walk.steps[walk.count++] = {level, entry};
    if ((entry & kPresent) == 0) {
      return walk;
    }
    const std::uint64_t base = entry & kAddress & ~private_mask;
    if (level == 1 || (level < 4 && (entry & kLarge) != 0)) {
      const std::uint64_t inside = (1ULL << shift) - 1;
      walk.target = PhysAddr{(base & ~inside) | (address & inside)};
      return walk;
    }
    table = base;
  }
  return walk;
}

FaultText describe_page(const guest::UnacceptedTable* table, PhysAddr address) {
  FaultText text;
  if (table == nullptr || !table->present()) {
    return std::move(text.text("no table says whether it is accepted"sv));
  }
  const PhysRange covered = table->covered();
  if (!covered.contains(address)) {
    text.text("outside the unaccepted table (it covers "sv).hex(covered.begin().value());
    return std::move(text.text(" to "sv).hex(covered.end().value()).text(")"sv));
  }
  text.text(is_unaccepted(table, address) ? "unaccepted"sv : "accepted"sv).text(" (unit "sv);
  text.number((address - covered.begin()).value() / table->unit().value()).text(" of "sv);
  return std::move(text.number(table->unit().value() / 1024).text(" KiB)"sv));
}

FaultText fault_message(const FaultFacts& facts) {
  FaultText text;
  const std::uint64_t vector = facts.frame.vector;
  const auto subject = subject_of(facts);
  const bool is_touch = vector == kVirtualizationVector || is_not_validated(facts);
  if (is_touch && subject && is_unaccepted(facts.table, *subject)) {
    text.text("touched unaccepted memory at GPA "sv).hex(subject->value());
  } else if (vector == kVirtualizationVector && subject) {
    text.text("EPT violation at GPA "sv).hex(subject->value()).text(", "sv);
    text.text(describe_page(facts.table, *subject).view());
  } else if (vector == kVirtualizationVector && facts.ve) {
    text.text("#VE for "sv).text(exit_reason_name(facts.ve->exit_reason));
  } else if (is_not_validated(facts)) {
    text.text("touched memory that is not validated at GPA "sv).hex(subject->value());
    text.text(", "sv).text(describe_page(facts.table, *subject).view());
  } else if (vector == kVmmCommunicationVector) {
    text.text("#VC for "sv).text(describe_error(vector, facts.frame.error).view());
  } else if (vector == kPageFaultVector) {
    text.text("#PF "sv).text(describe_error(vector, facts.frame.error).view());
    text.text(", at address "sv).hex(facts.cr2);
  } else {
    text.text(exception_name(vector));
  }
  add_rip(text, facts);
  return text;
}

void write_fault_report(const FaultFacts& facts, FunctionRef<std::uint64_t(PhysAddr)> read,
                        FunctionRef<void(std::string_view)> write) {
  Report report{facts, write};
  report.headline();
  report.registers();
  report.virtualization();
  report.walk(read);
  report.page_state();
}

}  // namespace accede::efi::kernel
