#!/bin/sh
# Installs Debian's Chromium, in which the page of ./firn browser is tested. Where it cannot be had, it says so, and the test is
# left out.
set -eu
cd -- "$(dirname -- "$0")/../.."
skip() { echo "Chromium tests nothing: $*" && exit; }
if [ -x /usr/bin/chromium ]; then exit; fi
command -v apt-get >/dev/null || skip "it comes from Debian's packages, and there is no apt-get"
[ "$(id -u)" -eq 0 ] || skip "install it as root: apt-get install -y --no-install-recommends chromium"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >/dev/null && apt-get -qq install -y --no-install-recommends chromium >/dev/null ||
  skip "Debian's package chromium could not be installed"
