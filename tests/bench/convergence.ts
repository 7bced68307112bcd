/**
 * Whether a training with values stored as f16 converges like one with f32: one model, one seed, the same batches, and the
 * losses side by side.
 *
 * ```sh
 * deno run -A tests/bench/convergence.ts --help
 * ```
 *
 * @module
 */

import type { Gpu, Precision, TokenBatch } from "@firn/train";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  cosine,
  defineTraining,
  evaluate,
  free,
  nextTokenLoss,
  sizeOf,
} from "@firn/train";
import { modelParams } from "@firn/train/models";
import { newModel } from "@firn/train/hub";
import {
  hostFileSystem,
  loadTokenizer,
  memoryFileSystem,
  packCorpus,
  splitCorpus,
  type TokenWindows,
  tokenWindows,
} from "@firn/train/data";
import { encodeFiles, trainBpe } from "../../examples/bpe.ts";
import { positive, readFlags, runMain, text, whole } from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { GPU_FLAGS, openShown } from "../../examples/gpu.ts";
import { print } from "../../examples/print.ts";
import { stage } from "../../examples/progress.ts";
import { openText } from "../../examples/text.ts";
import { checkOutput } from "./output.ts";
import { SHAPES, sourceOf } from "./shapes.ts";

const FLAGS = {
  data: text("NAME|FILE", "sotu, moby-dick, a .txt or .jsonl file", "sotu"),
  steps: whole("optimizer steps of each run", 1000),
  batch: whole("sequences in a batch", 16),
  length: whole("tokens in a sequence", 256, 2),
  lr: positive("largest learning rate", 1e-3),
  every: whole("steps that a row of the table is the mean of", 50),
  seed: whole("seed of weights and batches", 0, 0),
  json: text("FILE", "file for the loss of every step", null),
  ...GPU_FLAGS,
};

const USAGE = `usage: deno run -A tests/bench/convergence.ts [flags]

Trains a Llama of 10 M parameters from scratch three times: with f32, with f16, and with f32 on the batches in another
order, which shows how far two runs differ by chance.`;

/** What to train. */
export interface ConvergenceOptions {
  /** The configuration of the model. */
  readonly source: Record<string, unknown>;
  readonly batches: TokenWindows;
  readonly heldOut: readonly TokenBatch[];
  readonly steps: number;
  readonly learningRate: number;
  /** Seed of the weights. */
  readonly seed: number;
  readonly precision: Precision;
  readonly onLook?: (step: number) => void;
}

/** What a run came to. */
export interface Converged {
  /** The loss of every step. */
  readonly losses: readonly number[];
  /** The loss on text that was held out, at the end, with values stored as f32. */
  readonly heldOut: number;
  /** Steps that were skipped, as gradients overflowed. */
  readonly skipped: number;
  /** Seconds of all steps. */
  readonly seconds: number;
  readonly parameters: number;
}

/**
 * Trains a model from scratch: AdamW, a cosine with a warm-up, and clipping.
 *
 * @param gpu The device
 * @param options What to train
 * @returns Its losses
 */
export async function converge(gpu: Gpu, options: ConvergenceOptions): Promise<Converged> {
  const { source, batches, heldOut, steps, learningRate: peak, seed, precision, onLook } = options;
  const model = await newModel(gpu, { source, seed }), loss = nextTokenLoss(model);
  const learningRate = cosine({ peak, warmup: Math.ceil(steps / 20), steps, floor: peak / 20 });
  using training = defineTraining<object, TokenBatch>(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate, beta2: 0.95, weightDecay: 0.1 })),
    steps,
    lookEvery: Math.min(25, steps),
    precision,
  });
  let state = await training.init(model.params), skipped = 0;
  free(model.params);
  const losses: number[] = [], began = performance.now();
  for (const batch of batches.from(1)) {
    if (state.done) break;
    state = await training.next(state, batch);
    if (state.look === null) continue;
    losses.push(...state.look.loss);
    skipped += state.look.skipped?.length ?? 0;
    onLook?.(state.step);
  }
  const seconds = (performance.now() - began) / 1000;
  const { loss: held } = await evaluate(gpu, { loss, params: state.params, batches: heldOut });
  const parameters = [...modelParams(model).values()].reduce((n, { shape }) => n + sizeOf(shape), 0);
  free(state.params);
  free(Object.fromEntries(state.leaves));
  return { losses, heldOut: held, skipped, seconds, parameters };
}

/** Mean losses of so many steps each; the last group may have fewer. */
export function meansOf(losses: readonly number[], every: number): number[] {
  return Array.from({ length: Math.ceil(losses.length / every) }, (_, i) => {
    const group = losses.slice(i * every, (i + 1) * every);
    return group.reduce((a, b) => a + b, 0) / group.length;
  });
}

/** The lines of a table: mean losses of each run, and how far the others are from the first. */
export function tableOf(runs: ReadonlyMap<string, Converged>, every: number): string[] {
  const [first, ...others] = runs.values(), names = [...runs.keys()], base = meansOf(first.losses, every);
  const cell = (text: string): string => text.padStart(16);
  const line = (name: string, values: readonly number[]): string => {
    const away = values.slice(1).map((loss) => cell(signed(loss - values[0])));
    return name.padEnd(10) + values.map((loss) => cell(loss.toFixed(4))).join("") + away.join("");
  };
  const means = others.map(({ losses }) => meansOf(losses, every));
  return [
    "step".padEnd(10) + names.map(cell).join("") + names.slice(1).map((name) => cell(`${name} off`)).join(""),
    ...base.map((loss, i) =>
      line(`${Math.min((i + 1) * every, first.losses.length)}`, [loss, ...means.map((mean) => mean[i])])
    ),
    line("held out", [first, ...others].map(({ heldOut }) => heldOut)),
    "seconds".padEnd(10) + [first, ...others].map(({ seconds }) => cell(seconds.toFixed(1))).join(""),
    "skipped".padEnd(10) + [first, ...others].map(({ skipped }) => cell(`${skipped}`)).join(""),
  ];
}

function signed(x: number): string {
  return `${x < 0 ? "-" : "+"}${Math.abs(x).toFixed(4)}`;
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  if (flags.json !== null) await checkOutput(flags.json);
  await using gpu = await openShown({ ...flags, precision: "f16" });
  const shape = SHAPES["llama-10m"], { length, steps, seed, lr: learningRate } = flags;
  const { train, heldOut: rest } = await splitCorpus(await openText(flags.data));
  const files = await stage(
    `learning    a tokenizer of ${shape.vocabulary} entries`,
    async () => encodeFiles(await trainBpe(train, { vocabSize: shape.vocabulary })),
  );
  const tokenizer = await loadTokenizer(".", { fileSystem: memoryFileSystem(Object.fromEntries(files)) });
  const ids = await packCorpus(tokenizer, train);
  const heldOut = tokenWindows(await packCorpus(tokenizer, rest), flags).all().slice(0, 20);
  const source = sourceOf({ ...shape, vocabulary: tokenizer.vocabSize }, length);
  const runs = new Map<string, Converged>();
  const run = async (name: string, precision: Precision, order: number): Promise<void> => {
    const batches = tokenWindows(ids, { ...flags, seed: order });
    const done = await stage(`training    ${name}`, (say) =>
      converge(gpu, {
        ...{ source, batches, heldOut, steps, learningRate, seed, precision },
        onLook: (step) => say(`${step} of ${steps} steps`),
      }));
    runs.set(name, done);
  };
  await run("f32", "f32", seed);
  await run("f16", "f16", seed);
  await run("reordered", "f32", seed + 1);
  const [{ parameters }] = runs.values();
  print(
    `model       ${(parameters / 1e6).toFixed(1)} M parameters, ${flags.batch} x ${length} tokens a step\n`,
  );
  for (const line of tableOf(runs, flags.every)) print(line);
  if (flags.json === null) return;
  const bytes = new TextEncoder().encode(`${JSON.stringify(Object.fromEntries(runs))}\n`);
  await hostFileSystem().write(flags.json, bytes);
}

if (import.meta.main) await runMain(main, "convergence");
