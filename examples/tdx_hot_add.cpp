// What happens to TDs on a host whose memory grows: RAM that is hot-added after the TDX module was
// configured is RAM for Linux, but no TDX memory. Plays the calls of a VMM on the model of the
// module; nothing of TDX is needed to run it.
#include "accede/abi/tdx_status_names.hpp"
#include "accede/host/seam_module.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace accede;
using namespace accede::host;

constexpr std::uint64_t kPage = 4096;
constexpr PhysAddr kTdxMemory{4ULL << 30};
constexpr PhysAddr kHotAdded{64ULL << 30};
constexpr std::uint64_t kGuestMemory = 4ULL << 30;
constexpr ProcessorId kProcessor{0};

/// 8 KiB of storage for the models.
struct alignas(8192) Block {
  std::array<std::byte, 8192> bytes;
};
using Storage = std::vector<Block>;

std::string text_of(std::uint64_t status) {
  const auto name = abi::tdx::any_name_of(abi::tdx::code_of(status));
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "0x%016llx %s, operand %u",
                static_cast<unsigned long long>(status),
                std::string{name.value_or("unknown")}.c_str(), abi::tdx::details_of(status));
  return text.data();
}

/// The host's free pages: what the page allocator of a kernel would give next.
class FreePages {
 public:
  void add(PhysAddr begin, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      pages_.push_back(begin + Bytes{kPage * i});
    }
  }
  [[nodiscard]] PhysAddr take() {
    const PhysAddr page = pages_.front();
    pages_.pop_front();
    return page;
  }

 private:
  std::deque<PhysAddr> pages_;
};

/// The status of a call, which the model always has storage for here.
std::uint64_t status_of(const SeamCall& call) {
  if (!call.has_value()) {
    std::fprintf(stderr, "the model: %s\n", std::string{name(call.error())}.c_str());
    std::exit(1);
  }
  return call->status;
}

/// A VMM with one TD of one vCPU. It uses whatever page it is given, as KVM does.
class Vmm {
 public:
  Vmm(const char* name, SeamModule& module, FreePages& pages, KeyId key)
      : name_{name}, module_{module}, pages_{pages}, key_{key} {}

  [[nodiscard]] bool start() {
    tdr_ = pages_.take();
    bool ok = done("TDH.MNG.CREATE", module_.mng_create(tdr_, key_)) &&
              done("TDH.MNG.KEY.CONFIG", module_.mng_key_config(kProcessor, tdr_));
    for (unsigned i = 0; i < kLeastTdcsPages && ok; ++i) {
      ok = done("TDH.MNG.ADDCX", module_.mng_addcx(pages_.take(), tdr_));
    }
    ok = ok &&
         done("TDH.MNG.INIT", module_.mng_init(tdr_, {}, std::as_writable_bytes(std::span{sept_})));
    const PhysAddr vcpu = pages_.take();
    ok = ok && done("TDH.VP.CREATE", module_.vp_create(vcpu, tdr_));
    for (unsigned i = 1; i < kLeastTdvpsPages && ok; ++i) {
      ok = done("TDH.VP.ADDCX", module_.vp_addcx(pages_.take(), vcpu));
    }
    ok = ok && done("TDH.VP.INIT", module_.vp_init(kProcessor, vcpu));
    for (unsigned level = 3; level > 0 && ok; --level) {
      const std::uint64_t base = kGuestMemory & ~((1ULL << (12 + 9 * level)) - 1);
      ok = done("TDH.MEM.SEPT.ADD", module_.mem_sept_add(base | level, tdr_, pages_.take()));
    }
    return ok && done("TDH.MR.FINALIZE", module_.mr_finalize(tdr_));
  }

  /// The guest accepts a page. False: the VMM could not back it and ended the TD.
  [[nodiscard]] bool guest_accepts(std::uint64_t gpa) {
    SecureEpt& sept = *module_.secure_ept(tdr_);
    const auto accept = [&] { return sept.accept(gpa, [](PhysAddr) {}, [] { return false; }); };
    if (accept().kind == GuestCallKind::kExit) {
      if (!done("TDH.MEM.PAGE.AUG", module_.mem_page_aug(gpa, tdr_, pages_.take()))) {
        return false;
      }
      return accept().kind == GuestCallKind::kCompleted;
    }
    return true;
  }

 private:
  [[nodiscard]] bool done(const char* call, const SeamCall& result) const {
    const std::uint64_t status = status_of(result);
    if (status != 0) {
      std::printf("%s: %s fails: %s\n", name_, call, text_of(status).c_str());
    }
    return status == 0;
  }

  const char* name_;
  SeamModule& module_;
  FreePages& pages_;
  KeyId key_;
  Storage sept_ = Storage(16);
  PhysAddr tdr_;
};

/// One TDMR over the GiB at kTdxMemory, its PAMTs right behind it.
void bring_up(SeamModule& module) {
  abi::tdx::TdmrInfo tdmr{};
  tdmr.base = kTdxMemory.value();
  tdmr.size = 1ULL << 30;
  tdmr.pamt_1g = {.base = tdmr.base + tdmr.size, .size = kPage};
  tdmr.pamt_2m = {.base = tdmr.pamt_1g.base + kPage, .size = 2 * kPage};
  tdmr.pamt_4k = {.base = tdmr.pamt_2m.base + 2 * kPage, .size = 4ULL << 20};
  const std::array<abi::tdx::TdmrInfo, 1> tdmrs{tdmr};
  std::uint64_t status = status_of(module.sys_init());
  status |= status_of(module.sys_lp_init(kProcessor));
  status |= status_of(module.sys_config(tdmrs, KeyId{32}));
  status |= status_of(module.sys_key_config(kProcessor));
  while (status == 0) {
    status = status_of(module.sys_tdmr_init(kTdxMemory));
  }
  if (abi::tdx::code_of(status) != abi::tdx::Status::kTdmrAlreadyInitialized) {
    std::fprintf(stderr, "bring-up: %s\n", text_of(status).c_str());
    std::exit(1);
  }
}

}  // namespace

int main() {
  const std::array<abi::tdx::CmrInfo, 1> cmrs{
      {{.base = kTdxMemory.value(), .size = (1ULL << 30) + (8ULL << 20)}}};
  Storage pamt(16);
  std::array<TdRecord, 2> tds;
  std::array<VcpuRecord, 2> vcpus;
  SeamModule module{{.cmrs = cmrs},
                    {.pamt = std::as_writable_bytes(std::span{pamt}), .tds = tds, .vcpus = vcpus}};
  bring_up(module);

  FreePages pages;
  pages.add(kTdxMemory, 24);
  Vmm first{"TD 1", module, pages, KeyId{33}};
  if (!first.start()) {
    return 1;
  }
  std::puts("TD 1: runs");
  pages.add(kHotAdded, 1024);
  std::puts("host: 4 MiB of RAM hot-added at 64 GiB");
  std::uint64_t accepted = 0;
  while (accepted < 8 && first.guest_accepts(kGuestMemory + accepted * kPage)) {
    ++accepted;
  }
  std::printf("TD 1: %llu pages accepted, the last TDX memory of the host\n",
              static_cast<unsigned long long>(accepted));
  Vmm second{"TD 2", module, pages, KeyId{34}};
  const bool second_runs = second.start();
  std::printf("TD 2: %s\n", second_runs ? "runs" : "cannot be started");
  const bool first_lives = first.guest_accepts(kGuestMemory + accepted * kPage);
  std::printf("TD 1: %s\n",
              first_lives ? "goes on" : "is ended: its VMM cannot back a page that it touched");
  return accepted == 8 && !second_runs && !first_lives ? 0 : 1;
}
