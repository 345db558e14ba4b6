#include "accede/efi/shim/guide.hpp"

#include "accede/base/text_buffer.hpp"
#include "accede/efi/shim/verdict_store.hpp"

namespace accede::efi::shim {

using namespace std::string_view_literals;
namespace {

using guest::PlatformKind;
using image::Knows;

/// What the boot manager gives an application before it resets the machine.
constexpr std::uint64_t kWatchdogSeconds = 300;

std::string_view platform_name(PlatformKind kind) {
  return kind == PlatformKind::kTdx ? "TDX"sv : "SEV-SNP"sv;
}

TextBuffer<32> mebibytes(Bytes bytes) {
  TextBuffer<32> text;
  return text.number(bytes.value() >> 20).text(" MiB"sv);
}

}  // namespace

KernelFacts Guide::facts_of(const KernelInImage& kernel) {
  VerdictStore store = read_verdicts(firmware_);
  const auto identity = kernel.identity();
  if (const auto known = store.find(identity)) {
    say(firmware_, "known image: Linux "sv, kernel.release());
    return *known;
  }
  const KernelFacts facts = kernel.inspect();
  say(firmware_, "new image: Linux "sv, kernel.release());
  store.add(identity, facts);
  if (const auto written = write_verdicts(firmware_, store); !written) {
    say(firmware_, "its verdict is not remembered: "sv, written.error().what);
  }
  return facts;
}

bool Guide::may_run(const KernelInImage& kernel, const KernelFacts& facts) const {
  if (around_.platform == PlatformKind::kNone) {
    return true;
  }
  const std::string_view platform = platform_name(around_.platform);
  const std::string_view name = kernel.release().empty() ? "this kernel"sv : kernel.release();
  switch (facts.knows(around_.platform)) {
    case Knows::kYes:
      break;
    case Knows::kUnknown:
      say(firmware_, "cannot tell whether "sv, name, " knows "sv, platform, ": trying"sv);
      break;
    case Knows::kNo:
      if (!around_.lenient) {
        say(firmware_, name, " does not know "sv, platform, " and cannot run here: not started"sv);
        return false;
      }
      say(firmware_, name, " does not know "sv, platform,
          ": only an emulator runs it, a processor would stop it"sv);
      break;
  }
  return true;
}

void Guide::accept_everything(Bytes total) {
  say(firmware_, "accepting "sv, mebibytes(total).view());
  // All of it may take longer than the boot manager's watchdog waits.
  firmware_.boot().set_watchdog_timer(0, 0, 0, nullptr);
  const Accepted done = memory_.accept_all();
  firmware_.boot().set_watchdog_timer(kWatchdogSeconds, 0, 0, nullptr);
  if (done.lost != Bytes{} || done.left != Bytes{}) {
    say(firmware_, done.why.what, ": the kernel will not see "sv,
        mebibytes(done.lost + done.left).view());
  }
}

Role Guide::before_start(std::span<const std::byte> placed) {
  const auto kernel = KernelInImage::find(placed);
  if (!kernel) {
    return Role::kNoKernel;
  }
  const KernelFacts facts = facts_of(*kernel);
  if (!may_run(*kernel, facts)) {
    return Role::kRefused;
  }
  const Bytes total = memory_.total();
  switch (facts.accepts_on(around_.platform)) {
    case Knows::kYes:
      say(firmware_, "it accepts memory itself"sv);
      return Role::kAccepts;
    case Knows::kNo:
      if (total != Bytes{}) {
        say(firmware_, "it cannot accept memory: done for it, before it starts"sv);
      }
      break;
    case Knows::kUnknown:
      if (total != Bytes{}) {
        say(firmware_,
            "cannot tell whether it accepts memory: done for it, which is slow but right"sv);
      }
      break;
  }
  if (total != Bytes{}) {
    accept_everything(total);
  }
  return Role::kServed;
}

bool Guide::before_exit(std::optional<Role> role) {
  if (role == Role::kAccepts) {
    // As late as can be: there is no way to take the promise back.
    if (around_.handshake != nullptr) {
      around_.handshake->allow_unaccepted_memory(around_.handshake);
    }
    return true;
  }
  const Bytes total = memory_.total();
  if (total == Bytes{}) {
    return true;
  }
  if (role == Role::kServed) {
    return true;  // what is left could not be accepted, and was said
  }
  say(firmware_, "a kernel that was not seen leaves boot services: memory is accepted for it, "sv,
      "which is slow but right"sv);
  accept_everything(total);
  return false;
}

}  // namespace accede::efi::shim
