/**
 * Reads tensors as a given training step computes them.
 *
 * @module
 */

import { type Gpu, type HostData, readAll, type Tensor } from "@firn/train";
import { resident } from "../../core/runtime/residents.ts";
import { planFor } from "../../core/infer/read.ts";
import { record } from "../../core/runtime/record.ts";

/**
 * Computes tensors at a step, which `stepScalar` and random numbers depend on; `readAll` is at step 1.
 *
 * @param gpu The device
 * @param tensors What to compute
 * @param step 1-based
 * @returns The values of each
 */
export async function readStep(gpu: Gpu, tensors: readonly Tensor[], step: number): Promise<HostData[]> {
  const recording = await record(gpu, { plan: planFor(gpu, tensors), label: "test" });
  recording.replay(step);
  const computed = tensors.map((tensor, i) =>
    resident(tensor, { buffer: recording.roots[i], label: "test", producedAt: step })
  );
  const values = await readAll(gpu, computed);
  recording.destroy();
  return values;
}
