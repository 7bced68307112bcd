/**
 * Fine-tunes a model of text to classify, and compares it with the majority class and a bag of words.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/classify.ts --help
 * ```
 *
 * @module
 */

import {
  adamW,
  argmax,
  chain,
  type ClassBatch,
  classLoss,
  clipByGlobalNorm,
  cosine,
  defineTraining,
  families,
  type Gpu,
  InputError,
  logits,
  type Model,
  read,
  scan,
  tensor,
} from "@firn/train";
import { companionFiles, loadModel, saveModel } from "@firn/train/hub";
import { encodeDocument, hostFileSystem, loadTokenizer, type Tokenizer } from "@firn/train/data";
import { helpOf, positive, readFlags, runMain, text, UsageError, type Values, whole } from "./flags.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { bagOfWords } from "./bag_of_words.ts";
import { locateData, locateModel, MODEL } from "./hub.ts";
import { type Example, type Labelled, readRows, readSpam } from "./labelled_text.ts";
import { checkOutput } from "./output.ts";
import { print } from "./print.ts";
import { clock, progress, stage } from "./progress.ts";
import { confusionLines, type Scores, scoresOf } from "./scores.ts";

const FLAGS = {
  model: MODEL,
  data: text(
    "NAME|FILE",
    "spam, or a .jsonl file whose rows have text and label, here or as hub:owner/name/file.jsonl",
    "spam",
  ),
  steps: whole("optimizer steps", 100),
  batch: whole("texts in a batch", 16),
  length: whole("tokens of a text; longer ones are cut", 64, 2),
  lr: positive("largest learning rate, after warm-up", 1e-3),
  seed: whole("seed of the new head and of the order of texts", 0, 0),
  out: text("DIR", "folder for the trained model, new or empty; it is not saved when absent", null),
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn classify [flags]
       deno run --allow-read --allow-write examples/classify.ts [flags]

Gives a model a head for classes, fine-tunes both on labelled texts, and tests them on texts that were held out.`;

type Flags = Values<typeof FLAGS>;

/** A model, and how texts become its input. */
interface Classifier {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly names: readonly string[];
}

/**
 * The architecture of a folder's family that classifies sequences.
 *
 * @param folder The folder
 * @returns Its entry of `architectures`
 * @throws {InputError} When the family has none
 */
export async function classArchitecture(folder: string): Promise<string> {
  const bytes = await hostFileSystem().read(`${folder}/config.json`);
  const { model_type: type } = JSON.parse(new TextDecoder().decode(bytes));
  const heads = Object.hasOwn(families, type) ? Object.entries(families[type].heads) : [];
  const found = heads.find(([, { task }]) => task === "sequenceClass");
  if (found !== undefined) return found[0];
  throw new InputError(
    `Cannot classify with "${folder}" as its family must have a head for sequences: "${type}" has none`,
  );
}

/**
 * Batches of texts: ids padded on the right, the mask, and labels, -100 in rows that fill the last batch.
 *
 * @param examples The texts
 * @param classifier Tokenizer, names of classes, and the model, whose configuration may name the padding
 * @param sizes Texts in a batch and tokens in a text
 * @returns The batches
 */
export function textBatches(
  examples: readonly Example[],
  { model, tokenizer, names }: Classifier,
  { batch, length }: Pick<Flags, "batch" | "length">,
): ClassBatch[] {
  const padding = Number(model.source.pad_token_id ?? 0);
  const rows = examples.map((example) => {
    const ids = encodeDocument(tokenizer, example.text);
    // What ends a text ends one that is cut.
    return ids.length <= length ? ids : [...ids.slice(0, length - 1), ids.at(-1)!];
  });
  return Array.from({ length: Math.ceil(rows.length / batch) }, (_, b) => {
    const ids = new Int32Array(batch * length).fill(padding), mask = new Int32Array(batch * length);
    const labels = new Int32Array(batch).fill(-100);
    for (let i = 0; i < batch; i++) {
      const row = rows[b * batch + i] ?? [padding];
      ids.set(row, i * length);
      mask.fill(1, i * length, i * length + row.length);
      if (b * batch + i < rows.length) labels[i] = names.indexOf(examples[b * batch + i].label);
    }
    const shape = [batch, length];
    return { inputIds: tensor(ids, shape), attentionMask: tensor(mask, shape), labels: tensor(labels) };
  });
}

/**
 * The class that a model gives each text.
 *
 * @param gpu The device
 * @param model The model
 * @param options Batches, and how many texts they have
 * @returns A class for each text
 */
export async function predict(
  gpu: Gpu,
  model: Model,
  { batches, count }: { readonly batches: readonly ClassBatch[]; readonly count: number },
): Promise<number[]> {
  const found: number[] = [];
  for (const batch of batches) found.push(...await read(gpu, argmax(logits(model, batch), -1)));
  return found.slice(0, count);
}

/** The examples in another order for each seed: position by a hash of seed and text. */
function shuffled(examples: readonly Example[], seed: number): Example[] {
  const keyOf = ({ text }: Example): number =>
    [...`${seed} ${text.slice(0, 80)}`].reduce(
      (h, c) => Math.imul(h ^ c.codePointAt(0)!, 16777619),
      2166136261,
    ) >>> 0;
  return examples.map((example) => ({ example, key: keyOf(example) })).sort((a, b) => a.key - b.key)
    .map(({ example }) => example);
}

/** The file of labelled rows that a flag names. */
async function oneFile(source: string): Promise<string> {
  const files = await locateData([source]);
  if (files.length === 1) return files[0];
  throw new UsageError(`--data must name one file: "${source}" names ${files.length}; name one of them`);
}

/** Trains and returns the model with new parameters. */
async function trained(
  gpu: Gpu,
  classifier: Classifier,
  { flags, train }: { readonly flags: Flags; readonly train: readonly Example[] },
): Promise<Model> {
  const { model } = classifier, { steps, lr } = flags;
  const batches = textBatches(shuffled(train, flags.seed).slice(0, steps * flags.batch), classifier, flags);
  const training = defineTraining(gpu, classLoss(model), {
    optimizer: chain(
      clipByGlobalNorm(1),
      adamW({ learningRate: cosine({ peak: lr, warmup: Math.ceil(steps / 10), steps }) }),
    ),
    steps,
    lookEvery: Math.min(10, steps),
  });
  function* repeated(): Generator<ClassBatch> {
    while (true) yield* batches;
  }
  const bar = progress(steps);
  let state = await training.init(model.params);
  for await (state of scan(training, state, repeated())) {
    if (state.look === null) continue;
    bar.update(state.step, [`loss ${state.look.loss.at(-1)!.toFixed(3)}`]);
  }
  bar.end();
  return { ...model, params: state.params };
}

/** A line of the table of results. */
function resultLine(name: string, { accuracy, macroF1 }: Scores): string {
  return `${name.padEnd(15)} accuracy ${(100 * accuracy).toFixed(1)} %, F1 ${
    (100 * macroF1).toFixed(1)
  } (mean of classes)`;
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  const began = performance.now();
  const { folder } = await locateModel(flags.model);
  if (flags.out !== null) await checkOutput(flags.out, { resumed: false, model: folder });
  const data: Labelled = await stage(
    `reading     ${flags.data}`,
    async () => flags.data === "spam" ? await readSpam() : await readRows(await oneFile(flags.data)),
  );
  const { train, test } = data, names = [...new Set(train.map(({ label }) => label))].sort();
  const architecture = await classArchitecture(folder);
  await using gpu = await openShown(flags);
  const model = await loadModel(gpu, folder, { architecture, labels: names, seed: flags.seed });
  const classifier = { model, tokenizer: await loadTokenizer(folder, { model }), names };
  print(`model       ${flags.model}, ${architecture}`);
  for (const note of model.notes ?? []) print(`note        ${note}`);
  print(`data        ${train.length} texts to train on, ${test.length} to test with: ${names.join(", ")}\n`);

  const after = await trained(gpu, classifier, { flags, train });
  const labels = test.map(({ label }) => names.indexOf(label));
  const batches = textBatches(test, classifier, flags);
  const scores = scoresOf(labels, await predict(gpu, after, { batches, count: test.length }), names.length);
  const counts = names.map((name) => train.filter(({ label }) => label === name).length);
  const major = counts.indexOf(Math.max(...counts));
  const words = bagOfWords(train, names);
  print();
  print(resultLine("majority class", scoresOf(labels, labels.map(() => major), names.length)));
  print(resultLine("bag of words", scoresOf(labels, test.map(({ text }) => words(text)), names.length)));
  print(resultLine("model", scores));
  print();
  for (const line of confusionLines(scores, names)) print(line);
  print();
  if (flags.out !== null) {
    await saveModel(gpu, after, { folder: flags.out, files: await companionFiles(folder) });
    print(`${"written".padEnd(15)} ${flags.out}`);
  }
  print(`${"steps".padEnd(15)} ${flags.steps} in ${clock(performance.now() - began)}`);
}

if (import.meta.main) await runMain(main, "classify");
