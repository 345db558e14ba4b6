// MRTD: the measurement of what a TD was built from.
#pragma once

#include "accede/base/units.hpp"
#include "accede/host/sha384.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

namespace accede::host {

enum class MeasurementError : std::uint8_t {
  kFinalized,  ///< after finalize() nothing is measured any more (OP_STATE_INCORRECT)
  kUnaligned,  ///< GPA not a multiple of 4 KiB (page_add) or 256 bytes (extend) (OPERAND_INVALID)
};
[[nodiscard]] std::string_view name(MeasurementError error);

/// MRTD as the TDX module computes it: one SHA-384 over blocks, in the order of the calls.
///
/// TDH.MEM.PAGE.ADD hashes a 128-byte block: "MEM.PAGE.ADD" at 0, the page's GPA at 16 (little
/// endian), the rest zero. TDH.MR.EXTEND hashes such a block with "MR.EXTEND" and the chunk's GPA,
/// then the 256 bytes. The layout is what public MRTD calculators (td-shim's and others) use; they
/// agree with the module's published source. PAGE.AUG is not measured.
///
/// Thread-compatible: the module takes the TD exclusively for these calls.
class Measurement {
 public:
  static constexpr Bytes kChunk{256};

  /// TDH.MEM.PAGE.ADD of the 4 KiB page at `gpa`: its address, not its content.
  [[nodiscard]] std::expected<void, MeasurementError> page_add(PhysAddr gpa);
  /// TDH.MR.EXTEND: the content of the 256-byte chunk at `gpa`.
  [[nodiscard]] std::expected<void, MeasurementError> extend(
      PhysAddr gpa, std::span<const std::byte, kChunk.value()> chunk);
  /// TDH.MR.FINALIZE: MRTD is fixed. A second call is kFinalized.
  [[nodiscard]] std::expected<Sha384::Digest, MeasurementError> finalize();

  [[nodiscard]] bool finalized() const { return finalized_; }
  /// MRTD; all zero before finalize().
  [[nodiscard]] const Sha384::Digest& mrtd() const { return mrtd_; }

 private:
  void hash_header(std::string_view operation, PhysAddr gpa);

  Sha384 hash_;
  Sha384::Digest mrtd_{};
  bool finalized_ = false;
};

}  // namespace accede::host
