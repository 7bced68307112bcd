/**
 * A graph on many batches, with one read at the end.
 *
 * @module
 */

import { createBuffer, destroyBuffer, writeValues } from "../runtime/buffers.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import { readBuffers } from "../runtime/readback.ts";
import { bytesOf } from "../plan/storage.ts";
import { checkUnconsumed } from "../runtime/residents.ts";
import { turning } from "../runtime/turns.ts";
import { planFor } from "./read.ts";
import { record } from "../runtime/record.ts";
import { broadcast } from "../ops/broadcast.ts";
import { equal, where } from "../ops/comparison.ts";
import { reshape } from "../ops/movement.ts";
import { hostValues, leaf, stepScalar, tensor } from "../sources.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path, unflatten } from "../tree.ts";

/** A recorded graph. It reads what the buffers of its parameters hold when it runs. */
export interface Series {
  /**
   * Checks that the buffers still hold the parameters.
   *
   * @throws {ConsumedError} When a training step has consumed them since it was recorded
   */
  check(): void;
  /** Computes the values of each batch, one after the other; any number for a batch that is left out. */
  run(): Promise<Float32Array>;
  /** Frees its buffers. */
  destroy(): void;
}

/** What a series computes. */
export interface SeriesOptions<B extends object> {
  /** From a batch to some values, f32. */
  readonly compute: (batch: B) => Tensor;
  /** Batches of one shape. */
  readonly batches: readonly B[];
  /** Which batches are left out; none when absent. */
  readonly without?: (index: number) => boolean;
  /** Called with the batches that the device has done: with 0 once its kernels are compiled, then about twice a second. */
  readonly onProgress?: OnProgress;
}

/**
 * Records a graph that is computed on batches, and can be computed again as the parameters change.
 *
 * @param gpu The device
 * @param options The graph and the batches
 * @returns The recording
 */
export async function recordSeries<B extends object>(
  gpu: Gpu,
  { compute, batches, without = () => false, onProgress }: SeriesOptions<B>,
): Promise<Series> {
  const leaves = new Map([...flatten(batches[0])].map(([path, t]) => [path, leaf(`batch.${path}`, t)]));
  const buffers = new Map<Path, GPUBuffer>(), count = batches.length;
  const computed = compute(unflatten(leaves) as B), shape = [count, sizeOf(computed.shape)];
  const results = leaf("results", { shape, dtype: "f32" });
  const rows = tensor(Float32Array.from({ length: count }, (_, i) => i), [count, 1]);
  const now = equal(broadcast(rows, shape), stepScalar((step) => step - 1));
  const updated = where(now, broadcast(reshape(computed, [1, shape[1]]), shape), results);
  const plan = planFor(gpu, [updated], new Map([[0, results]]));
  const resolve = (node: Tensor): GPUBuffer => {
    const { path } = node.attrs as { path: Path };
    if (!buffers.has(path)) buffers.set(path, createBuffer(gpu, { label: path, bytes: bytesOf(node) }));
    return buffers.get(path)!;
  };
  const free = (): void => buffers.forEach((buffer) => destroyBuffer(buffer));
  const recording = await record(gpu, { plan, resolve, label: "evaluate" }).catch((error) => {
    free();
    throw error;
  });
  return {
    check: () => checkUnconsumed(plan),
    async run() {
      const report = progressOf(gpu, { total: count, onProgress });
      for (const [i, batch] of batches.entries()) {
        if (!without(i)) {
          for (const [path, t] of flatten(batch)) {
            // What is computed does not have to read every tensor.
            const buffer = buffers.get(`batch.${path}`);
            if (buffer === undefined) continue;
            writeValues(gpu, buffer, hostValues(t, `batch.${path}`));
          }
          recording.replay(i + 1);
        }
        await report?.(i + 1);
      }
      const bytes = 4 * sizeOf(shape);
      return new Float32Array((await readBuffers(gpu, [{ buffer: buffers.get("results")!, bytes }]))[0]);
    },
    destroy() {
      recording.destroy();
      free();
    },
  };
}

/** Milliseconds between two reports. To know how far it is, the host waits for the device, which costs 10 ms. */
const REPORT_EVERY = 500;

/** Reports after more and more batches, until these take as long as they should. */
function progressOf(
  gpu: Gpu,
  { total, onProgress }: { readonly total: number; readonly onProgress?: OnProgress },
): ((done: number) => Promise<void>) | null {
  if (onProgress === undefined) return null;
  let next = 1, portion = 1, at = performance.now();
  onProgress({ done: 0, total });
  return async (done) => {
    if (done < next && done < total) return;
    await turning(gpu, gpu.device.queue.onSubmittedWorkDone());
    onProgress({ done, total });
    if (performance.now() - at < REPORT_EVERY) portion *= 2;
    next = done + portion;
    at = performance.now();
  };
}
