/**
 * A training of two matrices, for checkpoints.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type FreezePolicy,
  type Gpu,
  type Training,
  type TrainingState,
} from "@firn/train";
import { advance, type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "../train/tiny.ts";

/** Its planned steps. */
export const STEPS = 12;

const BATCHES = pairs(STEPS), HELD = pairs(2);

/**
 * Defines it.
 *
 * @param gpu The device
 * @param policy What freezes; nothing when absent
 * @returns The reducer
 */
export function define(gpu: Gpu, policy?: FreezePolicy): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.1 })),
    steps: STEPS,
    lookEvery: 2,
    policy,
    validation: { batches: HELD, every: 2 },
  });
}

/** A state after some steps. */
export async function stateAt(training: Training<Mlp, Pairs>, step: number): Promise<TrainingState<Mlp>> {
  return await goOn(training, await training.init(newMlp()), step);
}

/** The state some steps later. */
export async function goOn(
  training: Training<Mlp, Pairs>,
  state: TrainingState<Mlp>,
  to: number,
): Promise<TrainingState<Mlp>> {
  return await advance(training, state, { to, batches: BATCHES });
}
