/**
 * Evaluation: the loss of many batches with one read at the end.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { createBuffer, type Gpu, readBuffers, writeValues } from "../gpu/device.ts";
import { bytesOf } from "../gpu/plan.ts";
import { planFor, record } from "../gpu/run.ts";
import { broadcast, equal, where } from "../ops/elementwise.ts";
import { reshape } from "../ops/shape.ts";
import { hostValues, leaf, sameShape, stepScalar, type Tensor, tensor } from "../tensor.ts";
import { flatten, type Path, unflatten } from "../tree.ts";
import type { TensorTree } from "./state.ts";

/**
 * Computes a loss on batches of one shape.
 *
 * @param gpu The device
 * @param options The loss, parameters (of a training state, or any tensors) and batches
 * @returns The loss of each batch
 * @throws {RangeError} When there is no batch
 * @throws {ShapeError} When batches differ in shape: pad the last one
 */
export async function evaluate<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  options: {
    readonly loss: (params: P, batch: B) => Tensor;
    readonly params: P;
    readonly batches: readonly B[];
  },
): Promise<Float32Array> {
  const { loss, params, batches } = options;
  if (batches.length === 0) throw new RangeError('Cannot evaluate as "batches" is empty: give at least one');
  const leaves = new Map([...flatten(batches[0])].map(([path, t]) => [path, leaf(path, t)]));
  const buffers = new Map<Path, GPUBuffer>();
  const count = batches.length;
  const results = leaf("results", { shape: [count, 1], dtype: "f32" });
  const rows = tensor(Float32Array.from({ length: count }, (_, i) => i), [count, 1]);
  const value = broadcast(reshape(loss(params, unflatten(leaves) as B), [1, 1]), [count, 1]);
  const updated = where(equal(rows, stepScalar((step) => step - 1)), value, results);
  const plan = planFor(gpu, [updated], new Map([[0, results]]));
  const resolve = (node: Tensor): GPUBuffer => {
    const { path } = node.attrs as { path: Path };
    if (!buffers.has(path)) buffers.set(path, createBuffer(gpu, { label: path, bytes: bytesOf(node) }));
    return buffers.get(path)!;
  };
  const recording = await record(gpu, { plan, resolve, label: "evaluate" });
  try {
    batches.forEach((batch, i) => {
      for (const [path, t] of flatten(batch)) {
        const first = leaves.get(path);
        if (first === undefined || !sameShape(first.shape, t.shape) || first.dtype !== t.dtype) {
          throw new ShapeError("evaluate", `"${path}" must be alike in all batches`, [
            first?.shape ?? [],
            t.shape,
          ]);
        }
        // The loss may not read it.
        const buffer = buffers.get(path);
        if (buffer === undefined) continue;
        writeValues(gpu, buffer, hostValues(t, `batch.${path}`));
      }
      recording.replay(i + 1);
    });
    return new Float32Array(
      (await readBuffers(gpu, [{ buffer: buffers.get("results")!, bytes: 4 * count }]))[0],
    );
  } finally {
    recording.destroy();
    for (const buffer of buffers.values()) buffer.destroy();
  }
}
