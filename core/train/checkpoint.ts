/**
 * Training states as files, and copies of them.
 *
 * @module
 */

import { toBf16 } from "../data/floats.ts";
import { DataError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { openSafetensors } from "../data/safetensors.ts";
import { writeSafetensors } from "../data/safetensors_write.ts";
import { checkAllocations, createBuffer, type Gpu } from "../runtime/device.ts";
import { bytesOf } from "../plan/storage.ts";
import { resident, storageOf } from "../runtime/residents.ts";
import { readAll } from "../runtime/record.ts";
import type { Json } from "../policy.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path, unflatten } from "../tree.ts";
import type { HostTensor, SavedState, TensorTree, TrainingState } from "./types.ts";

/** A training state read from a file. */
export interface Checkpoint extends SavedState {
  /** What was saved beside the state. */
  readonly extra: Json;
}

/** Version of the layout; another one is refused. */
const VERSION = 1;
const PARAMS = "params.", LEAVES = "leaves.";

/**
 * Saves a training state to one safetensors file: parameters, optimizer state, policy state, frozen set, step and the
 * readings since the last look, the best parameters so far. Training resumed from it ends with the same bits. Everything is stored as the device
 * does: as f32, or as bf16.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param options `path`: the file, replaced whole or not at all; `extra`: JSON to keep beside it, such as the seed
 * @throws {ConsumedError} When a step has consumed the state
 *
 * @see {@link loadCheckpoint}
 */
export async function saveCheckpoint<P extends TensorTree>(
  gpu: Gpu,
  state: TrainingState<P>,
  options: FileSystemOptions & { readonly path: string; readonly extra?: Json },
): Promise<void> {
  const { settings, step, policy, frozen, probed, since, validation, best, ending, chosen } = state;
  const named = [
    ...[...flatten(state.params)].map(([path, t]) => [PARAMS + path, t] as const),
    ...[...state.leaves].map(([path, t]) => [LEAVES + path, t] as const),
  ];
  const values = await readAll(gpu, named.map(([, t]) => t));
  const tensors = named.map(([name, { shape, dtype }], i) => {
    const data = values[i] as Float32Array<ArrayBuffer>;
    return dtype === "bf16"
      ? { name, shape, dtype: "BF16" as const, data: toBf16(data) }
      : { name, shape, dtype: "F32" as const, data };
  });
  const order = [...flatten(state.params).keys()];
  const { path, extra = null, fileSystem } = options;
  const plain = { settings, step, policy, frozen, probed, since, validation, best, ending, chosen };
  const record: Stored = { version: VERSION, ...plain, order, extra };
  await writeSafetensors(path, tensors, { metadata: { firn: JSON.stringify(record) }, fileSystem });
}

/**
 * Reads a checkpoint, for `training.resume`.
 *
 * @param path The file
 * @param options The file system
 * @returns The saved state, on the host
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When it is damaged or no checkpoint
 */
export async function loadCheckpoint(path: string, options: FileSystemOptions = {}): Promise<Checkpoint> {
  await using file = await openSafetensors(path, options);
  const text = Object.hasOwn(file.metadata, "firn") ? file.metadata.firn : null;
  const record = text === null ? null : parse(text, path);
  if (record === null || record.version !== VERSION) {
    throw new DataError(
      `Cannot resume from "${path}" as it must be a checkpoint of layout ${VERSION}: ${
        record === null ? "its metadata has no training state" : `it is of layout ${record.version}`
      }`,
    );
  }
  const params = new Map<Path, HostTensor>(), leaves = new Map<Path, HostTensor>();
  for (const name of file.names) {
    const [map, prefix] = name.startsWith(PARAMS) ? [params, PARAMS] : [leaves, LEAVES];
    const data = await file.readF32(name), { shape, dtype } = file.specs.get(name)!;
    map.set(name.slice(prefix.length), { shape, dtype: dtype === "BF16" ? "bf16" : "f32", data });
  }
  const { version: _, order, ...rest } = record;
  const ordered = new Map(order.map((path) => [path, params.get(path)!]));
  return { ...rest, params: ordered, leaves };
}

interface Stored extends Omit<SavedState, "params" | "leaves"> {
  readonly version: number;
  /** Paths of the parameters as the model has them: the columns of the readings follow it, the file is sorted. */
  readonly order: readonly Path[];
  readonly extra: Json;
}

function parse(text: string, path: string): Stored {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new DataError(
      `Cannot resume from "${path}" as its training state must be JSON: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}

/**
 * Copies a training state on the device: the copy survives the step that consumes the original.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @returns A state equal to it, in buffers of its own
 * @throws {ConsumedError} When a step has consumed the state
 */
export function snapshot<P extends TensorTree>(gpu: Gpu, state: TrainingState<P>): TrainingState<P> {
  gpu.check();
  for (const tensor of tensorsOf(state)) storageOf(tensor);
  const pairs: Pair[] = [];
  const copy = (tensor: Tensor): Tensor => {
    const { buffer, label, producedAt } = storageOf(tensor);
    const made = createBuffer(gpu, { label, bytes: bytesOf(tensor) });
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
 * Does something that updates the buffers of a state in place, then puts their values back; nobody sees them in between.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param work What to do: it submits all before it waits for anything
 * @returns What it gives
 * @throws {ConsumedError} When a step has consumed the state
 * @throws {OutOfMemoryError} When the device has no room for a copy of the state; nothing was done
 */
export async function undone<P extends TensorTree, R>(
  gpu: Gpu,
  state: TrainingState<P>,
  work: () => Promise<R>,
): Promise<R> {
  const storages = tensorsOf(state).map(storageOf);
  const pairs = storages.map(({ buffer, label }): Pair => [
    buffer,
    createBuffer(gpu, { label, bytes: buffer.size }),
  ]);
  try {
    await checkAllocations(gpu);
    copyAll(gpu, pairs);
    const done = work();
    copyAll(gpu, pairs.map(([from, to]) => [to, from]));
    return await done;
  } finally {
    for (const [, copy] of pairs) copy.destroy();
  }
}

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
