/**
 * Writes the data of the study as token ids, so that a machine without tokenizers and networks can train on them.
 *
 * @module
 */

import { InputError } from "@firn/train";
import {
  type Corpus,
  corpusOf,
  hostFileSystem,
  loadTokenizer,
  openEncoder,
  packCorpus,
  type Tokenizer,
} from "@firn/train/data";
import { draws, shuffled } from "../../examples/shuffle.ts";
import { type Example, readExamples, readSpam } from "../../examples/labelled_text.ts";
import { CLASSES, type Digits, PIXELS, readDigits } from "../../examples/digits_data.ts";
import { openText } from "../../examples/text.ts";
import { cutIds } from "../../examples/text_batches.ts";
import type { StudyData, StudyRow } from "./study_data.ts";
import { TASKS } from "./study_plan.ts";
import { SCRATCH_TASKS } from "./study_scratch.ts";

/** Where the sources are. */
export interface PrepareOptions {
  /** Folders of the two models, with their tokenizers. */
  readonly smollm2: string;
  readonly minilm: string;
  /** The folder of `instruction-data.json`. */
  readonly instruction: string;
  /** The folder of `train.csv` and `test.csv`. */
  readonly banking77: string;
  /** Where the files go. */
  readonly out: string;
}

/** Rows of the parts that are not trained on: of few, chance would choose the rates. */
const HELD = {
  moby: { validation: 64, test: 32 },
  instruction: { validation: 256, test: 128 },
  banking77: { validation: 2048, test: 3072 },
  spam: { validation: 1024, test: 1024 },
  digits: { validation: 512, test: 1024 },
  addresses: { validation: 32, test: 64 },
} as const;
/** Most rows of texts with classes that a large model is judged by: it takes longer. */
const HELD_LARGE = { train: Infinity, validation: 1024, test: 1024 } as const;
/** Rows of 256 tokens of the State of the Union. */
const MEMORY = 16;

/** Items in an order that is always the same. */
function mixed<T>(items: readonly T[], name: string): T[] {
  return Array.from(shuffled(items.length, draws(name)), (i) => items[i]);
}

/** Rows that are trained on in the longest of the tasks of some data. */
function rowsOf(data: string): number {
  return Math.max(
    ...[...TASKS, ...SCRATCH_TASKS].filter((task) => task.data.startsWith(data)).map(({ rows }) => rows),
  );
}

/** Digits as their grey values, 0 to 255. */
function digitRows({ count, images, labels }: Digits): StudyRow[] {
  const grey = (value: number): number => Math.round(255 * (0.3081 * value + 0.1307));
  return mixed(
    Array.from(
      { length: count },
      (_, i) => [labels[i], ...images.slice(i * PIXELS, (i + 1) * PIXELS).map(grey)],
    ),
    "digits",
  );
}

/** Parts of items, which share none. */
function partsOf<T>(
  items: readonly T[],
  { train, validation, test }: { readonly train: number; readonly validation: number; readonly test: number },
): Record<"train" | "validation" | "test", T[]> {
  return {
    test: items.slice(0, test),
    validation: items.slice(test, test + validation),
    train: items.slice(test + validation, test + validation + train),
  };
}

/** Windows of text in a mixed order, all ids learned. */
async function windowsOf(
  tokenizer: Tokenizer,
  { corpus, length }: { readonly corpus: Corpus; readonly length: number },
): Promise<StudyRow[]> {
  const ids = await packCorpus(tokenizer, corpus);
  const windows = Array.from(
    { length: Math.floor(ids.length / length) },
    (_, i) => [0, ...ids.subarray(i * length, (i + 1) * length)],
  );
  return mixed(windows, "windows");
}

/** A conversation for each instruction, of which the answer is learned. */
async function instructionRows({ smollm2, instruction }: PrepareOptions): Promise<StudyRow[]> {
  const bytes = await hostFileSystem().read(`${instruction}/instruction-data.json`);
  const all: { instruction: string; input: string; output: string }[] = JSON.parse(
    new TextDecoder().decode(bytes),
  );
  using encoder = await openEncoder(smollm2, { workers: 0, loss: "assistant" });
  const samples = await encoder.encode(all.map(({ instruction, input, output }, i) => ({
    example: {
      kind: "chat",
      messages: [
        { role: "user", content: input === "" ? instruction : `${instruction}\n\n${input}` },
        { role: "assistant", content: output },
      ],
    },
    file: "instruction-data.json",
    unit: "row",
    line: i + 1,
  })));
  const rows = samples.flatMap((sample): StudyRow[] => {
    if (typeof sample === "string") {
      throw new InputError(`Cannot use an instruction as it must be a chat: ${sample}`);
    }
    // An answer is followed by the end of its turn, which is learned, and a line break, which need not be.
    const from = sample.learned.indexOf(1), to = sample.learned.lastIndexOf(1) + 1;
    return [[from, ...sample.ids.subarray(0, to)]];
  });
  return mixed(rows, "instruction");
}

/** Examples as ids behind their classes. */
function classRows(
  examples: readonly Example[],
  { tokenizer, classes, length }: {
    readonly tokenizer: Tokenizer;
    readonly classes: readonly string[];
    readonly length: number;
  },
): StudyRow[] {
  return examples.map(({ text, label }) => [classes.indexOf(label), ...cutIds(tokenizer, text, length)]);
}

/**
 * Writes all data of the study.
 *
 * @param options Sources, and the folder to write to
 * @returns Names of the files and their rows, for people
 */
export async function prepare(options: PrepareOptions): Promise<string[]> {
  const files = hostFileSystem(), said: string[] = [];
  await files.makeFolder(options.out, { parents: true });
  const write = async (name: string, data: StudyData): Promise<void> => {
    await files.write(`${options.out}/${name}.json`, JSON.stringify(data));
    said.push(
      `${name}: ${data.train.length} to train on, ${data.validation.length}, ${data.test.length} to test on`,
    );
  };
  const [causal, encoder] = await Promise.all([
    loadTokenizer(options.smollm2),
    loadTokenizer(options.minilm),
  ]);
  const windows = await windowsOf(causal, { corpus: await openText("moby-dick"), length: 256 });
  await write("moby", { classes: null, ...partsOf(windows, { ...HELD.moby, train: rowsOf("moby") }) });
  const instructions = await instructionRows(options);
  const held = { ...HELD.instruction, train: rowsOf("instruction") };
  await write("instruction", { classes: null, ...partsOf(instructions, held) });

  const addresses: string[] = [];
  for await (const { text } of (await openText("sotu")).pieces()) addresses.push(text);
  const memory = await windowsOf(causal, {
    corpus: corpusOf(mixed(addresses, "sotu").slice(0, 24)),
    length: 256,
  });
  await write("sotu", { classes: null, train: [], validation: [], test: memory.slice(0, MEMORY) });

  const train = mixed(
    await readExamples(`${options.banking77}/train.csv`, { label: "category" }),
    "banking77",
  );
  const test = mixed(await readExamples(`${options.banking77}/test.csv`, { label: "category" }), "test");
  const spam = await readSpam();
  const parts = partsOf(train, { ...HELD.banking77, test: 0, train: rowsOf("banking77") });
  const sources = {
    banking77: { ...parts, test: test.slice(0, HELD.banking77.test) },
    spam: {
      train: mixed(spam.train, "spam").slice(0, rowsOf("spam")),
      validation: mixed(spam.validation, "spam").slice(0, HELD.spam.validation),
      test: mixed(spam.test, "spam").slice(0, HELD.spam.test),
    },
  };
  for (const [name, parts] of Object.entries(sources)) {
    const classes = [...new Set(parts.train.map(({ label }) => label))].sort();
    const { length } = TASKS.find(({ data }) => data.startsWith(name))!;
    for (const [model, tokenizer] of Object.entries({ smollm2: causal, minilm: encoder })) {
      const most = (part: keyof typeof parts) => model === "smollm2" ? HELD_LARGE[part] : Infinity;
      const rows = (part: keyof typeof parts) =>
        classRows(parts[part].slice(0, most(part)), { tokenizer, classes, length });
      const data = { classes, train: rows("train"), validation: rows("validation"), test: rows("test") };
      await write(`${name}-${model}`, data);
    }
  }
  const digits = await readDigits(), shown = HELD.digits, seen = digitRows(digits.train);
  await write("digits", {
    classes: Array.from({ length: CLASSES }, (_, digit) => `${digit}`),
    train: seen.slice(0, rowsOf("digits")),
    validation: seen.slice(-shown.validation),
    test: digitRows(digits.test).slice(0, shown.test),
  });
  const own = await windowsOf(
    await loadTokenizer(new URL("../../examples/models/sotu", import.meta.url).pathname),
    {
      corpus: await openText("sotu"),
      length: 256,
    },
  );
  await write("addresses", {
    classes: null,
    ...partsOf(own, { ...HELD.addresses, train: rowsOf("addresses") }),
  });
  return said;
}
