#include "accede/host/measurement.hpp"

namespace accede::host {

using namespace std::string_view_literals;

std::string_view name(MeasurementError error) {
  switch (error) {
    case MeasurementError::kFinalized:
      return "the measurement is final"sv;
    case MeasurementError::kUnaligned:
      return "the address is not aligned"sv;
  }
  return "unknown"sv;
}

void Measurement::hash_header(std::string_view operation, PhysAddr gpa) {
  constexpr std::size_t kGpaOffset = 16;
  std::array<std::byte, 128> block{};
  for (std::size_t i = 0; i < operation.size(); ++i) {
    block[i] = static_cast<std::byte>(operation[i]);
  }
  for (std::size_t i = 0; i < 8; ++i) {
    block[kGpaOffset + i] = static_cast<std::byte>(gpa.value() >> (8 * i));
  }
  hash_.update(block);
}

std::expected<void, MeasurementError> Measurement::page_add(PhysAddr gpa) {
  if (finalized_) {
    return std::unexpected{MeasurementError::kFinalized};
  }
  if (!gpa.is_aligned(bytes(PageSize::k4K))) {
    return std::unexpected{MeasurementError::kUnaligned};
  }
  hash_header("MEM.PAGE.ADD"sv, gpa);
  return {};
}

std::expected<void, MeasurementError> Measurement::extend(
    PhysAddr gpa, std::span<const std::byte, kChunk.value()> chunk) {
  if (finalized_) {
    return std::unexpected{MeasurementError::kFinalized};
  }
  if (!gpa.is_aligned(kChunk)) {
    return std::unexpected{MeasurementError::kUnaligned};
  }
  hash_header("MR.EXTEND"sv, gpa);
  hash_.update(chunk);
  return {};
}

std::expected<Sha384::Digest, MeasurementError> Measurement::finalize() {
  if (finalized_) {
    return std::unexpected{MeasurementError::kFinalized};
  }
  finalized_ = true;
  mrtd_ = hash_.digest();
  return mrtd_;
}

}  // namespace accede::host
