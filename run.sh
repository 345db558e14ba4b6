#!/usr/bin/env bash
# Installs what is missing, builds, and boots a stock Linux lazily and eagerly.
# Options go to `accede boot`; `./run.sh --help` explains them.
set -euo pipefail
directory=$(cd "$(dirname "$0")" && pwd)

. "$directory/scripts/packages.sh"
accede_packages build run

# On a terminal the build shows its progress, elsewhere only what went wrong.
build() {
  cmake --preset release && cmake --build --preset release --target accede/all --parallel 2
}
cd "$directory"
if [ -t 2 ]; then
  build >&2 || exit 1
else
  mkdir -p build
  echo "building (log: build/run.log)" >&2
  build >build/run.log 2>&1 || { cat build/run.log >&2; exit 1; }
fi
cd "$OLDPWD"

accept=(--accept "lazy,eager")
for option in "$@"; do
  case $option in
    --accept | --accept=*) accept=() ;;
  esac
done
exec "$directory/build/release/bin/accede" boot "${accept[@]}" "$@"
