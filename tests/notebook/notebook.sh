#!/bin/sh
# Checks the types of the cells of examples/notebook.ipynb, and runs them in the kernel of Deno, as JupyterLab does. The client
# of Jupyter lies in .deno/jupyter/, a virtual environment that this makes. PYTHON=FILE names an interpreter that has it already.
#
#   sh tests/notebook/notebook.sh
#
# Where the client cannot be installed, it says so and runs no cell.
set -eu
cd -- "$(dirname -- "$0")/../.."
root=$PWD work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
./firn deno run --allow-read=examples "--allow-write=$work" tests/notebook/cells.ts "$work/cells.ts"
./firn deno check --quiet "--config=$root/deno.json" "$work/cells.ts"

skip() { echo "the notebook was not run: $*" && exit; }
python=${PYTHON:-.deno/jupyter/bin/python}
if [ -z "${PYTHON:-}" ] && ! "$python" -c 'import jupyter_client, nbformat' 2>/dev/null; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || skip "python3 with venv is missing"
  rm -rf .deno/jupyter && mkdir -p .deno
  python3 -m venv .deno/jupyter || skip "no virtual environment could be made in .deno/jupyter"
  "$python" -m pip -q --disable-pip-version-check install jupyter_client==8.10.0 nbformat==5.11.1 ||
    skip "PyPI's package jupyter_client could not be installed"
fi

# What `deno jupyter --install` writes, in a folder of its own.
mkdir -p "$work/kernels/deno"
cat >"$work/kernels/deno/kernel.json" <<'END'
{
  "argv": ["deno", "jupyter", "--kernel", "--conn", "{connection_file}"],
  "display_name": "Deno",
  "language": "typescript"
}
END
if [ "$(uname -s)" = Linux ]; then export DENO_WEBGPU_BACKEND="${DENO_WEBGPU_BACKEND:-vulkan}"; fi
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export XDG_RUNTIME_DIR="$work"; fi
PATH=$PATH:$root/.deno JUPYTER_PATH=$work JUPYTER_RUNTIME_DIR=$work/run "$python" tests/notebook/run.py \
  "$root/examples/notebook.ipynb"
