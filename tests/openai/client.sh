#!/bin/sh
# Asks `./firn serve` by the client of OpenAI that PyPI has, as a program of a user would. The client lies in .deno/openai/, a
# virtual environment that this makes: 40 MB. PYTHON=FILE names an interpreter that has the client already.
#
#   sh tests/openai/client.sh
#
# Where there is no client and none can be installed, it says so and asks nothing.
set -eu
cd -- "$(dirname -- "$0")/../.."
skip() { echo "the client of OpenAI asked nothing: $*" && exit; }

python=${PYTHON:-.deno/openai/bin/python}
if [ -z "${PYTHON:-}" ] && ! "$python" -c 'import openai' 2>/dev/null; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || skip "python3 with venv is missing"
  rm -rf .deno/openai && mkdir -p .deno
  python3 -m venv .deno/openai || skip "no virtual environment could be made in .deno/openai"
  "$python" -m pip -q --disable-pip-version-check install --only-binary :all: openai==3.57.0 ||
    skip "PyPI's package openai could not be installed"
fi

work=$(mktemp -d) server=
# The server ends by itself once its answers are sent.
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT INT TERM
echo '{% for message in messages %}{{ message.content }}{{ "\n" }}{% endfor %}' >"$work/template.jinja"
./firn serve examples/models/sotu --port 0 --no-tune --chat-template "$work/template.jinja" >"$work/log" 2>&1 &
server=$!
left=240
until grep -q '^listening' "$work/log"; do
  left=$((left - 1))
  if [ "$left" -eq 0 ] || ! kill -0 "$server" 2>/dev/null; then cat "$work/log" && exit 1; fi
  sleep 0.5
done
"$python" tests/openai/client.py "$(sed -n 's/^listening *//p' "$work/log")" || { cat "$work/log" && exit 1; }
