/**
 * Copies of training states on the device.
 *
 * @module
 */

import { bytesOf } from "../../plan/storage.ts";
import { checkAllocations, createBuffer, destroyBuffer } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { isConstant, resident, share, storageOf } from "../../runtime/residents.ts";
import type { Tensor } from "../../tensor.ts";
import { flatten, type Path, type TensorTree, unflatten } from "../../tree.ts";
import type { TrainingState } from "../types.ts";

/**
 * Copies a training state on the device: the copy survives the step that consumes the original.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @returns A state equal to it, in buffers of its own
 * @throws {ConsumedError} When a step has consumed the state
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { defineTraining, multiply, openGpu, read, sgd, snapshot, sum, type Tensor, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const training = defineTraining(
 *   gpu,
 *   ({ w }: { w: Tensor }, { x }: { x: Tensor }) => sum(multiply(w, x)),
 *   { optimizer: sgd({ learningRate: 1 }), steps: 3 },
 * );
 * const start = await training.init({ w: tensor([5]) }), copy = snapshot(gpu, start);
 * const next = await training.next(start, { x: tensor([1]) });
 * assertEquals([...await read(gpu, next.params.w)], [4]);
 * assertEquals([...await read(gpu, copy.params.w)], [5]);
 * ```
 */
export function snapshot<P extends TensorTree>(gpu: Gpu, state: TrainingState<P>): TrainingState<P> {
  gpu.check();
  for (const tensor of tensorsOf(state)) storageOf(tensor);
  const pairs: Pair[] = [];
  const copy = (tensor: Tensor): Tensor => {
    if (isConstant(tensor)) return share(tensor);
    const { buffer, label, producedAt } = storageOf(tensor);
    const made = createBuffer(gpu, { label, bytes: bytesOf(tensor), mend: WITHOUT_COPY });
    pairs.push([buffer, made]);
    return resident(tensor, { buffer: made, label, producedAt });
  };
  const copies = (tree: ReadonlyMap<Path, Tensor>): Map<Path, Tensor> =>
    new Map([...tree].map(([path, t]) => [path, copy(t)]));
  const params = unflatten(copies(flatten(state.params))) as P, leaves = copies(state.leaves);
  copyAll(gpu, pairs);
  return { ...state, params, leaves, loss: state.loss === null ? null : leaves.get("loss")! };
}

/**
 * Runs work that updates the buffers of a state in place, then restores their values. Nothing else runs in between.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param work The work: it submits everything before it waits for anything
 * @returns The result of the work
 * @throws {ConsumedError} When a step has consumed the state
 * @throws {OutOfMemoryError} When the device has no room for a copy of the state; the work was not run
 */
export async function withRollback<P extends TensorTree, R>(
  gpu: Gpu,
  state: TrainingState<P>,
  work: () => Promise<R>,
): Promise<R> {
  const storages = tensorsOf(state).filter((tensor) => !isConstant(tensor)).map(storageOf);
  const pairs = storages.map(({ buffer, label }): Pair => [
    buffer,
    createBuffer(gpu, { label, bytes: buffer.size, mend: WITHOUT_COPY }),
  ]);
  try {
    await checkAllocations(gpu);
    copyAll(gpu, pairs);
    const done = work();
    copyAll(gpu, pairs.map(([from, to]) => [to, from]));
    return await done;
  } finally {
    for (const [, copy] of pairs) destroyBuffer(copy);
  }
}

/** What helps where there is no room for a second state. */
const WITHOUT_COPY = "a copy of the state takes its memory once more: do without it, or use a larger device";

/** A buffer, and one of its size that gets its values. */
type Pair = readonly [from: GPUBuffer, to: GPUBuffer];

function copyAll(gpu: Gpu, pairs: readonly Pair[]): void {
  const encoder = gpu.device.createCommandEncoder();
  for (const [from, to] of pairs) encoder.copyBufferToBuffer(from, 0, to, 0, to.size);
  gpu.device.queue.submit([encoder.finish()]);
  gpu.counts.submits++;
}

function tensorsOf<P extends TensorTree>({ params, leaves }: TrainingState<P>): Tensor[] {
  return [...flatten(params).values(), ...leaves.values()];
}
