/**
 * The launcher `firn` and `.ci/run`, run in a folder of their own among fakes of the programs that they call.
 *
 * @module
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";

const ROOT = new URL("../", import.meta.url);
const MAP = "--import-map=tests/stand_ins/import_map.json";
const APT =
  "sudo apt-get update && sudo apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1";

/** Answers as the environment says and writes down each call: the program, FIRN_FLAGS and the arguments. */
const DENO = `#!/bin/sh
{ printf 'deno {%s}' "\${FIRN_FLAGS-}"; printf ' [%s]' "$@" | tr '\\n' ' '; echo; } >>"$CALLS"
case "$*" in
  --version) echo "deno $VERSION (fake)" ;;
  *requestAdapter*) [ "$ADAPTER" = yes ] || [ -e installed ] || exit 3 ;;
  *@std/assert*) [ "$JSR" = yes ] || exit 3 ;;
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

interface Machine {
  /** The version of the Deno on PATH. */
  readonly version?: string;
  /** Whether it has a WebGPU adapter at first, and whether the driver that apt-get installs gives one. */
  readonly adapter?: "yes" | "no";
  readonly driver?: "yes" | "no";
  /** Whether JSR answers. */
  readonly jsr?: "yes" | "no";
  readonly user?: "root" | "other";
  /** The program that npm's package of Deno holds. */
  readonly fetched?: string;
}

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Every call of a fake, without the probes of Deno. */
  readonly calls: readonly string[];
  /** What a download left in `.deno/`. */
  readonly kept: readonly string[];
}

function script(path: string, text: string): void {
  Deno.writeTextFileSync(path, text);
  Deno.chmodSync(path, 0o755);
}

function run(folder: string, args: readonly string[], env: Record<string, string> = {}): Deno.CommandOutput {
  return new Deno.Command("sh", {
    args: [...args],
    cwd: folder,
    clearEnv: true,
    env: { ...env, PATH: `${folder}/bin:${Deno.env.get("PATH")}` },
  }).outputSync();
}

function launch(args: readonly string[], machine: Machine = {}): Outcome {
  const folder = Deno.makeTempDirSync();
  try {
    Deno.copyFileSync(new URL("firn", ROOT), `${folder}/firn`);
    Deno.mkdirSync(`${folder}/bin`);
    script(`${folder}/bin/deno`, DENO);
    script(`${folder}/bin/apt-get`, APT_GET);
    script(`${folder}/bin/npm`, NPM);
    script(`${folder}/bin/id`, `#!/bin/sh\necho ${machine.user === "other" ? 1000 : 0}\n`);
    script(`${folder}/fetched`, machine.fetched ?? "");
    const { code, stdout, stderr } = run(folder, ["firn", ...args], {
      CALLS: `${folder}/calls`,
      VERSION: machine.version ?? "2.9.6",
      ADAPTER: machine.adapter ?? "yes",
      DRIVER: machine.driver ?? "yes",
      JSR: machine.jsr ?? "yes",
    });
    Deno.writeTextFileSync(`${folder}/calls`, "", { append: true });
    const calls = Deno.readTextFileSync(`${folder}/calls`).split("\n").slice(0, -1);
    const text = new TextDecoder();
    return {
      code,
      stdout: text.decode(stdout),
      stderr: text.decode(stderr),
      calls: calls.filter((call) => !/\[--version\]|\[eval\] \[-q\]/.test(call)),
      kept: calls.some((call) => call.startsWith("npm"))
        ? [...Deno.readDirSync(`${folder}/.deno`)].map(({ name }) => name).filter((name) => name !== "run")
        : [],
    };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

for (const path of ["firn", ".ci/run"]) {
  Deno.test(`${path} is a shell script without syntax errors`, () => {
    const { code, stderr } = run(Deno.realPathSync(ROOT), ["-n", path]);
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  });
}

Deno.test("firn shows its usage and does nothing when it does not know the command", () => {
  for (const args of [["fine-tune"], []]) {
    const { code, stdout, stderr, calls } = launch(args);
    assertEquals([code, stdout, calls], [2, "", []]);
    assertMatch(stderr, /^usage: \.\/firn COMMAND/);
  }
});

Deno.test("firn help shows the usage and succeeds", () => {
  const { code, stdout, calls } = launch(["help"]);
  assertEquals([code, calls], [0, []]);
  assertMatch(stdout, /^usage: \.\/firn COMMAND/);
});

Deno.test("firn hands its arguments to the task of deno.json as they are", () => {
  const { code, calls } = launch(["finetune", "--out", "a b", "$HOME", ""]);
  assertEquals([code, calls], [0, ["deno {} [task] [-q] [finetune] [--out] [a b] [$HOME] []"]]);
});

Deno.test("firn gives the driver a private runtime folder when the session has none", () => {
  assertMatch(launch(["test"]).stdout, /^drwx------.*\/\.deno\/run\n$/);
});

Deno.test("firn uses the stand-ins when JSR does not answer, and says so", () => {
  const task = launch(["test"], { jsr: "no" });
  assertEquals(task.calls, [`deno {${MAP}} [task] [-q] [test]`]);
  assertMatch(task.stderr, /^firn: JSR does not answer/);
  const deno = launch(["deno", "check", "mod.ts"], { jsr: "no" });
  assertEquals(deno.calls, [`deno {${MAP}} [check] [${MAP}] [mod.ts]`]);
});

Deno.test("firn deno leaves the arguments alone when JSR answers", () => {
  assertEquals(launch(["deno", "check", "mod.ts"]).calls, ["deno {} [check] [mod.ts]"]);
});

Deno.test("firn deno fmt needs neither an adapter nor JSR", () => {
  const { code, calls } = launch(["deno", "fmt", "--check"], { adapter: "no", jsr: "no", user: "other" });
  assertEquals([code, calls], [0, ["deno {} [fmt] [--check]"]]);
});

Deno.test("firn explain reads a log, which needs no adapter", () => {
  const { code, calls } = launch(["explain", "out/finetune-1"], { adapter: "no", user: "other" });
  assertEquals([code, calls], [0, ["deno {} [task] [-q] [explain] [out/finetune-1]"]]);
});

Deno.test("firn tells anyone but root what to install when there is no adapter", () => {
  const { code, stderr, calls } = launch(["finetune"], { adapter: "no", user: "other" });
  assertEquals([code, stderr, calls], [1, `firn: a Vulkan driver is missing. Run: ${APT}\n`, []]);
});

Deno.test("firn installs a driver as root when there is no adapter", () => {
  const { code, calls } = launch(["finetune"], { adapter: "no" });
  assertEquals([code, calls], [0, [
    "apt-get -qq update",
    "apt-get -qq install -y --no-install-recommends mesa-vulkan-drivers libvulkan1",
    "deno {} [task] [-q] [finetune]",
  ]]);
});

Deno.test("firn stops when the installed driver gives no adapter either", () => {
  const { code, stderr, calls } = launch(["finetune"], { adapter: "no", driver: "no" });
  assertEquals([code, calls.length], [1, 2]);
  assertStringIncludes(stderr, "no WebGPU adapter");
});

for (const version of ["2.8.9", "1.46.3"]) {
  Deno.test(`firn fetches Deno when the one at hand is ${version}`, () => {
    const fetched = DENO.replace("$VERSION", "2.10.0").replace("printf 'deno", "printf 'fetched");
    const { code, calls, kept } = launch(["test"], { version, fetched });
    assertEquals([code, calls.length, kept], [0, 2, ["deno"]]);
    assertMatch(calls[0], /^npm pack --silent @deno\//);
    assertEquals(calls[1], "fetched {} [task] [-q] [test]");
  });
}

Deno.test("firn takes Deno 2.10 and 3.0 as recent enough", () => {
  for (const version of ["2.10.0", "3.0.1"]) {
    assertEquals(launch(["test"], { version }).calls, ["deno {} [task] [-q] [test]"]);
  }
});

Deno.test("firn keeps nothing of a Deno that does not run, and says how to install one", () => {
  const { code, stderr, calls, kept } = launch(["test"], {
    version: "2.8.9",
    fetched: "#!/bin/sh\nexit 1\n",
  });
  assertEquals([code, calls.length, kept], [1, 1, []]);
  assertMatch(stderr, /Install 2\.9 or later: curl/);
});

/** Runs `.ci/run` with a launcher whose test command prints a summary, and whose `broken` step fails. */
function runChecks(summary: string, status: number, broken = "none"): { code: number; last: string } {
  const folder = Deno.makeTempDirSync();
  try {
    Deno.mkdirSync(`${folder}/.ci`);
    Deno.copyFileSync(new URL(".ci/run", ROOT), `${folder}/.ci/run`);
    script(
      `${folder}/firn`,
      `#!/bin/sh\ncase "$*" in test) echo "${summary}"; exit ${status} ;; *${broken}*) exit 1 ;; esac\n`,
    );
    const { code, stdout } = run(folder, [".ci/run"]);
    return { code, last: new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1)! };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test(".ci/run counts the tests and its five other checks", () => {
  assertEquals(runChecks("ok | 12 passed (3 steps) | 0 failed (1s)", 0), {
    code: 0,
    last: "17 passed, 0 failed",
  });
});

Deno.test(".ci/run fails with a test, and with a run that broke off", () => {
  assertEquals(runChecks("FAILED | 12 passed | 2 failed (1s)", 1), { code: 1, last: "17 passed, 2 failed" });
  assertEquals(runChecks("error: Type checking failed.", 1), { code: 1, last: "5 passed, 1 failed" });
  assertEquals(runChecks("ok | 12 passed | 0 failed (1s)", 1), { code: 1, last: "17 passed, 1 failed" });
  assertEquals(runChecks("", 0), { code: 1, last: "5 passed, 1 failed" });
});

Deno.test(".ci/run goes on after a check that failed", () => {
  const { code, last } = runChecks("ok | 12 passed | 0 failed (1s)", 0, "fmt");
  assertEquals({ code, last }, { code: 1, last: "16 passed, 1 failed" });
});
