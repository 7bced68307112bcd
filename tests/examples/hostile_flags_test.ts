/**
 * Command lines that cannot be right: each ends with one line that says what to do, and writes nothing.
 *
 * The commands are called, not started, so that a case takes milliseconds.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { AlreadyExistsError, FileError } from "@firn/train";
import { LOCK_FILE, memoryFileSystem } from "@firn/train/data";
import { systemFileSystem } from "../../core/host/system_file_system.ts";
import { main as digits } from "../../examples/digits.ts";
import { main as explain } from "../../examples/explain.ts";
import { main as finetune } from "../../examples/finetune.ts";
import { failureOf } from "../../examples/flags.ts";
import { checkOutput, claimFolder, nextFree } from "../../examples/output.ts";
import { main as pretrain } from "../../examples/pretrain.ts";
import { main as conformance } from "../conformance.ts";
import { inFolder } from "../data/files.ts";
import { call, overridden, TEXT } from "./process.ts";

const COMMANDS = { finetune, pretrain, digits, explain, conformance } as const;

/** In arguments and messages, `@` is a folder with a text, a model, a file that is none, and folders. */
type Case = readonly [line: string, code: 1 | 2, message: string];

const MODEL = "a model is a folder of Hugging Face on this machine";
const SMALL = "--steps 2 --batch 2 --length 16";

/** Flags of every command that trains. */
const SHARED: readonly Case[] = [
  ["--steps 0", 2, '--steps must be a whole number from 1: got "0"'],
  ["--steps NaN", 2, '--steps must be a whole number from 1: got "NaN"'],
  ["--steps 1e400", 2, '--steps must be a whole number from 1: got "1e400"'],
  ["--watch 65536", 2, '--watch must be a port, 0 to 65535: got "65536"'],
  ["--progress dots", 2, '--progress must be one of auto, bar, lines, none: got "dots"'],
  ["--seed=-1", 2, '--seed must be a whole number from 0: got "-1"'],
  ["--out=", 2, "--out needs a value: --out DIR"],
  ["--steps 2 --steps 3", 2, "--steps is given twice: give it once"],
  ["--no-tune --no-tune", 2, "--no-tune is given twice: give it once"],
  ["--stpes 2", 2, 'there is no flag "--stpes"; did you mean --steps?'],
  ["--step 2", 2, 'there is no flag "--step"; did you mean --steps?'],
  ["--frobnicate", 2, 'there is no flag "--frobnicate"'],
  ["steps", 2, '"steps" belongs to no flag'],
  ["--out @/file", 1, 'Cannot write to "@/file" as it must be a folder: it is a file; choose another --out'],
  [
    "--out @/full",
    1,
    'Cannot write to "@/full" as it must be empty: it holds "diary.txt"; choose another --out',
  ],
  [
    "--out /dev/null",
    1,
    'Cannot write to "/dev/null" as it must be a folder: it is a device, a pipe or a socket',
  ],
];

const RESUME: readonly Case[] = [
  ["--resume", 2, "--resume needs a value: --resume DIR"],
  ["--resume @/nowhere", 1, 'Cannot resume "@/nowhere" as there is no "@/nowhere/checkpoint.safetensors"'],
  [
    "--resume @/file",
    1,
    '"@/file/checkpoint.safetensors" as what holds it must be a folder: a part of its path is a file',
  ],
  ["--resume @/full", 1, 'Cannot resume "@/full" as there is no "@/full/checkpoint.safetensors"'],
  ["--resume @/full --steps 3", 2, "--resume keeps the flags of its run: drop --steps"],
];

const DATA: readonly Case[] = [
  ["--data @/folder.txt", 1, '"@/folder.txt" as it must be a file: it is a folder; give the path of a file'],
  ["--data @/nowhere.txt", 1, '"@/nowhere.txt" as there is no such file'],
  ["--data=", 2, "--data needs a value: --data NAME|FILE"],
  ["--data hub:rows", 1, 'Cannot take "rows" for a dataset of a hub as its name must be owner/name'],
];

const NO_TEXT: readonly Case[] = ["@/full", "-", "@/file"].map((path): Case => [
  `--data ${path}`,
  1,
  `Cannot read "${path}" as text is "sotu", "moby-dick", hub:owner/name, a path`,
]);

const NO_ROWS: readonly Case[] = [
  ["--data @/full", 1, 'Cannot read rows of "@/full" as it must be a file: it is a folder; name its files'],
  ...["-", "@/file"].map((path): Case => [
    `--data ${path}`,
    1,
    `Cannot read rows of "${path}" as its name must end in .jsonl`,
  ]),
];

const CASES: { readonly [command in keyof typeof COMMANDS]: readonly Case[] } = {
  finetune: [
    ...SHARED,
    ["--batch -1", 2, '--batch must be a whole number from 1, or auto: got "-1"'],
    ...RESUME,
    ...DATA,
    ...NO_ROWS,
    ["--model @/file", 1, `Cannot load "@/file" as ${MODEL}, or a GGUF file: it is neither`],
    ["--model @/x.gguf", 1, 'Cannot read "@/x.gguf" as its header must be in its first bytes'],
    ["--model HuggingFaceTB/SmolLM2-135M", 1, "run it through ./firn, or with --allow-env --allow-net"],
    ["--model @/nowhere", 1, `Cannot load "@/nowhere" as ${MODEL}: there is none; check the path`],
    ["--model @/full", 1, 'Cannot load "@/full" as a model folder has a config.json: it has none'],
    [
      "--out @/model",
      1,
      'Cannot write to "@/model" as it must lie apart from the model\'s folder: that is "@/model"',
    ],
    ["--out @/model/", 1, 'Cannot write to "@/model/" as it must lie apart from the model\'s folder'],
    ["--out @/model/new", 1, 'Cannot write to "@/model/new" as it must lie apart from the model\'s folder'],
    ["--out @/link/new", 1, 'Cannot write to "@/link/new" as it must lie apart from the model\'s folder'],
    ["--out @/full/../model/a", 1, "must lie apart from the model's folder"],
    ["--out @", 1, 'Cannot write to "@" as it must lie apart from the model\'s folder'],
    [
      "--out @/file/new",
      1,
      'Cannot find "@/file/new" as what holds it must be a folder: a part of its path is a file',
    ],
    ["--batch 1e9", 1, "Cannot make batches as a batch may have 268435456 tokens"],
    ["--length 1e9", 1, 'Cannot train on 1000000000 tokens as "@/model" allows 256: lower --length'],
    ["--length 1", 2, '--length must be a whole number from 2: got "1"'],
    ["--lr NaN", 2, '--lr must be a number above 0: got "NaN"'],
    ["--precision bf16", 2, '--precision must be one of f32, f16, f32x3: got "bf16"'],
    [
      "--policy @/folder.ts",
      1,
      '"@/folder.ts" as it must be a file: it is a folder; give the path of a file',
    ],
    ["--policy data:,x", 2, "--policy takes a name or a path, no address"],
    ["--policy @/full", 2, "--policy must be one of gradES"],
    ["--prompt=", 2, "--prompt needs a value: --prompt TEXT"],
  ],
  pretrain: [
    ...SHARED,
    ["--batch -1", 2, '--batch must be a whole number from 1, or auto: got "-1"'],
    ...RESUME,
    ...DATA,
    ...NO_TEXT,
    ["--batch 1e9", 1, "Cannot make batches as a batch may have 268435456 tokens"],
    ["--length 1e9", 1, "Cannot make batches as a batch may have 268435456 tokens"],
    ["--layers 1e9", 1, '"num_hidden_layers" of "config.json" as it must be at most 10000: 1000000000'],
    ["--hidden 1e9", 1, '"model.embed_tokens.weight" of '],
    ["--vocab 1e9", 1, "Cannot train a tokenizer as "],
    ["--vocab 10", 2, '--vocab must be a whole number from 258: got "10"'],
    ["--heads 3", 2, "--heads must divide --hidden 128: got 3"],
    ["--kv-heads 3", 2, "--kv-heads must divide --heads 4: got 3"],
  ],
  digits: [
    ...SHARED,
    ["--batch -1", 2, '--batch must be a whole number from 1, or auto: got "-1"'],
    ...RESUME,
    ["--model cnn", 2, '--model must be one of mlp, mixer, vit, convnet: got "cnn"'],
    ["--batch 1e9", 1, "Cannot fill a batch of 1000000000 images as there are 8000: use a smaller batch"],
    ["--rate 0", 2, '--rate must be a number above 0: got "0"'],
    ["--policy nowhere.ts", 1, 'Cannot use "nowhere.ts" as there is no such module: check --policy'],
  ],
  explain: [
    ["", 2, "name the output folder of a run"],
    ["--colour", 2, 'there is no flag "--colour"'],
    ["@/full @", 2, 'one run at a time: "@" is too much'],
    ["@/nowhere", 1, 'Cannot explain "@/nowhere" as it must be the output folder of a run'],
    ["@/full", 1, 'Cannot explain "@/full" as it must be the output folder of a run'],
    [
      "@/file/metrics.jsonl",
      1,
      '"@/file/metrics.jsonl" as what holds it must be a folder',
    ],
    ["@/file", 1, 'Cannot read the log "@/file" as it must begin with the start of a run: it is empty'],
    ["@/text.txt", 1, 'Cannot read the log "@/text.txt" as '],
    ["/dev/null", 1, 'Cannot open "/dev/null" as it must be a file or a folder: it is a device'],
  ],
  conformance: [
    ["", 2, "name the folders of reference results"],
    ["--tile a", 2, 'there is no flag "--tile"'],
  ],
};

/** What makes a command line of a training small and right but for the case, which stands last. */
const BEFORE: { readonly [command in keyof typeof COMMANDS]?: string } = {
  finetune: `${SMALL} --model @/model --data @/text.txt --out @/out`,
  pretrain: `${SMALL} --data @/text.txt --out @/out --vocab 258`,
  digits: "--steps 2 --batch 2 --out @/out",
};

function lineOf(before: string, line: string): string[] {
  const [first, own] = [before, line].map((text) => text.split(" ").filter((arg) => arg !== ""));
  return own.includes("--resume") ? own : overridden(first, own);
}

async function withInputs(test: (folder: string) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    for (const name of ["full", "folder.txt", "folder.ts", "model"]) await Deno.mkdir(`${folder}/${name}`);
    for (const name of ["file", "x.gguf", "full/diary.txt"]) {
      await Deno.writeTextFile(`${folder}/${name}`, "");
    }
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    for await (const { name } of Deno.readDir("examples/models/sotu")) {
      await Deno.copyFile(`examples/models/sotu/${name}`, `${folder}/model/${name}`);
    }
    await Deno.symlink(`${folder}/model`, `${folder}/link`);
    await test(folder);
  });
}

/** Every path below a folder. */
async function paths(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    found.push(`${folder}/${name}`, ...isDirectory ? await paths(`${folder}/${name}`) : []);
  }
  return found.sort();
}

for (const [command, cases] of Object.entries(CASES) as [keyof typeof COMMANDS, readonly Case[]][]) {
  Deno.test(`${command} answers ${cases.length} command lines that cannot be right with one line each, and writes nothing`, async () => {
    await withInputs(async (folder) => {
      const faults: unknown[] = [];
      let before = await paths(folder);
      for (const [line, code, message] of cases) {
        const args = lineOf(BEFORE[command] ?? "", line).map((arg) => arg.replace("@", folder));
        const error = await call(COMMANDS[command], args);
        const seen = failureOf(error, command);
        const [first, ...rest] = seen.text.replaceAll(folder, "@").split("\n");
        const written = (await paths(folder)).filter((path) => !before.includes(path));
        const right = first.includes(message) && seen.code === code && written.length === 0 &&
          rest.join() === (code === 2 ? "See --help" : "");
        before = [...before, ...written];
        if (!right) faults.push({ line, code, message, seen, written });
      }
      assertEquals(faults, []);
    });
  });
}

Deno.test("an output folder that Deno may not read or write is refused with the flag that allows it", async () => {
  const refuse = (access: string) => (): never => {
    throw new Deno.errors.NotCapable(
      `Requires ${access} access to "o", run again with the --allow-${access} flag`,
    );
  };
  const none = systemFileSystem({ ...Deno, stat: refuse("read") });
  const unwritable = systemFileSystem({ ...Deno, mkdir: refuse("write") });
  const attempts = [
    [() => nextFree("o", { fileSystem: none }), '--allow-read="o-1"'],
    [() => checkOutput("o", { resumed: false, fileSystem: none }), '--allow-read="o"'],
    [() => claimFolder("o", { resumed: false, fileSystem: none }), '--allow-read="o"'],
    [() => claimFolder("o", { resumed: false, fileSystem: unwritable }), '--allow-write="o"'],
  ] as const;
  for (const [attempt, flag] of attempts) await assertRejects(attempt, FileError, flag);
});

Deno.test("the folder of a run that failed before it began can be taken again, with a lock and an empty log in it", async () => {
  const fileSystem = memoryFileSystem(), at = { resumed: false, fileSystem };
  await fileSystem.makeFolder("o");
  for (const name of [LOCK_FILE, "metrics.jsonl"]) await fileSystem.write(`o/${name}`, "");
  assertEquals(await claimFolder("o", at), "o");
  await fileSystem.write("o/metrics.jsonl", "{}\n");
  await assertRejects(() => claimFolder("o", at), AlreadyExistsError, 'it holds "metrics.jsonl"');
  await fileSystem.write("o/metrics.jsonl", "");
  await fileSystem.write("o/diary.txt", "");
  await assertRejects(() => claimFolder("o", at), AlreadyExistsError, "it must be empty");
});
