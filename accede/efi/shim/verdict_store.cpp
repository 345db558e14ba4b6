#include "accede/efi/shim/verdict_store.hpp"

#include "accede/base/assert.hpp"
#include "accede/base/byte_reader.hpp"

#include <algorithm>

namespace accede::efi::shim {

using namespace std::string_view_literals;
namespace {

using abi::efi::Status;
using image::Knows;

constexpr std::uint32_t kMagic = 0x5648'5341;  // "ASHV"
/// Of the format and of what is looked for in a kernel: a shim that looks for something else must
/// not believe what this one found.
constexpr std::uint16_t kVersion = 1;
constexpr std::uint32_t kAttributes =
    abi::efi::kVariableNonVolatile | abi::efi::kVariableBootServices;

struct Header {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t count;
};
static_assert(sizeof(Header) == VerdictStore::kHeaderBytes);

/// The facts in the order in which they are stored, a byte each.
template <class Facts>
auto fields(Facts& facts) {
  return std::array{&facts.accepts_on_tdx, &facts.accepts_on_snp, &facts.knows_tdx,
                    &facts.knows_snp};
}

std::optional<KernelFacts> parse_facts(std::span<const std::byte> bytes) {
  KernelFacts facts;
  std::size_t i = 0;
  for (Knows* const field : fields(facts)) {
    const auto value = std::to_integer<std::uint8_t>(bytes[i++]);
    if (value > static_cast<std::uint8_t>(Knows::kNo)) {
      return std::nullopt;
    }
    *field = static_cast<Knows>(value);
  }
  return facts;
}

}  // namespace

VerdictStore VerdictStore::parse(std::span<const std::byte> bytes) {
  const auto header = ByteReader{bytes}.read_struct<Header>(0);
  if (!header || header->magic != kMagic || header->version != kVersion || header->count > kMost ||
      bytes.size() != kHeaderBytes + header->count * kEntryBytes) {
    return {};
  }
  VerdictStore store;
  for (; store.count_ < header->count; ++store.count_) {
    const auto entry = bytes.subspan(kHeaderBytes + store.count_ * kEntryBytes, kEntryBytes);
    const auto facts = parse_facts(entry.last(4));
    if (!facts) {
      return {};
    }
    Entry& target = store.entries_[store.count_];
    std::ranges::transform(entry.first(sizeof(Digest)), target.kernel.begin(),
                           [](std::byte b) { return std::to_integer<std::uint8_t>(b); });
    target.facts = *facts;
  }
  return store;
}

std::optional<KernelFacts> VerdictStore::find(const Digest& kernel) const {
  const auto known = std::span{entries_}.first(count_);
  const auto found = std::ranges::find(known, kernel, &Entry::kernel);
  return found == known.end() ? std::nullopt : std::optional{found->facts};
}

void VerdictStore::add(const Digest& kernel, const KernelFacts& facts) {
  ACCEDE_ASSERT(!find(kernel).has_value());
  if (count_ == kMost) {
    std::copy(entries_.begin() + 1, entries_.end(), entries_.begin());
    --count_;
  }
  entries_[count_++] = {.kernel = kernel, .facts = facts};
}

std::span<const std::byte> VerdictStore::serialize(std::span<std::byte, kMostBytes> storage) const {
  const Header header{
      .magic = kMagic, .version = kVersion, .count = static_cast<std::uint16_t>(count_)};
  auto at = std::ranges::copy(std::as_bytes(std::span{&header, 1}), storage.begin()).out;
  for (const Entry& entry : std::span{entries_}.first(count_)) {
    at = std::ranges::copy(std::as_bytes(std::span{entry.kernel}), at).out;
    for (const Knows* const field : fields(entry.facts)) {
      *at++ = static_cast<std::byte>(*field);
    }
  }
  return storage.first(static_cast<std::size_t>(at - storage.begin()));
}

VerdictStore read_verdicts(const Firmware& firmware) {
  std::array<std::byte, VerdictStore::kMostBytes> storage;
  std::uint64_t bytes = storage.size();
  std::uint32_t attributes = 0;
  const Status status = firmware.system().runtime_services->get_variable(
      kVerdictName.data(), &kVerdictVendor, &attributes, &bytes, storage.data());
  if (is_error(status) || attributes != kAttributes || bytes > storage.size()) {
    return {};
  }
  return VerdictStore::parse(std::span{storage}.first(bytes));
}

Result<void> write_verdicts(const Firmware& firmware, const VerdictStore& store) {
  std::array<std::byte, VerdictStore::kMostBytes> storage;
  const auto bytes = store.serialize(storage);
  const auto set = firmware.system().runtime_services->set_variable;
  Status status =
      set(kVerdictName.data(), &kVerdictVendor, kAttributes, bytes.size(), bytes.data());
  if (status == Status::kInvalidParameter) {
    // A variable with other attributes is in the way: somebody else's.
    set(kVerdictName.data(), &kVerdictVendor, 0, 0, nullptr);
    status = set(kVerdictName.data(), &kVerdictVendor, kAttributes, bytes.size(), bytes.data());
  }
  if (is_error(status)) {
    return std::unexpected{Failure{"the firmware does not keep it"sv, status}};
  }
  return {};
}

}  // namespace accede::efi::shim
