#include "accede/cli/boot_options.hpp"
#include "accede/cli/option_combinations.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace accede::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct BadCase {
  const char* what;
  std::function<void(RawBootOptions&)> set;
  const char* says;
};

class BootOptionsBad : public ::testing::TestWithParam<BadCase> {};

TEST_P(BootOptionsBad, IsOneLineThatNamesTheOption) {
  RawBootOptions raw;
  GetParam().set(raw);
  const auto options = check_boot_options(raw);
  ASSERT_FALSE(options);
  EXPECT_EQ(options.error().exit_code, kExitUsage);
  EXPECT_THAT(options.error().message, HasSubstr(GetParam().says));
  EXPECT_EQ(options.error().message.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(
    Values, BootOptionsBad,
    ::testing::Values(
        BadCase{"Platform", [](auto& raw) { raw.platform = "sgx"; },
                "--platform 'sgx': expected tdx, snp, none"},
        BadCase{"MemoryText", [](auto& raw) { raw.memory = "much"; }, "--memory 'much'"},
        BadCase{"MemoryEmpty", [](auto& raw) { raw.memory = ""; }, "--memory ''"},
        BadCase{"MemorySmall", [](auto& raw) { raw.memory = "1023M"; }, "less than 1G"},
        BadCase{"MemoryLarge", [](auto& raw) { raw.memory = "501G"; }, "at most 500G"},
        BadCase{"MemoryHuge", [](auto& raw) { raw.memory = "16000000T"; }, "at most 500G"},
        BadCase{"MemoryOdd", [](auto& raw) { raw.memory = "2000000001"; }, "multiple of 1M"},
        BadCase{"Accept", [](auto& raw) { raw.accept = "lazy,never"; }, "--accept 'never'"},
        BadCase{"AcceptEmptyPart", [](auto& raw) { raw.accept = "lazy,"; }, "--accept ''"},
        BadCase{"Firmware", [](auto& raw) { raw.firmware = "some"; }, "--firmware 'some'"},
        BadCase{"Backing", [](auto& raw) { raw.backing = "1g"; }, "--backing '1g'"},
        BadCase{"Loader", [](auto& raw) { raw.loader = "grub"; }, "--loader 'grub'"},
        BadCase{"Accel", [](auto& raw) { raw.accel = "hvf"; }, "--accel 'hvf'"},
        BadCase{"Kernels", [](auto& raw) { raw.kernel = "a,,b"; }, "--kernel"},
        BadCase{"Cost", [](auto& raw) { raw.accept_cost = "fast"; }, "--accept-cost 'fast'"},
        BadCase{"CostZero", [](auto& raw) { raw.accept_cost = "0us"; }, "--accept-cost"},
        BadCase{"CostLong", [](auto& raw) { raw.accept_cost = "11s"; }, "--accept-cost"},
        BadCase{"Timeout", [](auto& raw) { raw.timeout = "soon"; }, "--timeout 'soon'"},
        BadCase{"TimeoutZero", [](auto& raw) { raw.timeout = "0"; }, "--timeout '0'"},
        BadCase{"Vcpus", [](auto& raw) { raw.vcpus = "many"; }, "--vcpus 'many'"},
        BadCase{"VcpusZero", [](auto& raw) { raw.vcpus = "0"; }, "--vcpus '0'"},
        BadCase{"UnacceptedTouch", [](auto& raw) { raw.unaccepted_touch = "on"; },
                "--unaccepted-touch 'on': expected stop, exception"},
        BadCase{"Touch", [](auto& raw) { raw.touch = "some"; }, "--touch 'some'"},
        BadCase{"Work",
                [](auto& raw) {
                  raw.work = "sleep";
                  raw.touch = "all";
                },
                "--work 'sleep': expected touch, random, fill"},
        BadCase{"MapHolesText", [](auto& raw) { raw.map_holes = "-1"; }, "--map-holes '-1'"},
        BadCase{"MapLieWord", [](auto& raw) { raw.map_lie = "white"; }, "--map-lie 'white'"},
        BadCase{"MapLieAcceptAll",
                [](auto& raw) {
                  raw.map_lie = "wrap";
                  raw.firmware = "accept-all";
                },
                "accept-all leaves none"},
        BadCase{"MapLieForceAccept",
                [](auto& raw) {
                  raw.map_lie = "wrap";
                  raw.force_accept = true;
                },
                "--force-accept leaves none"},
        BadCase{"HideNoHandshake", [](auto& raw) { raw.hide_handshake = true; },
                "--hide-handshake: this firmware has none to hide"},
        BadCase{"HideNoHandshakeOnSnp",
                [](auto& raw) {
                  raw.platform = "snp";
                  raw.firmware = "never";
                  raw.hide_handshake = true;
                },
                "--hide-handshake: this firmware has none to hide"},
        BadCase{"HideHandshakeNone",
                [](auto& raw) {
                  raw.platform = "none";
                  raw.hide_handshake = true;
                },
                "--hide-handshake: --platform none"},
        BadCase{"ForceAcceptNone",
                [](auto& raw) {
                  raw.platform = "none";
                  raw.force_accept = true;
                },
                "--force-accept: --platform none"},
        BadCase{"MapLieNone",
                [](auto& raw) {
                  raw.map_lie = "wrap";
                  raw.platform = "none";
                },
                "--map-lie"},
        BadCase{"FirmwareAccept", [](auto& raw) { raw.firmware_accept = "some"; },
                "--firmware-accept 'some': expected all, below-4g, or min:SIZE"},
        BadCase{"FirmwareAcceptEmpty", [](auto& raw) { raw.firmware_accept = ""; },
                "--firmware-accept ''"},
        BadCase{"FirmwareAcceptSize", [](auto& raw) { raw.firmware_accept = "min:much"; },
                "--firmware-accept 'min:much'"},
        BadCase{"FirmwareAcceptNoSize", [](auto& raw) { raw.firmware_accept = "min:"; },
                "--firmware-accept 'min:'"},
        BadCase{"FirmwareAcceptNothing", [](auto& raw) { raw.firmware_accept = "min:0"; },
                "--firmware-accept 'min:0'"},
        BadCase{"FirmwareAcceptMore", [](auto& raw) { raw.firmware_accept = "min:5G"; },
                "--firmware-accept min:5G: more than the VM's memory"},
        BadCase{"FirmwareAcceptsAllAndLess",
                [](auto& raw) {
                  raw.firmware = "accept-all";
                  raw.firmware_accept = "min:512M";
                },
                "--firmware-accept min:512M: --firmware accept-all accepts everything"},
        BadCase{"FirmwareAcceptsAllAndBelow4G",
                [](auto& raw) {
                  raw.firmware = "accept-all";
                  raw.firmware_accept = "below-4g";
                },
                "--firmware-accept below-4g: --firmware accept-all"},
        BadCase{"FirmwareAcceptNone",
                [](auto& raw) {
                  raw.platform = "none";
                  raw.firmware_accept = "min:512M";
                },
                "--firmware-accept: --platform none"},
        BadCase{"MapLieFirmwareAccept",
                [](auto& raw) {
                  raw.map_lie = "wrap";
                  raw.firmware_accept = "all";
                },
                "--firmware-accept all leaves none"},
        BadCase{"MapHolesMany", [](auto& raw) { raw.map_holes = "1001"; }, "0 to 1000"},
        BadCase{"TouchMore", [](auto& raw) { raw.touch = "5G"; }, "more than the VM"},
        BadCase{"AppendLines", [](auto& raw) { raw.append = "a\nkernel=x"; }, "control characters"},
        BadCase{"AppendLong", [](auto& raw) { raw.append = std::string(1501, 'a'); }, "--append"}),
    [](const auto& test) { return std::string{test.param.what}; });

INSTANTIATE_TEST_SUITE_P(
    NotYet, BootOptionsBad,
    ::testing::Values(BadCase{"Vcpus", [](auto& raw) { raw.vcpus = "4"; }, "not yet"},
                      BadCase{"Strict", [](auto& raw) { raw.strict = ""; }, "--strict: not yet"},
                      BadCase{"Kvm", [](auto& raw) { raw.accel = "kvm"; }, "--accel kvm: not yet"},
                      BadCase{"Report", [](auto& raw) { raw.report = "a.html"; },
                              "--report: not yet"}),
    [](const auto& test) { return std::string{test.param.what}; });

INSTANTIATE_TEST_SUITE_P(Contradictions, BootOptionsBad,
                         ::testing::Values(BadCase{"EventsBothWays",
                                                   [](auto& raw) {
                                                     raw.events = "e.bin";
                                                     raw.no_events = true;
                                                   },
                                                   "exclude each other"},
                                           BadCase{"HolesInUnacceptedMemory",
                                                   [](auto& raw) {
                                                     raw.map_holes = "3";
                                                     raw.firmware_accept = "min:512M";
                                                   },
                                                   "--map-holes: the holes"},
                                           BadCase{"ShimAndLoader",
                                                   [](auto& raw) {
                                                     raw.shim = true;
                                                     raw.loader = "accede";
                                                   },
                                                   "--shim: what accede's loader starts"},
                                           BadCase{"TouchInForeignInit",
                                                   [](auto& raw) {
                                                     raw.initrd = "i.cpio";
                                                     raw.touch = "all";
                                                   },
                                                   "--initrd replaces it"},
                                           BadCase{"EagerWithoutEmulator",
                                                   [](auto& raw) {
                                                     raw.platform = "none";
                                                     raw.accept = "lazy,eager";
                                                   },
                                                   "--accept: --platform none"},
                                           BadCase{"FirmwareWithoutEmulator",
                                                   [](auto& raw) {
                                                     raw.platform = "none";
                                                     raw.firmware = "accept-all";
                                                   },
                                                   "--firmware: --platform none"},
                                           BadCase{"CostWithoutEmulator",
                                                   [](auto& raw) {
                                                     raw.platform = "none";
                                                     raw.accept_cost = "1ms";
                                                   },
                                                   "--accept-cost: --platform none"},
                                           BadCase{"EventsWithoutEmulator",
                                                   [](auto& raw) {
                                                     raw.platform = "none";
                                                     raw.events = "e.bin";
                                                   },
                                                   "--events: --platform none"},
                                           BadCase{"UnacceptedTouchWithoutEmulator",
                                                   [](auto& raw) {
                                                     raw.platform = "none";
                                                     raw.unaccepted_touch = "stop";
                                                   },
                                                   "--unaccepted-touch: --platform none"}),
                         [](const auto& test) { return std::string{test.param.what}; });

INSTANTIATE_TEST_SUITE_P(
    KernelsThatCannot, BootOptionsBad,
    ::testing::Values(BadCase{"BackgroundLinux", [](auto& raw) { raw.accept = "background"; },
                              "Linux has no background acceptance"},
                      BadCase{"BackgroundInAList",
                              [](auto& raw) {
                                raw.kernel = "guest,linux";
                                raw.accept = "lazy,background";
                              },
                              "Linux has no background acceptance"},
                      BadCase{"LoaderForGuest",
                              [](auto& raw) {
                                raw.kernel = "linux,guest";
                                raw.loader = "accede";
                              },
                              "--loader accede: starts a Linux"},
                      BadCase{"WorkWithoutTouch",
                              [](auto& raw) {
                                raw.kernel = "guest";
                                raw.work = "fill";
                              },
                              "give both"},
                      BadCase{"RandomWorkOfLinux",
                              [](auto& raw) {
                                raw.kernel = "guest,linux";
                                raw.touch = "1G";
                                raw.work = "random";
                              },
                              "--work random: accede's own kernel"},
                      BadCase{"InitrdForGuest",
                              [](auto& raw) {
                                raw.kernel = "guest";
                                raw.initrd = "i.cpio";
                              },
                              "--initrd: accede's own kernel (guest) takes none"},
                      BadCase{"KexecInForeignInit",
                              [](auto& raw) {
                                raw.initrd = "i.cpio";
                                raw.kexec = true;
                              },
                              "--kexec is done by the built-in init"}),
    [](const auto& test) { return std::string{test.param.what}; });

TEST(BootOptions, DefaultsAreTheContracts) {
  const auto options = check_boot_options({});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->platform, Platform::kTdx);
  EXPECT_EQ(options->memory, Bytes{4ULL << 30});
  EXPECT_THAT(options->modes, ElementsAre(AcceptMode::kLazy));
  EXPECT_EQ(options->firmware, FirmwareKind::kNever);
  EXPECT_FALSE(options->hide_handshake || options->force_accept);
  EXPECT_EQ(options->backing, "2m");
  EXPECT_THAT(options->kernels, ElementsAre("linux"));
  EXPECT_FALSE(options->initrd || options->accept_cost || options->touch || options->events_file);
  EXPECT_TRUE(options->events);
  EXPECT_EQ(options->unaccepted_touch, UnacceptedTouch::kStop);
  EXPECT_FALSE(options->json);
  EXPECT_EQ(options->timeout, std::chrono::seconds{128});
}

TEST(BootOptions, TakesEveryOptionOfThisVersion) {
  RawBootOptions raw;
  raw.platform = "tdx";
  raw.memory = "64G";
  raw.accept = "lazy,eager";
  raw.firmware = "accept-all";
  raw.backing = "4k";
  raw.kernel = "debian-6.1,./bzImage";
  raw.append = "nokaslr";
  raw.loader = "stub";
  raw.accept_cost = "1.4ms";
  raw.vcpus = "1";
  raw.accel = "tcg";
  raw.timeout = "7";
  raw.console = "-";
  raw.touch = "1G";
  raw.unaccepted_touch = "exception";
  raw.no_events = true;
  raw.json = true;
  const auto options = check_boot_options(raw);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_THAT(options->modes, ElementsAre(AcceptMode::kLazy, AcceptMode::kEager));
  EXPECT_EQ(options->firmware, FirmwareKind::kAcceptAll);
  EXPECT_EQ(options->backing, "4k");
  EXPECT_THAT(options->kernels, ElementsAre("debian-6.1", "./bzImage"));
  EXPECT_EQ(options->append, "nokaslr");
  EXPECT_EQ(options->accept_cost, std::chrono::microseconds{1400});
  EXPECT_EQ(options->timeout, std::chrono::seconds{7});
  EXPECT_EQ(options->console_file, "-");
  EXPECT_EQ(options->touch, "1073741824");
  EXPECT_EQ(options->unaccepted_touch, UnacceptedTouch::kException);
  EXPECT_FALSE(options->events);
  EXPECT_TRUE(options->json);
}

TEST(BootOptions, EveryFirmwareKindIsThereOnBothPlatforms) {
  for (const char* const platform : {"tdx", "snp"}) {
    for (const FirmwareKind kind :
         {FirmwareKind::kNever, FirmwareKind::kAcceptAll, FirmwareKind::kHandshake}) {
      RawBootOptions raw;
      raw.platform = platform;
      raw.firmware = std::string{name(kind)};
      const auto options = check_boot_options(raw);
      ASSERT_TRUE(options) << options.error().message;
      EXPECT_EQ(options->firmware, kind);
    }
  }
}

TEST(BootOptions, TheHandshakeCanBeHiddenAndAcceptanceForced) {
  RawBootOptions raw;
  raw.firmware = "handshake";
  raw.hide_handshake = true;
  auto options = check_boot_options(raw);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_TRUE(options->hide_handshake);
  raw = {};
  raw.platform = "snp";
  raw.hide_handshake = true;
  raw.force_accept = true;
  options = check_boot_options(raw);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_TRUE(options->hide_handshake && options->force_accept);
}

TEST(BootOptions, AnSnpGuestTakesWhatATdTakes) {
  RawBootOptions raw;
  raw.platform = "snp";
  auto options = check_boot_options(raw);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->platform, Platform::kSnp);
  EXPECT_EQ(options->firmware, FirmwareKind::kHandshake) << "as shipped OVMF";
  raw.accept = "lazy,eager";
  raw.firmware = "accept-all";
  raw.backing = "4k";
  raw.loader = "accede";
  raw.kexec = true;
  raw.unaccepted_touch = "exception";
  options = check_boot_options(raw);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->firmware, FirmwareKind::kAcceptAll);
  raw = {};
  raw.platform = "snp";
  raw.kernel = "guest";
  raw.accept = "background";
  EXPECT_TRUE(check_boot_options(raw));
}

TEST(BootOptions, TakesTheLimitsOfMemory) {
  for (const char* const size : {"1G", "500G"}) {
    RawBootOptions raw;
    raw.memory = size;
    EXPECT_TRUE(check_boot_options(raw)) << size;
  }
}

TEST(BootOptions, LazyWithoutEmulatorIsNoContradiction) {
  RawBootOptions raw;
  raw.platform = "none";
  raw.accept = "lazy";
  EXPECT_TRUE(check_boot_options(raw));
}

TEST(BootOptions, OurOwnKernelTakesEveryModeAndWork) {
  RawBootOptions raw;
  raw.kernel = "guest";
  raw.accept = "lazy,eager,background";
  raw.touch = "all";
  raw.work = "random";
  raw.kexec = true;
  raw.steps = true;
  raw.map_holes = "1000";
  const auto options = check_boot_options(raw);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_THAT(options->modes,
              ElementsAre(AcceptMode::kLazy, AcceptMode::kEager, AcceptMode::kBackground));
  EXPECT_EQ(options->work, "random");
  EXPECT_TRUE(options->kexec && options->steps);
  EXPECT_EQ(options->map_holes, 1000U);
}

TEST(BootOptions, GuestAndLinuxDoTheSameWork) {
  RawBootOptions raw;
  raw.kernel = "guest,linux";
  raw.touch = "1G";
  raw.work = "touch";
  EXPECT_TRUE(check_boot_options(raw));
}

TEST(BootOptions, LinuxStartsFromOurLoader) {
  RawBootOptions raw;
  raw.kernel = "linux,debian-6.1";
  raw.loader = "accede";
  const auto options = check_boot_options(raw);
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->loader, LoaderKind::kAccede);
}

TEST(BootOptions, TwoKernelsHaveTwiceTheTime) {
  RawBootOptions raw;
  raw.kexec = true;
  EXPECT_EQ(check_boot_options(raw)->timeout, std::chrono::seconds{256});
  raw.timeout = "7";
  EXPECT_EQ(check_boot_options(raw)->timeout, std::chrono::seconds{7});
}

TEST(BootOptions, WordsAreTheContracts) {
  EXPECT_EQ(name(Platform::kTdx), "tdx");
  EXPECT_EQ(name(Platform::kSnp), "snp");
  EXPECT_EQ(name(Platform::kNone), "none");
  EXPECT_EQ(name(UnacceptedTouch::kStop), "stop");
  EXPECT_EQ(name(UnacceptedTouch::kException), "exception");
  EXPECT_EQ(name(AcceptMode::kLazy), "lazy");
  EXPECT_EQ(name(AcceptMode::kEager), "eager");
  EXPECT_EQ(name(AcceptMode::kBackground), "background");
  EXPECT_EQ(name(LoaderKind::kStub), "stub");
  EXPECT_EQ(name(LoaderKind::kAccede), "accede");
}

TEST(BootOptions, TheFirmwareAcceptsWhatIsBelow4GUnlessItIsTold) {
  using enum firmware::AcceptanceScope;
  const auto accept = [](const RawBootOptions& raw) {
    const auto options = check_boot_options(raw);
    EXPECT_TRUE(options);
    return options ? options->firmware_accept : FirmwareAccept{};
  };
  RawBootOptions raw;
  EXPECT_EQ(accept(raw).scope, kBelow4G);
  raw.firmware = "accept-all";
  EXPECT_EQ(accept(raw).scope, kEverything) << "the kind implies the plan";
  raw.firmware_accept = "all";
  EXPECT_EQ(accept(raw).scope, kEverything);
  for (const char* const kind : {"never", "handshake"}) {
    raw.firmware = kind;
    raw.firmware_accept = "all";
    EXPECT_EQ(accept(raw).scope, kEverything) << kind;
    raw.firmware_accept = "min:512M";
    EXPECT_EQ(accept(raw), (FirmwareAccept{.scope = kAtLeast, .at_least = Bytes{512U << 20}}));
  }
  raw.force_accept = true;
  EXPECT_EQ(accept(raw).scope, kAtLeast) << "the host's wish is not the firmware's plan";
}

TEST(BootOptions, ThePlansOfFirmwareHaveTheWordsOfTheConfiguration) {
  using enum firmware::AcceptanceScope;
  EXPECT_EQ(name(FirmwareAccept{.scope = kEverything, .at_least = {}}), "all");
  EXPECT_EQ(name(FirmwareAccept{}), "below-4g");
  EXPECT_EQ(name(FirmwareAccept{.scope = kAtLeast, .at_least = Bytes{1U << 20}}), "min:1048576");
}

TEST(KindFits, OnlyABzImageStartsFromOurLoader) {
  BootOptions options;
  EXPECT_TRUE(check_kind_fits(options, KernelKind::kEfiProgram, "a.efi"));
  options.loader = LoaderKind::kAccede;
  EXPECT_TRUE(check_kind_fits(options, KernelKind::kLinux, "linux"));
  for (const KernelKind kind : {KernelKind::kEfiProgram, KernelKind::kUnified}) {
    const auto fits = check_kind_fits(options, kind, "a.efi");
    ASSERT_FALSE(fits);
    EXPECT_EQ(fits.error().exit_code, kExitUsage);
    EXPECT_THAT(fits.error().message, HasSubstr("needs a Linux bzImage; a.efi is a"));
  }
}

TEST(KindFits, OnlyLinuxAndOurKernelStartThemselvesAgain) {
  BootOptions options;
  options.kexec = true;
  EXPECT_TRUE(check_kind_fits(options, KernelKind::kLinux, "linux"));
  EXPECT_TRUE(check_kind_fits(options, KernelKind::kGuest, "guest"));
  const auto fits = check_kind_fits(options, KernelKind::kEfiProgram, "a.efi");
  ASSERT_FALSE(fits);
  EXPECT_THAT(fits.error().message, HasSubstr("a.efi is an EFI program"));
}

TEST(BootOptions, ListsKeepEmptyParts) {
  EXPECT_THAT(split_list("a,b"), ElementsAre("a", "b"));
  EXPECT_THAT(split_list("a,,b,"), ElementsAre("a", "", "b", ""));
  EXPECT_THAT(split_list(""), ElementsAre(""));
}

}  // namespace
}  // namespace accede::cli
