#!/bin/sh
# make_initramfs.sh CPIO INIT OUTPUT: packs INIT as /init of an initramfs. The same INIT always
# gives the same bytes. Not compressed: unpacking costs the guest more than reading.
set -eu
cpio=$1
init=$2
output=$3

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir "$root/dev" "$root/proc" "$root/sys"
cp "$init" "$root/init"
chmod 0755 "$root" "$root"/*
find "$root" -exec touch -h -d @0 {} +
cd "$root"
printf '%s\n' . dev init proc sys |
  "$cpio" --quiet --reproducible --owner=0:0 -o -H newc >"$output.partial"
mv "$output.partial" "$output"
