/**
 * The weights to evaluate and to keep: those of the state, or those that the optimizer makes of them.
 *
 * @module
 */

import { planFor } from "../../infer/read.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import type { Gpu } from "../../runtime/device.ts";
import { record } from "../../runtime/record.ts";
import { resident, storageOf } from "../../runtime/residents.ts";
import type { Leaves } from "../../tree.ts";
import { OPTIMIZER } from "./specs.ts";

/** What the weights are made of. */
export interface WeightSource {
  readonly optimizer: Optimizer;
  /** All parameters. */
  readonly params: Leaves;
  /** Other state. */
  readonly leaves: Leaves;
}

/**
 * Computes the weights of a state for some work, and frees them after it.
 *
 * @param gpu The device
 * @param source Optimizer and state
 * @param use The work; the weights are those of the state where the optimizer makes no others
 * @returns Its result
 */
export async function withWeights<R>(
  gpu: Gpu,
  { optimizer, params, leaves }: WeightSource,
  use: (weights: Leaves, own: boolean) => Promise<R>,
): Promise<R> {
  if (optimizer.evaluated === undefined) return await use(params, false);
  const state = new Map(
    [...leaves].flatMap(([path, t]) =>
      path.startsWith(OPTIMIZER) ? [[path.slice(OPTIMIZER.length), t] as const] : []
    ),
  );
  const paths = optimizer.moments.flatMap(({ name }) =>
    [...params.keys()].filter((p) => state.has(`${name}.${p}`))
  );
  const active = new Map([...params].filter(([path]) => paths.includes(path)));
  const made = [...optimizer.evaluated(state, active)].filter(([path, t]) => t !== params.get(path));
  if (made.length === 0) return await use(params, false);
  const recording = await record(gpu, { plan: planFor(gpu, made.map(([, t]) => t)), label: "weights" });
  try {
    recording.replay(1);
    const weights = new Map(params);
    made.forEach(([path, t], i) => {
      const { producedAt } = storageOf(params.get(path)!);
      weights.set(path, resident(t, { buffer: recording.roots[i], label: path, producedAt }));
    });
    return await use(weights, true);
  } finally {
    recording.destroy();
  }
}
