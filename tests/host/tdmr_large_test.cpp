// Thousands of memory ranges: the hosts that the benchmarks time.
#include "bench/tdmr_hosts.hpp"

#include <gtest/gtest.h>

namespace accede::host {
namespace {

TEST(TdmrPlanOf4096Ranges, FillsTheModuleToItsLimit) {
  const bench::FragmentedHost host = bench::host_at_the_limit();
  ASSERT_EQ(host.memory.size(), 4096U);
  bench::TdmrDesk desk{host};
  const TdmrPlan plan = desk.plan(host);
  EXPECT_TRUE(plan.feasible);
  EXPECT_EQ(plan.least_tdmrs, 64U);
  EXPECT_EQ(plan.areas, 640U);
  EXPECT_EQ(plan.optimum, TdmrOptimum::kProven);
  EXPECT_TRUE(bench::module_takes(host, plan));
}

class TdmrPlanBeyondTheLimit : public testing::TestWithParam<bench::FragmentedHost (*)()> {};

TEST_P(TdmrPlanBeyondTheLimit, NamesAChangeThatSuffices) {
  const bench::FragmentedHost host = GetParam()();
  ASSERT_EQ(host.memory.size(), 4096U);
  bench::TdmrDesk desk{host};
  const TdmrPlan plan = desk.plan(host);
  EXPECT_FALSE(plan.feasible);
  EXPECT_EQ(plan.least_tdmrs, 128U);
  EXPECT_GT(plan.given_up_bytes, Bytes{});
  EXPECT_TRUE(bench::module_takes(host, plan));
  EXPECT_TRUE(bench::change_suffices(host, plan));
}

INSTANTIATE_TEST_SUITE_P(Hosts, TdmrPlanBeyondTheLimit,
                         testing::Values(bench::host_beyond_the_limit,
                                         bench::wide_host_beyond_the_limit));

}  // namespace
}  // namespace accede::host
