#!/usr/bin/env bash
# The one test command: installs what is missing, builds, runs every test.
set -uo pipefail
cd "$(dirname "$0")" || exit 2

usage() {
  cat <<'TEXT'
usage: ./test.sh [LABEL...]

Installs what is missing, builds and runs every test, or the parts that are named:

  check        rules that the compiler cannot check (scripts/check), and the proof that they can fail
  unit, model  the tests of the libraries; model tests run random actions against a reference
  fuzz         short runs of the fuzz targets under libFuzzer, and their fixed seeds
  bench-smoke  the benchmarks run at all
  boot         real kernels in QEMU
  asan         unit and model tests under AddressSanitizer and UndefinedBehaviorSanitizer
  tsan         concurrency tests under ThreadSanitizer

The last line says `N passed, N failed` and how many were skipped. Exit status: 0 nothing failed,
1 something failed, 2 usage, 3 packages are missing and cannot be installed.
Logs: build/test/. ACCEDE_INSTALL=no forbids installing packages. JOBS=N builds with N jobs.
TEXT
}

all_labels="check unit model fuzz bench-smoke boot asan tsan"
labels=()
for argument in "$@"; do
  case " $all_labels " in
    *" $argument "*) labels+=("$argument") ;;
    *)
      case $argument in
        -h | --help) usage; exit 0 ;;
        *) echo "test.sh: no such label: $argument (labels: $all_labels)" >&2; exit 2 ;;
      esac
      ;;
  esac
done
everything=no
if [ ${#labels[@]} = 0 ]; then
  everything=yes
  read -ra labels <<<"$all_labels"
fi

. scripts/packages.sh
accede_packages build run clang disk

jobs=${JOBS:-2}
fuzz_seconds=${ACCEDE_FUZZ_SECONDS:-6}
logs=build/test
records=$logs/records
rm -rf "$logs"
mkdir -p "$logs"
: >"$records"
exec </dev/null

wanted() {
  local label
  for label in "${labels[@]}"; do
    [ "$label" = "$1" ] && return 0
  done
  return 1
}

say() { printf '== %s\n' "$*"; }
record() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4:-}" >>"$records"; }

# Sanitizers want their shadow memory where it was when they were written: no address space
# randomisation for them, where that may be switched off.
fixed_layout=()
if command -v setarch >/dev/null 2>&1 && setarch "$(uname -m)" -R true 2>/dev/null; then
  fixed_layout=(setarch "$(uname -m)" -R)
fi

# On a terminal: shows the last line of a growing log while a command runs.
heartbeat=
show_progress() {
  [ -t 1 ] || return 0
  while sleep 1; do
    printf '\r\033[K   %s' "$(tail -n 1 "$1" 2>/dev/null | cut -c 1-100)"
  done &
  heartbeat=$!
}
end_progress() {
  [ -n "$heartbeat" ] || return 0
  kill "$heartbeat" 2>/dev/null
  wait "$heartbeat" 2>/dev/null
  heartbeat=
  printf '\r\033[K'
}
trap end_progress EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# step STAGE NAME COMMAND...: runs quietly; shows the end of the output and records a failure.
step() {
  local stage=$1 name=$2 log begin=$SECONDS result
  shift 2
  log=$logs/$stage-$name.log
  show_progress "$log"
  "$@" >"$log" 2>&1
  result=$?
  end_progress
  if [ $result = 0 ]; then
    say "$stage: $name done in $((SECONDS - begin)) s"
    return 0
  fi
  say "$stage: $name FAILED after $((SECONDS - begin)) s, see $log; it ends with:"
  grep -E '(error|FAILED):' "$log" | head -n 10
  tail -n 20 "$log"
  record fail "$stage" "$name" "see $log"
  return 1
}

# Sanitizers look as closely without the optimiser's and debugger's finer points, and the build takes
# half the time. Where there is no clang, g++ does it in twice the time.
sanitizer_options=(-DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1")
if [ -n "$(accede_missing clang)" ]; then
  sanitizer_options+=(-DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++)
fi

# build PRESET [CMAKE-OPTION...] builds what build_targets names.
build_targets=(all)
build() {
  local preset=$1
  shift
  say "$preset: building"
  # Afresh: with another compiler than the last time CMake would forget the preset's options.
  step "$preset" configure cmake --fresh --preset "$preset" "$@" &&
    step "$preset" build "${fixed_layout[@]}" cmake --build --preset "$preset" \
      --parallel "$jobs" --target "${build_targets[@]}"
}

# tests PRESET NAME JOBS CTEST-OPTIONS...: runs tests of a build and records each. Shows every boot
# test as it ends, of the others only failures. Returns 2 when there is no test.
tests() {
  local preset=$1 name=$2 parallel=$3 begin=$SECONDS result
  shift 3
  local stage=$preset-$name command
  command=("${fixed_layout[@]}" ctest --preset "$preset" --parallel "$parallel" --no-tests=ignore
    --output-junit "$PWD/$logs/$stage.xml" "$@")
  [ "$preset" = release ] && command=("${command[@]:${#fixed_layout[@]}}")
  # Under AddressSanitizer a program runs all its tests in one process and writes down each.
  local programs=()
  if [ "$preset" = asan ]; then
    rm -f "build/$preset"/*.gtest.xml
    programs=("build/$preset")
  fi
  say "$preset: $name tests"
  if [ "$name" = boot ]; then
    "${command[@]}" 2>&1 | tee "$logs/$stage.log" | grep -E '^ *[0-9]+/[0-9]+ Test' || true
  else
    show_progress "$logs/$stage.log"
    "${command[@]}" >"$logs/$stage.log" 2>&1
    end_progress
  fi
  python3 scripts/test_records.py junit "$stage" "$logs/$stage.xml" "$records" "${programs[@]}"
  result=$?
  if [ $result = 2 ]; then
    say "$preset: there are no $name tests"
  else
    say "$preset: $name tests done in $((SECONDS - begin)) s"
  fi
  return $result
}

# Like tests; that there is no test at all is a failure too.
required_tests() {
  tests "$@"
  [ $? = 2 ] && record fail "$1-$2" tests "there are none"
  return 0
}

run_check() {
  local log
  say "check: rules"
  log=$logs/check.log
  scripts/check --jobs "$jobs" 2>&1 | tee "$log"
  [ "${PIPESTATUS[0]}" -le 1 ] || record fail check scripts/check "stopped, see $log"
  python3 scripts/test_records.py check check "$log" "$records"
  say "check: proving that each rule can fail"
  log=$logs/check-self-test.log
  scripts/check --jobs "$jobs" --self-test >"$log" 2>&1
  [ $? -le 1 ] || record fail check-self-test scripts/check "stopped, see $log"
  grep -A5 '^FAIL' "$log"
  python3 scripts/test_records.py check check-self-test "$log" "$records"
}

run_release() {
  wanted unit || wanted model || wanted fuzz || wanted bench-smoke || wanted boot || return 0
  build release -DACCEDE_TESTS=ON || return 0
  wanted unit && required_tests release unit "$jobs" -L '^unit$'
  wanted model && required_tests release model "$jobs" -L '^model$'
  wanted fuzz && tests release fuzz "$jobs" -L '^fuzz$'
  wanted bench-smoke && tests release bench-smoke 1 -L '^bench-smoke$'
  # Never more than two VMs at once.
  wanted boot && required_tests release boot $((jobs < 2 ? jobs : 2)) -L '^boot$'
  [ $everything = yes ] &&
    tests release other "$jobs" -LE '^(unit|model|fuzz|bench-smoke|boot)$'
  return 0
}

run_asan() {
  build_targets=(tests/all)
  build asan -DACCEDE_TESTS=ON "${sanitizer_options[@]}" || return 0
  required_tests asan unit-model "$jobs" -L '^(unit|model)$'
}

run_tsan() {
  local rooms
  # Only the rooms that have such tests are built.
  mapfile -t rooms < <(grep -lE '^(TYPED_)?TEST.*Concurren' tests/*/*.cpp |
    while read -r file; do echo "$(dirname "$file")/all"; done | sort -u)
  [ ${#rooms[@]} -gt 0 ] || rooms=(all)
  build_targets=("${rooms[@]}")
  build tsan -DACCEDE_TESTS=ON "${sanitizer_options[@]}" || return 0
  tests tsan concurrency 1 -L '^(unit|model)$' -R Concurren
  [ $? = 2 ] && record skip tsan concurrency "no test has Concurren in its name"
  return 0
}

run_fuzzers() {
  local target name seeds begin
  if ! command -v clang++-19 >/dev/null 2>&1; then
    record skip fuzz libFuzzer "clang-19 is not installed"
    return
  fi
  say "fuzz: building"
  step fuzz configure cmake --preset fuzz || return
  step fuzz build cmake --build --preset fuzz --target fuzz/all --parallel "$jobs" || return
  if ! compgen -G 'build/fuzz/bin/*_fuzz' >/dev/null; then
    record skip fuzz libFuzzer "there are no fuzz targets"
    return
  fi
  # As many at a time as there are jobs; what each said is looked at when all are done.
  begin=$SECONDS
  for target in build/fuzz/bin/*_fuzz; do
    name=$(basename "$target")
    seeds=()
    [ -d "fuzz/corpus/$name" ] && seeds=("fuzz/corpus/$name")
    mkdir -p "$logs/corpus/$name"
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
      wait -n
    done
    { "${fixed_layout[@]}" "$target" -max_total_time="$fuzz_seconds" -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$logs/$name-" \
        "$logs/corpus/$name" "${seeds[@]}" >"$logs/fuzz-$name.log" 2>&1
      echo $? >"$logs/fuzz-$name.status"; } &
  done
  wait
  for target in build/fuzz/bin/*_fuzz; do
    name=$(basename "$target")
    if [ "$(cat "$logs/fuzz-$name.status")" = 0 ]; then
      record pass fuzz "$name"
    else
      say "fuzz: $name FAILED, see $logs/fuzz-$name.log; it ends with:"
      tail -n 20 "$logs/fuzz-$name.log"
      record fail fuzz "$name" "see $logs/fuzz-$name.log"
    fi
  done
  say "fuzz: all targets done in $((SECONDS - begin)) s"
}

wanted check && run_check
run_release
wanted fuzz && run_fuzzers
wanted asan && run_asan
wanted tsan && run_tsan
say "all done in $((SECONDS / 60)) min $((SECONDS % 60)) s"
python3 scripts/test_records.py summary "$records"
