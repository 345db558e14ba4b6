// Plans of TDMRs: what is covered, reserved and given up, and where metadata goes.
#include "accede/host/tdmr_plan.hpp"
#include "accede/host/tdmr_linux.hpp"
#include "tests/host/tdmr_fixture.hpp"
#include "tests/host/tdmr_reported_hosts.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {
using namespace test;

TEST(TdmrReportedHost, EmeraldRapidsC01) {
  TdmrHost host = emerald_rapids();
  for (auto holes : {TdmrHoles::kOfCmrs, TdmrHoles::kOfMemoryMap}) {
    host.policy.holes = holes;
    const TdmrPlan plan = host.plan();
    printf("feasible %d tdmrs %zu areas %zu pamt %lu foreign %lu given %lu least %zu opt %d atleast %zu\n",
           plan.feasible, plan.tdmrs.size(), plan.areas, plan.pamt.value(), plan.foreign_pamt.value(), plan.given_up_bytes.value(), plan.least_tdmrs, (int)plan.optimum, plan.areas_at_least);
    for (auto& t : plan.tdmrs) {
      printf(" %lx-%lx node %u td %lx\n", t.range.begin().value(), t.range.end().value(), (unsigned)t.node, t.td_memory.value());
      for (auto& a : t.areas()) printf("    %lx-%lx nc%d ex%d fw%d pamt%d gu%d\n", a.range.begin().value(), a.range.end().value(), a.reasons.not_convertible, a.reasons.excluded, a.reasons.firmware, a.reasons.pamt, a.reasons.given_up);
      for (auto& a : t.pamt) printf("    pamt %lx-%lx\n", a.range.begin().value(), a.range.end().value());
    }
    for (auto& p : plan.problems) printf("problem %d %lx-%lx %zu %zu\n", (int)p.kind, p.range.begin().value(), p.range.end().value(), p.count, p.limit);
    for (auto& g : plan.given_up) printf("given up %lx-%lx\n", g.range.begin().value(), g.range.end().value());
    for (auto& n : plan.nodes) printf("node %u present %lx td %lx pamt %lx gu %lx nc %lx\n", (unsigned)n.node, n.present.value(), n.td_memory.value(), n.pamt.value(), n.given_up.value(), n.not_convertible.value());
    auto l = plan_as_linux(host.machine(), host.memory, host.policy);
    printf("linux %d tdmrs %zu areas %zu worst %zu %lx-%lx pamt %lu\n", (int)l.outcome, l.tdmrs, l.areas, l.worst_areas, l.worst.begin().value(), l.worst.end().value(), l.pamt.value());
  }
}
}
}
