/**
 * The launcher `firn`, run in a folder of its own among fakes of the programs that they call.
 *
 * @module
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { DENO, launch, PLANNER } from "./launch.ts";
import { ROOT, run, script } from "./shell.ts";

const MAP = "--import-map=tests/stand_ins/import_map.json", STAND_INS = `--frozen ${MAP}`;
const APT =
  "sudo apt-get update && sudo apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1";

for (const path of ["firn", ".ci/run"]) {
  Deno.test(`${path} is a shell script without syntax errors`, () => {
    const { code, stderr } = run(Deno.realPathSync(ROOT), ["-n", path]);
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  });
}

Deno.test("firn shows its usage and does nothing when it is given no command", () => {
  const { code, stdout, stderr, calls } = launch([]);
  assertEquals([code, stdout, calls], [2, "", []]);
  assertMatch(stderr, /^usage: \.\/firn COMMAND/);
});

Deno.test("firn names a command that there is not in one line, and does nothing", () => {
  const { code, stdout, stderr, calls } = launch(["fine-tune"]);
  assertEquals([code, stdout, calls], [2, "", []]);
  assertEquals(stderr, 'firn: there is no command "fine-tune": ./firn help lists them\n');
});

Deno.test("firn help shows the usage and succeeds", () => {
  const { code, stdout, calls } = launch(["help"]);
  assertEquals([code, calls], [0, []]);
  assertMatch(stdout, /^usage: \.\/firn COMMAND/);
  const ranks = launch(["ranks", "--help"]);
  assertEquals([ranks.code, ranks.calls], [0, []]);
  assertMatch(ranks.stdout, /^usage: \.\/firn ranks N COMMAND/);
});

Deno.test("firn hands its arguments on as they are", () => {
  const { code, calls } = launch(["check", "--json", "a b", "$HOME", ""]);
  assertEquals([code, calls], [0, ["deno {} [task] [-q] [check] [--json] [a b] [$HOME] []"]]);
});

Deno.test("firn probes with no permission and leaves the lock alone", () => {
  const source = Deno.readTextFileSync(new URL("firn", ROOT));
  assertEquals(source.includes("deno eval -q"), false);
  assertMatch(source, /deno run -q --no-prompt --no-lock tests\/stand_ins\/probe_jsr\.ts/);
});

Deno.test("firn freezes the lock once it has the packages of JSR", () => {
  const lock = '{ "specifiers": {\n"jsr:@std/cli@1": "1.0.0"\n} }';
  assertEquals(
    launch(["explain", "a"], { lock }).calls[0].startsWith("deno {--frozen} [run] [--frozen] "),
    true,
  );
});

Deno.test("a policy of one's own reads its folder and the project, and writes nothing but the output", () => {
  const folder = Deno.makeTempDirSync(), project = `${folder}/a #%25?b`;
  try {
    for (const path of ["examples", "tests/stand_ins", "out"]) {
      Deno.mkdirSync(`${project}/${path}`, { recursive: true });
    }
    Deno.copyFileSync(new URL("firn", ROOT), `${project}/firn`);
    Deno.writeTextFileSync(`${project}/tests/stand_ins/probe_jsr.ts`, "");
    for (const name of PLANNER) {
      Deno.copyFileSync(new URL(`examples/${name}`, ROOT), `${project}/examples/${name}`);
    }
    Deno.writeTextFileSync(`${project}/examples/finetune.ts`, "await import(`file://${Deno.args[1]}`);");
    Deno.writeTextFileSync(`${folder}/secret`, "");
    Deno.mkdirSync(`${folder}/own`);
    Deno.writeTextFileSync(`${folder}/own/beside.txt`, "");
    const tries = {
      "read beside": `Deno.readTextFileSync("${folder}/own/beside.txt")`,
      "write out": 'Deno.writeTextFileSync("out/a", "")',
      "read secret": `Deno.readTextFileSync("${folder}/secret")`,
      "write beside": `Deno.writeTextFileSync("${folder}/own/beside.txt", "")`,
      "write project": 'Deno.writeTextFileSync("firn", "")',
      "environment": 'Deno.env.get("HOME")',
      "run": 'new Deno.Command("sh").outputSync()',
      "network": "await Deno.connect({ port: 80 })",
    };
    Deno.writeTextFileSync(
      `${folder}/own/policy.ts`,
      Object.entries(tries).map(([name, code]) =>
        `try { ${code}; console.log("${name}: yes"); } catch (e) { console.log("${name}:", e.name); }`
      ).join("\n"),
    );
    const { code, stdout, stderr } = run(
      project,
      ["firn", "finetune", "--policy", `${folder}/own/policy.ts`],
      {
        HOME: folder,
      },
    );
    const text = new TextDecoder();
    const [first, second, ...refused] = text.decode(stdout).trim().split("\n");
    assertEquals([code, first, second], [0, "read beside: yes", "write out: yes"], text.decode(stderr));
    assertEquals(refused, Object.keys(tries).slice(2).map((name) => `${name}: NotCapable`));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a signal to firn is a signal to the trainer", () => {
  const folder = Deno.makeTempDirSync();
  try {
    Deno.copyFileSync(new URL("firn", ROOT), `${folder}/firn`);
    Deno.mkdirSync(`${folder}/bin`);
    const fake =
      'case "$*" in --version) echo deno 2.9.6 ;; *cli.ts*) echo exec deno run ;; *--no-prompt*) ;; *) echo $$; kill -TERM $$; sleep 5 ;; esac';
    script(`${folder}/bin/deno`, `#!/bin/sh\n${fake}\n`);
    const { stdout } = run(folder, ["-c", 'sh firn finetune & wait $!; echo "$! $?"']);
    const [trainer, launcher, code] = new TextDecoder().decode(stdout).split(/\s+/);
    assertEquals([trainer === launcher, code], [true, "143"]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("firn gives the driver a private runtime folder when the session has none", () => {
  assertMatch(launch(["test"]).stdout, /^drwx------.*\/\.deno\/run\n$/);
});

Deno.test("firn uses the stand-ins when JSR does not answer, and says so", () => {
  const task = launch(["test"], { jsr: "no" });
  assertEquals(task.calls, [`deno {${STAND_INS}} [task] [-q] [test]`]);
  assertMatch(task.stderr, /^firn: JSR does not answer/);
  const deno = launch(["deno", "check", "mod.ts"], { jsr: "no" });
  assertEquals(deno.calls, [`deno {${STAND_INS}} [check] [--frozen] [${MAP}] [mod.ts]`]);
});

Deno.test("firn test runs one file for each core at a time, four at most, or as many as DENO_JOBS says", () => {
  const jobs = (env: Record<string, string>, cores: number): string => {
    const folder = Deno.makeTempDirSync();
    try {
      Deno.copyFileSync(new URL("firn", ROOT), `${folder}/firn`);
      Deno.mkdirSync(`${folder}/bin`);
      script(`${folder}/bin/getconf`, `#!/bin/sh\necho ${cores}\n`);
      script(
        `${folder}/bin/deno`,
        '#!/bin/sh\ncase "$*" in --version) echo deno 2.9.6 ;; task*) echo "$DENO_JOBS" ;; esac\n',
      );
      return new TextDecoder().decode(run(folder, ["firn", "test"], env).stdout).trim();
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  };
  assertEquals([jobs({}, 2), jobs({}, 64), jobs({ DENO_JOBS: "7" }, 2)], ["2", "4", "7"]);
});

Deno.test("firn deno leaves the arguments alone when JSR answers", () => {
  assertEquals(launch(["deno", "check", "mod.ts"]).calls, ["deno {} [check] [mod.ts]"]);
});

Deno.test("firn deno fmt needs neither an adapter nor JSR", () => {
  const { code, calls } = launch(["deno", "fmt", "--check"], { adapter: "no", jsr: "no", user: "other" });
  assertEquals([code, calls], [0, ["deno {} [fmt] [--check]"]]);
});

Deno.test("firn simulate reads the folder of each of its policies", () => {
  const { code, calls } = launch(["simulate", "out/1", "--policy", "own/a.ts,gradES,other/b.ts"], {
    adapter: "no",
  });
  assertEquals(code, 0);
  assertMatch(calls[0], /\[--allow-read=[^\]]*,out\/1,own\/,other\/[\],]/);
});

Deno.test("firn explain reads a log, which needs no adapter", () => {
  const { code, calls } = launch(["explain", "out/finetune-1"], { adapter: "no", user: "other" });
  assertEquals([code, calls], [0, [
    "deno {} [run] [--allow-read=.,./.cache/deno,out/finetune-1] [examples/explain.ts] [out/finetune-1]",
  ]]);
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
    "deno {} [run] [--allow-read=.,./.cache/deno] [--allow-write=.firn,out] [examples/finetune.ts]",
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

Deno.test("firn keeps nothing of a Deno whose package has another hash, and says so", () => {
  const { code, stderr, calls, kept } = launch(["test"], { version: "2.8.9", fetched: DENO, hash: "wrong" });
  assertEquals([code, calls.length, kept], [1, 1, []]);
  assertStringIncludes(stderr, "its SHA-512 differs");
});
