// Any bytes as a kernel in any container: an error with a text, or a report whose conclusions have
// evidence.
#include "accede/base/assert.hpp"
#include "accede/inspect/claims.hpp"
#include "accede/inspect/inspect.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

using namespace accede;
using namespace accede::inspect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::as_bytes(std::span{data, size});
  const auto report = accede::inspect::inspect(file);
  if (!report) {
    ACCEDE_ASSERT(!report.error().message.empty());
    return 0;
  }
  for (std::size_t i = 0; i < kFeatureCount; ++i) {
    const Capability& capability = (*report)[static_cast<Feature>(i)];
    ACCEDE_ASSERT(capability.value == image::Knows::kUnknown || !capability.evidence.empty());
    for (const Evidence& evidence : capability.evidence) {
      ACCEDE_ASSERT(!evidence.signal.empty());
      ACCEDE_ASSERT(evidence.place != "file" || evidence.offset <= file.size());
    }
  }
  const auto tags = tags_of(*report);
  ACCEDE_ASSERT(check_claims(*report, tags).wrong.empty());
  return 0;
}
