/**
 * Files of flags.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "@firn/train";
import { readLog } from "@firn/train/report";
import {
  CONFIG_FLAGS,
  configText,
  flagsIn,
  readCommand,
  readConfig,
  resumedConfig,
} from "../../examples/config.ts";
import { checkFlags, FLAGS } from "../../examples/finetune_flags.ts";
import { withSteps } from "../../examples/finetune_plan.ts";
import { main as finetune } from "../../examples/finetune.ts";
import {
  oneOf,
  positive,
  readFlags,
  type Table,
  text,
  texts,
  toggle,
  topic,
  UsageError,
  whole,
} from "../../examples/flags.ts";
import { MAX_SHARD_SIZE } from "../../examples/shard_size.ts";
import { inFolder } from "../data/files.ts";
import { call, example, TEXT } from "./process.ts";

const TABLE = {
  ...topic("training", {
    steps: whole("steps", 120),
    epochs: positive("epochs", null),
    lr: positive("rate", null),
    pack: toggle("pack"),
  }),
  ...topic("data", {
    data: texts("FILE", "files", ["a.txt"]),
    prompt: text("TEXT", "beginning", "The whale"),
    kind: oneOf(["auto", "all"], "which", "auto"),
    "shard-size": MAX_SHARD_SIZE,
  }),
  ...topic("run", { ...CONFIG_FLAGS, out: text("DIR", "folder", null), resume: text("DIR", "folder", null) }),
};

const FILE = `# A comment with = in it
steps = 6
lr = 1e-4

data = [
  "b.txt", # steps = 7
  "c.txt",
]
prompt = """
steps = 8
"""
"pack" = true
shard-size = "5GB"
`;

const read = (file: string) => readConfig(file, { table: TABLE as Table, path: "run.toml" });

Deno.test("readConfig reads each flag as a key, and knows its line", () => {
  assertEquals([...read(FILE)].map(([name, { value, line }]) => [name, value, line]), [
    ["steps", 6, 2],
    ["lr", 1e-4, 3],
    ["data", ["b.txt", "c.txt"], 5],
    ["prompt", "steps = 8\n", 9],
    ["pack", true, 12],
    ["shard-size", 5e9, 13],
  ]);
  assertEquals(read('data = "b.txt"').get("data")!.value, ["b.txt"]);
  assertEquals(read("steps = 6\r\nlr = 1\r\n").get("lr")!.line, 2);
  const odd = String.raw`prompt = """ # \""" [ "" { """""
data = ['[', "\"{", # ]
  '''
'''''] # ' """
lr = 1`;
  assertEquals([...read(odd)].map(([name, { line }]) => [name, line]), [["prompt", 1], ["data", 2], [
    "lr",
    5,
  ]]);
});

Deno.test("readConfig knows the lines of a large file within a second", () => {
  const began = performance.now(), file = `prompt = """\n${"a whale\n".repeat(20_000)}"""\nlr = 1\n`;
  assertEquals(read(file).get("lr")!.line, 20_003);
  assert(performance.now() - began < 1000);
});

/** What must be refused in the last line of a file, and the reason. */
const REFUSED: readonly (readonly [line: string, why: string])[] = [
  ["stpes = 6", 'each key must be a flag: there is no "stpes"; did you mean "steps"?'],
  ["frobnicate = 6", 'each key must be a flag: there is no "frobnicate"'],
  ["toString = 6", 'each key must be a flag: there is no "toString"'],
  ["__proto__ = 6", 'each key must be a flag: there is no "__proto__"'],
  ["steps = 0", '"steps" must be a whole number from 1: got 0'],
  ['steps = "6"', '"steps" must be a number, without quotes: got "6"'],
  ["steps = true", '"steps" must be a value, N: got true'],
  ["steps = [6]", '"steps" must be a value, N: got [6]'],
  ["lr = nan", '"lr" must be a number above 0: got NaN'],
  ["prompt = 6", '"prompt" must be a text, in quotes: got 6'],
  ['prompt = ""', '"prompt" must be a text that is not empty: got ""'],
  ['kind = "some"', '"kind" must be one of auto, all: got "some"'],
  ['pack = "yes"', '"pack" must be true or false: got "yes"'],
  ["data = [6]", '"data" must be a text, in quotes: got [6]'],
  ['config = "a.toml"', '"config" stands on the command line alone: drop it'],
  ['resume = "out"', '"resume" stands on the command line alone: drop it'],
  ["[training]", 'keys stand without tables: got "training"'],
  ["training.steps = 6", 'keys stand without tables: got "training"'],
  ["lr = ", "it must be TOML: "],
  ["lr = 1\nlr = 2", "it must be TOML: "],
];

Deno.test("readConfig refuses what is unknown or has another type, by name and line", () => {
  for (const [line, why] of REFUSED) {
    const file = `# first\nout = """\nx"""\n${line}\n`, at = 4 + line.split("\n").length - 1;
    const { message } = assertThrows(() => read(file), UsageError);
    assert(message.startsWith(`Cannot use line ${at} of "run.toml" as ${why}`), message);
  }
});

Deno.test("readCommand lets the command line win over the file, and names the lines of keys that contradict each other", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/run.toml`;
    await Deno.writeTextFile(path, "steps = 6\npack = true\nlr = 0.5\n");
    const { values, given } = await readCommand(["--steps", "7", "--no-pack", "--config", path], {
      table: TABLE,
    });
    assertEquals([values.steps, values.pack, values.lr, values.prompt], [7, false, 0.5, "The whale"]);
    assertEquals(given, ["steps", "pack", "config", "lr"]);
    await Deno.writeTextFile(path, "steps = 6\n\nepochs = 2\n");
    const check = ({ steps, epochs }: { readonly steps: number; readonly epochs: number | null }): void => {
      if (steps !== 120 && epochs !== null) {
        throw new UsageError("--steps and --epochs both say how long: give one");
      }
    };
    await assertRejects(
      () => readCommand(["--config", path], { table: TABLE, check }),
      UsageError,
      `--steps and --epochs both say how long: give one ("${path}" has steps in line 1, epochs in line 3)`,
    );
    await assertRejects(
      () => readCommand(["--config", path, "--steps", "3"], { table: TABLE, check }),
      UsageError,
      `give one ("${path}" has epochs in line 3)`,
    );
    await Deno.writeFile(path, new Uint8Array([0xff]));
    await assertRejects(() => readCommand(["--config", path], { table: TABLE }), UsageError, "UTF-8");
  });
});

Deno.test("flagsIn gives the launcher each key as a flag", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/run.toml`, FILE + "watch = 0\nother = false\n");
    assertEquals(await flagsIn(`${folder}/run.toml`), [
      "--steps=6",
      "--lr=0.0001",
      "--data=b.txt",
      "--data=c.txt",
      "--pack",
      "--shard-size=5GB",
      "--watch=0",
    ]);
  });
});

Deno.test("configText writes each value that readConfig reads again, and not where the run lies", () => {
  const flags = {
    steps: 6,
    epochs: null,
    lr: 5e-324,
    pack: true,
    data: ['a "b".txt', "c\n"],
    prompt: "\\ \u0007 🐋",
    kind: "auto",
    "shard-size": 5e9,
    config: "old.toml",
    out: "out/finetune-1",
    resume: null,
  };
  const { epochs: _, config: __, out: ___, resume: ____, ...kept } = flags;
  const written = configText("finetune", { table: TABLE, flags });
  assertEquals(Object.fromEntries([...read(written)].map(([name, { value }]) => [name, value])), kept);
  assert(written.includes("\n# data\n"), written);
  assertStringIncludes(written, "# ./firn finetune --config run.toml does this again\n");
});

Deno.test("the file of a run on ranks says with how many it is that run again", () => {
  const written = configText("finetune", { table: TABLE as Table, flags: { steps: 6 } as never, ranks: 2 });
  assertStringIncludes(written, "# ./firn ranks 2 finetune --config run.toml does this again\n");
});

Deno.test("the file of a run that goes on with another rate says until when it had which, and is read like others", () => {
  const of = (lr: number) =>
    configText("finetune", { table: TABLE as Table, flags: { steps: 6, lr, pack: false } as never });
  const first = of(0.002);
  assertEquals(resumedConfig(first, first, 3), first);
  const twice = resumedConfig(resumedConfig(first, of(0.001), 3), of(0.0005), 5);
  assert(twice.startsWith(
    `${
      first.split("\n")[0]
    }\n# but until step 3 it had lr = 0.002\n# but until step 5 it had lr = 0.001\n\n# training\n`,
  ));
  assertEquals(resumedConfig(twice, of(0.0005), 6), twice);
  assertEquals(read(twice).get("lr")!.value, 0.0005);
});

Deno.test("finetune --config of the run.toml that a run wrote says in a dry run what it takes, to the byte, writes nothing, and trains the same model bit for bit", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    const own =
      `--data ${folder}/text.txt --epochs 0.1 --batch 1 --length 8 --seed 3 --lr 1e-3 --schedule linear --clip 0.5`;
    const quick = "--policy none --no-sample --eval-tokens 8".split(" ");
    assertEquals(await call(finetune, [...own.split(" "), ...quick, "--out", `${folder}/a`]), null);
    const again = ["--config", `${folder}/a/run.toml`, "--out", `${folder}/b`];

    const { code, stdout, stderr } = await example("finetune", [...again, "--dry-run"], folder);
    assertEquals([code, stderr], [0, ""]);
    const log = await readLog(`${folder}/a/metrics.jsonl`), steps = log.filter(({ kind }) => kind === "step");
    const [, bytes] = stdout.match(/^memory +([\d,]+) bytes while it trains/m)!;
    assertEquals(steps.map((line) => "memoryBytes" in line && line.memoryBytes), [
      ...steps.map(() => Number(bytes.replaceAll(",", ""))),
    ]);
    assert(
      stdout.includes(`steps       ${steps.length} of 1 × 8 tokens, ${8 * steps.length} tokens, 0.1`),
      stdout,
    );
    assertEquals(/^time +about \d+:\d\d, if nothing freezes/m.test(stdout), true);
    const toml = await Deno.readTextFile(`${folder}/a/run.toml`);
    assert(stdout.includes(toml), stdout);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), ["a", "text.txt"]);

    assertEquals(await call(finetune, again), null);
    const [a, b] = await Promise.all(
      ["a", "b"].map((out) => Deno.readFile(`${folder}/${out}/model/model.safetensors`)),
    );
    assert(a.length === b.length && a.every((byte, i) => byte === b[i]));
    assertEquals(await Deno.readTextFile(`${folder}/b/run.toml`), toml);
  });
});

Deno.test("withSteps makes steps of epochs, 120 of nothing, and refuses both", () => {
  const values = readFlags([], FLAGS).values, flags = { ...values, lr: 1, batch: 4, accumulate: 2 };
  const stepsOf = (given: { readonly steps?: number; readonly epochs?: number }, epoch: number | null) =>
    withSteps({ flags: { ...flags, ...given } } as Parameters<typeof withSteps>[0], { epoch }).flags;
  assertEquals([stepsOf({}, null).steps, stepsOf({ steps: 7 }, null).steps], [120, 7]);
  const { steps, epochs } = stepsOf({ epochs: 1.5 }, 10.2);
  assertEquals([steps, epochs], [8, null]);
  assertThrows(() => stepsOf({ epochs: 1 }, null), InputError, "give --steps");
  assertThrows(() => checkFlags({ ...values, steps: 1, epochs: 1 }), UsageError, "give one");
});
