/**
 * Held-out loss of ranks that average their parameters, beside that of ranks that add up gradients, on the bundled model: 1 to 4 ranks
 * in this process, each with as many samples a step.
 *
 * ```sh
 * ./firn deno run -A tests/ranks/held_out.ts --steps 24 --ranks 4
 * ```
 *
 * It takes about ten minutes on two cores. What it printed there for 24 steps of 2 samples a rank:
 *
 * | exchange | 1 rank | 2 ranks | 3 ranks | 4 ranks |
 * | --- | --- | --- | --- | --- |
 * | gradients | 5.891 | 5.572 | 5.319 | 5.025 |
 * | every 4 | 5.891 | 5.620 | 5.309 | 5.332 |
 * | every 8 | 5.891 | 5.665 | 5.370 | 5.346 |
 * | every 8, bf16 | 5.891 | 5.665 | 5.370 | 5.346 |
 * | every 8, int8 | 5.891 | 5.665 | 5.370 | 5.346 |
 * | every 8, outer 0.7, momentum 0.9 | 7.198 | 6.606 | 5.976 | 5.683 |
 *
 * @module
 */

import {
  adamW,
  cosine,
  defineTraining,
  evaluate,
  type Gpu,
  nextTokenLoss,
  sgd,
  type TrainingOptions,
} from "@firn/train";
import { loadTokenizer, tokenWindows } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { averageParameters, rankBatches } from "@firn/train/ranks";
import { readFlags, runMain, whole } from "../../examples/flags.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { helpOf } from "../../examples/help.ts";
import { print } from "../../examples/print.ts";
import { ranksInProcess } from "./in_process.ts";

const FLAGS = {
  ...GPU_FLAGS,
  steps: whole("steps of each run", 24),
  ranks: whole("most ranks", 4),
  batch: whole("samples of a rank in a step", 2),
};

const USAGE = `usage: ./firn deno run -A tests/ranks/held_out.ts [flags]

Trains the bundled model on the README with 1 to --ranks ranks, and prints the held-out loss by what they exchange.`;

const FOLDER = new URL("../../", import.meta.url).pathname,
  MODEL = `${FOLDER}examples/models/sotu`,
  LENGTH = 32;

/** What ranks exchange. */
const ARMS: Readonly<Record<string, () => TrainingOptions["exchange"]>> = {
  "gradients": () => ({ of: "gradients" }),
  "every 4": () => averageParameters({ every: 4 }),
  "every 8": () => averageParameters({ every: 8 }),
  "every 8, bf16": () => averageParameters({ every: 8, wire: "bf16" }),
  "every 8, int8": () => averageParameters({ every: 8, wire: "int8" }),
  "every 8, outer 0.7, momentum 0.9": () =>
    averageParameters({ every: 8, outer: sgd({ learningRate: 0.7, momentum: 0.9, nesterov: true }) }),
};

/** The text, as what is trained on and what is held out. */
async function readText() {
  const tokenizer = await loadTokenizer(MODEL), text = await Deno.readTextFile(`${FOLDER}README.md`);
  const ids = Int32Array.from(tokenizer.encode(text)), held = Math.floor(ids.length * 0.9);
  const windows = tokenWindows(ids.subarray(held), { length: LENGTH, batch: 4 });
  const batches = Array.from({ length: Math.min(16, windows.count) }, (_, i) => windows.at(i + 1));
  return { train: ids.subarray(0, held), held: batches };
}

/** The held-out loss after a run. */
async function heldOut(
  gpu: Gpu,
  { size, arm, steps, batch, text }: {
    readonly size: number;
    readonly arm: string;
    readonly steps: number;
    readonly batch: number;
    readonly text: Awaited<ReturnType<typeof readText>>;
  },
): Promise<number> {
  const model = await loadModel(gpu, MODEL), loss = nextTokenLoss(model);
  const whole = tokenWindows(text.train, { length: LENGTH, batch: batch * size, seed: 1 });
  const [first] = await Promise.all(
    ranksInProcess(size).map(async (ranks) => {
      using training = defineTraining(gpu, loss, {
        optimizer: adamW({ learningRate: cosine({ peak: 2e-3, warmup: 2, steps }) }),
        steps,
        ranks,
        exchange: ARMS[arm](),
      });
      const batches = rankBatches(whole, ranks);
      let state = await training.init(model.params);
      while (!state.done) state = await training.next(state, await batches.at(state.step + 1));
      return ranks.rank === 0
        ? (await evaluate(gpu, { loss, params: state.params, batches: text.held })).loss
        : NaN;
    }),
  );
  return first;
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  await using gpu = await openDevice({ ...values, "no-tune": true });
  const text = await readText(), sizes = Array.from({ length: values.ranks }, (_, i) => i + 1);
  print(`| exchange | ${sizes.map((n) => `${n} ${n === 1 ? "rank" : "ranks"}`).join(" | ")} |`);
  print(`| --- | ${sizes.map(() => "---").join(" | ")} |`);
  for (const arm of Object.keys(ARMS)) {
    const losses: string[] = [];
    for (const size of sizes) losses.push((await heldOut(gpu, { size, arm, ...values, text })).toFixed(3));
    print(`| ${arm} | ${losses.join(" | ")} |`);
  }
}

if (import.meta.main) await runMain(main, "held_out");
