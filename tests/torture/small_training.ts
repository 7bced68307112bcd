/**
 * A training of three layers and an embedding, for checkpoints and the states of policies.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  embedding,
  type FreezePolicy,
  type Gpu,
  matmul,
  mean,
  multiply,
  scan,
  type Tensor,
  tensor,
  type TensorTree,
  type Training,
  type TrainingState,
} from "@firn/train";
import { silu } from "@firn/train/ops";
import { drawFrom } from "./draw.ts";

/** Its planned steps. */
export const STEPS = 12;

const LAYERS = 3, WIDTH = 4, ENTRIES = 6, ROWS = 5;

interface Layers extends TensorTree {
  readonly embed: { readonly weight: Tensor };
  readonly layers: { readonly [layer: string]: { readonly weight: Tensor } };
}

interface Batch extends TensorTree {
  readonly ids: Tensor;
}

function lossOf({ embed, layers }: Layers, { ids }: Batch): Tensor {
  let x = embedding(embed.weight, ids);
  for (const { weight } of Object.values(layers)) x = silu(matmul(x, weight));
  return mean(multiply(x, x));
}

function start(): Layers {
  const draw = drawFrom(9, 0);
  const matrix = (rows: number): { readonly weight: Tensor } => ({
    weight: tensor(Float32Array.from({ length: rows * WIDTH }, () => draw(2000) / 1000 - 1), [rows, WIDTH]),
  });
  const layers = Array.from({ length: LAYERS }, (_, i) => [String(i), matrix(WIDTH)] as const);
  return { embed: matrix(ENTRIES), layers: Object.fromEntries(layers) };
}

const batchOf = (step: number): Batch => ({
  ids: tensor(Int32Array.from({ length: ROWS }, (_, i) => (step + i * i) % ENTRIES), [ROWS]),
});

/**
 * Defines it.
 *
 * @param gpu The device
 * @param policy What freezes; nothing when absent
 * @returns The reducer
 */
export function define(gpu: Gpu, policy?: FreezePolicy): Training<Layers, Batch> {
  return defineTraining<Layers, Batch>(gpu, lossOf, {
    optimizer: chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.01 })),
    steps: STEPS,
    lookEvery: 2,
    policy,
    validation: { batches: [batchOf(100)], every: 2 },
  });
}

/** A state after some steps. */
export async function stateAt(
  training: Training<Layers, Batch>,
  step: number,
): Promise<TrainingState<Layers>> {
  return await goOn(training, await training.init(start()), step);
}

/** The state some steps later, or that at the end. */
export async function goOn(
  training: Training<Layers, Batch>,
  state: TrainingState<Layers>,
  to: number,
): Promise<TrainingState<Layers>> {
  const batches = Array.from({ length: STEPS - state.step }, (_, i) => batchOf(state.step + 1 + i));
  let last = state;
  if (state.step >= to || state.done) return last;
  for await (last of scan(training, state, batches)) if (last.step >= to) break;
  return last;
}
