// Memory maps and CMRs of real hosts, from bug reports.
#pragma once

#include "tests/host/tdmr_fixture.hpp"

namespace accede::host::test {

/// canonical/tdx issue 135: Emerald Rapids, two sockets; "TDMR [0x0, 0x80000000): reserved areas
/// exhausted". The map above 4 GiB was not in the report: it is taken from the CMRs.
inline TdmrHost emerald_rapids() {
  TdmrHost host;
  host.cmrs = {cmr(0x100000, 0x6f800000), cmr(0x100000000, 0x107a000000),
               cmr(0x1080000000, 0x207c000000), cmr(0x2080000000, 0x307c000000),
               cmr(0x3080000000, 0x407c000000)};
  const auto usable = [&](std::uint64_t begin, std::uint64_t last, NodeId node = kNode0) {
    host.memory.push_back(ram(between(begin, last + 1), node));
  };
  const auto kept = [&](std::uint64_t begin, std::uint64_t last) {
    host.memory.push_back(memory_of(between(begin, last + 1), kNode0, MemoryKind::kFirmware));
  };
  usable(0x0, 0x9efff);
  kept(0x9f000, 0xfffff);
  usable(0x100000, 0x5d168fff);
  kept(0x5d169000, 0x5d22afff);
  usable(0x5d22b000, 0x5d3cefff);
  kept(0x5d3cf000, 0x5d469fff);
  usable(0x5d46a000, 0x5e5b2fff);
  kept(0x5e5b3000, 0x5e5c2fff);
  usable(0x5e5c3000, 0x5e5d2fff);
  kept(0x5e5d3000, 0x5e5e4fff);
  usable(0x5e5e5000, 0x5eb57fff);
  kept(0x5eb58000, 0x61357fff);
  usable(0x61358000, 0x6172afff);
  kept(0x6172b000, 0x61794fff);
  usable(0x61795000, 0x617fefff);
  kept(0x617ff000, 0x61912fff);
  usable(0x61913000, 0x61998fff);
  kept(0x61999000, 0x619dffff);
  usable(0x619e0000, 0x619e1fff);
  kept(0x619e2000, 0x619e9fff);
  usable(0x619ea000, 0x61a26fff);
  kept(0x61a27000, 0x61baefff);
  usable(0x61baf000, 0x623c2fff);
  kept(0x623c3000, 0x62471fff);
  usable(0x62472000, 0x62823fff);
  kept(0x62824000, 0x63a24fff);
  usable(0x63a25000, 0x63d57fff);
  kept(0x63d58000, 0x64157fff);
  usable(0x64158000, 0x64158fff);
  kept(0x64159000, 0x64194fff);
  usable(0x64195000, 0x6e9cefff);
  kept(0x6e9cf000, 0x6f7fefff);
  usable(0x6f7ff000, 0x6f7fffff);
  usable(0x100000000, 0x1079ffffff);
  usable(0x1080000000, 0x207bffffff);
  usable(0x2080000000, 0x307bffffff, kNode1);
  usable(0x3080000000, 0x407bffffff, kNode1);
  return host;
}

/// A host with four sockets' worth of nodes and 1 TiB, as its kernel printed it: "4202516 KB
/// allocated for PAMT".
inline TdmrHost one_tebibyte() {
  TdmrHost host;
  host.cmrs = {cmr(0x100000, 0x77800000), cmr(0x100000000, 0x407a000000),
               cmr(0x4080000000, 0x807c000000), cmr(0x8080000000, 0xc07c000000),
               cmr(0xc080000000, 0x1007c000000)};
  std::uint32_t node = 0;
  for (const abi::tdx::CmrInfo& range : host.cmrs) {
    host.memory.push_back(
        ram(between(range.base, range.base + range.size), NodeId{node == 0 ? 0 : node - 1}));
    ++node;
  }
  return host;
}

}  // namespace accede::host::test
