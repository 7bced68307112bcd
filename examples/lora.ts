/**
 * Trains a LoRA adapter on pairs: how sentences of a prompt go on, with the model itself left as it is.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/lora.ts --help
 * ```
 *
 * @module
 */

import {
  defineTraining,
  evaluate,
  flatten,
  free,
  type Gpu,
  type Model,
  nextTokenLoss,
  type TokenBatch,
  type Training,
} from "@firn/train";
import {
  type Corpus,
  evaluationBatches,
  loadTokenizer,
  memoryFileSystem,
  openEncoder,
  openRows,
  rowBatches,
  type Rows,
  type SampleSource,
  sampleSource,
  splitRows,
} from "@firn/train/data";
import { newAdapter, saveAdapter } from "@firn/train/hub";
import { counted } from "@firn/train/report";
import { batchFlags, checkBatch, chooseBatch, type ChosenBatch, tokensOf } from "./batch_flags.ts";
import { columnsFlag, columnsIn } from "./data_flags.ts";
import { averagedLooks, checkExchange, EXCHANGE_FLAGS, exchangeOf } from "./exchange_flags.ts";
import { positive, runMain, text, topic, UsageError, type Values, whole } from "./flags.ts";
import { CONFIG_FLAGS, readCommand, writeConfig } from "./config.ts";
import { helpOf } from "./help.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { locateData, locateModel, MODEL } from "./hub.ts";
import { loadShown } from "./load_model.ts";
import { checkOutput, claimFolder, nextFree } from "./output.ts";
import {
  checkGroups,
  checkOptimizer,
  type OptimizerDefaults,
  optimizerFlags,
  regularizationOf,
  trainerOf,
} from "./optimizer_flags.ts";
import { print } from "./print.ts";
import { clock, stage } from "./progress.ts";
import { commonFacts, type Joined, onRanks, shareOf, wholeBatch } from "./ranks.ts";
import { checkSteps, openSteps, STEP_FLAGS, type Steps } from "./steps.ts";
import { openText } from "./text.ts";

/** How it trains where flags say nothing. */
const OPTIMIZER: OptimizerDefaults = { decayed: "all" };

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    model: MODEL,
    data: text(
      "FILE",
      "rows with a prompt and a completion; halves of sentences of Moby-Dick when absent",
      null,
    ),
    columns: columnsFlag(),
    rank: whole("rank of the adapter", 8),
    targets: text("NAMES", "modules that get pairs, with * for any characters", "*_proj"),
    steps: whole("optimizer steps", 40),
    ...batchFlags("rows", 8),
    length: whole("tokens of a row at most", 64, 2),
    lr: positive("largest learning rate, after warm-up", 0.01),
    seed: whole("seed of the adapter and of the order of rows", 0, 0),
  }),
  ...optimizerFlags(OPTIMIZER),
  ...topic("run", {
    ...CONFIG_FLAGS,
    out: text("DIR", "folder of the adapter, new or empty; out/lora-N when absent", null),
  }),
  ...EXCHANGE_FLAGS,
  ...STEP_FLAGS,
  ...GPU_FLAGS,
};

/** Tokens of held-out rows that are judged, about. */
const MOST_HELD = 8192;

type Flags = Values<typeof FLAGS>;

const USAGE = `usage: ./firn lora [flags]
       deno run --allow-read --allow-write examples/lora.ts [flags]

Trains a LoRA adapter on prompts and completions, of which only the completions are learned, a tenth held out, and saves
the adapter as PEFT does. Prints how well held-out completions are predicted, beside two baselines: the model without the
adapter, and how often each token stands in the completions that are learned.`;

/** Refuses flags that do not go together. */
function checkFlags(flags: Flags): void {
  checkSteps(flags);
  checkBatch(flags);
  checkExchange(flags);
  checkOptimizer(flags);
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = await readCommand(args, { table: FLAGS, check: checkFlags });
  if (help) return print(helpOf(USAGE, FLAGS, help));
  await onRanks((joined) => trainAdapter(flags, joined), flags);
}

async function trainAdapter(asked: Flags, joined: Joined | null): Promise<void> {
  const began = performance.now(), { folder } = await locateModel(asked.model);
  const out = asked.out ?? await nextFree("out/lora");
  if (!joined?.follows) await checkOutput(out, { resumed: false, model: folder });
  const rows = splitRows(await rowsOf(asked));

  await using gpu = await openShown(asked);
  const base = await loadShown(gpu, folder), tokenizer = await loadTokenizer(folder, { model: base });
  const model = await newAdapter(gpu, base, {
    rank: asked.rank,
    alpha: 2 * asked.rank,
    targets: asked.targets.split(","),
    seed: asked.seed,
    base: asked.model,
  });
  const flags = { ...asked, ...chosenBatch(gpu, { model, flags: asked, joined, rows: rows.train.count }) };
  using encoder = await openEncoder(folder, { workers: 0 });
  const { length, batch, seed } = flags,
    options = { length, batch, seed, buckets: 1, pad: tokenizer.eos ?? 0 };
  const sources = [rows.train, rows.heldOut].map((part) => sampleSource(part, { encode: encoder.encode }));
  const batches = await rowBatches(sources[0], { ...options, batch: wholeBatch(batch, joined) }),
    held = await evaluationBatches(sources[1], { ...options, tokens: MOST_HELD });
  print(
    `data        ${counted(rows.train.count, "pair")} to learn, ${rows.heldOut.count} held out, ${
      counted(batches.first.learned, "token")
    } learned`,
  );

  const leaves = [...flatten(model.params)], trained = leaves.filter(([path]) => model.trainable!(path));
  const sizeOf = (list: typeof leaves): number =>
    list.reduce((n, [, { shape }]) => n + shape.reduce((a, b) => a * b, 1), 0);
  print(`adapter     rank ${flags.rank}, ${sizeOf(trained)} of ${sizeOf(leaves)} parameters are trained`);
  checkGroups(flags, trained.map(([path]) => path));
  await joined?.agree({
    ...commonFacts(gpu, model.params),
    flags: JSON.stringify({ ...flags, out: null }),
    data: batches.fingerprint,
  });
  const words = await countPerplexity(sources, { length: flags.length, vocabulary: tokenizer.vocabSize });
  const before = joined?.follows ? NaN : await perplexity(gpu, model, held);
  const config = { ...flags, data: flags.data ?? "moby-dick" };
  await using taken = await openSteps(gpu, { flags, config, joined });
  const params = await train(gpu, { taken, model, batches: batches.from(1), flags, joined });
  if (joined?.follows) return; // Rank 0 saves and judges what all have made.
  const after = await perplexity(gpu, { ...model, params }, held);
  await stage(`saving      ${out}`, async () => {
    await claimFolder(out, { resumed: false, model: folder });
    await saveAdapter(gpu, { ...model, params }, { folder: out });
    await writeConfig(out, { command: "lora", table: FLAGS, flags, ranks: joined?.ranks.size });
  });
  await taken.finish({ perplexity: after });
  free(params);
  print();
  print("perplexity of held-out completions");
  print(`${"counts of tokens".padEnd(18)} ${words.toFixed(2)}, a baseline`);
  print(`${"without adapter".padEnd(18)} ${before.toFixed(2)}, a baseline`);
  print(`${"with the adapter".padEnd(18)} ${after.toFixed(2)}`);
  print(`${"time".padEnd(18)} ${clock(performance.now() - began)}`);
  print(`${"written".padEnd(18)} ${out}`);
}

/** Own pairs, or halves of sentences. */
async function rowsOf({ data, columns }: Flags): Promise<Rows> {
  if (data === null) {
    const lines = (await halves(await openText("moby-dick"))).map((row) => JSON.stringify(row)).join("\n");
    return await openRows("pairs.jsonl", { fileSystem: memoryFileSystem({ "pairs.jsonl": lines }) });
  }
  const rows = await openRows(await locateData([data]), { columns: columnsIn(columns)! });
  if (rows.kind === "completion") return rows;
  throw new UsageError(
    `--data must hold prompts and completions: it holds rows of kind ${rows.kind}; name them by --columns`,
  );
}

/** Sentences of some length, cut between two words. */
async function halves(corpus: Corpus): Promise<{ readonly prompt: string; readonly completion: string }[]> {
  const pieces = await Array.fromAsync(corpus.pieces(), ({ text }) => text);
  const sentences = pieces.join("").replace(/\s+/g, " ").match(/[A-Z][^.!?]{60,200}[.!?]/g) ?? [];
  return sentences.map((sentence) => {
    const cut = sentence.indexOf(" ", sentence.length / 2);
    return { prompt: sentence.slice(0, cut), completion: sentence.slice(cut) };
  });
}

/** The training of all steps. */
function trainingOf(
  gpu: Gpu,
  { model, flags, joined }: {
    readonly model: Model;
    readonly flags: Flags;
    readonly joined: Joined | null;
  },
): Training<object, TokenBatch> {
  const { steps } = flags;
  return defineTraining(gpu, nextTokenLoss(model, regularizationOf(flags)), {
    ...trainerOf(flags, OPTIMIZER),
    steps,
    lookEvery: averagedLooks(flags, Math.min(10, steps)),
    ranks: joined?.ranks,
    exchange: exchangeOf(flags),
  });
}

/** The size of batches that was asked for, or that fits. */
function chosenBatch(
  gpu: Gpu,
  { model, flags, joined, rows }: {
    readonly model: Model;
    readonly flags: Flags;
    readonly joined: Joined | null;
    readonly rows: number;
  },
): ChosenBatch {
  return chooseBatch<object, TokenBatch>(flags, {
    params: model.params,
    ranks: joined?.ranks.size,
    available: rows,
    batchOf: (size) => tokensOf(size, flags),
    trainingOf: (accumulate) => trainingOf(gpu, { model, flags: { ...flags, accumulate }, joined }),
  });
}

/** Takes the steps; returns the parameters after them. */
async function train(
  gpu: Gpu,
  { taken, model, batches, flags, joined }: {
    readonly taken: Steps;
    readonly model: Model;
    readonly batches: AsyncIterable<TokenBatch>;
    readonly flags: Flags & ChosenBatch;
    readonly joined: Joined | null;
  },
): Promise<object> {
  const { steps, batch, length } = flags;
  using training = trainingOf(gpu, { model, flags, joined });
  const tokens = wholeBatch(batch, joined) * length;
  const options = { params: model.params, batches: shareOf(batches, joined), steps, tokens };
  return (await taken.take(training, options)).params;
}

async function perplexity(gpu: Gpu, model: Model, batches: readonly TokenBatch[]): Promise<number> {
  const { loss } = await evaluate(gpu, { loss: nextTokenLoss(model), params: model.params, batches });
  return Math.exp(loss);
}

/** Perplexity of the second source by how often each token is learned in the first, each once more than it is. */
async function countPerplexity(
  [train, heldOut]: readonly SampleSource[],
  { length, vocabulary }: { readonly length: number; readonly vocabulary: number },
): Promise<number> {
  const [learned, judged] = await Promise.all([train, heldOut].map((source) => learnedOf(source, length)));
  const counts = new Float64Array(vocabulary).fill(1);
  for (const id of learned) counts[id]++;
  const nats = judged.reduce((n, id) => n - Math.log(counts[id] / (learned.length + vocabulary)), 0);
  return Math.exp(nats / judged.length);
}

/** The tokens that are learned. */
async function learnedOf(source: SampleSource, length: number): Promise<readonly number[]> {
  const blocks = await Promise.all(source.blocks.map((_, block) => source.read(block)));
  return blocks.flat().flatMap(({ ids, learned }) =>
    [...ids.subarray(0, length)].filter((_, i) => learned[i] === 1)
  );
}

if (import.meta.main) await runMain(main, "lora");
