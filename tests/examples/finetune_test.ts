/**
 * The example `finetune` from its command line to its files, and what it says when it cannot.
 *
 * @module
 */

import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import { openGpu } from "@firn/train";
import { loadTokenizer, openSafetensors } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { FLAGS } from "../../examples/finetune_flags.ts";
import { inFolder } from "../data/files.ts";
import { finetune, type Outcome, overridden, small, TEXT } from "./process.ts";

const MODEL = "examples/models/sotu";
const FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/** A folder in which each test finds a text, modules and broken models by name. */
async function withInputs(test: (folder: string) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    const write = (name: string, content: string) => Deno.writeTextFile(`${folder}/${name}`, content);
    await write("text.txt", TEXT);
    await write("empty.txt", " \n");
    await write("short.txt", "Call me Ishmael.");
    await write("rows.jsonl", '{"text": "Call me Ishmael."}\n{"txt": "Some years ago"}\n');
    await write("none.ts", "export const policy = null;\n");
    await write(
      "all.ts",
      `import { definePolicy } from "@firn/train/policies";
      export default definePolicy({
        name: "all",
        init: (components) => components.map(({ path }) => path),
        next: (paths) => paths,
        frozen: (paths) => paths,
      });`,
    );
    await test(folder);
  });
}

/** Copies the bundled model, with other values in `config.json`. */
async function copyModel(folder: string, config: Record<string, unknown> = {}): Promise<string> {
  const copy = `${folder}/model`;
  await Deno.mkdir(copy);
  for (const name of FILES) await Deno.copyFile(`${MODEL}/${name}`, `${copy}/${name}`);
  const content = JSON.parse(await Deno.readTextFile(`${copy}/config.json`));
  await Deno.writeTextFile(`${copy}/config.json`, JSON.stringify({ ...content, ...config }));
  return copy;
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("finetune --help names every flag and exits with 0", async () => {
  await inFolder(async (folder) => {
    const { code, stdout, stderr } = await finetune(["--help"], folder);
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^usage: /);
    const named = [...stdout.matchAll(/--([a-z-]+)/g)].map(([, name]) => name);
    assertEquals(Object.keys(FLAGS).filter((name) => !named.includes(name)), []);
  });
});

Deno.test("finetune writes a model that is better and loads again, a log and a report", async () => {
  await withInputs(async (folder) => {
    const out = `${folder}/new/out`;
    // The threshold lies above every reading, so that all 35 matrices freeze at the one look.
    const args = small(
      ["--data", `${folder}/text.txt`, "--out", out, "--tau", "1e9", "--memory", "4 GiB"].concat(
        ["--batch", "auto", "--total-batch", "2"],
      ),
    );
    const { code, stdout, stderr } = await finetune(args, folder);
    assertEquals([code, stderr], [0, ""]);
    assertMatch(
      stdout,
      /^reading {5}.*\nopening {5}the GPU\nadapter {5}\S.*\nloading {5}examples\/models\/sotu, 2\.3 MB\n/,
    );
    assertMatch(
      stdout,
      /^tokenizing .*\n[^]*^evaluating .*\n[^]*^sampling .*\n[^]*0\/6 {2}compiling .*\n[^]*^saving /m,
    );
    // deno-lint-ignore no-control-regex
    assertEquals(/\x1b|\r/.test(stdout), false);
    assertMatch(stdout, /^traffic a step {2}\d+ MiB → \d+ MiB read and written by kernels$/m);
    assertMatch(stdout, /^batch {7}2, all of a step, fits in 4 GiB: a step takes \d+ MiB$/m);
    assertMatch(stdout, /^memory {6}\d+ MiB of 4\.00 GiB, nothing is computed again$/m);
    assertMatch(stdout, /^device memory {3}\d+ MiB at most, \d+ MiB of it intermediate values$/m);
    const [, before] = stdout.match(/^perplexity {2}([\d.]+) before$/m)!;
    const [, first, after] = stdout.match(/^perplexity {6}([\d.]+) → ([\d.]+) \(-\d+ %\)$/m)!;
    assertEquals(first, before);
    // Measured: to less than half.
    assertLess(Number(after), 0.7 * Number(before));
    assertMatch(stdout, /^step 6: froze model\.layers\.0\.self_attn\.q_proj, .* and 32 more$/m);
    assertMatch(stdout, /^frozen {10}35 of 47 components$/m);
    assertMatch(stdout, /^steps {11}6 in 0:\d\d, ended early$/m);

    const lines = (await Deno.readTextFile(`${out}/metrics.jsonl`)).trimEnd().split("\n")
      .map((line) => JSON.parse(line));
    const kinds = ["start", "components", ...Array(6).fill("step"), "freeze", "end"];
    assertEquals(lines.map(({ kind }) => kind), kinds);
    assertEquals(lines[1].components.length, 47);
    assertEquals(lines.slice(2, 8).map(({ step }) => step), [1, 2, 3, 4, 5, 6]);
    assert(lines.slice(2, 8).every(({ loss }) => Number.isFinite(loss) && loss > 0));
    assertEquals(lines.at(-1).perplexity.toFixed(2), after);
    assertMatch(await Deno.readTextFile(`${out}/report.html`), /^<!doctype html>/i);

    assertEquals(
      (await Array.fromAsync(Deno.readDir(out))).map(({ name }) => name).sort(),
      ["metrics.jsonl", "model", "report.html", "run.toml"],
    );
    assertEquals((await Array.fromAsync(Deno.readDir(`${out}/model`))).map(({ name }) => name).sort(), FILES);
    await using gpu = await openGpu();
    assertEquals((await loadModel(gpu, `${out}/model`)).family.name, "llama");
    const [own, base] = await Promise.all([`${out}/model`, MODEL].map((path) => loadTokenizer(path)));
    assertEquals(own.encode(TEXT), base.encode(TEXT));
    await using saved = await openSafetensors(`${out}/model/model.safetensors`);
    await using started = await openSafetensors(`${MODEL}/model.safetensors`);
    assertEquals(saved.names.toSorted(), started.names.toSorted());
  });
});

Deno.test("finetune ends with a model and a report when the policy freezes everything", async () => {
  await withInputs(async (folder) => {
    const args = small(["--steps", "12", "--data", `${folder}/text.txt`, "--out", `${folder}/out`]);
    const quick = ["--no-sample", "--eval-tokens", "32"];
    const { code, stdout, stderr } = await finetune(
      [...args, ...quick, "--policy", `${folder}/all.ts`],
      folder,
    );
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^evaluation {2}first 32 of \d+ held-out tokens, as --eval-tokens says$/m);
    assertMatch(stdout, /^evaluating {2}1 batch of held-out text$/m);
    assertEquals(/^sampl/m.test(stdout), false);
    // A policy acts at a look, and the first is that of step 10.
    assertMatch(stdout, /^frozen {10}47 of 47 components$/m);
    assertMatch(stdout, /^steps {11}10 in /m);
    assertEquals(await exists(`${folder}/out/model/model.safetensors`), true);
    assertEquals(await exists(`${folder}/out/report.html`), true);
  });
});

Deno.test("finetune stops at a loss that is NaN and says that the learning rate is too high", async () => {
  await withInputs(async (folder) => {
    const args = small(["--data", `${folder}/text.txt`, "--out", `${folder}/out`, "--lr", "1e30"]);
    const { code, stderr } = await finetune(args, folder);
    assertEquals(code, 1);
    assertMatch(
      stderr,
      /^finetune: Cannot go on .* the .* of step \d is NaN: go back to a checkpoint and lower the learning rate, .*\n$/,
    );
    assertEquals(await exists(`${folder}/out/model`), false);
  });
});

/** A command line that must fail. In arguments and message, `@` is the folder of the inputs. */
interface Refusal {
  readonly when: string;
  readonly args: readonly string[];
  readonly message: string;
  /** 2 when the command line is wrong by itself; else 1. */
  readonly code?: number;
  /** Makes the input, beside what is always there. */
  readonly prepare?: (folder: string) => Promise<unknown>;
}

const usage = (what: string): string => `${what}\nSee --help`;
const ownModel = ["--model", "@/model"];

const REFUSALS: readonly Refusal[] = [
  {
    when: "a flag is unknown",
    code: 2,
    args: ["--stpes", "6"],
    message: usage('there is no flag "--stpes"; did you mean --steps?'),
  },
  {
    when: "a value is out of range",
    code: 2,
    args: ["--steps", "0"],
    message: usage('--steps must be a whole number from 1: got "0"'),
  },
  {
    when: "flags are given beside --resume",
    code: 2,
    args: ["--resume", "@"],
    message: usage("--resume keeps the flags of its run: drop --steps"),
  },
  {
    when: "the policy has an unknown name",
    code: 2,
    args: ["--policy", "grades"],
    message: usage(
      '--policy must be one of gradES, snr, prefix, costAware, auto, bottomFreeze, topFreeze, gradientProbe, adaGradSelect, diminishingReturns, spectralStop, earlyStopping, none, or a module: got "grades"; did you mean gradES?',
    ),
  },
  {
    when: "there is no model folder",
    args: ownModel,
    message:
      'Cannot load "@/model" as a model is a folder of Hugging Face on this machine: there is none; check the path',
  },
  {
    when: "the weights are cut short",
    args: ownModel,
    prepare: async (folder) => {
      await Deno.truncate(`${await copyModel(folder)}/model.safetensors`, 100_000);
    },
    message: 'Cannot read "@/model/model.safetensors" as its tensors must fill the file: ' +
      "they take 2339584 bytes of 94968; the file is cut short: get it again",
  },
  {
    when: "a tensor is missing",
    args: ownModel,
    prepare: (folder) => copyModel(folder, { num_hidden_layers: 6 }),
    message: 'Cannot load "model.layers.5.input_layernorm.weight" of "@/model/model.safetensors" as ' +
      '"@/model/config.json" describes a llama that needs it: it is missing; check that both belong together',
  },
  {
    when: "a tensor is one too many",
    args: ownModel,
    prepare: (folder) => copyModel(folder, { num_hidden_layers: 4 }),
    message: 'Cannot load "model.layers.4.input_layernorm.weight" of "@/model/model.safetensors" as ' +
      '"@/model/config.json" describes a llama without it: check that both belong together',
  },
  {
    when: "a tensor has another shape",
    args: ownModel,
    prepare: (folder) => copyModel(folder, { intermediate_size: 340 }),
    message: 'Cannot load "model.layers.0.mlp.gate_proj.weight" of "@/model/model.safetensors" as ' +
      '"@/model/config.json" gives it the shape [340, 128]: it has [344, 128]',
  },
  {
    when: "the family of the model is unknown",
    args: ownModel,
    prepare: (folder) => copyModel(folder, { model_type: "mamba" }),
    message:
      'Cannot read "model_type" of "@/model/config.json" as it must be one of …: "mamba"; the doc of "@firn/train/models" shows how to add a family',
  },
  {
    when: "the model has no tokenizer",
    args: ownModel,
    prepare: async (folder) => {
      await Deno.remove(`${await copyModel(folder)}/tokenizer.json`);
    },
    message: 'Cannot find "@/model/tokenizer.json" as there is no such file or folder: check the path',
  },
  {
    when: "there is no text file",
    args: ["--data", "@/nowhere.txt"],
    message: 'Cannot open "@/nowhere.txt" as there is no such file: check the path',
  },
  {
    when: "the text is empty",
    args: ["--data", "@/empty.txt"],
    message: 'Cannot read "@/empty.txt" as there must be text: it is empty; give another file',
  },
  {
    when: "a row has no text",
    args: ["--data", "@/rows.jsonl"],
    message:
      'Cannot use line 2 of "@/rows.jsonl" as there must be text in "text": it is missing; mend the line, or leave bad rows ' +
      "out: skipBadRows, or --skip-bad-rows N",
  },
  {
    when: "the text is too short to hold some out",
    args: ["--data", "@/short.txt"],
    message: "Cannot cut windows of 16 tokens as the text must fill one: it has 10; give more text, " +
      'or a "length" of at most 10',
  },
  {
    when: "the text does not fill one sequence",
    args: ["--length", "128"],
    message: "Cannot cut windows of 128 tokens as the text must fill one: it has 64; " +
      'give more text, or a "length" of at most 64',
  },
  {
    when: "sequences are longer than the model takes",
    args: ["--length", "257"],
    message: 'Cannot train on 257 tokens as "examples/models/sotu" allows 256: lower --length',
  },
  {
    when: "the evaluation would have no sequence",
    code: 2,
    args: ["--eval-tokens", "15"],
    message: usage("--eval-tokens must fill a sequence of --length 16: got 15"),
  },
  {
    when: "there is no module of the policy",
    args: ["--policy", "@/nowhere.ts"],
    message: 'Cannot use "@/nowhere.ts" as there is no such module: check --policy',
  },
  {
    when: "the module has no policy",
    args: ["--policy", "@/none.ts"],
    message:
      'Cannot use "@/none.ts" as its default export must be a freeze policy: got undefined; make one with definePolicy',
  },
  {
    when: "the output lies below a file",
    args: ["--out", "@/text.txt/out"],
    message:
      'Cannot find "@/text.txt/out" as what holds it must be a folder: a part of its path is a file; check the path',
  },
  {
    when: "the output folder holds something",
    args: ["--out", "@/full"],
    prepare: async (folder) => {
      await Deno.mkdir(`${folder}/full`);
      await Deno.writeTextFile(`${folder}/full/diary.txt`, "mine");
    },
    message: 'Cannot write to "@/full" as it must be empty: it holds "diary.txt"; ' +
      "choose another --out",
  },
  {
    when: "the output folder holds an interrupted run",
    args: ["--out", "@/full"],
    prepare: async (folder) => {
      await Deno.mkdir(`${folder}/full`);
      await Deno.writeTextFile(`${folder}/full/checkpoint.safetensors`, "");
    },
    message: 'Cannot write to "@/full" as it must be empty: it holds "checkpoint.safetensors"; ' +
      "choose another --out, or go on with --resume @/full",
  },
];

for (const { when, args, message, code = 1, prepare } of REFUSALS) {
  Deno.test(`finetune tells how to go on when ${when}, and writes nothing`, async () => {
    await withInputs(async (folder) => {
      await prepare?.(folder);
      const before = await names(folder);
      const all = small(overridden(["--data", "@/text.txt", "--out", "@/out"], args));
      const seen: Outcome = await finetune(all.map((arg) => arg.replace("@", folder)), folder);
      // Which families there are is not the matter of this test.
      const stderr = seen.stderr.replace(/(?<=must be one of ).*(?=: "mamba")/, "…");
      assertEquals([seen.code, stderr], [code, `finetune: ${message.replace(/@(?!firn)/g, () => folder)}\n`]);
      assertEquals(await names(folder), before);
    });
  });
}

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
}

Deno.test("finetune says which file it misses when there is nothing to resume", async () => {
  await inFolder(async (folder) => {
    const { code, stderr } = await finetune(["--resume", `${folder}/`], folder);
    const message = `Cannot resume "${folder}/" as there is no "${folder}/checkpoint.safetensors": ` +
      "the run is finished or never began; start another";
    assertEquals([code, stderr], [1, `finetune: ${message}\n`]);
  });
});
