#!/bin/sh
# Has the TensorBoard of PyPI read event files of a run. It lies in .deno/tensorboard/, a virtual environment that this makes:
# 180 MB. PYTHON=FILE names an interpreter that has it already.
#
#   sh tests/tensorboard/read.sh
#
# Where there is no TensorBoard and none can be installed, it says so and reads nothing.
set -eu
cd -- "$(dirname -- "$0")/../.."
skip() { echo "TensorBoard read nothing: $*" && exit; }

python=${PYTHON:-.deno/tensorboard/bin/python}
if [ -z "${PYTHON:-}" ] && ! "$python" -c 'import tensorboard' 2>/dev/null; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || skip "python3 with venv is missing"
  rm -rf .deno/tensorboard && mkdir -p .deno
  python3 -m venv .deno/tensorboard || skip "no virtual environment could be made in .deno/tensorboard"
  "$python" -m pip -q --disable-pip-version-check install --only-binary :all: tensorboard==2.21.0 ||
    skip "PyPI's package tensorboard could not be installed"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
./firn deno run --allow-read --allow-write tests/tensorboard/write.ts "$work"
"$python" tests/tensorboard/read.py "$work/tensorboard"
