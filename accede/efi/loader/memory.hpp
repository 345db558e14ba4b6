// Memory for what the loader hands over: from the firmware, or memory that the firmware left
// unaccepted and that the loader accepts.
#pragma once

#include "accede/efi/departure.hpp"
#include "accede/efi/firmware.hpp"
#include "accede/efi/loader/problem.hpp"
#include "accede/firmware/place.hpp"

#include <array>
#include <optional>
#include <span>
#include <string_view>

namespace accede::efi::loader {

/// Pages and buffers that go back to the firmware when the loader returns to it. Of memory that
/// was accepted nothing goes back: acceptance cannot be undone, so it comes last.
class LoaderMemory {
 public:
  explicit LoaderMemory(const Firmware& firmware) : firmware_{firmware} {}
  ~LoaderMemory();
  LoaderMemory(const LoaderMemory&) = delete;
  LoaderMemory& operator=(const LoaderMemory&) = delete;

  /// A file's contents. Errors: LoadError.
  [[nodiscard]] Outcome<std::span<const std::byte>> read_file(std::string_view path);

  /// Pages of type LoaderData. Errors: OutOfResources.
  [[nodiscard]] Outcome<PhysRange> allocate(const firmware::PlaceNeeds& needs,
                                            std::string_view what);

  /// A place in memory that the firmware's map calls unaccepted, in whole units of 2 MiB. It must
  /// not be touched before accept_chosen(). Errors: OutOfResources, LoadError (a map that
  /// makes no sense), Unsupported (nobody there who accepts it).
  [[nodiscard]] Outcome<PhysRange> choose_unaccepted(const firmware::PlaceNeeds& needs,
                                                     std::string_view what);

  [[nodiscard]] bool has_chosen() const { return chosen_count_ != 0; }
  /// Accepts what was chosen and tells `departure`. Errors: LoadError; some may be accepted then.
  [[nodiscard]] Outcome<void> accept_chosen(Departure& departure);

 private:
  static constexpr std::size_t kMostPieces = 8;

  [[nodiscard]] bool allocate_at(PhysAddr address, Bytes size);
  [[nodiscard]] std::optional<PhysRange> allocate_below(PhysAddr limit, Bytes size);

  const Firmware& firmware_;
  std::array<PhysRange, kMostPieces> pages_{};
  std::size_t pages_count_ = 0;
  std::array<void*, kMostPieces> pools_{};
  std::size_t pools_count_ = 0;
  std::array<PhysRange, Departure::kMostAccepted> chosen_{};
  std::size_t chosen_count_ = 0;
};

}  // namespace accede::efi::loader
