// Random SEAMCALLs, checked against a naive reference after each. The model test feeds it a random
// generator, the fuzz target feeds it the fuzzer's bytes.
#pragma once

#include "tests/host/seam_naive.hpp"

#include <array>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace accede::host::test {

class SeamActions {
 public:
  SeamActions() {
    host_.make_ready();
    host_.initialize(SeamHost::kTdmr, NaiveModule::kEnd);
    for (std::uint64_t i = 0; i < 48; ++i) {
      places_.push_back(NaiveModule::kBegin + i * kPageBytes);
    }
    for (const std::uint64_t i : {0ULL, 1ULL, 5ULL, 511ULL}) {
      places_.push_back(kLarge + i * kPageBytes);
    }
    places_.insert(places_.end(), {SeamHost::kReserved, SeamHost::kReserved - kPageBytes,
                                   NaiveModule::kEnd, kLarge + NaiveModule::k2m, 16 * kGib, kMib,
                                   NaiveModule::kBegin + 8, NaiveModule::kBegin | 1ULL << 46});
  }

  /// One action. The text describes the first difference; empty: all as it should be.
  std::string step(ByteSource& bytes) {
    problem_.clear();
    act(bytes);
    if (++steps_ % 16 == 0) {
      compare_pages();
    }
    return problem_;
  }

 private:
  using Naive = NaiveModule;
  static constexpr std::uint64_t kLarge = NaiveModule::kBegin + 8 * kMib;
  static constexpr std::uint64_t kGpa = 8 * kGib;

  void expect(const char* call, const SeamCall& got, std::uint64_t expected) {
    if (!problem_.empty() || (got.has_value() && got->status == expected)) {
      return;
    }
    std::ostringstream text;
    text << call << ": 0x" << std::hex << (got.has_value() ? got->status : ~0ULL) << ", expected 0x"
         << expected;
    problem_ = text.str();
  }

  // --- Operands: mostly such that something happens ---

  std::uint64_t any_place(ByteSource& bytes) {
    return places_[bytes.below(static_cast<std::uint32_t>(places_.size()))];
  }
  std::uint64_t page(ByteSource& bytes) {
    for (int tries = 0; tries < 8 && bytes.below(8) != 0; ++tries) {
      const std::uint64_t place = any_place(bytes);
      if (Naive::where(place, 0, kPageBytes) == 0 && naive_.at(place).type == PamtType::kFree) {
        return place;
      }
    }
    return any_place(bytes);
  }
  template <class Map>
  std::uint64_t one_of(ByteSource& bytes, const Map& map) {
    if (map.empty() || bytes.below(16) == 0) {
      return any_place(bytes);
    }
    auto found = map.begin();
    std::advance(found, bytes.below(static_cast<std::uint32_t>(map.size())));
    return found->first;
  }
  std::uint64_t td(ByteSource& bytes) { return one_of(bytes, naive_.tds); }
  std::uint64_t vcpu(ByteSource& bytes) { return one_of(bytes, naive_.vcpus); }
  static ProcessorId processor(ByteSource& bytes) { return ProcessorId{bytes.below(4)}; }

  void act(ByteSource& bytes) {
    const std::uint32_t kind = bytes.below(100);
    if (kind < 25) {
      return advance(bytes, td(bytes));
    }
    if (kind < 26) {
      return bytes.below(8) == 0 ? retire(td(bytes)) : void();
    }
    if (kind < 84) {
      return memory(bytes);
    }
    const ProcessorId lp = processor(bytes);
    switch (kind % 13) {
      case 0:
        return create(page(bytes), 31 + bytes.below(6));
      case 1:
        return key_config(lp, td(bytes));
      case 2:
        return addcx(page(bytes), td(bytes));
      case 3:
        return init(td(bytes), static_cast<std::uint16_t>(bytes.below(3)));
      case 4:
        return vp_create(page(bytes), td(bytes));
      case 5:
        return vp_addcx(page(bytes), vcpu(bytes));
      case 6:
        return vp_init(lp, vcpu(bytes));
      case 7:
        return finalize(td(bytes));
      case 8:
        return flush(lp, vcpu(bytes));
      case 9:
        return flush_done(bytes.below(6) == 0 ? td(bytes) : any_place(bytes));
      case 10:
        return cache_wb(lp);
      case 11:
        return free_key(td(bytes));
      default:
        return bytes.below(2) != 0 ? reclaim(any_place(bytes)) : write_back(any_place(bytes));
    }
  }

  /// The next call that the TD needs to become runnable.
  void advance(ByteSource& bytes, std::uint64_t tdr) {
    const auto found = naive_.tds.find(tdr);
    if (found == naive_.tds.end()) {
      return naive_.tds.size() < 4 ? create(page(bytes), 33 + bytes.below(6)) : void();
    }
    const Naive::Td& now = found->second;
    if (now.lifecycle > TdLifecycle::kKeysConfigured) {
      return retire(tdr);
    }
    if (now.lifecycle == TdLifecycle::kKeyAssigned) {
      key_config(ProcessorId{0}, tdr);
      return key_config(ProcessorId{3}, tdr);
    }
    if (now.op == TdOpState::kUninitialized) {
      return now.tdcs < 6 ? addcx(page(bytes), tdr) : init(tdr, 1);
    }
    if (now.op == TdOpState::kRunnable) {
      return;
    }
    for (const auto& [tdvpr, vcpu_now] : naive_.vcpus) {
      if (vcpu_now.tdr == tdr && !vcpu_now.initialized) {
        const std::uint64_t root = tdvpr;
        return vcpu_now.pages < 6 ? vp_addcx(page(bytes), root) : vp_init(ProcessorId{1}, root);
      }
    }
    if (now.vcpus == 0) {
      return vp_create(page(bytes), tdr);
    }
    for (int level = 3; level > 0; --level) {
      const NaiveSept::Stop stop = now.sept.walk(kGpa, level);
      if (stop.level == level && stop.entry.state == SeptState::kFree) {
        const std::uint64_t base = kGpa & ~(NaiveSept::size(level) - 1);
        return take("SEPT.ADD", tdr, base, level, page(bytes));
      }
    }
    if (bytes.below(8) == 0) {
      finalize(tdr);
    }
  }

  /// Ends a TD and takes all its pages back.
  void retire(std::uint64_t tdr) {
    const std::map<std::uint64_t, Naive::Vcpu> vcpus = naive_.vcpus;
    for (const auto& [tdvpr, now] : vcpus) {
      if (now.tdr == tdr && now.processor.has_value()) {
        flush(ProcessorId{*now.processor}, tdvpr);
      }
    }
    flush_done(tdr);
    cache_wb(ProcessorId{0});
    cache_wb(ProcessorId{2});
    free_key(tdr);
    const std::map<std::uint64_t, Naive::Page> pages = naive_.pages;
    for (const auto& [hpa, now] : pages) {
      if (now.owner == tdr) {
        reclaim(hpa);
      }
    }
    reclaim(tdr);
  }

  // --- Building ---

  void create(std::uint64_t tdr, unsigned key) {
    if (naive_.tds.size() == 4) {
      return;
    }
    std::uint64_t expected = key < 32 || key > 63
                                 ? Naive::kInvalid + Naive::kRdx
                                 : naive_.check(tdr, Naive::kRcx, PamtType::kFree, 0, {});
    if (expected == 0 && naive_.keys.contains(key)) {
      expected = 0xC000082000000000;
    }
    if (expected == 0) {
      naive_.pages[tdr] = {.type = PamtType::kTdr};
      naive_.tds[tdr] = {};
      naive_.tds[tdr].key = key;
      naive_.keys[key] = std::nullopt;
    }
    expect("MNG.CREATE", host_.module.mng_create(PhysAddr{tdr}, KeyId{key}), expected);
  }

  void key_config(ProcessorId lp, std::uint64_t tdr) {
    std::uint64_t expected = naive_.check_td(tdr, Naive::kRcx);
    if (expected == 0) {
      Naive::Td& now = naive_.tds[tdr];
      if (now.lifecycle != TdLifecycle::kKeyAssigned) {
        expected = Naive::kLifecycle;
      } else if (!now.packages.insert(lp.value() / 2).second) {
        expected = 0x0000081500000000;
      } else if (now.packages.size() == 2) {
        now.lifecycle = TdLifecycle::kKeysConfigured;
      }
    }
    expect("MNG.KEY.CONFIG", host_.module.mng_key_config(lp, PhysAddr{tdr}), expected);
  }

  void addcx(std::uint64_t hpa, std::uint64_t tdr) {
    std::uint64_t expected = naive_.check_td(tdr, Naive::kRdx);
    if (expected == 0) {
      Naive::Td& now = naive_.tds[tdr];
      expected = now.lifecycle != TdLifecycle::kKeysConfigured ? Naive::kKeys
                 : now.tdcs == 9                               ? 0xC000061000000000
                                 : naive_.check(hpa, Naive::kRcx, PamtType::kFree, 0, {tdr});
      if (expected == 0 && now.tdcs >= 6 && now.op != TdOpState::kUninitialized) {
        expected = NaiveSept::kOpState;
      }
      if (expected == 0) {
        ++now.tdcs;
        naive_.pages[hpa] = {.type = PamtType::kTdcx, .owner = tdr};
      }
    }
    expect("MNG.ADDCX", host_.module.mng_addcx(PhysAddr{hpa}, PhysAddr{tdr}), expected);
  }

  /// What the calls that need a TD in some state answer before their own work.
  std::uint64_t td_refusal(std::uint64_t tdr, std::uint64_t operand, TdOpState first,
                           TdOpState last) {
    const std::uint64_t refused = naive_.check_td(tdr, operand);
    return refused != 0 ? refused : Naive::built(naive_.tds[tdr], first, last);
  }

  void init(std::uint64_t tdr, std::uint16_t max_vcpus) {
    std::uint64_t expected =
        td_refusal(tdr, Naive::kRcx, TdOpState::kUninitialized, TdOpState::kUninitialized);
    if (expected == 0 && max_vcpus == 0) {
      expected = Naive::kInvalid + 68;
    }
    if (expected == 0) {
      naive_.tds[tdr].op = TdOpState::kInitialized;
      naive_.tds[tdr].max_vcpus = max_vcpus;
    }
    std::span<std::byte> storage;
    if (expected == 0) {
      storage = storage_of(tdr);
    }
    expect("MNG.INIT",
           host_.module.mng_init(PhysAddr{tdr}, {.sept = {}, .max_vcpus = max_vcpus}, storage),
           expected);
  }
  std::span<std::byte> storage_of(std::uint64_t tdr) {
    const auto slot = storage_.try_emplace(tdr, 64_KiB).first;
    return slot->second.span();
  }

  void vp_create(std::uint64_t hpa, std::uint64_t tdr) {
    if (naive_.vcpus.size() == 8) {
      return;
    }
    std::uint64_t expected =
        td_refusal(tdr, Naive::kRdx, TdOpState::kInitialized, TdOpState::kInitialized);
    if (expected == 0) {
      expected = naive_.check(hpa, Naive::kRcx, PamtType::kFree, 0, {tdr});
    }
    if (expected == 0) {
      naive_.pages[hpa] = {.type = PamtType::kTdvpr, .owner = tdr};
      naive_.vcpus[hpa] = {};
      naive_.vcpus[hpa].tdr = tdr;
    }
    expect("VP.CREATE", host_.module.vp_create(PhysAddr{hpa}, PhysAddr{tdr}), expected);
  }

  void vp_addcx(std::uint64_t hpa, std::uint64_t tdvpr) {
    std::uint64_t expected = naive_.check(tdvpr, Naive::kRdx, PamtType::kTdvpr, 0, {});
    if (expected == 0) {
      Naive::Vcpu& now = naive_.vcpus[tdvpr];
      expected =
          Naive::built(naive_.tds[now.tdr], TdOpState::kInitialized, TdOpState::kInitialized);
      if (expected == 0) {
        expected = now.initialized ? 0xC000070000000002
                   : now.pages == 15
                       ? 0xC000061000000000
                       : naive_.check(hpa, Naive::kRcx, PamtType::kFree, 0, {tdvpr, now.tdr});
      }
      if (expected == 0) {
        ++now.pages;
        naive_.pages[hpa] = {.type = PamtType::kTdcx, .owner = now.tdr};
      }
    }
    expect("VP.ADDCX", host_.module.vp_addcx(PhysAddr{hpa}, PhysAddr{tdvpr}), expected);
  }

  void vp_init(ProcessorId lp, std::uint64_t tdvpr) {
    std::uint64_t expected = naive_.check(tdvpr, Naive::kRcx, PamtType::kTdvpr, 0, {});
    if (expected == 0) {
      Naive::Vcpu& now = naive_.vcpus[tdvpr];
      Naive::Td& owner = naive_.tds[now.tdr];
      expected = Naive::built(owner, TdOpState::kInitialized, TdOpState::kInitialized);
      if (expected == 0) {
        expected = now.pages < 6                    ? 0xC000061000000000
                   : now.initialized                ? 0xC000070000000002
                   : owner.vcpus == owner.max_vcpus ? 0xC000070500000000
                                                    : 0;
      }
      if (expected == 0) {
        ++owner.vcpus;
        now.initialized = true;
        now.processor = lp.value();
      }
    }
    expect("VP.INIT", host_.module.vp_init(lp, PhysAddr{tdvpr}), expected);
  }

  void finalize(std::uint64_t tdr) {
    std::uint64_t expected =
        td_refusal(tdr, Naive::kRcx, TdOpState::kInitialized, TdOpState::kInitialized);
    if (expected == 0 && naive_.tds[tdr].vcpus == 0) {
      expected = 0xC000060900000000;
    }
    if (expected == 0) {
      naive_.tds[tdr].op = TdOpState::kRunnable;
      naive_.tds[tdr].sept.finalized = true;
    }
    expect("MR.FINALIZE", host_.module.mr_finalize(PhysAddr{tdr}), expected);
  }

  // --- Memory ---

  void memory(ByteSource& bytes) {
    static constexpr std::array<std::uint64_t, 6> kPages{
        0, kPageBytes, 2 * kMib, kGib, 3 * kPageBytes, 2 * kMib + kPageBytes};
    std::uint64_t tdr = td(bytes);
    for (int tries = 0; tries < 4 && !has_memory(tdr); ++tries) {
      tdr = td(bytes);
    }
    const std::uint32_t call = bytes.below(9);
    int level =
        call == 0 ? 1 + static_cast<int>(bytes.below(3)) : static_cast<int>(bytes.below(5) / 3);
    if (bytes.below(24) == 0) {
      level = static_cast<int>(bytes.below(6));
    }
    std::uint64_t gpa = kGpa + kPages[bytes.below(kPages.size())];
    if (bytes.below(24) != 0) {
      gpa &= ~(NaiveSept::size(std::min(level, 4)) - 1);
    }
    switch (call) {
      case 0:
        return take("SEPT.ADD", tdr, gpa, level, page(bytes));
      case 1:
        return take("PAGE.ADD", tdr, gpa, level, page(bytes));
      case 2:
      case 3: {
        const std::uint64_t hpa = level == 1 && bytes.below(4) != 0
                                      ? kLarge + bytes.below(3) * NaiveModule::k2m
                                      : page(bytes);
        return take("PAGE.AUG", tdr, gpa, level, hpa);
      }
      case 4:
        return block(tdr, gpa, level, bytes.below(4) != 0);
      case 5:
        return track(tdr);
      case 6:
      case 7:
        // As a VMM does it.
        block(tdr, gpa, level, true);
        track(tdr);
        remove(tdr, gpa, level);
        return block(tdr, gpa, level, false);
      default:
        return remove(tdr, gpa, level);
    }
  }

  /// Some TD where calls on memory get further than to its state.
  [[nodiscard]] bool has_memory(std::uint64_t tdr) const {
    const auto found = naive_.tds.find(tdr);
    return found != naive_.tds.end() && found->second.op != TdOpState::kUninitialized &&
           found->second.lifecycle == TdLifecycle::kKeysConfigured;
  }

  static std::uint64_t rcx_of(std::uint64_t gpa, int level) {
    return gpa | static_cast<std::uint64_t>(level);
  }
  static bool legal(std::uint64_t gpa, int level, int lowest, int highest) {
    return level >= lowest && level <= highest && gpa % NaiveSept::size(level) == 0;
  }

  void take(std::string_view call, std::uint64_t tdr, std::uint64_t gpa, int level,
            std::uint64_t hpa) {
    const bool table = call == "SEPT.ADD";
    const bool aug = call == "PAGE.AUG";
    std::uint64_t expected =
        td_refusal(tdr, Naive::kRdx, aug ? TdOpState::kRunnable : TdOpState::kInitialized,
                   table || aug ? TdOpState::kRunnable : TdOpState::kInitialized);
    if (expected == 0 && !legal(gpa, level, table ? 1 : 0, table ? 3 : aug ? 1 : 0)) {
      expected = NaiveSept::kInvalid;
    }
    if (expected == 0) {
      NaiveSept& sept = naive_.tds[tdr].sept;
      const NaiveSept::Stop stop = sept.walk(gpa, level);
      const int page_level = table ? 0 : level;
      expected = sept.refuse(stop, level, stop.entry.state == SeptState::kFree, false).value_or(0);
      if (expected == 0) {
        expected = naive_.check(hpa, Naive::kR8, PamtType::kFree, page_level, {tdr});
      }
      if (expected == 0) {
        sept.put(level, gpa,
                 {table ? SeptState::kNonLeafMapped
                  : aug ? SeptState::kPending
                        : SeptState::kMapped,
                  table ? 0 : hpa});
        naive_.pages[hpa] = {.type = table ? PamtType::kSept : PamtType::kRegular,
                             .owner = tdr,
                             .level = page_level};
      }
    }
    const std::uint64_t rcx = rcx_of(gpa, level);
    SeamModule& module = host_.module;
    const SeamCall got = table ? module.mem_sept_add(rcx, PhysAddr{tdr}, PhysAddr{hpa})
                         : aug ? module.mem_page_aug(rcx, PhysAddr{tdr}, PhysAddr{hpa})
                               : module.mem_page_add(rcx, PhysAddr{tdr}, PhysAddr{hpa});
    expect(std::string{call}.c_str(), got, expected);
    compare_entry(tdr, gpa);
  }

  std::uint64_t range_refusal(std::uint64_t tdr, std::uint64_t gpa, int level, int highest) {
    const std::uint64_t refused =
        td_refusal(tdr, Naive::kRdx, TdOpState::kInitialized, TdOpState::kRunnable);
    return refused != 0 || legal(gpa, level, 0, highest) ? refused : NaiveSept::kInvalid;
  }

  void block(std::uint64_t tdr, std::uint64_t gpa, int level, bool really) {
    std::uint64_t expected = range_refusal(tdr, gpa, level, 3);
    if (expected == 0) {
      NaiveSept& sept = naive_.tds[tdr].sept;
      const NaiveSept::Stop stop = sept.walk(gpa, level);
      const SeptState state = stop.entry.state;
      const bool blocked = NaiveSept::blocked(state);
      expected =
          really && stop.level == level && blocked
              ? NaiveSept::kAlreadyBlocked
              : sept.refuse(stop, level, really ? state != SeptState::kFree : blocked, !really)
                    .value_or(0);
      if (expected == 0) {
        NaiveSept::Entry entry = stop.entry;
        entry.epoch = really ? sept.epoch : entry.epoch;
        entry.state = !really                        ? NaiveSept::unblocked(state)
                      : state == SeptState::kMapped  ? SeptState::kBlocked
                      : state == SeptState::kPending ? SeptState::kPendingBlocked
                                                     : SeptState::kNonLeafBlocked;
        sept.put(level, gpa, entry);
      }
    }
    const std::uint64_t rcx = rcx_of(gpa, level);
    expect(really ? "RANGE.BLOCK" : "RANGE.UNBLOCK",
           really ? host_.module.mem_range_block(rcx, PhysAddr{tdr})
                  : host_.module.mem_range_unblock(rcx, PhysAddr{tdr}),
           expected);
    compare_entry(tdr, gpa);
  }

  void track(std::uint64_t tdr) {
    const std::uint64_t expected =
        td_refusal(tdr, Naive::kRcx, TdOpState::kInitialized, TdOpState::kRunnable);
    if (expected == 0) {
      ++naive_.tds[tdr].sept.epoch;
    }
    expect("TRACK", host_.module.mem_track(PhysAddr{tdr}), expected);
  }

  void remove(std::uint64_t tdr, std::uint64_t gpa, int level) {
    std::uint64_t expected = range_refusal(tdr, gpa, level, 2);
    std::uint64_t removed = 0;
    if (expected == 0) {
      NaiveSept& sept = naive_.tds[tdr].sept;
      const NaiveSept::Stop stop = sept.walk(gpa, level);
      expected = sept.refuse(stop, level, NaiveSept::leaf(stop.entry.state), true).value_or(0);
      if (expected == 0) {
        removed = stop.entry.hpa;
        naive_.pages.erase(removed);
        sept.put(level, gpa, {});
      }
    }
    const SeamCall got = host_.module.mem_page_remove(rcx_of(gpa, level), PhysAddr{tdr});
    expect("PAGE.REMOVE", got, expected);
    if (expected == 0 && got.has_value() && got->rcx != removed) {
      problem_ = "PAGE.REMOVE reports another page";
    }
    compare_entry(tdr, gpa);
  }

  // --- Ending ---

  void flush(ProcessorId lp, std::uint64_t tdvpr) {
    std::uint64_t expected = naive_.check(tdvpr, Naive::kRcx, PamtType::kTdvpr, 0, {});
    if (expected == 0) {
      Naive::Vcpu& now = naive_.vcpus[tdvpr];
      expected = naive_.tds[now.tdr].lifecycle != TdLifecycle::kKeysConfigured ? Naive::kKeys
                 : now.pages < 6                                               ? 0xC000061000000000
                 : now.processor != lp.value()                                 ? 0x8000070200000000
                                                                               : 0;
      if (expected == 0) {
        now.processor.reset();
      }
    }
    expect("VP.FLUSH", host_.module.vp_flush(lp, PhysAddr{tdvpr}), expected);
  }

  void flush_done(std::uint64_t tdr) {
    std::uint64_t expected = naive_.check_td(tdr, Naive::kRcx);
    if (expected == 0) {
      Naive::Td& now = naive_.tds[tdr];
      expected = now.lifecycle > TdLifecycle::kKeysConfigured ? Naive::kLifecycle
                 : naive_.associated(tdr) != 0                ? 0x8000082400000000
                                                              : 0;
      if (expected == 0) {
        now.lifecycle = TdLifecycle::kBlocked;
        naive_.keys[now.key] = std::set<unsigned>{0, 1};
      }
    }
    expect("MNG.VPFLUSHDONE", host_.module.mng_vpflushdone(PhysAddr{tdr}), expected);
  }

  void cache_wb(ProcessorId lp) {
    bool any = false;
    for (auto& [key, packages] : naive_.keys) {
      if (packages.has_value()) {
        any = true;
        packages->erase(lp.value() / 2);
      }
    }
    expect("CACHE.WB", host_.module.phymem_cache_wb(lp), any ? 0 : 0x0000082100000000);
  }

  void free_key(std::uint64_t tdr) {
    std::uint64_t expected = naive_.check_td(tdr, Naive::kRcx);
    if (expected == 0) {
      Naive::Td& now = naive_.tds[tdr];
      expected = now.lifecycle != TdLifecycle::kBlocked ? Naive::kLifecycle
                 : !naive_.keys.at(now.key)->empty()    ? 0x8000081700000000
                                                        : 0;
      if (expected == 0) {
        naive_.keys.erase(now.key);
        now.lifecycle = TdLifecycle::kTeardown;
      }
    }
    expect("KEY.FREEID", host_.module.mng_key_freeid(PhysAddr{tdr}), expected);
  }

  void reclaim(std::uint64_t hpa) {
    std::uint64_t expected = Naive::where(hpa, Naive::kRcx, kPageBytes);
    const Naive::Page now = expected == 0 ? naive_.at(hpa) : Naive::Page{};
    if (expected == 0) {
      const std::uint64_t tdr = now.type == PamtType::kTdr ? hpa : now.owner;
      expected = now.type == PamtType::kFree || now.type == PamtType::kReserved
                     ? Naive::kMetadata + Naive::kRcx
                 : hpa % NaiveSept::size(now.level) != 0                   ? NaiveSept::kInvalid
                 : naive_.tds.at(tdr).lifecycle != TdLifecycle::kTeardown  ? Naive::kLifecycle
                 : now.type == PamtType::kTdr && naive_.children(tdr) != 0 ? 0xC000040000000000
                                                                           : 0;
      if (expected == 0) {
        naive_.pages.erase(hpa);
        naive_.vcpus.erase(hpa);
        if (now.type == PamtType::kTdr) {
          naive_.tds.erase(hpa);
        }
      }
    }
    expect("PAGE.RECLAIM", host_.module.phymem_page_reclaim(PhysAddr{hpa}), expected);
  }

  void write_back(std::uint64_t hpa) {
    const std::uint64_t without_key = hpa & ~(1ULL << 46);
    std::uint64_t expected = Naive::where(without_key, Naive::kRcx, kPageBytes);
    if (expected == 0 && naive_.at(without_key).type != PamtType::kFree) {
      expected = Naive::kMetadata + Naive::kRcx;
    }
    expect("PAGE.WBINVD", host_.module.phymem_page_wbinvd(PhysAddr{hpa}), expected);
  }

  // --- Comparing ---

  void compare_entry(std::uint64_t tdr, std::uint64_t gpa) {
    const auto found = naive_.tds.find(tdr);
    if (found == naive_.tds.end() || found->second.op == TdOpState::kUninitialized) {
      return;
    }
    const NaiveSept::Stop expected = found->second.sept.walk(gpa, 0);
    const std::optional<EntryView> view =
        host_.module.secure_ept(PhysAddr{tdr})->lookup(PhysAddr{gpa});
    if (problem_.empty() &&
        (view->state != expected.entry.state || static_cast<int>(view->level) != expected.level)) {
      problem_ = "another page state than expected: " + std::string{abi::tdx::name_of(view->state)};
    }
  }

  void compare_pages() {
    for (const std::uint64_t place : places_) {
      const SeamCall got = host_.module.phymem_page_rdmd(PhysAddr{place});
      const std::uint64_t refused = Naive::where(place, Naive::kRcx, kPageBytes);
      expect("PAGE.RDMD", got, refused);
      const Naive::Page page = naive_.at(place);
      const SeamResult expected{.rcx = static_cast<std::uint64_t>(page.type),
                                .rdx = page.owner,
                                .r8 = static_cast<std::uint64_t>(page.level)};
      if (refused == 0 && problem_.empty() && *got != expected) {
        problem_ = "PAGE.RDMD: " + std::string{name(static_cast<PamtType>(got->rcx))} +
                   ", expected " + std::string{name(page.type)};
      }
    }
    if (problem_.empty() && !host_.module.invariants()) {
      problem_ = "invariants() is false";
    }
  }

  std::map<std::uint64_t, AlignedBytes> storage_;
  SeamHost host_;
  NaiveModule naive_;
  std::vector<std::uint64_t> places_;
  unsigned steps_ = 0;
  std::string problem_;
};

}  // namespace accede::host::test
