#include "accede/image/unaccepted_support.hpp"

#include "accede/abi/efi.hpp"
#include "accede/image/bzimage.hpp"
#include "accede/image/pattern.hpp"

#include <algorithm>
#include <array>

namespace accede::image {

using namespace std::string_view_literals;

namespace {

/// What is looked for.
enum Mark : std::uint8_t {
  kTableReader,
  kAcceptor,
  kTdxAccept,
  kTableBuilder,
  kHandshakeText,
  kSevSnp,
  kTableGuidLow,  // GUIDs: two halves each, next to each other
  kTableGuidHigh,
  kHandshakeGuidLow,
  kHandshakeGuidHigh,
  kNotElf,  // landmarks, to the end
  kHalted,
  kInitrdLoaded,
  kExitBoot,
  kSecureBoot,
};
constexpr std::size_t kFirstLandmark = kNotElf;
constexpr std::size_t kMarks = kSecureBoot + 1;

/// In the order of Mark. Texts without what a version of Linux may put around them (a level, a line
/// end), so that a linker that merges tails of texts changes nothing.
constexpr PatternSet<kMarks> kPatterns{{{
    text_pattern("Unknown version of unaccepted memory table"sv),
    text_pattern("Cannot accept memory: unknown platform"sv),
    text_pattern("TDX: Failed to accept memory"sv),
    text_pattern("Failed to allocate unaccepted memory config table"sv),
    text_pattern("Memory acceptance protocol failed"sv),
    text_pattern("SEV-SNP"sv),
    guid_pattern(abi::efi::kLinuxUnacceptedTable, 0, 8),
    guid_pattern(abi::efi::kLinuxUnacceptedTable, 8, 8),
    guid_pattern(abi::efi::kMemoryAcceptanceHandshakeProtocol, 0, 8),
    guid_pattern(abi::efi::kMemoryAcceptanceHandshakeProtocol, 8, 8),
    // Landmarks. Decompressor: misc.c, error.c. EFI stub: efi-stub-helper.c, x86-stub.c,
    // secureboot.c.
    text_pattern("Kernel is not a valid ELF file"sv),
    text_pattern(" -- System halted"sv),
    text_pattern("Loaded initrd from command line option"sv),
    text_pattern("exit_boot() failed!"sv),
    text_pattern("Could not determine UEFI Secure Boot status."sv),
}}};

/// What one pass over an image finds.
class Search {
 public:
  /// Looks at `image` from `begin` to `end`. Calls go forward in the image.
  void look(std::span<const std::byte> image, std::size_t begin, std::size_t end) {
    kPatterns.search(image, begin, end,
                     [this](std::size_t mark, std::size_t offset) { note(mark, offset); });
  }

  [[nodiscard]] std::optional<std::size_t> first(Mark mark) const { return seen_[mark].first; }
  /// Of the GUID whose first half is `low`.
  [[nodiscard]] std::optional<std::size_t> guid(Mark low) const { return seen_[low].whole; }
  /// Also true of half a GUID: a compiler may have put the other elsewhere.
  [[nodiscard]] bool part_of_guid(Mark low) const {
    return seen_[low].count != 0 || seen_[std::size_t{low} + 1].count != 0;
  }
  [[nodiscard]] bool every_landmark() const {
    return std::ranges::all_of(landmarks(), [](const Seen& seen) { return seen.count != 0; });
  }
  [[nodiscard]] bool landmark_twice() const {
    return std::ranges::any_of(landmarks(), [](const Seen& seen) { return seen.count > 1; });
  }

 private:
  struct Seen {
    std::optional<std::size_t> first;
    std::optional<std::size_t> last;
    std::optional<std::size_t> whole;  ///< first halves of GUIDs: where both halves begin
    std::uint8_t count = 0;            ///< 2: twice or more
  };

  [[nodiscard]] std::span<const Seen> landmarks() const {
    return std::span{seen_}.subspan(kFirstLandmark);
  }

  void note(std::size_t mark, std::size_t offset) {
    Seen& seen = seen_[mark];
    if (!seen.first) {
      seen.first = offset;
    }
    seen.last = offset;
    seen.count = static_cast<std::uint8_t>(std::min(seen.count + 1, 2));
    if (mark >= kTableGuidLow && mark < kFirstLandmark) {
      const std::size_t low = (mark - kTableGuidLow) / 2 * 2 + kTableGuidLow;
      const std::optional<std::size_t> other = seen_[mark == low ? low + 1 : low].last;
      if (!seen_[low].whole && other && offset - *other <= kMostHalvesApart) {
        seen_[low].whole = *other;
      }
    }
  }

  std::array<Seen, kMarks> seen_{};
};

/// All signals have their offsets; the landmarks are in `search`.
void decide(UnacceptedSupport& support, const Search& search,
            const std::expected<BzImage, BzImageError>& header) {
  const bool all = support.table_reader && support.acceptor && support.table_guid;
  const bool handshake = support.handshake_text || search.part_of_guid(kHandshakeGuidLow);
  const bool any = support.table_reader || support.acceptor || support.tdx_accept ||
                   support.table_builder || search.part_of_guid(kTableGuidLow) || handshake;
  const bool whole =
      (header || header.error().kind == BzImageErrorKind::kNotLinux) && search.every_landmark();
  if (search.landmark_twice()) {
    return;
  }
  if (!any && whole) {
    support.accepts = Knows::kNo;
    support.handshake = Knows::kNo;
  } else if (all && (header || search.every_landmark())) {
    support.accepts = Knows::kYes;
    if (support.handshake_text && support.handshake_guid) {
      support.handshake = Knows::kYes;
    } else if (!handshake && whole) {
      support.handshake = Knows::kNo;
    }
  }
}

/// `accepts` for a platform whose own signal is `platform`.
Knows accepts_given(Knows accepts, bool platform) {
  return accepts == Knows::kYes && !platform ? Knows::kUnknown : accepts;
}

}  // namespace

std::string_view to_string(Knows knows) {
  switch (knows) {
    case Knows::kUnknown:
      return "unknown"sv;
    case Knows::kYes:
      return "yes"sv;
    case Knows::kNo:
      return "no"sv;
  }
  return "unknown"sv;
}

Knows UnacceptedSupport::accepts_on_tdx() const {
  return accepts_given(accepts, tdx_accept.has_value());
}

Knows UnacceptedSupport::accepts_on_snp() const {
  return accepts_given(accepts, sev_snp.has_value());
}

UnacceptedSupport find_unaccepted_support(std::span<const std::byte> image) {
  Search search;
  const auto header = BzImage::parse(image);
  if (header) {
    const auto offset_of = [&](const std::byte* at) {
      return static_cast<std::size_t>(at - image.data());
    };
    const auto code = header->protected_mode();
    const auto payload = header->payload();
    const std::size_t end = offset_of(code.data()) + code.size();
    const std::size_t skip = payload.empty() ? end : offset_of(payload.data());
    search.look(image, 0, skip);
    search.look(image, skip + payload.size(), end);
  } else {
    search.look(image, 0, image.size());
  }
  UnacceptedSupport support{.table_reader = search.first(kTableReader),
                            .acceptor = search.first(kAcceptor),
                            .table_guid = search.guid(kTableGuidLow),
                            .handshake_text = search.first(kHandshakeText),
                            .handshake_guid = search.guid(kHandshakeGuidLow),
                            .tdx_accept = search.first(kTdxAccept),
                            .table_builder = search.first(kTableBuilder),
                            .sev_snp = search.first(kSevSnp)};
  decide(support, search, header);
  return support;
}

}  // namespace accede::image
