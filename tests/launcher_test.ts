/**
 * The launcher `firn`, run in a folder of its own among fakes of the programs that they call.
 *
 * @module
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { DENO, launch, permissionsOf } from "./launch.ts";
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

Deno.test("firn hands its arguments on as they are", () => {
  const { code, calls } = launch(["check", "--json", "a b", "$HOME", ""]);
  assertEquals([code, calls], [0, ["deno {} [task] [-q] [check] [--json] [a b] [$HOME] []"]]);
});

Deno.test("firn lets a run read and write what its flags name, and nothing else", () => {
  const none = { write: ".firn,out", run: undefined, rest: [] };
  const cases: readonly (readonly [readonly string[], Partial<ReturnType<typeof permissionsOf>>])[] = [
    [["finetune"], { read: "." }],
    [["finetune", "--out", "a b"], { read: ".,a b", write: ".firn,out,a b" }],
    [["finetune", "--out=x#%?"], { read: ".,x#%?", write: ".firn,out,x#%?" }],
    [["finetune", "--model", "/m", "--data=d=1.txt"], { read: ".,/m,d=1.txt" }],
    [["finetune", "--data", "/d/*.jsonl", "--validation", "/v.jsonl"], { read: ".,/d/,/v.jsonl" }],
    [["finetune", "--data", "*.jsonl", "--chat-template", "/t.jinja"], { read: ".,/t.jinja" }],
    [["finetune", "--evaluate-on", "a=/a.txt", "--evaluate-on=b=/b=c.jsonl"], {
      read: ".,/a.txt,/b=c.jsonl",
    }],
    [["finetune", "--policy", "/p/q/r.ts"], { read: ".,/p/q/" }],
    [["finetune", "--adapter=/a", "--lora", "8"], { read: ".,/a" }],
    [["merge", "/m", "/a", "/o/x", "--no-tune"], { read: ".,/m,/a,/o/x,/o", write: ".firn,out,/o" }],
    [["export", "/m", "/o/x.gguf", "--type", "q8_0", "--adapter=/a"], {
      read: ".,/m,/o/x.gguf,/o,/a",
      write: ".firn,out,/o",
    }],
    [["finetune", "--policy=snr", "--prompt", "--out"], { read: "." }],
    [["finetune", "--resume", "out/a"], { read: "all", write: ".firn,out,out/a", rest: ["env"] }],
    [["digits", "--out", "/a"], { read: ".,/a", write: ".firn,out,/a" }],
    [["classify", "--model", "/m", "--data", "/d.jsonl", "--validation=/v.csv"], {
      read: ".,/m,/d.jsonl,/v.csv",
    }],
    [["export", "/m", "/o/x.gguf", "--adapter", "/a"], {
      read: ".,/m,/o/x.gguf,/o,/a",
      write: ".firn,out,/o",
    }],
    [["vision", "--data", "/a/b.csv"], { read: ".,/a/b.csv,/a", write: ".firn,out" }],
    [["lora", "--data", "/a/b.csv"], { read: ".,/a/b.csv", write: ".firn,out" }],
    [["finetune", "--data", "/a/b.jsonl:0.7", "--data=/c.txt:3"], { read: ".,/a/b.jsonl,/c.txt" }],
    ...["classify", "vision", "vlm", "lora"].map((command) =>
      [[command, "--out", "/a/b"], { read: ".,/a/b,/a", write: ".firn,out,/a/b,/a" }] as const
    ),
    [["generate", "/m", "a text", "--prompt-file=/p.txt"], { read: ".,/m,/p.txt" }],
    [["chat", "/m", "--adapter", "/a", "--chat-template", "/t.jinja"], { read: ".,/m,/a,/t.jinja" }],
    [["evaluate", "/m", "--data", "/d.json"], { read: ".,/m,/d.json" }],
    [["embed", "a whale", "--model", "/m"], { read: ".,/m" }],
    [["compare", "/a/b", "/c", "--out", "/d/e.html"], {
      read: ".,/a/b,/c,/d/e.html,/d",
      write: ".firn,out,/d/e.html,/d",
    }],
    [["vision", "--log", "/l", "--watch=0"], { read: ".,/l", write: ".firn,out,/l", rest: ["net"] }],
    [["watch", "/a/b", "--port", "0"], { read: ".,/a/b", write: undefined, rest: ["net"] }],
    [["finetune", "--watch", "0", "--out=/o"], { read: ".,/o", write: ".firn,out,/o", rest: ["net"] }],
    [["browser", "--out=/a"], { read: ".,/a", write: ".firn,out,/a", run: "deno", rest: ["net"] }],
    [["serve", "/m"], { read: ".,/m", rest: ["net"] }],
    [["pretrain", "--out", "/a/b"], { read: ".,/a/b", write: ".firn,out,/a/b" }],
    [["explain", "/a/b"], { read: ".,/a/b", write: undefined }],
    [["conformance", "--tiles", "/a", "b"], { read: ".,/a,b", write: undefined }],
    [["bench"], { read: ".", rest: ["env"] }],
    [["bench", "--torch"], { read: ".", run: "python3", rest: ["env"] }],
    [["profile", "--json", "/a/b.json"], { read: ".,/a/b.json", write: ".firn,out,/a", rest: ["env"] }],
    [["profile", "--model", "/m", "--launches"], { read: ".,/m", rest: ["env"] }],
    [["profile", "--json=-"], { read: ".", rest: ["env"] }],
    [["profile", "--gpu", "dawn"], { read: ".", rest: ["ffi", "env"] }],
    [["finetune", "--gpu=dawn", "--unsafe-gpu"], { read: ".", rest: ["ffi"] }],
    [["conformance", "--gpu=dawn", "a"], { read: ".,a", write: undefined, rest: ["ffi"] }],
    [["serve", "/m", "--gpu", "dawn"], { read: ".,/m", rest: ["ffi", "net"] }],
    [["generate", "/m", "dawn", "--gpu", "deno"], { read: ".,/m" }],
  ];
  for (const [args, expected] of cases) {
    assertEquals(permissionsOf(...args), { ...none, ...expected }, args.join(" "));
  }
});

Deno.test("firn lets a command open a library only where it asks for Dawn, and only one of a package", () => {
  const { calls: [call] } = launch(["finetune", "--gpu", "dawn"]);
  assertStringIncludes(call, "[--allow-ffi=./.cache/deno/npm]");
});

Deno.test("firn lets a run read and write what the file of its --config names, read by a process that may read only that", () => {
  const config = "--data=/d ata.txt\n--out=/o\n--prompt=a * b\n--gpu=dawn\n";
  for (const args of [["--config", "/c/run.toml"], ["--config=/c/run.toml"]]) {
    const { calls: [first, second, ...others] } = launch(["finetune", ...args, "--model", "/m"], { config });
    assertEquals(
      first,
      "deno {} [run] [--allow-read=.,/c/run.toml] [examples/config_flags.ts] [/c/run.toml]",
    );
    assertStringIncludes(second, ",/c/run.toml,/m,/d ata.txt,/o] [--allow-write=.firn,out,/o]");
    assertStringIncludes(
      second,
      `[examples/finetune.ts] ${args.map((arg) => `[${arg}]`).join(" ")} [--model] [/m]`,
    );
    assertStringIncludes(second, "[--allow-ffi=");
    assertEquals(others, []);
  }
});

const DOWNLOAD = "[--allow-env=HF_HUB_CACHE,HF_HUB_OFFLINE,HF_ENDPOINT,HF_TOKEN,HF_TOKEN_PATH] " +
  "[--allow-net=huggingface.co,*.huggingface.co,*.hf.co] " +
  "[--allow-read=.,./.cache/huggingface/hub,./.cache/huggingface/token,./.cache/deno] " +
  "[--allow-write=./.cache/huggingface/hub] [examples/download.ts]";

Deno.test("firn downloads a model of a hub in a process of its own: what trains gets neither network nor token", () => {
  const { calls } = launch(["finetune", "--model", "org/name@v1.0"]);
  assertEquals(calls, [
    `deno {} [run] ${DOWNLOAD} [--if-missing] [org/name@v1.0]`,
    "deno {} [run] [--allow-env=HF_HUB_CACHE,HF_HUB_OFFLINE] [--allow-read=.,./.cache/deno,./.cache/huggingface/hub] " +
    "[--allow-write=.firn,out] [examples/finetune.ts] [--model] [org/name@v1.0]",
  ]);
  const merged = launch(["merge", "org/name", "org/adapter", "out/x", "--no-tune"]).calls;
  assertEquals(
    merged.slice(0, 2),
    ["org/name", "org/adapter"].map((name) => `deno {} [run] ${DOWNLOAD} [--if-missing] [${name}]`),
  );
  assertEquals(merged.length, 3);
  const exported = launch(["export", "org/name", "out/x.gguf", "--adapter", "org/adapter"]).calls;
  assertEquals(exported.slice(0, 2), merged.slice(0, 2));
  assertEquals(launch(["download", "org/name"]).calls, [`deno {} [run] ${DOWNLOAD} [org/name]`]);
  assertEquals(launch(["classify", "--model=org/name", "--help"]).calls.length, 1);
  const { calls: [first, second] } = launch(["pretrain", "--data", "hub:org/rows/data/*.jsonl"]);
  assertEquals(first, `deno {} [run] ${DOWNLOAD} [--if-missing] [hub:org/rows/data/*.jsonl]`);
  assertEquals(second.includes("[--allow-read=.,./.cache/deno,./.cache/huggingface/hub]"), true);
});

Deno.test("firn push reads the folder and the log beside it, writes nothing but the cache, and asks the hub", () => {
  const { calls } = launch(["push", "bin", "me/whales", "--private"]);
  const download = DOWNLOAD.replace("*.hf.co]", "*.hf.co,*.s3-accelerate.amazonaws.com,*.s3.amazonaws.com]")
    .replace("./.cache/deno]", "./.cache/deno,bin,bin/../metrics.jsonl]").replace("download.ts", "push.ts");
  assertEquals(calls, [`deno {} [run] ${download} [bin] [me/whales] [--private]`]);
});

Deno.test("firn asks a hub for nothing that is here or that can be no name", () => {
  for (
    const name of ["bin/deno", "/org/name", "./org/name", "../org/name", "name", "org/na me", "org//name"]
  ) {
    assertEquals(launch(["finetune", "--model", name]).calls.length, 1, name);
  }
});

Deno.test("firn opens what a link on the way leads to, too, there or not yet, as Deno asks for both", () => {
  const place = Deno.realPathSync(Deno.makeTempDirSync());
  try {
    Deno.mkdirSync(`${place}/disk`);
    Deno.writeTextFileSync(`${place}/disk/a.txt`, "");
    Deno.symlinkSync(`${place}/disk`, `${place}/link`);
    Deno.symlinkSync(`${place}/disk/a.txt`, `${place}/a.txt`);
    const both = (path: string) => `${place}/link/${path},${place}/disk/${path}`;
    assertEquals(permissionsOf("explain", `${place}/link`).read, `.,${place}/link,${place}/disk`);
    assertEquals(permissionsOf("explain", `${place}/disk/a.txt`).read, `.,${place}/disk/a.txt`);
    assertEquals(
      permissionsOf("lora", "--data", `${place}/a.txt`).read,
      `.,${place}/a.txt,${place}/disk/a.txt`,
    );
    const { read, write } = permissionsOf("pretrain", "--out", `${place}/link/new/run`);
    assertEquals([read, write], [`.,${both("new/run")}`, `.firn,out,${both("new/run")}`]);
    const hfHome = `${place}/link`, { calls: [call] } = launch(["download", "org/name"], { hfHome });
    assertStringIncludes(call, `[--allow-read=.,${both("hub")},${both("token")},`);
    assertStringIncludes(call, `[--allow-write=${both("hub")}]`);
  } finally {
    Deno.removeSync(place, { recursive: true });
  }
});

Deno.test("firn takes ~ in HF_HOME for the folder of the user", () => {
  const { calls: [call] } = launch(["download", "org/name"], { hfHome: "~/hf" });
  assertStringIncludes(call, "[--allow-write=./hf/hub]");
});

Deno.test("firn opens no path with a comma, which Deno would take for two", () => {
  const { code, stderr, calls } = launch(["finetune", "--out", "a,/etc"]);
  assertEquals([code, calls], [1, []]);
  assertStringIncludes(stderr, 'cannot open "a,/etc" alone to finetune');
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
      'case "$*" in --version) echo deno 2.9.6 ;; *--no-prompt*) ;; *) echo $$; kill -TERM $$; sleep 5 ;; esac';
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
