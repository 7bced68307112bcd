/**
 * Tensors whose values live on the device.
 *
 * @module
 */

import { ConsumedError } from "../errors.ts";
import type { Plan } from "../plan/types.ts";
import { flatten } from "../tree.ts";
import { apply, type Op, type Path, type Spec, type Tensor } from "../tensor.ts";
import { destroyBuffer } from "./buffers.ts";

/** Where a resident tensor's values are. */
export interface Storage {
  readonly buffer: GPUBuffer;
  readonly label: string;
  /** Step that produced the values. */
  readonly producedAt: number;
  /** Step that reused the buffer, when one did. */
  consumedBy: number | null;
  /** Its buffer is gone. */
  freed: boolean;
}

const residentOp: Op<{ path: Path; spec: Spec }> = { name: "resident", infer: (_, { spec }) => [spec] };
const storages = new WeakMap<Tensor, Storage>();

/** A tensor over a buffer that holds its values. */
export function resident(spec: Spec, storage: Omit<Storage, "consumedBy" | "freed">): Tensor {
  const node = apply(residentOp, [], { path: storage.label, spec: { shape: spec.shape, dtype: spec.dtype } });
  storages.set(node, { ...storage, consumedBy: null, freed: false });
  return node;
}

/** Whether a tensor's values are on the device already. */
export function isResident(tensor: Tensor): boolean {
  return storages.has(tensor);
}

/**
 * The storage of a resident tensor.
 *
 * @throws {ConsumedError} When a step has reused its buffer
 */
export function storageOf(tensor: Tensor): Storage {
  const storage = storages.get(tensor);
  if (storage === undefined) {
    throw new TypeError(`Cannot read "${tensor.op.name}" as it is not on the device`);
  }
  if (storage.freed) {
    throw new TypeError(`Cannot use "${storage.label}" as it was freed: load or compute it again`);
  }
  if (storage.consumedBy !== null) throw new ConsumedError(storage.producedAt, storage.consumedBy);
  return storage;
}

/**
 * Refuses to replay a plan that was recorded before a training step took the values it reads.
 *
 * @param plan The plan
 * @throws {ConsumedError} When a step has consumed a tensor that it reads
 */
export function checkUnconsumed({ buffers }: Plan): void {
  for (const { source } of buffers) {
    if (source.kind === "leaf" && isResident(source.node)) storageOf(source.node);
  }
}

/** Marks a tensor as used up by a step: its buffer belongs to the next state. */
export function consume(tensor: Tensor, step: number): void {
  storageOf(tensor).consumedBy = step;
}

/**
 * Frees the buffers of tensors at once, rather than when they are garbage.
 *
 * @param tree Tensors on the device, such as the parameters of a model or of a state; others are left alone
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { free, openGpu, type LlamaParams, read } from "@firn/train";
 * import { loadModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const { params } = await loadModel<LlamaParams>(gpu, "examples/models/sotu");
 * free(params);
 * await assertRejects(() => read(gpu, params.model.norm.weight), TypeError, 'Cannot use "model.norm.weight" as it was freed');
 * ```
 */
export function free(tree: object): void {
  for (const tensor of flatten(tree).values()) {
    const storage = storages.get(tensor);
    if (storage === undefined) continue;
    destroyBuffer(storage.buffer);
    storage.freed = true;
  }
}
