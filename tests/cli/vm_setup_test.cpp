// What a VM is started with: files, configuration, QEMU's command line.
#include "accede/cli/file_text.hpp"
#include "accede/cli/host_tools.hpp"
#include "accede/cli/qemu_command.hpp"
#include "accede/cli/vm_files.hpp"
#include "accede/emulator/report_layout.hpp"
#include "tests/cli/made_up_kernel.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace accede::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

BootOptions options(const RawBootOptions& raw = {}) {
  return check_boot_options(raw).value();
}

RunPlan linux_plan(AcceptMode mode = AcceptMode::kLazy) {
  return {.mode = mode,
          .kernel = "/boot/vmlinuz",
          .image = {.kind = KernelKind::kLinux, .version = "6.12"},
          .initrd = "/init.cpio"};
}

TEST(KernelCommandLine, PutsTheUsersTextLast) {
  RawBootOptions raw;
  raw.append = "nokaslr x=y";
  raw.touch = "1M";
  EXPECT_THAT(kernel_command_line(options(raw), linux_plan(AcceptMode::kEager)),
              AllOf(StartsWith("console=ttyS0 panic=-1 "),
                    testing::EndsWith(" accept_memory=eager accede.touch=1048576 nokaslr x=y")));
}

TEST(KernelCommandLine, IsTheSameOnEveryPlatform) {
  RawBootOptions raw;
  const std::string td = kernel_command_line(options(raw), linux_plan());
  raw.platform = "snp";
  EXPECT_EQ(kernel_command_line(options(raw), linux_plan()), td);
}

TEST(KernelCommandLine, OnlyEagerSaysSo) {
  EXPECT_THAT(kernel_command_line(options(), linux_plan()), Not(HasSubstr("accept_memory")));
}

TEST(KernelCommandLine, AnEfiProgramGetsOnlyTheUsersText) {
  RawBootOptions raw;
  raw.append = "run";
  RunPlan plan = linux_plan();
  plan.image.kind = KernelKind::kEfiProgram;
  EXPECT_EQ(kernel_command_line(options(raw), plan), "run");
}

RunPlan guest_plan(AcceptMode mode = AcceptMode::kLazy) {
  return {.mode = mode,
          .kernel = "/lib/accede-guest.efi",
          .image = {.kind = KernelKind::kGuest, .version = "accede-guest"},
          .initrd = "/init.cpio"};
}

TEST(KernelCommandLine, OurKernelGetsItsOwnWords) {
  RawBootOptions raw;
  raw.kernel = "guest";
  EXPECT_EQ(kernel_command_line(options(raw), guest_plan()), "accede.policy=lazy");
  raw.append = "x=y";
  raw.touch = "all";
  raw.work = "fill";
  raw.kexec = true;
  EXPECT_EQ(kernel_command_line(options(raw), guest_plan(AcceptMode::kBackground)),
            "accede.policy=background accede.touch=all accede.work=fill accede.kexec=1 x=y");
}

TEST(KernelCommandLine, LinuxIsToldToStartItselfAgain) {
  RawBootOptions raw;
  raw.kexec = true;
  raw.touch = "1M";
  raw.work = "touch";
  raw.append = "nokaslr";
  EXPECT_THAT(kernel_command_line(options(raw), linux_plan()),
              AllOf(StartsWith("console=ttyS0 "),
                    testing::EndsWith(" accede.touch=1048576 accede.kexec=1 nokaslr")));
}

TEST(Label, RepeatsWhatTheReportNeeds) {
  RawBootOptions raw;
  raw.loader = "accede";
  raw.kexec = true;
  RunLabel label = label_of(options(raw), linux_plan(AcceptMode::kEager));
  EXPECT_EQ(label.kernel, "6.12");
  EXPECT_EQ(label.kernel_kind, KernelKind::kLinux);
  EXPECT_EQ(label.loader, LoaderKind::kAccede);
  EXPECT_TRUE(label.kexec);
  EXPECT_EQ(label.policy, "eager");
  label = label_of(options(), guest_plan());
  EXPECT_EQ(label.kernel, "accede-guest");
  EXPECT_EQ(label.kernel_kind, KernelKind::kGuest);
}

TEST(LauncherConfig, NamesOurLoaderAndTheHoles) {
  RawBootOptions raw;
  raw.loader = "accede";
  raw.map_holes = "200";
  EXPECT_THAT(launcher_config(options(raw), linux_plan()),
              HasSubstr("\nmap-holes=200\nloader=\\accede\\loader.efi\n"
                        "kernel=\\accede\\kernel.efi\ninitrd=\\accede\\initrd\nappend="));
}

TEST(LauncherConfig, LeavesOutWhatIsNotThere) {
  const std::string text = launcher_config(options(), linux_plan());
  EXPECT_THAT(text, Not(HasSubstr("map-holes")));
  EXPECT_THAT(text, Not(HasSubstr("loader=")));
  EXPECT_THAT(launcher_config(options(), guest_plan()),
              AllOf(Not(HasSubstr("initrd")), HasSubstr("\nappend=accede.policy=lazy\n")));
}

TEST(LauncherConfig, SaysEverythingOfTheContract) {
  RawBootOptions raw;
  raw.firmware = "accept-all";
  raw.backing = "4k";
  raw.accept_cost = "1400us";
  raw.unaccepted_touch = "exception";
  raw.no_events = true;
  const std::string text = launcher_config(options(raw), linux_plan());
  EXPECT_THAT(
      text,
      StartsWith("platform=tdx\nfirmware=accept-all\nfirmware-accept=all\n"
                 "backing=4k\naccept-cost-ns=1400000\nevents=off\nunaccepted-touch=exception\n"
                 "kernel=\\accede\\kernel.efi\ninitrd=\\accede\\initrd\n"
                 "append=console=ttyS0"));
}

TEST(LauncherConfig, HidesTheHandshakeOnlyWhenAskedTo) {
  RawBootOptions raw;
  raw.firmware = "handshake";
  EXPECT_THAT(launcher_config(options(raw), linux_plan()),
              AllOf(HasSubstr("\nfirmware=handshake\n"), Not(HasSubstr("hide-handshake"))));
  raw.hide_handshake = true;
  EXPECT_THAT(launcher_config(options(raw), linux_plan()), HasSubstr("\nhide-handshake=on\n"));
}

TEST(LauncherConfig, SaysHowMuchTheFirmwareAccepts) {
  RawBootOptions raw;
  raw.firmware_accept = "min:512M";
  EXPECT_THAT(launcher_config(options(raw), linux_plan()),
              HasSubstr("\nfirmware-accept=min:536870912\n"));
  EXPECT_EQ(label_of(options(raw), linux_plan()).firmware_accept, options(raw).firmware_accept);
}

TEST(LauncherConfig, DoesNotSayWhatTheHostWants) {
  RawBootOptions raw;
  raw.force_accept = true;
  EXPECT_EQ(launcher_config(options(raw), linux_plan()), launcher_config(options(), linux_plan()));
  EXPECT_TRUE(label_of(options(raw), linux_plan()).force_accept);
}

TEST(QemuCommand, TellsTheFirmwareThatTheHostWantsEverythingAccepted) {
  VmSetup setup{.memory = Bytes{4ULL << 30},
                .firmware = {.code = "/f/OVMF.fd", .variables = std::nullopt},
                .partition = "/tmp",
                .channels = {.console = 5, .report = 6, .control = 7}};
  EXPECT_THAT(qemu_arguments("qemu", setup), Not(Contains("-fw_cfg")));
  setup.force_accept = true;
  EXPECT_THAT(qemu_arguments("qemu", setup),
              AllOf(Contains("-fw_cfg"), Contains("name=opt/org.accede/force-accept,string=1")));
}

TEST(LauncherConfig, NamesThePlatformOfAnSnpGuest) {
  RawBootOptions raw;
  raw.platform = "snp";
  EXPECT_THAT(launcher_config(options(raw), linux_plan()),
              StartsWith("platform=snp\nfirmware=handshake\nfirmware-accept=below-4g\nbacking=2m\n"
                         "accept-cost-ns=0\nevents=on\nunaccepted-touch=stop\n"));
}

TEST(LauncherConfig, WithoutEmulatorThereIsNothingToConfigure) {
  RawBootOptions raw;
  raw.platform = "none";
  EXPECT_THAT(launcher_config(options(raw), linux_plan()), StartsWith("platform=none\nkernel="));
}

TEST(QemuCommand, DescribesTheMachine) {
  const auto arguments =
      qemu_arguments("qemu", {.memory = Bytes{64ULL << 30},
                              .firmware = {.code = "/f/OVMF.fd", .variables = std::nullopt},
                              .partition = "/tmp/a,b \"c\"",
                              .channels = {.console = 5, .report = 6, .control = 7}});
  EXPECT_EQ(arguments.front(), "qemu");
  for (const char* const argument :
       {"-no-reboot", "-no-shutdown", "-nodefaults", "/f/OVMF.fd", "65536M",
        "memory-backend-ram,id=ram,reserve=off,size=65536M", "socket,id=console,fd=5",
        "socket,id=report,fd=6", "socket,id=control,fd=7",
        "isa-debugcon,chardev=report,iobase=0xacc"}) {
    EXPECT_THAT(arguments, Contains(argument));
  }
  const auto disk = std::ranges::find(arguments, "-blockdev");
  ASSERT_NE(disk, arguments.end());
  EXPECT_EQ(nlohmann::json::parse(*(disk + 1))["file"]["dir"], "/tmp/a,b \"c\"");
}

/// The value of the option -drive for a disk of the user's.
std::string drive(const VmDisk& disk) {
  const auto arguments =
      qemu_arguments("qemu", {.memory = Bytes{4ULL << 30},
                              .firmware = {.code = "/f/OVMF.fd", .variables = std::nullopt},
                              .partition = "/tmp/esp",
                              .channels = {},
                              .disk = disk});
  EXPECT_THAT(arguments, Contains(HasSubstr("iommu_platform=on")));
  const auto option = std::ranges::find(arguments, "-drive");
  return option == arguments.end() ? "" : *(option + 1);
}

TEST(QemuCommand, ADiskOfTheUsersIsNeverWritten) {
  for (const auto format : {inspect::DiskFormat::kRaw, inspect::DiskFormat::kQcow2}) {
    EXPECT_THAT(drive({.file = "/d/disk", .format = format}), HasSubstr(",snapshot=on,"));
  }
}

TEST(QemuCommand, ADiskIsWhatItWasRecognisedAsAndNothingElseIsOpened) {
  EXPECT_THAT(drive({.file = "/d/disk", .format = inspect::DiskFormat::kRaw}),
              testing::EndsWith(R"(,file=json:{"driver":"raw",,"file":{"driver":"file",,)"
                                R"("filename":"/d/disk"}})"));
  EXPECT_THAT(drive({.file = "/d/disk", .format = inspect::DiskFormat::kQcow2}),
              HasSubstr(R"("backing":null)"));
}

TEST(LauncherConfig, ADiskIsStartedFromItsOwnVolume) {
  RunPlan plan = linux_plan();
  plan.own_command_line = true;
  plan.own_initrd = true;
  plan.disk = inspect::DiskFormat::kRaw;
  const std::string config = launcher_config(options(), plan);
  EXPECT_THAT(config, HasSubstr("volume=disk\nkernel=\\EFI\\BOOT\\BOOTX64.EFI\n"));
  EXPECT_THAT(config, Not(HasSubstr("initrd")));
  EXPECT_THAT(config, testing::EndsWith("append=\n"));
}

/// The processor of a VM on `platform`.
std::string processor(Platform platform) {
  const auto arguments =
      qemu_arguments("qemu", {.platform = platform,
                              .memory = Bytes{4ULL << 30},
                              .firmware = {.code = "/f/OVMF.fd", .variables = std::nullopt},
                              .partition = "/tmp/esp",
                              .channels = {}});
  const auto option = std::ranges::find(arguments, "-cpu");
  return option == arguments.end() ? "" : *(option + 1);
}

TEST(QemuCommand, TheVendorIsThePlatforms) {
  EXPECT_THAT(processor(Platform::kTdx), HasSubstr("vendor=GenuineIntel,"));
  EXPECT_THAT(processor(Platform::kSnp), HasSubstr("vendor=AuthenticAMD,"));
}

TEST(QemuCommand, EveryPlatformHasRoomForItsSharedBit) {
  for (const Platform platform : {Platform::kTdx, Platform::kSnp, Platform::kNone}) {
    EXPECT_THAT(processor(platform), HasSubstr("phys-bits=48")) << name(platform);
    EXPECT_THAT(processor(platform), HasSubstr("la57=off")) << name(platform);
  }
}

TEST(QemuCommand, SplitFirmwareIsFlash) {
  const auto arguments =
      qemu_arguments("qemu", {.memory = Bytes{1ULL << 30},
                              .firmware = {.code = "/f/CODE.fd", .variables = "/tmp/x,y/VARS.fd"},
                              .partition = "/tmp/esp",
                              .channels = {}});
  EXPECT_THAT(arguments, Contains("if=pflash,format=raw,unit=0,readonly=on,file=/f/CODE.fd"));
  EXPECT_THAT(arguments, Contains("if=pflash,format=raw,unit=1,file=/tmp/x,,y/VARS.fd"));
  EXPECT_THAT(arguments, Not(Contains("-bios")));
}

class VmFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::make(TempDir::default_parent(), "accede-test-");
    ASSERT_TRUE(made);
    directory_.emplace(std::move(*made));
    put("usr/share/OVMF/OVMF_CODE_4M.fd", "code");
  }
  void put(const std::string& name, std::string_view text) {
    fs::create_directories(path(name).parent_path());
    ASSERT_TRUE(write_text(path(name), text));
  }
  [[nodiscard]] fs::path path(const std::string& name) const { return directory_->path() / name; }

  std::optional<TempDir> directory_;
};

TEST_F(VmFilesTest, FindsSplitFirmwareOnlyWithItsVariables) {
  EXPECT_FALSE(find_firmware(directory_->path()));
  put("usr/share/OVMF/OVMF_VARS_4M.fd", "variables");
  const auto firmware = find_firmware(directory_->path());
  ASSERT_TRUE(firmware);
  EXPECT_EQ(firmware->variables, path("usr/share/OVMF/OVMF_VARS_4M.fd"));
}

TEST_F(VmFilesTest, PrefersACombinedImage) {
  put("usr/share/OVMF/OVMF_VARS_4M.fd", "variables");
  put("usr/share/ovmf/OVMF.fd", "both");
  const auto firmware = find_firmware(directory_->path());
  ASSERT_TRUE(firmware);
  EXPECT_EQ(firmware->code, path("usr/share/ovmf/OVMF.fd"));
  EXPECT_FALSE(firmware->variables);
}

TEST_F(VmFilesTest, FillsAPartitionAndRemovesIt) {
  put("launcher", "L");
  put("init", "I");
  put("kernel", "K");
  put("variables", "V");
  const HostTools tools{
      .qemu = "qemu",
      .firmware = {.code = path("usr/share/OVMF/OVMF_CODE_4M.fd"), .variables = path("variables")},
      .launcher = path("launcher"),
      .init = path("init"),
      .guest = {},
      .loader = {}};
  RunPlan plan = linux_plan();
  plan.kernel = path("kernel");
  plan.initrd = path("init");
  fs::path made;
  {
    const auto files = make_vm_files(options(), plan, tools);
    ASSERT_TRUE(files) << files.error().message;
    made = files->directory.path();
    EXPECT_EQ(fs::status(made).permissions(), fs::perms::owner_all);
    EXPECT_TRUE(fs::exists(files->partition / "EFI" / "BOOT" / "BOOTX64.EFI"));
    EXPECT_TRUE(fs::exists(files->partition / "accede" / "kernel.efi"));
    EXPECT_TRUE(fs::exists(files->partition / "accede" / "initrd"));
    EXPECT_TRUE(fs::exists(files->partition / "accede" / "accede.cfg"));
    EXPECT_NE(files->firmware.variables, path("variables"));
    EXPECT_TRUE(fs::exists(*files->firmware.variables));
  }
  EXPECT_FALSE(fs::exists(made));
  EXPECT_TRUE(fs::exists(path("kernel")));
}

TEST_F(VmFilesTest, AddsOurLoaderWhenItIsWanted) {
  for (const char* const name : {"launcher", "init", "kernel", "loader"}) {
    put(name, name);
  }
  const HostTools tools{.qemu = "qemu",
                        .firmware = {.code = "f", .variables = std::nullopt},
                        .launcher = path("launcher"),
                        .init = path("init"),
                        .guest = {},
                        .loader = path("loader")};
  RunPlan plan = linux_plan();
  plan.kernel = path("kernel");
  plan.initrd = path("init");
  RawBootOptions raw;
  const auto without = make_vm_files(options(raw), plan, tools);
  ASSERT_TRUE(without);
  EXPECT_FALSE(fs::exists(without->partition / "accede" / "loader.efi"));
  raw.loader = "accede";
  const auto files = make_vm_files(options(raw), plan, tools);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(fs::file_size(files->partition / "accede" / "loader.efi"), 6U);
}

TEST_F(VmFilesTest, TheShimIsConfiguredAndThereWhenItIsWanted) {
  for (const char* const name : {"launcher", "init", "kernel", "shim"}) {
    put(name, name);
  }
  const HostTools tools{.qemu = "qemu",
                        .firmware = {.code = "f", .variables = std::nullopt},
                        .launcher = path("launcher"),
                        .init = path("init"),
                        .guest = {},
                        .loader = {},
                        .shim = path("shim")};
  RunPlan plan = linux_plan();
  plan.kernel = path("kernel");
  plan.initrd = path("init");
  RawBootOptions raw;
  EXPECT_THAT(launcher_config(options(raw), plan), Not(HasSubstr("shim=")));
  raw.shim = true;
  EXPECT_THAT(launcher_config(options(raw), plan), HasSubstr("shim=\\accede\\shim.efi\n"));
  const auto files = make_vm_files(options(raw), plan, tools);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(fs::file_size(files->partition / "accede" / "shim.efi"), 4U);
}

TEST_F(VmFilesTest, VariablesThatAreKeptAreMadeOnceAndNotReplaced) {
  for (const char* const name : {"launcher", "init", "kernel", "template"}) {
    put(name, name);
  }
  const HostTools tools{.qemu = "qemu",
                        .firmware = {.code = "f", .variables = path("template")},
                        .launcher = path("launcher"),
                        .init = path("init"),
                        .guest = {},
                        .loader = {}};
  RunPlan plan = linux_plan();
  plan.kernel = path("kernel");
  plan.initrd = path("init");
  RawBootOptions raw;
  raw.variables = path("kept").string();
  ASSERT_TRUE(make_vm_files(options(raw), plan, tools));
  EXPECT_EQ(fs::file_size(path("kept")), 8U);
  put("kept", "12345678");
  const auto files = make_vm_files(options(raw), plan, tools);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->firmware.variables, path("kept"));
  EXPECT_EQ(read_bytes(path("kept"), 100)->front(), std::byte{'1'});
  put("kept", "other firmware's");
  const auto refused = make_vm_files(options(raw), plan, tools);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("has 16 bytes, the variables of this firmware 8"));
}

TEST_F(VmFilesTest, FirmwareThatKeepsVariablesIsSplit) {
  put("usr/share/ovmf/OVMF.fd", "both");
  EXPECT_FALSE(find_firmware(directory_->path(), true));
  put("usr/share/OVMF/OVMF_VARS_4M.fd", "variables");
  const auto firmware = find_firmware(directory_->path(), true);
  ASSERT_TRUE(firmware);
  EXPECT_TRUE(firmware->variables);
}

TEST_F(VmFilesTest, OurKernelGetsNoInitrd) {
  for (const char* const name : {"launcher", "init", "guest"}) {
    put(name, name);
  }
  const HostTools tools{.qemu = "qemu",
                        .firmware = {.code = "f", .variables = std::nullopt},
                        .launcher = path("launcher"),
                        .init = path("init"),
                        .guest = path("guest"),
                        .loader = {}};
  RunPlan plan = guest_plan();
  plan.kernel = path("guest");
  plan.initrd = path("init");
  RawBootOptions raw;
  raw.kernel = "guest";
  raw.kexec = true;
  const auto files = make_vm_files(options(raw), plan, tools);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_TRUE(fs::exists(files->partition / "accede" / "kernel.efi"));
  EXPECT_FALSE(fs::exists(files->partition / "accede" / "initrd"));
}

TEST_F(VmFilesTest, ALinuxThatStartsItselfAgainFindsItsKernelInTheInitrd) {
  put("launcher", "L");
  put("init", "INIT");
  put("kernel", std::string(5000, 'K'));
  const HostTools tools{.qemu = "qemu",
                        .firmware = {.code = "f", .variables = std::nullopt},
                        .launcher = path("launcher"),
                        .init = path("init"),
                        .guest = {},
                        .loader = {}};
  RunPlan plan = linux_plan();
  plan.kernel = path("kernel");
  plan.initrd = path("init");
  RawBootOptions raw;
  raw.kexec = true;
  const auto files = make_vm_files(options(raw), plan, tools);
  ASSERT_TRUE(files) << files.error().message;
  const auto initrd = read_bytes(files->partition / "accede" / "initrd", kMaxBootFile);
  ASSERT_TRUE(initrd);
  EXPECT_GT(initrd->size(), 5000U);
  EXPECT_EQ(fs::file_size(path("init")), 4U);
}

TEST_F(VmFilesTest, LeavesNothingWhenAFileIsMissing) {
  put("launcher", "L");
  const HostTools tools{.qemu = "qemu",
                        .firmware = {.code = "f", .variables = std::nullopt},
                        .launcher = path("launcher"),
                        .init = path("init"),
                        .guest = {},
                        .loader = {}};
  setenv("TMPDIR", directory_->path().c_str(), 1);
  const auto files = make_vm_files(options(), linux_plan(), tools);
  unsetenv("TMPDIR");
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().exit_code, kExitMissing);
  for (const auto& entry : fs::directory_iterator{directory_->path()}) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("accede-"));
  }
}

TEST(HostTools, FindsProgramsInPath) {
  EXPECT_TRUE(find_program("sh"));
  EXPECT_FALSE(find_program("no-such-program-anywhere"));
  EXPECT_FALSE(find_program("/etc/passwd"));
  EXPECT_GT(host_available_bytes().value_or(0), 0U);
}

}  // namespace
}  // namespace accede::cli
