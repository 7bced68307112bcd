/**
 * Runs of the launcher `firn` among fakes of the programs that it calls.
 *
 * @module
 */

import { ROOT, run, script } from "./shell.ts";

/** Answers as the environment says and writes down each call: the program, FIRN_FLAGS and the arguments. */
export const DENO = `#!/bin/sh
case "$*" in *examples/cli.ts*) exec "$REAL" "$@" ;; esac
{ printf 'deno {%s}' "\${FIRN_FLAGS-}"; printf ' [%s]' "$@" | tr '\\n' ' '; echo; } >>"$CALLS"
case "$*" in
  --version) echo "deno $VERSION (fake)" ;;
  *requestAdapter*) [ "$ADAPTER" = yes ] || [ -e installed ] || exit 3 ;;
  *probe_jsr*) [ "$JSR" = yes ] || exit 3 ;;
  *) ls -ld "$XDG_RUNTIME_DIR" ;;
esac
`;
const APT_GET = `#!/bin/sh
echo "apt-get $*" >>"$CALLS"
case "$*" in *install*) [ "$DRIVER" = no ] || touch installed ;; esac
`;
/** Packs the file \`fetched\`, as \`npm pack\` would the binary of Deno. */
const NPM = `#!/bin/sh
echo "npm $*" >>"$CALLS"
mkdir package && cp ../../fetched package/deno && tar -czf deno.tgz package && rm -r package
`;

/** What says which permissions a command gets. */
export const PLANNER: readonly string[] = [
  "cli.ts",
  "commands.ts",
  "device_plan.ts",
  "launch_plan.ts",
  "machine.ts",
];

/** The hash in the launcher of the package for Linux on x86. */
const HASH = /linux-x64-glibc\s+npm_hash=([0-9a-f]{128})/;

/** A machine that the launcher finds. */
export interface Machine {
  /** The version of the Deno on PATH. */
  readonly version?: string;
  /** Whether it has a WebGPU adapter at first, and whether the driver that apt-get installs gives one. */
  readonly adapter?: "yes" | "no";
  readonly driver?: "yes" | "no";
  /** Whether JSR answers. */
  readonly jsr?: "yes" | "no";
  readonly user?: "root" | "other";
  /** What `deno.lock` holds. */
  readonly lock?: string;
  /** Whether the package has the hash that was published. */
  readonly hash?: "right" | "wrong";
  /** The program that npm's package of Deno holds. */
  readonly fetched?: string;
}

/** What it did. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Every call of a fake, without the probes of Deno. */
  readonly calls: readonly string[];
  /** What a download left in `.deno/`. */
  readonly kept: readonly string[];
}

/** Runs the launcher in a folder of its own among fakes of the programs that it calls. */
export function launch(args: readonly string[], machine: Machine = {}): Outcome {
  const folder = Deno.makeTempDirSync();
  try {
    Deno.copyFileSync(new URL("firn", ROOT), `${folder}/firn`);
    Deno.mkdirSync(`${folder}/bin`);
    Deno.mkdirSync(`${folder}/examples`);
    for (const name of PLANNER) {
      Deno.copyFileSync(new URL(`examples/${name}`, ROOT), `${folder}/examples/${name}`);
    }
    script(`${folder}/bin/deno`, DENO);
    script(`${folder}/bin/apt-get`, APT_GET);
    script(`${folder}/bin/npm`, NPM);
    script(`${folder}/bin/uname`, '#!/bin/sh\n[ "$1" = -s ] && echo Linux || echo x86_64\n');
    const hash = machine.hash === "wrong" ? "0" : HASH.exec(Deno.readTextFileSync(`${folder}/firn`))![1];
    script(`${folder}/bin/sha512sum`, `#!/bin/sh\necho "${hash}  $1"\n`);
    script(`${folder}/bin/id`, `#!/bin/sh\necho ${machine.user === "other" ? 1000 : 0}\n`);
    Deno.writeTextFileSync(`${folder}/deno.lock`, machine.lock ?? '{ "specifiers": {} }');
    script(`${folder}/fetched`, machine.fetched ?? "");
    const { code, stdout, stderr } = run(folder, ["firn", ...args], {
      CALLS: `${folder}/calls`,
      VERSION: machine.version ?? "2.9.6",
      ADAPTER: machine.adapter ?? "yes",
      DRIVER: machine.driver ?? "yes",
      JSR: machine.jsr ?? "yes",
      REAL: Deno.execPath(),
    });
    Deno.writeTextFileSync(`${folder}/calls`, "", { append: true });
    const calls = Deno.readTextFileSync(`${folder}/calls`).split("\n").slice(0, -1);
    const text = new TextDecoder();
    return {
      code,
      stdout: text.decode(stdout),
      stderr: text.decode(stderr),
      calls: calls.filter((call) => !/\[--version\]|\[--no-prompt\]/.test(call)),
      kept: calls.some((call) => call.startsWith("npm"))
        ? [...Deno.readDirSync(`${folder}/.deno`)].map(({ name }) => name).filter((name) => name !== "run")
        : [],
    };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}
