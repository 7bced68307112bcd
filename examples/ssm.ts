/**
 * Trains a selective state-space model on the characters of a text under GradES, and lets it write.
 *
 * ```sh
 * deno run --allow-read examples/ssm.ts --help
 * ```
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  cosine,
  defineTraining,
  evaluate,
  type Gpu,
  scan,
  type Tensor,
  tensor,
  type TrainingState,
} from "@firn/train";
import { tokenWindows } from "@firn/train/data";
import { compile } from "@firn/train/infer";
import { gradES } from "@firn/train/policies";
import { positive, readFlags, runMain, share, text, topic, type Values, whole } from "./flags.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { helpOf } from "./help.ts";
import { print } from "./print.ts";
import { endedText, stage } from "./progress.ts";
import { draws } from "./shuffle.ts";
import { ALPHABET, idsOf, newSsm, ssmLoss, type SsmParams, ssmScores } from "./ssm_model.ts";
import { openText } from "./text.ts";

/** Characters that are read, and windows that the model is judged by. */
const LENGTH = 64, HELD_OUT = 64;

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    data: text("TEXT", "what is learned: sotu, moby-dick or a .txt file", "sotu"),
    steps: whole("optimizer steps", 150),
    batch: whole("windows of 64 characters in a batch", 16),
    rate: positive("largest learning rate", 1e-2),
    seed: whole("seed of parameters, batches and what is written", 0, 0),
  }),
  ...topic("freezing", {
    tau: positive("threshold of gradES", 3),
    alpha: share("share of the steps in which gradES freezes nothing", 0.5),
  }),
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn ssm [flags]
       deno run --allow-read examples/ssm.ts [flags]

Trains a small state-space model on characters, without attention, and prints what froze and what it writes.`;

/** How a model is trained. */
export type SsmRun = Pick<Values<typeof FLAGS>, "steps" | "batch" | "rate" | "seed" | "tau" | "alpha">;

/**
 * Trains a model.
 *
 * @param gpu The device
 * @param ids Characters
 * @param run How
 * @returns The state after each step
 */
export async function* train(
  gpu: Gpu,
  ids: Int32Array,
  { steps, batch, rate, seed, tau, alpha }: SsmRun,
): AsyncGenerator<TrainingState<SsmParams>> {
  using training = defineTraining(gpu, ssmLoss, {
    optimizer: chain(
      clipByGlobalNorm(1),
      adamW({ learningRate: cosine({ peak: rate, warmup: Math.ceil(steps / 20), steps }) }),
    ),
    policy: gradES({ tau, alpha }),
    steps,
    lookEvery: Math.min(10, steps),
  });
  const windows = tokenWindows(ids, { length: LENGTH + 1, batch, seed });
  yield* scan(training, await training.init(newSsm(seed)), windows.from(1));
}

/**
 * Continues a text. Its last characters are read anew for each further one, by a function that is recorded once.
 *
 * @param gpu The device
 * @param params The model
 * @param options The text, how many characters follow, the seed of the draws, and how many characters are read
 * @returns The text and what follows it
 */
export async function continueText(
  gpu: Gpu,
  params: SsmParams,
  { prompt, count, seed, length = LENGTH }: {
    readonly prompt: string;
    readonly count: number;
    readonly seed: number;
    readonly length?: number;
  },
): Promise<string> {
  using scores = compile(gpu, (params: SsmParams, ids: Tensor) => ssmScores(params, ids));
  const below = draws(`sample ${seed}`), start = prompt.slice(-length);
  const ids = [...idsOf(start.padStart(length, "\n"))];
  for (let i = 0; i < count; i++) {
    const window = tensor(Int32Array.from(ids.slice(-length)), [1, length]);
    const last = (await scores(params, window)).subarray(-ALPHABET.length);
    const odds = Array.from(last, (score) => Math.exp((score - Math.max(...last)) / 0.7));
    let rest = below(2 ** 20) / 2 ** 20 * odds.reduce((a, b) => a + b);
    ids.push(Math.max(0, odds.findIndex((odd) => (rest -= odd) < 0)));
  }
  return start + ids.slice(length).map((id) => ALPHABET[id]).join("");
}

async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  await using gpu = await openShown(flags);
  const ids = await stage(`reading     ${flags.data}`, async () => {
    const pieces = await Array.fromAsync((await openText(flags.data)).pieces(), ({ text }) => text);
    return idsOf(pieces.join("\n"));
  });
  const held = HELD_OUT * (LENGTH + 1), learned = ids.subarray(0, -held);
  print(`data        ${learned.length} characters to learn, ${held} to test with`);
  let state: TrainingState<SsmParams> | null = null;
  for await (state of train(gpu, learned, flags)) {
    const { step, look, event } = state;
    if (look !== null) {
      const loss = look.loss.reduce((a, b) => a + b) / look.loss.length / Math.LN2;
      print(`step ${step}: ${loss.toFixed(3)} bits a character`);
    }
    if (event === null) continue;
    const share = event.after.matmulFlops / event.before.matmulFlops;
    print(`  froze ${event.frozen.join(", ")}: a step has ${(100 * share).toFixed(0)} % of its products`);
  }
  const { params, step, ending } = state!;
  if (step < flags.steps) print(endedText({ step, ending }, flags.steps));
  const batches = tokenWindows(ids.subarray(-held), { length: LENGTH + 1, batch: HELD_OUT, seed: 0 }).all();
  const { loss } = await evaluate(gpu, { loss: ssmLoss, params, batches });
  print(`\nheld out    ${(loss / Math.LN2).toFixed(3)} bits a character`);
  print(
    `writes      ${
      JSON.stringify(await continueText(gpu, params, { prompt: "The ", count: 80, seed: flags.seed }))
    }`,
  );
}

if (import.meta.main) await runMain(main, "ssm");
