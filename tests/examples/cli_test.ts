/**
 * What commands may read, write and ask, as their arguments say, on each system.
 *
 * @module
 */

import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { helpText, main, shellLines, signalsOf } from "../../examples/cli.ts";
import { COMMANDS } from "../../examples/commands.ts";
import { type Launch, LaunchError, type LaunchPlan, planOf } from "../../examples/launch_plan.ts";
import {
  denoFolder,
  hubPlaces,
  type Machine,
  pathsOf,
  thisMachine,
  withTarget,
} from "../../examples/machine.ts";
import { inFolder } from "../data/files.ts";
import { ROOT, run } from "../shell.ts";

/** A machine with nothing on it. */
function machineOf(
  {
    os = "linux",
    env = { DENO_DIR: "/deno", HF_HOME: "/hf" },
    files = {},
    folder = os === "windows" ? "C:\\work" : "/work",
  }: {
    readonly os?: string;
    readonly env?: Readonly<Record<string, string>>;
    readonly files?: Readonly<Record<string, "file" | "folder">>;
    readonly folder?: string;
  } = {},
): Machine {
  return {
    ...{ ...thisMachine(), os, folder },
    env: (name) => env[name],
    kindOf: (path) => files[path] ?? null,
    realPath: (path) => pathsOf({ os }).resolve(folder, path),
    nvidia: () => "NVRM version: 580.159.03",
  };
}

const plan = (
  args: readonly string[],
  machine: Machine = machineOf(),
  configured: readonly string[] = [],
): LaunchPlan => planOf(args, { machine, configured });

/** What a command may read, write and run. */
function permissionsOf({ flags }: Launch) {
  const granted = flags.map((flag) => {
    const [, name, list] = /^--allow-(\w+)(?:=(.*))?$/.exec(flag)!;
    return [name, list?.replace(/^\.,\/deno/, ".") ?? "all"] as const;
  });
  const { read, write, run, ...rest } = Object.fromEntries(granted) as Record<string, string | undefined>;
  return { ...{ read, write, run }, rest: Object.keys(rest) };
}

Deno.test("a run may read and write what its flags name, and nothing else", () => {
  const none = { read: ".", write: ".firn,out", run: undefined, rest: [] };
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
    [["vision", "--log", "/l", "--watch=0"], { read: ".,/l", write: ".firn,out,/l", rest: ["net"] }],
    [["finetune", "--policy", "/p/q/r.ts"], { read: ".,/p/q/" }],
    [["finetune", "--adapter=/a", "--lora", "8"], { read: ".,/a" }],
    [["merge", "/m", "/a", "/o/x", "--no-tune"], { read: ".,/m,/a,/o/x,/o", write: ".firn,out,/o" }],
    [["export", "/m", "/o/x.gguf", "--type", "q8_0", "--adapter=/a"], {
      read: ".,/m,/o/x.gguf,/o,/a",
      write: ".firn,out,/o",
    }],
    [["finetune", "--policy=snr", "--prompt", "--out"], { read: "." }],
    [["finetune", "--dpo", "--out", "/a/b/"], {
      read: ".,/a/b/,/a/.b-reference",
      write: ".firn,out,/a/b/,/a/.b-reference",
    }],
    [["finetune", "--reward", "--out", "/a/b"], { read: ".,/a/b", write: ".firn,out,/a/b" }],
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
    assertEquals(permissionsOf(plan(args).main), { ...none, ...expected }, args.join(" "));
  }
});

Deno.test("merge and export find what they read and write among their flags", () => {
  const cases: readonly (readonly [readonly string[], string, string])[] = [
    [["merge", "--no-tune", "/m", "/a", "/o/x"], ".,/m,/a,/o/x,/o", ".firn,out,/o"],
    [["merge", "--gpu=dawn", "/m", "/a", "/o/x"], ".,/m,/a,/o/x,/o", ".firn,out,/o"],
    [["export", "--type", "q8_0", "/m", "/o/x.gguf"], ".,/m,/o/x.gguf,/o", ".firn,out,/o"],
  ];
  for (const [args, read, write] of cases) {
    const found = permissionsOf(plan(args).main);
    assertEquals([found.read, found.write], [read, write], args.join(" "));
  }
});

Deno.test("a command opens a library only where it asks for Dawn, and only one of a package", () => {
  assertEquals(plan(["finetune", "--gpu", "dawn"]).main.flags[0], "--allow-ffi=/deno/npm");
});

Deno.test("a run reads and writes what the file of its --config names", () => {
  const { main } = plan(["finetune", "--config", "/c.toml"], machineOf(), [
    "--data=/d ata.txt",
    "--out=/o",
    "--prompt=a * b",
    "--gpu=dawn",
  ]);
  assertEquals(permissionsOf(main), {
    ...{ read: ".,/c.toml,/d ata.txt,/o", write: ".firn,out,/o", run: undefined, rest: ["ffi"] },
  });
  assertEquals(main.args, ["--config", "/c.toml"]);
});

const DOWNLOAD = [
  "--allow-env=HF_HUB_CACHE,HF_HUB_OFFLINE,HF_ENDPOINT,HF_TOKEN,HF_TOKEN_PATH",
  "--allow-net=huggingface.co,*.huggingface.co,*.hf.co",
  "--allow-read=.,/hf/hub,/hf/token,/deno",
  "--allow-write=/hf/hub",
];

Deno.test("a model of a hub is downloaded in a process of its own: what trains gets neither network nor token", () => {
  const { before, main } = plan(["finetune", "--model", "org/name@v1.0"]);
  const env = { HF_HUB_CACHE: "/hf/hub", HF_TOKEN_PATH: "/hf/token" };
  const download = { env, flags: DOWNLOAD, script: "examples/download.ts" };
  assertEquals(before, [{ ...download, args: ["--if-missing", "org/name@v1.0"] }]);
  assertEquals(main, {
    env: { ...env, HF_HUB_OFFLINE: "1" },
    flags: [
      "--allow-env=HF_HUB_CACHE,HF_HUB_OFFLINE",
      "--allow-read=.,/deno,/hf/hub",
      "--allow-write=.firn,out",
    ],
    script: "examples/finetune.ts",
    args: ["--model", "org/name@v1.0"],
  });
  const namesOf = (...args: readonly string[]) => plan(args).before.map(({ args: [, name] }) => name);
  assertEquals(namesOf("merge", "org/name", "org/adapter", "out/x", "--no-tune"), [
    "org/name",
    "org/adapter",
  ]);
  assertEquals(namesOf("export", "org/name", "out/x.gguf", "--adapter", "org/adapter"), [
    "org/name",
    "org/adapter",
  ]);
  assertEquals(namesOf("pretrain", "--data", "hub:org/rows/data/*.jsonl"), ["hub:org/rows/data/*.jsonl"]);
  assertEquals(namesOf("classify", "--model=org/name", "--help"), []);
  assertEquals(plan(["download", "org/name"]), { before: [], main: { ...download, args: ["org/name"] } });
});

Deno.test("push reads the folder and the log beside it, writes nothing but the cache, and asks the hub", () => {
  const machine = machineOf({
    env: { DENO_DIR: "/deno", HF_HOME: "/hf", HF_ENDPOINT: "http://[::1]:8080/x" },
    files: { bin: "folder" },
  });
  const { main } = plan(["push", "bin", "me/whales", "--private"], machine);
  assertEquals(main.flags.slice(1), [
    "--allow-net=[::1],*.huggingface.co,*.hf.co,*.s3-accelerate.amazonaws.com,*.s3.amazonaws.com",
    "--allow-read=.,/hf/hub,/hf/token,/deno,bin,bin/../metrics.jsonl",
    "--allow-write=/hf/hub",
  ]);
});

Deno.test("a hub is asked for nothing that is here or that can be no name", () => {
  const machine = machineOf({ files: { "bin/deno": "file" } });
  for (
    const name of ["bin/deno", "/org/name", "./org/name", "../org/name", "name", "org/na me", "org//name"]
  ) {
    assertEquals(plan(["finetune", "--model", name], machine).before, [], name);
  }
  const windows = machineOf({ os: "windows" });
  for (const name of ["C:\\models\\a", "C:/models/a", "models\\a", "\\\\server\\share\\a"]) {
    assertEquals(plan(["finetune", "--model", name], windows).before, [], name);
  }
});

Deno.test("what a link on the way leads to is opened, too, there or not yet, as Deno asks for both", async () => {
  await inFolder((folder) => {
    const place = Deno.realPathSync(folder), machine = thisMachine();
    Deno.mkdirSync(`${place}/disk`);
    Deno.writeTextFileSync(`${place}/disk/a.txt`, "");
    Deno.symlinkSync(`${place}/disk`, `${place}/link`);
    Deno.symlinkSync(`${place}/disk/a.txt`, `${place}/a.txt`);
    assertEquals(withTarget(`${place}/link`, machine), [`${place}/link`, `${place}/disk`]);
    assertEquals(withTarget(`${place}/disk/a.txt`, machine), [`${place}/disk/a.txt`]);
    assertEquals(withTarget(`${place}/a.txt`, machine), [`${place}/a.txt`, `${place}/disk/a.txt`]);
    assertEquals(withTarget(`${place}/link/new/run`, machine), [
      `${place}/link/new/run`,
      `${place}/disk/new/run`,
    ]);
    return Promise.resolve();
  });
});

Deno.test("no path with a comma is opened, which Deno would take for two", () => {
  assertThrows(
    () => plan(["finetune", "--out", "a,/etc"]),
    LaunchError,
    'cannot open "a,/etc" alone to finetune',
  );
});

Deno.test("the folders of Deno and of Hugging Face are found on each system", () => {
  const found = (os: string, env: Readonly<Record<string, string>>) => {
    const machine = machineOf({ os, env });
    return [denoFolder(machine), hubPlaces(machine).HF_HUB_CACHE];
  };
  assertEquals(found("linux", { HOME: "/home/me" }), [
    "/home/me/.cache/deno",
    "/home/me/.cache/huggingface/hub",
  ]);
  assertEquals(found("linux", { HOME: "/home/me", XDG_CACHE_HOME: "/c" }), ["/c/deno", "/c/huggingface/hub"]);
  assertEquals(found("darwin", { HOME: "/Users/me", HF_HOME: "~/hf" }), [
    "/Users/me/Library/Caches/deno",
    "/Users/me/hf/hub",
  ]);
  const windows = { USERPROFILE: "C:\\Users\\me", LOCALAPPDATA: "C:\\Users\\me\\AppData\\Local" };
  assertEquals(found("windows", windows), [
    "C:\\Users\\me\\AppData\\Local\\deno",
    "C:\\Users\\me/.cache/huggingface/hub",
  ]);
  assertEquals(found("windows", { ...windows, HF_HUB_CACHE: "~\\hub" })[1], "C:\\Users\\me\\hub");
});

Deno.test("paths of Windows are opened with their drives, shares and separators", () => {
  const machine = machineOf({ os: "windows", env: { DENO_DIR: "/deno" } });
  const cases: readonly (readonly [readonly string[], string, string])[] = [
    [
      ["finetune", "--data", "D:\\d.txt", "--out", "D:\\runs\\a"],
      ".,D:\\d.txt,D:\\runs\\a",
      ".firn,out,D:\\runs\\a",
    ],
    [["finetune", "--data", "D:\\texts\\*.jsonl:0.5"], ".,D:\\texts\\", ".firn,out"],
    [["finetune", "--policy", "own\\policy.ts"], ".,own\\", ".firn,out"],
    [
      ["finetune", "--kto", "--out", "D:\\a"],
      ".,D:\\a,D:\\.a-reference",
      ".firn,out,D:\\a,D:\\.a-reference",
    ],
    [
      ["lora", "--out", "\\\\host\\share\\a\\b"],
      ".,\\\\host\\share\\a\\b,\\\\host\\share\\a",
      ".firn,out,\\\\host\\share\\a\\b,\\\\host\\share\\a",
    ],
    [["merge", "C:\\m", "C:/a", "C:\\o\\x"], ".,C:\\m,C:/a,C:\\o\\x,C:\\o", ".firn,out,C:\\o"],
  ];
  for (const [args, read, write] of cases) {
    const found = permissionsOf(plan(args, machine).main);
    assertEquals([found.read, found.write], [read, write], args.join(" "));
  }
});

Deno.test("signals of a terminal reach both processes, others are handed on, and Windows has SIGINT and SIGBREAK", () => {
  assertEquals(signalsOf({ terminal: true, os: "linux" }), { SIGINT: false, SIGTERM: true, SIGHUP: false });
  assertEquals(signalsOf({ terminal: false, os: "darwin" }), { SIGINT: true, SIGTERM: true, SIGHUP: true });
  assertEquals(signalsOf({ terminal: false, os: "windows" }), { SIGINT: false, SIGBREAK: false });
});

Deno.test("a shell takes a plan word by word", () => {
  const args = ["a b", "$HOME", "", "it's", "*", "x=1"];
  const launch: Launch = { env: { A: "b c" }, flags: ["--allow-read=."], script: "examples/x.ts", args };
  const text = shellLines(launch, machineOf({ folder: Deno.realPathSync(ROOT) }));
  const { stdout } = run(Deno.realPathSync(ROOT), [
    "-c",
    `deno() { printf '[%s]' "$A" "$@"; }\n${text.replace("exec ", "")}`,
  ]);
  assertEquals(
    new TextDecoder().decode(stdout),
    `[b c][run][--allow-read=.][examples/x.ts]${args.map((arg) => `[${arg}]`).join("")}`,
  );
});

Deno.test("firn and deno.json know the commands that the command line knows", () => {
  const launcher = Deno.readTextFileSync(new URL("firn", ROOT));
  const [known] = /^case \$command in\n.*?shift/ms.exec(launcher)!;
  for (const [name, { about, script }] of Object.entries(COMMANDS)) {
    assertStringIncludes(launcher, `\n  ${name.padEnd(12)} ${about}\n`);
    assertMatch(known, new RegExp(`\\b${name}\\b`));
    assertEquals(Deno.statSync(new URL(script, ROOT)).isFile, true);
  }
  assertStringIncludes(helpText(), "\n  finetune     fine-tune");
});

Deno.test("the command line names a command that there is not in one line", async () => {
  const { error } = console, said: unknown[] = [];
  console.error = (text) => said.push(text);
  try {
    assertEquals([await main(["fine-tune"]), await main([])], [2, 2]);
  } finally {
    console.error = error;
  }
  assertEquals(said, ['firn: there is no command "fine-tune": help lists them', helpText()]);
});

Deno.test("the command line hands a signal on, and ends as the command does", async () => {
  await inFolder(async (folder) => {
    const start = { kind: "start", config: { command: "x" }, adapter: "none" };
    Deno.writeTextFileSync(`${folder}/metrics.jsonl`, JSON.stringify(start) + "\n");
    const standIns = import.meta.resolve("@std/assert").startsWith("file:");
    const script = `"$0" run -q -A examples/cli.ts watch "$1" --port 0 >"$1/log" 2>&1 &
cli=$!
for _ in $(seq 100); do if grep -q http "$1/log"; then break; fi; sleep 0.1; done
kill -TERM $cli
wait $cli
echo "$?"
cat "$1/log"`;
    const { stdout } = await new Deno.Command("sh", {
      args: ["-c", script, Deno.execPath(), folder],
      cwd: ROOT,
      env: { NO_COLOR: "1", FIRN_FLAGS: standIns ? "--import-map=tests/stand_ins/import_map.json" : "" },
    }).output();
    assertMatch(new TextDecoder().decode(stdout), /^0\nwatching [^]*watch: ends/);
  });
});

Deno.test("a program of the package runs in the process of the command line, as those of JSR do", async () => {
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
  const run = async (...args: readonly string[]) => {
    const { code, stdout, stderr } = await new Deno.Command("sh", {
      args: [
        "-c",
        'exec "$0" "$@"',
        Deno.execPath(),
        "run",
        "--quiet",
        "--no-check",
        "--allow-read",
        ...map,
      ]
        .concat(["examples/cli.ts", "--here", ...args]),
      cwd: ROOT,
      env: { NO_COLOR: "1" },
    }).output();
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  };
  const help = await run("examples/explain.ts", "--help");
  assertEquals(help.code, 0);
  assertStringIncludes(help.stdout, "usage: ./firn explain");
  const missing = await run("examples/explain.ts", "nowhere");
  assertEquals(missing.code, 1);
  assertMatch(missing.stderr, /^explain: Cannot /);
  // What --config opens is found out by a program of its own.
  await inFolder(async (folder) => {
    const path = `${folder}/run.toml`;
    Deno.writeTextFileSync(path, 'out = "a b"\n');
    assertEquals((await run("examples/config_flags.ts", path)).stdout, "--out=a b\n");
  });
});
