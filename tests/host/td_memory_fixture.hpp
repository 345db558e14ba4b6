// A TdMemory with its parts, and an embedder's page tables as a set of pages, for the tests.
#pragma once

#include "accede/host/td_memory.hpp"
#include "tests/host/sept_fixture.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

namespace accede::host::test {

constexpr std::uint64_t k4K = 4096;
constexpr std::uint64_t k2M = 2ULL << 20;
constexpr std::uint64_t kSharedBit = 1ULL << 47;

/// What the hooks told, and the 4 KiB pages that the embedder's page tables would map.
class Td {
 public:
  explicit Td(std::vector<PhysRange> ram, Backing backing, Bytes sept_storage = Bytes{1 << 20},
              SecureEptConfig config = {.page_release = true}, std::uint64_t hpa_offset = 0)
      : ram_{std::move(ram)},
        sept{config, sept_storage},
        covered_{range(0, ram_.back().end().value())},
        bits_(PageAttributes::storage_bound(covered_).value() / 8),
        attributes{covered_, std::as_writable_bytes(std::span{bits_})},
        memory{sept.ept, attributes, ram_, backing, Bytes{hpa_offset}} {
    (void)sept.ept.finalize();
  }

  AcceptOutcome accept(std::uint64_t rcx) {
    return with_hooks([&](const TdMemoryHooks& hooks) {
      return memory.accept(rcx, [&](PhysAddr) { ++zeroed; }, [] { return false; }, hooks);
    });
  }
  AcceptOutcome release(std::uint64_t rcx) {
    return with_hooks([&](const TdMemoryHooks& hooks) { return memory.release(rcx, hooks); });
  }
  Touch touch_private(std::uint64_t gpa) {
    return with_hooks(
        [&](const TdMemoryHooks& hooks) { return memory.touch_private(PhysAddr{gpa}, hooks); });
  }
  Touch touch_shared(std::uint64_t gpa) {
    return memory.touch_shared(PhysAddr{gpa},
                               [&](PhysAddr page, PhysAddr) { shared.insert(page.value()); });
  }
  MapGpaOutcome map_gpa(std::uint64_t start, std::uint64_t size) {
    return with_hooks(
        [&](const TdMemoryHooks& hooks) { return memory.map_gpa(start, size, hooks); });
  }

  /// Every page that the embedder maps is one that the guest may use.
  std::string check() const {
    if (!memory.invariants()) {
      return "invariants() is false";
    }
    for (const std::uint64_t page : mapped) {
      if (sept.ept.access(PhysAddr{page}).kind != AccessKind::kMapped) {
        return "a page is mapped that is not accepted";
      }
    }
    for (const std::uint64_t page : shared) {
      if (attributes.get(PhysAddr{page}) != PageAttribute::kShared) {
        return "a shared mapping of a private page";
      }
    }
    return "";
  }

 private:
  std::vector<PhysRange> ram_;

 public:
  Sept sept;

 private:
  PhysRange covered_;
  std::vector<std::uint64_t> bits_;

 public:
  PageAttributes attributes;
  TdMemory memory;

  std::set<std::uint64_t> mapped;  ///< private pages in the embedder's tables
  std::set<std::uint64_t> shared;  ///< shared ones
  std::vector<PhysRange> private_gone;
  std::vector<PhysRange> shared_gone;
  std::vector<std::pair<std::uint64_t, PageSize>> augmented;
  unsigned kicks = 0;
  unsigned zeroed = 0;

 private:
  template <class F>
  std::invoke_result_t<F, const TdMemoryHooks&> with_hooks(F f) {
    const auto drop = [](std::set<std::uint64_t>& pages, PhysRange gone) {
      pages.erase(pages.lower_bound(gone.begin().value()), pages.lower_bound(gone.end().value()));
    };
    const auto on_mapped = [&](PhysAddr gpa, PhysAddr hpa, PageSize size) {
      if (hpa != memory.hpa_of(gpa)) {
        std::abort();
      }
      for (std::uint64_t i = 0; i < bytes(size) / 4_KiB; ++i) {
        mapped.insert(gpa.value() + i * k4K);
      }
    };
    const auto on_private_gone = [&](PhysRange gone) {
      private_gone.push_back(gone);
      drop(mapped, gone);
    };
    const auto on_shared_gone = [&](PhysRange gone) {
      shared_gone.push_back(gone);
      drop(shared, gone);
    };
    const auto on_augmented = [&](PhysAddr gpa, PageSize size) {
      augmented.emplace_back(gpa.value(), size);
    };
    const auto on_kick = [&] { ++kicks; };
    return f(TdMemoryHooks{.mapped = on_mapped,
                           .private_gone = on_private_gone,
                           .shared_gone = on_shared_gone,
                           .augmented = on_augmented,
                           .kick_vcpus = on_kick});
  }
};

}  // namespace accede::host::test
