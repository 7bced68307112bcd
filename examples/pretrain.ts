/**
 * Pretrains a small Llama from scratch, with a tokenizer of its own, and saves it as a Hugging Face folder.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/pretrain.ts --help
 * ```
 *
 * @module
 */

import {
  defineTraining,
  flatten,
  type Gpu,
  type Model,
  nextTokenLoss,
  sizeOf,
  type TokenBatch,
  type Training,
} from "@firn/train";
import {
  type Batches,
  type Corpus,
  hostFileSystem,
  loadTokenizer,
  memoryFileSystem,
  packCorpus,
  splitCorpus,
  type Tokenizer,
  tokenWindows,
  trimmedPath,
} from "@firn/train/data";
import { companionFiles, newModel, saveModel } from "@firn/train/hub";
import { rankBatches } from "@firn/train/ranks";
import { counted, type Quality } from "@firn/train/report";
import { encodeFiles, trainBpe } from "./bpe.ts";
import { configText } from "./config.ts";
import { positive, runMain, text, topic, UsageError, type Values, whole } from "./flags.ts";
import {
  checkGroups,
  checkOptimizer,
  type OptimizerDefaults,
  optimizerFlags,
  regularizationOf,
  trainerOf,
} from "./optimizer_flags.ts";
import { helpOf } from "./help.ts";
import { lossMetrics } from "@firn/train/evaluation";
import { checkEvaluation, EVERY_FLAGS, HELD_OUT } from "./evaluation_flags.ts";
import { bestFile, NO_STORE, runEvaluations } from "./evaluation_run.ts";
import { averagedLooks, checkExchange, EXCHANGE_FLAGS, exchangeOf } from "./exchange_flags.ts";
import { batchFlags, checkBatch, chooseBatch, tokensOf } from "./batch_flags.ts";
import { GPU_FLAGS, openShown, providerOf } from "./gpu.ts";
import { OBSERVE_FLAGS } from "./observe_flags.ts";
import { checkOutput, nextFree } from "./output.ts";
import { perplexity } from "./perplexity.ts";
import { survivingRun } from "./lost_run.ts";
import { checkKeepBest } from "./policies.ts";
import { print } from "./print.ts";
import { stage } from "./progress.ts";
import { commonFacts, type Joined, onRanks, wholeBatch } from "./ranks.ts";
import { costRows, finishRun, gflopRow, openRun, printSummary, tokenFacts, trainRun } from "./run.ts";
import { continueText, quoted } from "./sample.ts";
import { readRun, RUN_FLAGS, type RunRequest } from "./saved_flags.ts";
import { openText } from "./text.ts";

/** How it trains where flags say nothing. */
const OPTIMIZER: OptimizerDefaults = {
  warmup: 0.02,
  floor: 0.05,
  adamW: { beta2: 0.95, weightDecay: 0.1 },
  decayed: "all",
};

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    data: text(
      "NAME|FILE",
      "sotu, moby-dick, a .txt file, rows in .jsonl, .json, .csv, .tsv or .parquet, or hub:owner/name[/path]",
      "sotu",
    ),
    steps: whole("optimizer steps", 4000),
    ...batchFlags("sequences", 32),
    length: whole("tokens in a sequence, and the longest that the model takes", 256, 2),
    lr: positive("largest learning rate", 3e-3),
    seed: whole("seed of weights and batches", 0, 0),
  }),
  ...topic("model", {
    vocab: whole("entries of the vocabulary", 2048, 258),
    hidden: whole("channels", 128),
    layers: whole("blocks", 5),
    heads: whole("query heads", 4),
    "kv-heads": whole("key and value heads", 2),
    mlp: whole("channels of the MLP", 344),
  }),
  ...optimizerFlags(OPTIMIZER),
  ...topic("run", { out: text("DIR", "output folder, new or empty; out/pretrain-N when absent", null) }),
  ...EVERY_FLAGS,
  ...EXCHANGE_FLAGS,
  ...RUN_FLAGS,
  ...OBSERVE_FLAGS,
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn pretrain [flags]
       deno run --allow-read --allow-write examples/pretrain.ts [flags]

Trains a tokenizer and a Llama from scratch, the last tenth of the text held out, and writes the model, metrics.jsonl
and report.html.`;

type Flags = Values<typeof FLAGS>;
/** Flags once the size of batches is known. */
type Sized = Flags & { readonly batch: number };

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  await survivingRun(args, runOnce);
}

async function runOnce(args: readonly string[]): Promise<void> {
  const request = await readRun(args, {
    command: "pretrain",
    table: FLAGS,
    rate: "lr",
    beside: ["data"],
    check: checkFlags,
  });
  if (request.help) return print(helpOf(USAGE, FLAGS, request.help));
  await onRanks((joined) => pretrain(request, joined), request.values);
}

async function pretrain(request: RunRequest<typeof FLAGS>, joined: Joined | null): Promise<void> {
  const began = performance.now(),
    { values: asked, checkpoint } = request,
    follows = joined?.follows ?? false;
  const out = await checkPlan(request, joined);
  const corpus = await stage(`reading     ${asked.data}`, () => openText(asked.data));

  await using gpu = await openShown(asked);
  const { train, heldOut } = await splitCorpus(corpus);
  const files = checkpoint === null
    ? await newTokenizer(train, asked)
    : await companionFiles(tokenizerIn(out));
  const tokenizer = await loadTokenizer(".", { fileSystem: memoryFileSystem(Object.fromEntries(files)) });
  const ids = await stage(`tokenizing  ${asked.data}`, async () => ({
    train: await packCorpus(tokenizer, train),
    held: await packCorpus(tokenizer, heldOut),
  }));
  const model = await modelOf(gpu, { flags: asked, tokenizer });
  checkGroups(asked, [...flatten(model.params).keys()]);
  const lookEvery = averagedLooks(asked, Math.min(50, asked.steps));
  const flags: Sized = {
    ...asked,
    ...chooseBatch<object, TokenBatch>(asked, {
      params: model.params,
      batchOf: (size) => tokensOf(size, asked),
      ranks: joined?.ranks.size,
      available: Math.floor(ids.train.length / asked.length),
      trainingOf: (accumulate) =>
        trainingOf(gpu, { flags: { ...asked, accumulate }, model, lookEvery, joined }),
    }),
  };
  const whole = tokenWindows(ids.train, { ...flags, batch: wholeBatch(flags.batch, joined) });
  const data: Data = {
    batches: joined === null ? whole : rankBatches(whole, joined.ranks),
    held: tokenWindows(ids.held, flags).all(),
  };
  printSetup(model, { flags, data });
  const training = trainingOf(gpu, { flags, model, data, lookEvery, joined });
  const toml = configText("pretrain", { table: FLAGS, flags, ranks: joined?.ranks.size });
  await joined?.agree({
    ...commonFacts(gpu, model.params),
    flags: toml,
    data: data.batches.fingerprint,
    step: `${checkpoint?.step ?? 0}`,
  });

  await using run = await openRun(gpu, {
    out,
    checkpoint,
    lookEvery,
    observe: flags,
    config: { ...flags, policy: "none" },
    before: () => Promise.resolve({}),
    toml,
    joined,
  });
  if (checkpoint === null && !follows) await writeFiles(tokenizerIn(run.folder), files);
  const evaluations = runEvaluations(gpu, {
    training,
    flags,
    sets: { [HELD_OUT]: data.held },
    metrics: lossMetrics(nextTokenLoss(model)),
    store: follows ? NO_STORE : bestFile(gpu, { training, folder: run.folder }),
  });
  const last = await trainRun(gpu, run, {
    evaluations,
    command: "pretrain",
    request,
    flags,
    policyHash: null,
    joined,
    training,
    params: model.params,
    batches: data.batches,
    tokens: wholeBatch(flags.batch, joined) * flags.length,
    facts: tokenFacts,
  });
  if (follows) return; // Rank 0 saves and judges what all have made.
  const { saved: state, told } = await evaluations?.finish(last) ?? { saved: last, told: last };
  const folder = `${run.folder}/model`;
  const after = await training.withWeights(state, async (params) => {
    const trained = { ...model, params };
    await stage(`saving      ${folder}`, () => saveModel(gpu, trained, { folder, files }));
    return await measured(gpu, trained, { tokenizer, data });
  });
  const summary = costRows(gpu, { training, state: told, began, flops: gflopRow });
  await finishRun(run, { state: told, training, after, title: `a Llama on ${flags.data}`, summary });
  await hostFileSystem().remove(tokenizerIn(run.folder));
  print(`\nsample      ${quoted(after.sample)}\n`);
  printSummary([["Perplexity", `${after.perplexity.toFixed(2)} on held-out text`], ...summary]);
  print(`${"written".padEnd(15)} ${run.folder}/model, metrics.jsonl, report.html`);
}

/** Refuses flags that do not go together. */
function checkFlags(flags: Flags): void {
  providerOf(flags);
  checkExchange(flags);
  checkOptimizer(flags);
  checkBatch(flags);
  checkKeepBest(flags);
  checkEvaluation(flags, { sets: [HELD_OUT], metrics: ["loss", "perplexity"] });
  if (flags.hidden % flags.heads !== 0) {
    throw new UsageError(`--heads must divide --hidden ${flags.hidden}: got ${flags.heads}`);
  }
  if (flags.heads % flags["kv-heads"] !== 0) {
    throw new UsageError(`--kv-heads must divide --heads ${flags.heads}: got ${flags["kv-heads"]}`);
  }
}

/** Refuses an output folder that does not do; returns it. */
async function checkPlan(
  { values: flags, checkpoint }: RunRequest<typeof FLAGS>,
  joined: Joined | null,
): Promise<string> {
  const asked = flags.out ?? await nextFree("out/pretrain"), out = await joined?.common(asked) ?? asked;
  if (!joined?.follows) await checkOutput(out, { resumed: checkpoint !== null });
  if (checkpoint !== null) print(`resume      ${out}: reads ${flags.data}`);
  return out;
}

/** Where the tokenizer of a run lies until the model has it. */
function tokenizerIn(out: string): string {
  return `${trimmedPath(out)}/tokenizer`;
}

function newTokenizer(train: Corpus, { vocab }: Flags): Promise<ReadonlyMap<string, Uint8Array>> {
  return stage(
    `learning    a tokenizer of ${vocab} entries`,
    async () => encodeFiles(await trainBpe(train, { vocabSize: vocab })),
  );
}

async function writeFiles(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  await hostFileSystem().makeFolder(folder, { parents: true });
  for (const [name, content] of files) await hostFileSystem().write(`${folder}/${name}`, content);
}

/** What the model is trained on, and what it is judged by. */
interface Data {
  readonly batches: Batches<TokenBatch>;
  readonly held: readonly TokenBatch[];
}

function modelOf(
  gpu: Gpu,
  { flags, tokenizer }: { readonly flags: Flags; readonly tokenizer: Tokenizer },
): Promise<Model> {
  const source = {
    model_type: "llama",
    hidden_size: flags.hidden,
    intermediate_size: flags.mlp,
    num_hidden_layers: flags.layers,
    num_attention_heads: flags.heads,
    num_key_value_heads: flags["kv-heads"],
    vocab_size: tokenizer.vocabSize,
    max_position_embeddings: flags.length,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: "silu",
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: tokenizer.eos,
    eos_token_id: tokenizer.eos,
    dtype: "bfloat16",
  };
  return stage("drawing     the first weights", () => newModel(gpu, { source, seed: flags.seed }));
}

function printSetup(
  { params }: Model,
  { flags, data: { batches, held } }: { readonly flags: Flags; readonly data: Data },
): void {
  const parameters = [...flatten(params).values()].reduce((n, { shape }) => n + sizeOf(shape), 0);
  print(`model       ${(parameters / 1e6).toFixed(2)} M parameters`);
  print(
    `data        ${flags.data}, ${counted(batches.count!, "window")} of ${counted(flags.length, "token")}, ${
      counted(held.length, "batch")
    } held out`,
  );
}

function trainingOf(
  gpu: Gpu,
  { flags, model, data, lookEvery, joined }: {
    readonly joined: Joined | null;
    readonly flags: Flags;
    readonly model: Model;
    /** Absent where only memory is planned. */
    readonly data?: Data;
    readonly lookEvery: number;
  },
): Training<object, TokenBatch> {
  return defineTraining(gpu, nextTokenLoss(model, regularizationOf(flags)), {
    ...trainerOf(flags, OPTIMIZER),
    steps: flags.steps,
    lookEvery,
    ranks: joined?.ranks,
    exchange: exchangeOf(flags),
    data: data?.batches.fingerprint,
  });
}

async function measured(
  gpu: Gpu,
  model: Model,
  { tokenizer, data }: { readonly tokenizer: Tokenizer; readonly data: Data },
): Promise<Required<Pick<Quality, "perplexity" | "sample">>> {
  return {
    perplexity: await perplexity(gpu, model, data.held),
    sample: await continueText(gpu, model, { tokenizer, prompt: "My fellow citizens", seed: 0 }),
  };
}

if (import.meta.main) await runMain(main, "pretrain");
