#!/bin/sh
# Runs tests on Dawn with the software driver of Debian sid (Mesa 26: f16, subgroups of 8, matrix units of 8 x 8 x 8). It lies in
# a folder that debootstrap makes, in three minutes and 1 GB, and that Deno runs in by chroot.
#
#   FIRN_SID=DIR sh tests/dawn/sid.sh [TEST FILES]
#
# Where no folder is named or none can be made, it says so and runs nothing.
set -eu
cd -- "$(dirname -- "$0")/../.."
skip() { echo "no test ran on Mesa 26 and its matrix units: $*" && exit; }

folder=${FIRN_SID:-}
[ -n "$folder" ] || skip "name a folder for 1 GB of Debian sid by FIRN_SID=DIR"
[ "$(id -u)" -eq 0 ] || skip "chroot needs root"
driver=/usr/share/vulkan/icd.d/lvp_icd.json
if [ ! -e "$folder$driver" ]; then
  command -v debootstrap >/dev/null || apt-get -qq install -y --no-install-recommends debootstrap >/dev/null 2>&1 ||
    skip "debootstrap is missing, and could not be installed"
  # The mirror that this machine uses.
  # shellcheck disable=SC2016 # apt-get replaces it
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | head -n 1)
  mkdir -p "$folder"
  debootstrap --variant=minbase --include=mesa-vulkan-drivers,libvulkan1,ca-certificates sid "$folder" \
    "${mirror:-http://deb.debian.org/debian}" >"$folder/debootstrap.log" 2>&1 ||
    skip "debootstrap failed, see $folder/debootstrap.log"
fi
if [ ! -e "$folder/proc/self" ]; then
  mount -t proc proc "$folder/proc" 2>/dev/null || skip "/proc cannot be mounted in $folder"
  trap 'umount "$folder/proc"' EXIT INT TERM
fi

cmp -s "$(command -v deno)" "$folder/usr/local/bin/deno" || cp "$(command -v deno)" "$folder/usr/local/bin/deno"
# The addon, from the cache of this machine.
cache=${DENO_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/deno}
if [ ! -e "$folder/root/.cache/deno/npm" ]; then
  deno cache -q npm:webgpu@0.6.2
  mkdir -p "$folder/root/.cache/deno" && cp -r "$cache/npm" "$folder/root/.cache/deno/npm"
fi
rm -rf "$folder/firn" && mkdir "$folder/firn"
tar --exclude=./.git --exclude=./.deno --exclude=./.firn --exclude=./out -cf - . | tar -xf - -C "$folder/firn"
if [ "$#" -eq 0 ]; then
  set -- tests/runtime/device_test.ts tests/kernels/f16_test.ts
  for file in tests/kernels/*matrix*_test.ts; do set -- "$@" "$file"; done
fi
# shellcheck disable=SC2016 # the inner shell replaces it
chroot "$folder" /usr/bin/env -i HOME=/root PATH=/usr/local/bin:/usr/bin:/bin XDG_RUNTIME_DIR=/tmp NO_COLOR=1 \
  VK_DRIVER_FILES="$driver" /bin/sh -c 'cd /firn && exec deno test "$@"' sh \
  --quiet --no-check --no-prompt --import-map=tests/stand_ins/import_map.json --preload=tests/dawn/preload.ts \
  --allow-ffi --allow-read --allow-write --allow-env=PATH --allow-run=sh "$@"
