/**
 * Tensors whose values live on the device.
 *
 * @module
 */

import { ConsumedError, InputError } from "../errors.ts";
import { wholeOf } from "../plan/rows.ts";
import type { Plan } from "../plan/types.ts";
import { flatten } from "../tree.ts";
import type { Spec } from "../spec.ts";
import { apply, type Op, type Path, type Tensor } from "../tensor.ts";
import { destroyBuffer } from "./buffers.ts";

/** The buffer of a resident tensor. */
export interface Storage {
  readonly buffer: GPUBuffer;
  readonly label: string;
  /** Step that computed the values. */
  readonly producedAt: number;
  /** Whether no step ever writes into the buffer, so that several tensors may share it. */
  readonly constant?: boolean;
  /** Step that reused the buffer; null when none did. */
  consumedBy: number | null;
  /** Whether its buffer was destroyed. */
  freed: boolean;
}

/**
 * A resident tensor has its storage as an attribute. A weak map of them would have an entry more for each tensor of each step, and
 * collecting the garbage of a long training took half a second at once for these alone.
 */
const residentOp: Op<{ path: Path; spec: Spec; storage: Storage }> = {
  name: "resident",
  infer: (_, { spec }) => [spec],
};
/** How many tensors share a buffer, where there are several. */
const holders = new WeakMap<GPUBuffer, number>();

/** Makes a tensor from a buffer that holds its values. */
export function resident(spec: Spec, storage: Omit<Storage, "consumedBy" | "freed">): Tensor {
  return apply(residentOp, [], {
    path: storage.label,
    spec: { shape: spec.shape, dtype: spec.dtype },
    storage: { ...storage, consumedBy: null, freed: false },
  });
}

/** The storage of a tensor, in use or not; undefined where it is not on the device. */
function known({ op, attrs }: Tensor): Storage | undefined {
  return op === residentOp ? (attrs as { readonly storage: Storage }).storage : undefined;
}

/** Whether the buffer of a tensor may be shared. */
export function isConstant(tensor: Tensor): boolean {
  return known(tensor)?.constant ?? false;
}

/** Another tensor over the buffer of a constant one. The buffer is destroyed when both are freed. */
export function share(tensor: Tensor): Tensor {
  const { consumedBy: _, freed: __, ...storage } = storageOf(tensor);
  holders.set(storage.buffer, (holders.get(storage.buffer) ?? 1) + 1);
  return resident(tensor, storage);
}

/** Whether the values of a tensor are on the device. */
export function isResident(tensor: Tensor): boolean {
  return known(tensor) !== undefined;
}

/** Whether the values of a tensor can be read: they were neither freed nor consumed. */
export function isReadable(tensor: Tensor): boolean {
  const storage = known(tensor);
  return storage === undefined || !storage.freed && storage.consumedBy === null;
}

/**
 * The storage of a resident tensor.
 *
 * @throws {ConsumedError} When a step has reused its buffer
 */
export function storageOf(tensor: Tensor): Storage {
  const storage = known(tensor);
  if (storage === undefined) {
    throw new InputError(`Cannot read "${tensor.op.name}" as it is not on the device`);
  }
  if (storage.freed) {
    throw new InputError(`Cannot use "${storage.label}" as it was freed: load or compute it again`);
  }
  if (storage.consumedBy !== null) throw new ConsumedError(storage.producedAt, storage.consumedBy);
  return storage;
}

/**
 * Checks that no training step has consumed a tensor that a plan reads.
 *
 * @param plan The plan
 * @throws {ConsumedError} When a step has
 */
export function checkUnconsumed({ buffers }: Plan): void {
  for (const { source } of buffers) {
    if (source.kind !== "leaf") continue;
    const whole = wholeOf(source.node);
    if (isResident(whole)) storageOf(whole);
  }
}

/** Marks a tensor as consumed by a step. Its buffer belongs to the next state. */
export function consume(tensor: Tensor, step: number): void {
  storageOf(tensor).consumedBy = step;
}

/**
 * Frees the buffers of tensors now, not when the tensors are garbage collected.
 *
 * @param tree Tensors, such as the parameters of a model; those that are not on the device or that a step consumed are left
 * alone. What a model shares with training states is freed with the last of them. `freeState` frees all that a training state
 * holds
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { free, InputError, openGpu, read } from "@firn/train";
 * import type { LlamaParams } from "@firn/train/models";
 * import { loadModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const { params } = await loadModel<LlamaParams>(gpu, "examples/models/sotu");
 * free(params);
 * await assertRejects(() => read(gpu, params.model.norm.weight), InputError, 'Cannot use "model.norm.weight" as it was freed');
 * ```
 */
export function free(tree: object): void {
  for (const tensor of flatten(tree).values()) {
    const storage = known(tensor);
    // The buffer of what a step consumed belongs to the state after it.
    if (storage === undefined || storage.consumedBy !== null || storage.freed) continue;
    storage.freed = true;
    const others = (holders.get(storage.buffer) ?? 1) - 1;
    if (others > 0) holders.set(storage.buffer, others);
    else destroyBuffer(storage.buffer);
  }
}
