#!/bin/sh
# Fetches SwiftShader, a software driver that Dawn takes, into .deno/swiftshader/: two files of Debian's Chromium, which is not
# installed. Needs no root.
set -eu
cd -- "$(dirname -- "$0")/../.."
if [ -e /usr/lib/chromium/vk_swiftshader_icd.json ] || [ -e .deno/swiftshader/vk_swiftshader_icd.json ]; then exit; fi
stop() { echo "swiftshader: $*" >&2 && exit 1; }
for program in apt-get dpkg-deb; do
  command -v "$program" >/dev/null || stop "it comes from Debian's packages, and there is no $program"
done
mkdir -p .deno && part=$(mktemp -d .deno/part.XXXXXX)
trap 'rm -rf "$part"' EXIT INT TERM
(
  cd "$part"
  # Lists of packages of its own where those of the machine are missing or old.
  mkdir -p lists/partial cache/archives/partial
  own="-o APT::Sandbox::User=$(id -un) -o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD/cache"
  # shellcheck disable=SC2086 # several options
  apt-get -qq -o "APT::Sandbox::User=$(id -un)" download chromium-common 2>/dev/null ||
    { apt-get -qq $own update && apt-get -qq $own download chromium-common; }
  dpkg-deb --fsys-tarfile chromium-common_*.deb |
    tar -xf - ./usr/lib/chromium/libvk_swiftshader.so ./usr/lib/chromium/vk_swiftshader_icd.json
) || stop "Debian's package chromium-common could not be fetched"
# Moved into place whole, so that nothing half fetched is ever used.
rm -rf .deno/swiftshader && mv "$part/usr/lib/chromium" .deno/swiftshader
