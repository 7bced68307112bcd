#!/bin/sh
# Makes the package for npm, installs it into an empty project, checks the types there, and trains, freezes, saves and generates
# under Node 22 on SwiftShader. Node and npm are packages of npm, too, which Deno fetches: neither needs to be installed.
#
#   sh tests/npm/package.sh
set -eu
cd -- "$(dirname -- "$0")/../.."
sh tests/dawn/swiftshader.sh
driver=/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -e "$driver" ]; then driver=$PWD/.deno/swiftshader/vk_swiftshader_icd.json; fi
case "$(uname -s) $(uname -m)" in
  'Linux x86_64') platform=linux-x64 ;;
  'Linux aarch64') platform=linux-arm64 ;;
  'Darwin x86_64') platform=darwin-x64 ;;
  'Darwin arm64') platform=darwin-arm64 ;;
  *) echo "no Node is known for $(uname -s) on $(uname -m)" && exit 1 ;;
esac

root=$PWD work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
mkdir "$work/tools" "$work/project" "$work/out"
echo "{\"type\":\"module\",\"dependencies\":{\"node-$platform\":\"22.23.3\",\"npm\":\"11.19.1\"}}" >"$work/tools/package.json"
(cd "$work/tools" && "$root/firn" deno --version >/dev/null)
PATH=$PATH:$root/.deno
(cd "$work/tools" && deno install --quiet --node-modules-dir=auto)
node=$work/tools/node_modules/node-$platform/bin/node
npm() { "$node" "$work/tools/node_modules/npm/bin/npm-cli.js" --silent --no-audit --no-fund --no-update-notifier "$@"; }
# npm's own programs, and those of packages, find Node on the path.
mkdir "$work/bin" && ln -s "$node" "$work/bin/node" && export PATH="$work/bin:$PATH"
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then export XDG_RUNTIME_DIR="$work"; fi # The driver complains without one.
echo "Node $(node --version), npm $(npm --version)"

./firn npm "$work/package"
cp tests/npm/project/*.ts "$work/project"
cd "$work/project"
echo '{"name":"project","private":true,"type":"module"}' >package.json
cat >tsconfig.json <<'END'
{
  "compilerOptions": {
    "target": "es2022",
    "lib": ["es2023", "esnext.disposable"],
    "module": "nodenext",
    "strict": true,
    "skipLibCheck": true,
    "types": ["node"],
    "outDir": "out"
  },
  "files": ["train.ts", "imports.ts", "hold.ts"]
}
END
npm pack "$work/package" >/dev/null
npm install ./firn-train-*.tgz typescript@7.0.2 @types/node@22.20.7
# Types of other packages may need a browser's; those of this one are checked to the last file.
if node node_modules/typescript/bin/tsc --noEmit --skipLibCheck false -p . | grep '@firn'; then exit 1; fi
node node_modules/typescript/bin/tsc -p .
node out/imports.js
# Deno finds a folder taken that Node has, and free once that is killed.
mkdir "$work/held"
node out/hold.js "$work/held" >"$work/log" &
holder=$!
for _ in $(seq 100); do if grep -q held "$work/log"; then break; fi; sleep 0.1; done
taken() { (cd "$root" && ./firn deno run "--allow-read=$work" "--allow-write=$work" tests/npm/taken.ts "$work/held"); }
seen=$(taken) && kill -9 "$holder" && wait "$holder" 2>/dev/null || true
seen="$seen $(taken)"
if [ "$seen" != "taken free" ]; then echo "a folder that Node holds is $seen for Deno" && exit 1; fi
VK_DRIVER_FILES=$driver node out/train.js "$root/examples/models/sotu" "$work/out" >"$work/node.json"
cd "$root" && rm -rf "$work/out" && mkdir "$work/out"
VK_DRIVER_FILES=$driver ./firn deno run -A tests/npm/project/train.ts examples/models/sotu "$work/out" >"$work/deno.json"
./firn deno run "--allow-read=$work" tests/npm/compare.ts "$work/node.json" "$work/deno.json"
