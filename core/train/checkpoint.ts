/**
 * Training states as files.
 *
 * @module
 */

import { toBf16 } from "../data/floats.ts";
import { DataError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { openSafetensors } from "../data/safetensors.ts";
import { writeSafetensors } from "../data/safetensors_write.ts";
import type { Gpu } from "../runtime/device.ts";
import { readAll } from "../infer/read.ts";
import type { Json } from "../policy.ts";
import { flatten, type Path, type TensorTree } from "../tree.ts";
import type { HostTensor, SavedState, TrainingState } from "./types.ts";

/** A training state read from a file. */
export interface Checkpoint extends SavedState {
  /** What was saved beside the state. */
  readonly extra: Json;
}

/** Version of the layout. Other versions are refused. */
const VERSION = 1;
const PARAMS = "params.", LEAVES = "leaves.";

/**
 * Saves a training state to one safetensors file: parameters, optimizer state, policy state, frozen set, step, readings
 * since the last look, and the best weights so far. Training that resumes from it ends with the same bits. Values are
 * stored as on the device, f32 or bf16.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param options `path`: the file, replaced whole or not at all; `extra`: JSON to keep beside it, such as the seed
 * @throws {ConsumedError} When a step has consumed the state
 *
 * @see {@link loadCheckpoint}
 *
 * @example A run that is interrupted
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import {
 *   adamW, defineTraining, loadCheckpoint, multiply, openGpu, read, saveCheckpoint, sum, type Tensor, tensor,
 * } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const define = () =>
 *   defineTraining(gpu, ({ w }: { w: Tensor }, { x }: { x: Tensor }) => sum(multiply(multiply(w, w), x)), {
 *     optimizer: adamW({ learningRate: 0.1 }),
 *     steps: 4,
 *   });
 * const batch = { x: tensor([1, 2]) }, path = await Deno.makeTempFile();
 * const first = define();
 * let state = await first.init({ w: tensor([3, 4]) });
 * while (state.step < 2) state = await first.next(state, batch);
 * await saveCheckpoint(gpu, state, { path, extra: { seed: 1 } });
 * while (!state.done) state = await first.next(state, batch);
 *
 * const second = define(), { extra, ...saved } = await loadCheckpoint(path);
 * let again = await second.resume(saved);
 * while (!again.done) again = await second.next(again, batch);
 * assertEquals(await read(gpu, again.params.w), await read(gpu, state.params.w));
 * assertEquals([again.step, extra], [4, { seed: 1 }]);
 * await Deno.remove(path);
 * ```
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
 * @returns The saved state on the host
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When it is damaged, or not a checkpoint
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
  /** Paths of the parameters in the order of the model, which the columns of the ring follow. The file is sorted. */
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
