/**
 * Fine-tunes a model of text to classify, and compares it with the majority class and a bag of words.
 *
 * Both learn from the same rows, and read the same tokens of each. Of mails, by default, that is how they begin: 24 tokens, so
 * that training takes less than two minutes in software. A bag of words of whole mails reads more, and is right more often.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/classify.ts --help
 * ```
 *
 * @module
 */

import {
  type ClassBatch,
  classLoss,
  DataError,
  defineTraining,
  flatten,
  type FreezePolicy,
  type Gpu,
  InputError,
  leaf,
  logits,
  type Model,
  type Training,
} from "@firn/train";
import { argmax } from "@firn/train/ops";
import { compile } from "@firn/train/infer";
import { families } from "@firn/train/models";
import { companionFiles, loadModel, saveModel } from "@firn/train/hub";
import { fingerprint, hostFileSystem, loadTokenizer } from "@firn/train/data";
import { CONFIG_FLAGS, readCommand, writeConfig } from "./config.ts";
import { positive, runMain, text, topic, UsageError, type Values, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { classAccuracy, lossMetrics } from "@firn/train/evaluation";
import { counted } from "@firn/train/report";
import { checkEvaluation, EVERY_FLAGS, HELD_OUT } from "./evaluation_flags.ts";
import { bestCopy, runEvaluations } from "./evaluation_run.ts";
import { averagedLooks, checkExchange, EXCHANGE_FLAGS, exchangeOf } from "./exchange_flags.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { bagOfWords, wordsOf } from "./bag_of_words.ts";
import { batchFlags, checkBatch, chooseBatch, type ChosenBatch } from "./batch_flags.ts";
import { locateData, locateModel, MODEL } from "./hub.ts";
import { type Example, type Labelled, readExamples, readRows, readSpam } from "./labelled_text.ts";
import { checkOutput } from "./output.ts";
import { print } from "./print.ts";
import {
  checkGroups,
  checkOptimizer,
  type OptimizerDefaults,
  optimizerFlags,
  regularizationOf,
  trainerOf,
} from "./optimizer_flags.ts";
import { clock, stage } from "./progress.ts";
import { confusionLines, type Scores, scoresOf } from "./scores.ts";
import { commonFacts, type Joined, onRanks, shareOf, wholeBatch } from "./ranks.ts";
import { checkSteps, openSteps, STEP_FLAGS, type Steps } from "./steps.ts";
import { allBatches, cutIds, encodeRows, shuffledBatches } from "./text_batches.ts";
import { columnsFlag, columnsIn } from "./data_flags.ts";
import { checkCached, PLAIN_FREEZING_FLAGS } from "./freezing_flags.ts";
import { checkPolicyName, policyOf } from "./policies.ts";
import { printSummary, type Summary } from "./run.ts";
import { frozenRows } from "./savings.ts";

/** Steps where none are asked for. */
const STEPS = 200;

/** How it trains where flags say nothing. */
const OPTIMIZER: OptimizerDefaults = { schedule: "linear", warmup: 0.1, decayed: "all" };

/** The flags of the command. */
export const FLAGS = {
  ...topic("data", {
    data: text(
      "NAME|FILE",
      "spam, or rows of text and label: .jsonl, .json, .csv, .tsv or .parquet, here or as hub:owner/name/file",
      "spam",
    ),
    validation: text("FILE", "rows to test on; a tenth of the data, which is held out, when absent", null),
    columns: columnsFlag(),
  }),
  ...topic("training", {
    model: MODEL,
    steps: whole(`optimizer steps; ${STEPS} when absent`, null),
    epochs: positive("passes over the texts, in place of --steps", null),
    ...batchFlags("texts", 32),
    length: whole("tokens of a text; longer ones are cut", 24, 2),
    lr: positive("largest learning rate, after warm-up", 2e-3),
    seed: whole("seed of the new head and of the order of texts", 0, 0),
  }),
  ...PLAIN_FREEZING_FLAGS,
  ...EVERY_FLAGS,
  ...optimizerFlags(OPTIMIZER),
  ...topic("run", {
    ...CONFIG_FLAGS,
    out: text("DIR", "folder for the trained model, new or empty; it is not saved when absent", null),
  }),
  ...EXCHANGE_FLAGS,
  ...STEP_FLAGS,
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn classify [flags]
       deno run --allow-read --allow-write examples/classify.ts [flags]

Gives a model a head for classes, fine-tunes both on labelled texts, and tests them on texts that were held out.`;

type Flags = Values<typeof FLAGS>;

/** Classes of which the whole confusion matrix fits a screen. */
const FEW = 12;

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
  using best = compile(gpu, (batch: ClassBatch) => argmax(logits(model, batch), -1));
  for (const batch of batches) found.push(...await best(batch));
  return found.slice(0, count);
}

/** The training of some steps. */
function trainingOf(
  gpu: Gpu,
  model: Model,
  { flags, policy, joined }: {
    readonly flags: Flags & { readonly steps: number };
    /** Absent where only memory is planned. */
    readonly policy?: FreezePolicy;
    readonly joined: Joined | null;
  },
): Training<object, ClassBatch> {
  const { steps } = flags;
  return defineTraining(gpu, classLoss(model, regularizationOf(flags)), {
    ...trainerOf(flags, OPTIMIZER),
    policy,
    cachePrefix: flags["cache-prefix"],
    steps,
    lookEvery: averagedLooks(flags, Math.min(10, steps)),
    ranks: joined?.ranks,
    exchange: exchangeOf(flags),
  });
}

/** The flags with the size of batches that was asked for, or that fits. */
function sizedFlags<F extends Flags>(
  gpu: Gpu,
  model: Model,
  { flags, joined, length, texts }: {
    readonly flags: F;
    readonly joined: Joined | null;
    readonly length: number;
    readonly texts: number;
  },
): F & ChosenBatch {
  const chosen = chooseBatch<object, ClassBatch>(flags, {
    params: model.params,
    ranks: joined?.ranks.size,
    available: texts,
    batchOf: (size) => ({
      inputIds: leaf("inputIds", { shape: [size, length], dtype: "i32" }),
      attentionMask: leaf("attentionMask", { shape: [size, length], dtype: "i32" }),
      labels: leaf("labels", { shape: [size], dtype: "i32" }),
    }),
    trainingOf: (accumulate) =>
      trainingOf(gpu, model, { flags: { ...flags, steps: flags.steps ?? STEPS, accumulate }, joined }),
  });
  return { ...flags, ...chosen };
}

/** Trains and returns the model with new parameters, and what is said of freezing. */
async function trained(
  gpu: Gpu,
  model: Model,
  { taken, batches, epochs, judging, flags, joined }: {
    readonly taken: Steps;
    readonly batches: Iterable<ClassBatch>;
    /** Passes over the texts. */
    readonly epochs: number;
    /** What decides while it trains. */
    readonly judging: readonly ClassBatch[];
    readonly flags: Flags & { readonly steps: number };
    readonly joined: Joined | null;
  },
): Promise<{ readonly model: Model; readonly rows: Summary; readonly step: number }> {
  const { steps } = flags, loss = classLoss(model, regularizationOf(flags));
  const { policy } = await policyOf(flags.policy, {});
  const training = trainingOf(gpu, model, { flags, policy, joined });
  const evaluations = runEvaluations(gpu, {
    training,
    flags,
    sets: { [HELD_OUT]: judging },
    metrics: { ...lossMetrics(loss), accuracy: classAccuracy(model) },
    store: bestCopy(gpu),
  });
  const state = await taken.take(training, { params: model.params, batches, steps, evaluations });
  const kind = { trains: "full", predicts: "classify", steps, epochs } as const;
  const rows = frozenRows(training, { frozen: state.frozen, policy, kind });
  return { model: { ...model, params: state.params }, rows, step: state.step };
}

/** Mails as words: marks and mark-up take many tokens, and tell little. */
async function readMails(): Promise<Labelled> {
  const words = ({ text, label }: Example): Example => ({ text: wordsOf(text).join(" "), label });
  const { train, validation, test } = await readSpam();
  return { train: train.map(words), validation: validation.map(words), test: test.map(words) };
}

/** Reads the texts that the flags name. */
async function dataOf(flags: Flags): Promise<Pick<Labelled, "train" | "test"> & Partial<Labelled>> {
  const columns = columnsIn(flags.columns)!, { data, validation } = flags;
  if (validation === null) {
    return data === "spam" ? await readMails() : await readRows(await locateData([data]), columns);
  }
  const train = data === "spam"
    ? (await readMails()).train
    : await readExamples(await locateData([data]), columns);
  const test = await readExamples(await locateData([validation]), columns);
  const names = new Set(train.map(({ label }) => label)), stray = test.find(({ label }) => !names.has(label));
  if (stray === undefined) return { train, test };
  throw new DataError(
    `Cannot test on "${validation}" as each label must be one of "${data}": "${stray.label}" is none; ` +
      "check that both belong together",
  );
}

/** A line of the table of results. */
function resultLine(name: string, { accuracy, macroF1 }: Scores): string {
  return `${name.padEnd(15)} accuracy ${(100 * accuracy).toFixed(1)} %, F1 ${
    (100 * macroF1).toFixed(1)
  } (mean of classes)`;
}

/** What the model is compared with: the class of most texts, and the words of what the model reads, or of whole texts. */
function baselineLines(
  { train, test }: Pick<Labelled, "train" | "test">,
  { names, seen }: {
    readonly names: readonly string[];
    /** What the model reads of a text. */
    readonly seen: (example: Example) => Example;
  },
): string[] {
  const labels = test.map(({ label }) => names.indexOf(label));
  const counts = names.map((name) => train.filter(({ label }) => label === name).length);
  const major = counts.indexOf(Math.max(...counts));
  const line = (name: string, found: readonly number[]): string =>
    resultLine(name, scoresOf(labels, found, names.length));
  const bagOf = (part: (example: Example) => Example): number[] => {
    const classOf = bagOfWords(train.map(part), names);
    return test.map((example) => classOf(part(example).text));
  };
  return [
    line("majority class", labels.map(() => major)),
    line("bag of words", bagOf(seen)),
    line("of whole texts", bagOf((example) => example)),
  ];
}

/** The confusion matrix, or the classes that are taken for another most often, where there are many. */
function mistakeLines(scores: Scores, names: readonly string[]): string[] {
  if (names.length <= FEW) return confusionLines(scores, names);
  const pairs = scores.confusion.flatMap((row, k) =>
    row.map((count, said) => ({ count: k === said ? 0 : count, k, said }))
  );
  const most = pairs.filter(({ count }) => count > 0).sort((a, b) => b.count - a.count).slice(0, FEW);
  return most.map(({ count, k, said }) => `${`${count}`.padStart(4)} × ${names[k]} taken for ${names[said]}`);
}

/** Refuses flags that do not go together. */
function checkFlags(flags: Flags): void {
  const { steps, epochs } = flags;
  checkSteps(flags);
  checkPolicyName(flags.policy);
  checkCached(flags);
  checkBatch(flags);
  checkExchange(flags);
  checkOptimizer({ ...flags, steps: epochs === null ? steps ?? STEPS : Infinity });
  checkEvaluation(flags, { sets: [HELD_OUT], metrics: ["loss", "perplexity", "accuracy"] });
  if (steps === null || epochs === null) return;
  throw new UsageError("--steps and --epochs both say how long training is: give one");
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = await readCommand(args, { table: FLAGS, check: checkFlags });
  if (help) return print(helpOf(USAGE, FLAGS, help));
  await onRanks((joined) => trainClassifier(flags, joined), flags);
}

async function trainClassifier(asked: Flags, joined: Joined | null): Promise<void> {
  const began = performance.now(), { seed } = asked, { folder } = await locateModel(asked.model);
  if (asked.out !== null && !joined?.follows) await checkOutput(asked.out, { resumed: false, model: folder });
  const { train, validation, test } = await stage(`reading     ${asked.data}`, () => dataOf(asked));
  const names = [...new Set(train.map(({ label }) => label))].sort();
  const architecture = await classArchitecture(folder);
  await using gpu = await openShown(asked);
  const model = await loadModel(gpu, folder, { architecture, labels: names, seed });
  const tokenizer = await loadTokenizer(folder, { model });
  print(`model       ${asked.model}, ${architecture}`);
  for (const note of model.notes ?? []) print(`note        ${note}`);
  const texts = counted(train.length, "text");
  print(`data        ${texts} to train on, ${test.length} to test with, ${labelsLine(names)}`);
  const rows = encodeRows(train, { ...asked, tokenizer, names });
  const held = encodeRows(test, { ...asked, tokenizer, names });
  // Where a part of the data is there to decide by, the test decides nothing.
  const judging = validation === undefined ? held : encodeRows(validation, { ...asked, tokenizer, names });
  const length = Math.max(...[...rows, ...held, ...judging].map(({ ids }) => ids.length));
  const flags = sizedFlags(gpu, model, { flags: asked, joined, length, texts: rows.length });
  const batch = wholeBatch(flags.batch, joined);
  const steps = flags.epochs === null ? flags.steps ?? STEPS : Math.ceil(flags.epochs * rows.length / batch);
  checkOptimizer({ ...flags, steps });
  checkGroups(flags, [...flatten(model.params).keys()]);
  const each = `${counted(batch, "text")}, of at most ${counted(length, "token")}`;
  print(`training    ${counted(steps, "step")} of ${each}\n`);

  const sizes = { batch, length, padding: Number(model.source.pad_token_id ?? 0) };
  await joined?.agree({
    ...commonFacts(gpu, model.params),
    flags: JSON.stringify({ ...flags, out: null }),
    data: fingerprint(rows.flatMap(({ ids, label }) => [Int32Array.from(ids), label])),
  });
  await using taken = await openSteps(gpu, { flags, config: { ...flags, steps }, joined });
  const batches = shareOf(shuffledBatches(rows, { ...sizes, seed }), joined);
  const { model: after, rows: told, step } = await trained(gpu, model, {
    taken,
    batches,
    epochs: steps * batch / rows.length,
    judging: allBatches(judging, sizes),
    flags: { ...flags, steps },
    joined,
  });
  if (joined?.follows) return; // Rank 0 saves and judges what all have made.
  const found = await predict(gpu, after, { batches: allBatches(held, sizes), count: held.length });
  const scores = scoresOf(held.map(({ label }) => label), found, names.length);
  const seen = ({ text, label }: Example): Example => ({
    text: tokenizer.decode(cutIds(tokenizer, text, flags.length)),
    label,
  });
  print();
  for (const line of baselineLines({ train, test }, { names, seen })) print(line);
  print(resultLine("model", scores));
  print();
  for (const line of mistakeLines(scores, names)) print(line);
  print();
  printSummary(told);
  await taken.finish({ accuracy: scores.accuracy });
  if (flags.out !== null) {
    await saveModel(gpu, after, { folder: flags.out, files: await companionFiles(folder) });
    await writeConfig(flags.out, {
      command: "classify",
      table: FLAGS,
      flags: { ...flags, steps, epochs: null },
      ranks: joined?.ranks.size,
    });
    print(`${"written".padEnd(15)} ${flags.out}`);
  }
  print(`${"steps".padEnd(15)} ${step} in ${clock(performance.now() - began)}`);
}

/** Names of classes, or how many there are. */
function labelsLine(names: readonly string[]): string {
  return names.length <= FEW ? `labels ${names.join(", ")}` : `${names.length} labels`;
}

if (import.meta.main) await runMain(main, "classify");
