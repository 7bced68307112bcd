/**
 * Freeze policies of one's own, composed with GradES: one by a schedule, and one by a signal of its own.
 *
 * A weight matrix takes part in three products: forward, the gradient of its input, and its own gradient. Frozen in the
 * middle of a model it saves only the last, as gradients still pass through it to what learns below. Where nothing
 * learns below, the second goes as well. So this policy freezes from the bottom, embedding and norms included, while
 * GradES picks matrices anywhere.
 *
 * The other policy measures how far a step moves a weight, relative to its length. That is three lines of ops, which the kernel
 * that updates the weight computes on its way, and ten lines that decide by it.
 *
 * ```sh
 * deno run --allow-read examples/custom_policy.ts
 * ```
 *
 * @module
 */

import {
  adamW,
  type Cost,
  defineTraining,
  divide,
  type FreezePolicy,
  type Gpu,
  multiply,
  nextTokenLoss,
  openGpu,
  scan,
  sqrt,
  sum,
  type Tensor,
  type TrainingState,
} from "@firn/train";
import { loadTokenizer, packCorpus, tokenWindows } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { anyOf, definePolicy, defineSignal, gradES, layerLinears } from "@firn/train/policies";
import { readFlags, runMain } from "./flags.ts";
import { GPU_FLAGS, providerOf } from "./gpu.ts";
import { print } from "./print.ts";
import { openText } from "./text.ts";

/**
 * Freezes the embedding first and then layer after layer, the lowest first.
 *
 * @param every Steps from one to the next
 * @returns The policy
 */
export function bottomUp(every: number): FreezePolicy {
  return definePolicy({
    name: `bottomUp(${every})`,
    init: (components) => ({
      step: 0,
      queue: components
        .filter(({ kind, layer }) => kind === "embedding" || layer !== null)
        .map(({ path, layer }) => ({ path, from: every * (layer === null ? 1 : layer + 2) })),
    }),
    next: (state, now) => ({ ...state, step: now.step }),
    frozen: ({ step, queue }) => queue.filter(({ from }) => from <= step).map(({ path }) => path),
  });
}

const squares = (x: Tensor): Tensor => sum(multiply(x, x));

/** How far a step moves a component, relative to its length. */
export const relativeUpdate = defineSignal({
  name: "relativeUpdate",
  measure: ({ weight, update }) => sqrt(divide(squares(update), squares(weight))),
});

/**
 * Freezes a matrix of a layer for good once a step moves it by less than a share of what its largest step did.
 *
 * @param share The share
 * @returns The policy
 */
export function settled(share: number): FreezePolicy {
  return definePolicy({
    name: `settled(${share})`,
    signals: [relativeUpdate],
    init: (components) =>
      components.filter(layerLinears).map(({ path }) => ({
        path,
        peak: 0 as number,
        frozen: false as boolean,
      })),
    next: (matrices, now) =>
      matrices.map(({ path, peak, frozen }) => {
        const moved = now.read(relativeUpdate, path); // NaN while it is frozen
        return { path, peak: moved > peak ? moved : peak, frozen: frozen || moved < share * peak };
      }),
    frozen: (matrices) => matrices.filter(({ frozen }) => frozen).map(({ path }) => path),
  });
}

/**
 * Trains the bundled model on Moby-Dick.
 *
 * @param gpu The device
 * @param options What freezes, and how many steps to take
 * @returns The state after each step
 */
export async function* train(
  gpu: Gpu,
  { policy, steps }: { readonly policy: FreezePolicy; readonly steps: number },
): AsyncGenerator<TrainingState<object>> {
  const model = await loadModel(gpu, "examples/models/sotu");
  const tokenizer = await loadTokenizer("examples/models/sotu");
  const ids = await packCorpus(tokenizer, await openText("moby-dick"));
  const batches = tokenWindows(ids, { batch: 4, length: 64 });

  const optimizer = adamW({ learningRate: 1e-3 });
  const training = defineTraining(gpu, nextTokenLoss(model), { optimizer, policy, steps });
  yield* scan(training, await training.init(model.params), batches.from(1));
}

function costText({ launches, matmulFlops }: Cost): string {
  return `${launches} launches, ${(matmulFlops / 1e9).toFixed(2)} GFLOP`;
}

async function main(args: readonly string[]): Promise<void> {
  await using gpu = await openGpu(providerOf(readFlags(args, GPU_FLAGS).values));
  const policy = anyOf(gradES({ tau: 20, alpha: 0.4 }), bottomUp(20), settled(0.15));
  print(`${policy.name}\n`);
  let loss = NaN;
  for await (const { step, look, event } of train(gpu, { policy, steps: 70 })) {
    // Every tenth step brings the numbers of the last ten, and what the policy made of them.
    if (look !== null) loss = look.loss.reduce((sum, l) => sum + l, 0) / look.loss.length;
    if (event === null) continue;
    const { frozen, before, after } = event;
    const ends = frozen.length === 1 ? frozen : [frozen[0], frozen.at(-1)];
    print(`step ${step}, loss ${loss.toFixed(2)}: froze ${frozen.length}, ${ends.join(" to ")}`);
    print(`    a step: ${costText(before)} → ${costText(after)}`);
  }
  print(`\nloss ${loss.toFixed(2)}, the mean of the last ten steps`);
}

if (import.meta.main) await runMain(main, "custom_policy");
