/**
 * The help of the commands: each flag in a topic, each topic on a screen.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { FLAGS as BROWSER } from "../../examples/browser.ts";
import { FLAGS as CHAT } from "../../examples/chat.ts";
import { COMMANDS } from "../../examples/commands.ts";
import { FLAGS as CLASSIFY } from "../../examples/classify.ts";
import { configText, readConfig } from "../../examples/config.ts";
import { FLAGS as CONVERSE } from "../../examples/converse.ts";
import { FLAGS as DIGITS } from "../../examples/digits.ts";
import { FLAGS as SSM } from "../../examples/ssm.ts";
import { FLAGS as EMBED } from "../../examples/embed.ts";
import { FLAGS as EVALUATE } from "../../examples/evaluate.ts";
import { FLAGS as EXPORT } from "../../examples/export.ts";
import { FLAGS as FINETUNE } from "../../examples/finetune_flags.ts";
import {
  oneOf,
  positive,
  readFlags,
  share,
  type Table,
  text,
  topic,
  topicsOf,
  whole,
} from "../../examples/flags.ts";
import { FLAGS as GENERATE } from "../../examples/generate.ts";
import { helpOf, SCREEN } from "../../examples/help.ts";
import { planOf } from "../../examples/launch_plan.ts";
import { thisMachine } from "../../examples/machine.ts";
import { FLAGS as LORA } from "../../examples/lora.ts";
import { FLAGS as MERGE } from "../../examples/merge.ts";
import { FLAGS as PRETRAIN } from "../../examples/pretrain.ts";
import { FLAGS as PUSH } from "../../examples/push.ts";
import { FLAGS as SERVE } from "../../examples/serve.ts";
import { FLAGS as VISION } from "../../examples/vision.ts";
import { FLAGS as VLM } from "../../examples/vlm.ts";

const TRAINING = {
  finetune: FINETUNE,
  pretrain: PRETRAIN,
  classify: CLASSIFY,
  vision: VISION,
  lora: LORA,
  vlm: VLM,
  digits: DIGITS,
};

const ALL: Readonly<Record<string, Table>> = {
  ...TRAINING,
  browser: BROWSER,
  chat: CHAT,
  converse: CONVERSE,
  embed: EMBED,
  evaluate: EVALUATE,
  export: EXPORT,
  generate: GENERATE,
  merge: MERGE,
  push: PUSH,
  serve: SERVE,
  ssm: SSM,
};

function fits(help: string): boolean {
  const lines = help.trimEnd().split("\n");
  return lines.length <= SCREEN.lines && lines.every((line) => line.length <= SCREEN.columns);
}

Deno.test("each flag of a command that trains stands in a topic, and is a key of its configuration", () => {
  for (const [command, table] of Object.entries(TRAINING)) {
    const flags = Object.entries(table as Table);
    assertEquals(flags.filter(([, { topic }]) => topic === undefined).map(([name]) => name), [], command);
    assert("config" in table, command);
  }
});

Deno.test("the file that a run writes with all defaults is read again as it was, for each command that trains", () => {
  for (const [command, table] of Object.entries(TRAINING) as [string, Table][]) {
    const flags = readFlags([], table).values, text = configText(command, { table, flags });
    const read = Object.fromEntries(
      [...readConfig(text, { table, path: "" })].map(([key, { value }]) => [key, value]),
    );
    assertEquals({ ...flags, ...read }, flags, command);
    const left = Object.keys(flags).filter((name) => flags[name] !== null && !Object.hasOwn(read, name));
    assertEquals(left.filter((name) => name !== "dry-run"), [], command);
  }
});

Deno.test("--help fits a screen and names each flag, and so does each topic of it", () => {
  const usage = "usage: ./firn command [flags]\n\nDoes something.";
  for (const [command, table] of Object.entries(ALL)) {
    const whole = helpOf(usage, table);
    assert(fits(whole), `${command} --help`);
    const missing = Object.keys(table).filter((name) => !new RegExp(`--${name}(?![a-z0-9-])`).test(whole));
    assertEquals(missing, [], command);
    for (const topic of topicsOf(table)) {
      const screen = helpOf(usage, table, topic);
      assert(fits(screen), `${command} --help ${topic}:\n${screen}`);
    }
  }
});

Deno.test("what a flag names is open to its command: every flag of a file, a folder or a name", () => {
  const machine = { ...thisMachine(), env: () => undefined, kindOf: () => null };
  for (
    const [command, table] of Object.entries(ALL).filter(([name]) => name in COMMANDS && name !== "push")
  ) {
    const named = Object.entries(table).filter(([, { placeholder }]) => /\b(FILE|DIR)\b/.test(placeholder));
    for (const [name, { placeholder }] of named) {
      const { main, before } = planOf([command, `--${name}`, "/there/it"], { machine });
      const read = main.flags.find((flag) => flag.startsWith("--allow-read"))!;
      assert(/\/there|^--allow-read$/.test(read), `${command} --${name} ${placeholder}: ${read}`);
      if (!/\|NAME\b/.test(placeholder)) continue; // Data have "hub:" before theirs.
      const asked = planOf([command, `--${name}`, "own/name"], { machine }).before.map(({ args }) =>
        args.at(-1)
      );
      assertEquals([asked, before], [["own/name"], []], `${command} --${name}`);
    }
  }
});

Deno.test("the README names no flag that there is not", async () => {
  const known = new Set(Object.values(ALL).flatMap((table) => Object.keys(table)));
  // Those of Deno, of the launcher and of programs that are no command of the examples.
  const others = new Set(["help", "filter", "torch", "gpu", "install", "bind-to"]);
  const named = (await Deno.readTextFile("README.md")).match(/--[a-z][a-z0-9-]*/g)!.map((flag) =>
    flag.slice(2)
  );
  const stray = named.filter((name) => !known.has(name) && !others.has(name) && !name.startsWith("allow-"));
  assertEquals([...new Set(stray)], []);
});

Deno.test("the files of flags in the README have keys and values that finetune takes", async () => {
  const blocks = (await Deno.readTextFile("README.md")).match(/(?<=```toml\n).*?(?=```)/gs)!;
  for (const text of blocks) assert(readConfig(text, { table: FINETUNE, path: "README.md" }).size > 0);
});

Deno.test("helpOf lists the usage, and every flag with its placeholder, meaning and default", () => {
  const table = {
    out: text("DIR", "output folder, new when absent", null),
    steps: whole("optimizer steps", 120),
    lr: positive("learning rate", 0.002),
    alpha: share(`grace period, ${"and so on ".repeat(8)}to the end`, 0.5),
    metric: oneOf(["gradNorm", "gradDelta"], "signal", "gradNorm"),
    rule: oneOf(["first", "second", "third", "fourth"], "which", null),
  };
  assertEquals(
    helpOf("usage: train [flags]", table),
    `usage: train [flags]

  --out DIR                       output folder, new when absent
  --steps N                       optimizer steps [120]
  --lr X                          learning rate [0.002]
  --alpha X                       grace period, and so on and so on and so on and so on and so on
                                  and so on and so on and so on to the end [0.5]
  --metric gradNorm|gradDelta     signal [gradNorm]
  --rule first|second|third|fourth
                                  which
  --help, -h                      show this
`,
  );
});

Deno.test("helpOf lists topics where all flags do not fit a screen, and the flags of a topic", () => {
  const many = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`flag-${i}`, whole("a number", i)]));
  const table = {
    ...topic("numbers", many),
    ...topic("words", { name: text("NAME", "what it is called", null) }),
  };
  const whole_ = helpOf("usage", table);
  assert(whole_.includes("  numbers  --flag-0 --flag-1 "), whole_);
  assert(whole_.includes("  words    --name\n"), whole_);
  assertEquals(helpOf("usage", table, "words"), "flags about words\n\n  --name NAME  what it is called\n");
});
