/**
 * Training states as files.
 *
 * @module
 */

import { isBlocked } from "../../kernels/blocks.ts";
import { indexOfNonFinite } from "../data/floats.ts";
import { DataError, InputError, NonFiniteError, NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { joined, parentOf, slashed } from "../host/paths.ts";
import { temporaryPath } from "../host/temporary.ts";
import { openSafetensors, type StoredDType } from "../data/safetensors.ts";
import { inFileOrder, type TensorToStore, writeSafetensors } from "../data/safetensors_write.ts";
import type { Gpu } from "../runtime/device.ts";
import { read } from "../infer/read.ts";
import { mappedParts } from "../runtime/readback.ts";
import { free, storageOf } from "../runtime/residents.ts";
import type { Json } from "../policy.ts";
import { type DType, elementBytes } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path, type TensorTree } from "../tree.ts";
import { checksums, sumOf } from "./checksums.ts";
import { earlierSettings } from "./earlier_settings.ts";
import { parseRecord, type SavedRecord, textOf, VERSION } from "./saved_record.ts";
import { copyTensors } from "../train/state/snapshot.ts";
import { BEST, OPTIMIZER } from "../train/state/specs.ts";
import type { HostTensor, SavedState, TrainingState } from "../train/types.ts";

/** A training state read from a file. */
export interface Checkpoint extends SavedState {
  /** What was saved beside the state. */
  readonly extra: Json;
  /** The file that it was read from: an older one when the newest is damaged. */
  readonly path: string;
}

const PARAMS = "params.", LEAVES = "leaves.";

/**
 * Saves a training state to one safetensors file: parameters, optimizer state, policy state, frozen set, step, readings
 * since the last look, and the best weights so far. Training that resumes from it ends with the same bits. Values are
 * stored as on the device.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param options `path`: the file, replaced whole or not at all; `extra`: JSON to keep beside it, such as the seed; `keep`:
 * how many checkpoints stay, 2 when absent: the one before `run.safetensors` is `run.1.safetensors`
 * @throws {NonFiniteError} When a parameter or the optimizer's state is not finite; the files stay as they were
 * @throws {ConsumedError} When a step has consumed the state
 *
 * @see {@link loadCheckpoint}
 *
 * @example A run that is interrupted
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW, defineTraining, multiply, openGpu, read, sum, type Tensor, tensor } from "@firn/train";
 * import { loadCheckpoint, removeCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
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
 * await removeCheckpoint(path);
 * ```
 */
export async function saveCheckpoint<P extends TensorTree>(
  gpu: Gpu,
  state: TrainingState<P>,
  options: FileSystemOptions & { readonly path: string; readonly extra?: Json; readonly keep?: number },
): Promise<void> {
  const { extra = null, keep = 2, ...target } = options;
  const { write } = await captureCheckpoint(gpu, state, { extra, apart: false });
  await write({ ...target, keep });
}

/** A training state, ready to be written once. */
export interface Captured {
  /** Whether it is a copy, so that the device may go on before it is written. */
  readonly apart: boolean;
  /** Writes it, and keeps so many files. */
  write(target: FileSystemOptions & { readonly path: string; readonly keep: number }): Promise<void>;
}

/**
 * Makes a training state ready to be written. Its bytes are read while they are written: from a copy on the device, where
 * one is asked for and there is room.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param options `extra`: JSON to keep beside it; `apart`: whether to copy it
 * @returns What writes it
 * @throws {NonFiniteError} When a parameter or the optimizer's state is not finite
 * @throws {ConsumedError} When a step has consumed the state
 */
export async function captureCheckpoint<P extends TensorTree>(
  gpu: Gpu,
  state: TrainingState<P>,
  { extra, apart }: { readonly extra: Json; readonly apart: boolean },
): Promise<Captured> {
  const named = inFileOrder([
    ...[...flatten(state.params)].map(([path, tensor]) => stored(PARAMS + path, tensor)),
    ...[...state.leaves].map(([path, tensor]) => stored(LEAVES + path, tensor)),
  ]);
  const own = named.map(({ tensor }) => tensor), copies = apart ? await copyTensors(gpu, own) : null;
  const release = (): void => free({ ...copies });
  try {
    const tensors = copies ?? own, seen = await checksums(gpu, tensors);
    await checkFinite(
      gpu,
      named.map(({ name }, i) => ({ name, tensor: tensors[i], ...seen[i] })),
      state.step,
    );
    const sums = Object.fromEntries(named.map(({ name }, i) => [name, seen[i].sum]));
    const text = textOf({ ...recordOf(state, named), extra, sums });
    return {
      apart: copies !== null,
      async write({ path, keep, fileSystem }) {
        const parts = partsOf(gpu, tensors), stored = streamed(parts, { named, tensors });
        const write = (fresh: string): Promise<void> =>
          writeSafetensors(fresh, stored, { metadata: { firn: text }, fileSystem });
        try {
          await keepOlder(path, { keep, fileSystem, write });
        } finally {
          await parts.return();
          release();
        }
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** What a file keeps of a state beside its tensors. */
function recordOf<P extends TensorTree>(
  state: TrainingState<P>,
  named: readonly Named[],
): Omit<SavedRecord, "extra" | "sums"> {
  const { settings, step, policy, frozen, probed, since, validation, best, ending, chosen } = state;
  const { skipped, wide, exchanges } = state;
  const blocks = named.flatMap(({ name, tensor: { shape, dtype } }) =>
    isBlocked(dtype) ? [[name, { shape, dtype }] as const] : []
  );
  return {
    version: VERSION,
    ...{ settings, step, policy, frozen, probed, since, validation, best, ending, chosen },
    ...skipped.until + skipped.skipped > 0 && { skipped },
    ...wide && { wide },
    ...exchanges !== undefined && { exchanges },
    order: [...flatten(state.params).keys()],
    ...blocks.length > 0 && { blocks: Object.fromEntries(blocks) },
  };
}

/** A tensor, and how a file stores it. */
interface Named extends Omit<TensorToStore, "data"> {
  readonly tensor: Tensor;
}

/** A file has the bytes of the device: of blocks the words, whose spec the record has. */
function stored(name: string, tensor: Tensor): Named {
  const { shape, dtype } = tensor;
  return isBlocked(dtype)
    ? { name, tensor, shape: [elementBytes(tensor) / 4], dtype: "U32" }
    : { name, tensor, shape, dtype: STORED[dtype] ?? "F32" };
}

/** The types of a device that files have, too. */
const STORED: { readonly [dtype in DType]?: StoredDType } = { bf16: "BF16", f16: "F16", u32: "U32" };

type Parts = ReturnType<typeof mappedParts>;

const partsOf = (gpu: Gpu, tensors: readonly Tensor[]): Parts =>
  mappedParts(
    gpu,
    tensors.map((tensor) => ({ buffer: storageOf(tensor).buffer, bytes: elementBytes(tensor) })),
  );

/** Tensors in the order of the file, whose bytes are read as they are asked for. */
function streamed(
  parts: Parts,
  { named, tensors }: { readonly named: readonly Named[]; readonly tensors: readonly Tensor[] },
): TensorToStore[] {
  return named.map(({ tensor: _, ...spec }, i) => ({
    ...spec,
    async *data() {
      for (let left = elementBytes(tensors[i]); left > 0;) {
        // A step that reused the buffer would mix two states.
        storageOf(tensors[i]);
        const { bytes } = (await parts.next()).value!;
        left -= bytes.length;
        yield bytes;
      }
    },
  }));
}

/** Types of a device that files have, too. */
const SAME: { readonly [stored in StoredDType]?: DType } = { BF16: "bf16", F16: "f16" };

/** Path of an older checkpoint: `run.safetensors` was kept as `run.1.safetensors`, and before that as `run.2.safetensors`. */
function olderPath(path: string, age: number): string {
  return age === 0 ? path : path.replace(/(\.[^./\\]*)?$/, (extension) => `.${age}${extension}`);
}

/** Writes the new checkpoint, then moves the older ones on, so that a whole one is there at any time. */
async function keepOlder(
  path: string,
  { keep, write, fileSystem = hostFileSystem() }: FileSystemOptions & {
    readonly keep: number;
    readonly write: (fresh: string) => Promise<void>;
  },
): Promise<void> {
  if (!(Number.isSafeInteger(keep) && keep >= 1)) {
    throw new InputError(`Cannot keep ${keep} checkpoints as "keep" must be a whole number above 0`);
  }
  if (keep === 1) return await write(path);
  // A temporary file, which the lock of the folder removes when this process dies here.
  const { fresh } = temporaryPath(path);
  await write(fresh);
  try {
    for (let age = keep - 1; age > 0; age--) {
      const from = olderPath(path, age - 1);
      if (await fileSystem.stat(from) !== null) await fileSystem.rename(from, olderPath(path, age));
    }
    await fileSystem.rename(fresh, path);
  } catch (error) {
    // The first error counts. The checkpoint before is there, perhaps under its next name, which readers try too.
    await fileSystem.remove(fresh).catch(() => {});
    throw error;
  }
}

/**
 * Removes a checkpoint, and the older ones that were kept.
 *
 * @param path The file
 * @param options The file system
 */
export async function removeCheckpoint(
  path: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<void> {
  const folder = parentOf(path),
    [stem, extension = ""] = slashed(path).replace(/^.*\//s, "").split(/(?=\.[^.]*$)/);
  for (const { name } of await fileSystem.list(folder)) {
    const age = name.startsWith(stem) && name.endsWith(extension)
      ? name.slice(stem.length, name.length - extension.length)
      : null;
    if (age === "" || age !== null && /^\.\d+$/.test(age)) await fileSystem.remove(joined(folder, name));
  }
}

/** Refuses a state that a run could not go on from. Readings, the loss and gradients before may be absent, which is NaN. */
async function checkFinite(
  gpu: Gpu,
  seen: readonly { readonly name: string; readonly tensor: Tensor; readonly finite: boolean }[],
  step: number,
): Promise<void> {
  const needed = (name: string): boolean =>
    !name.startsWith(LEAVES) || [OPTIMIZER, BEST].some((part) => name.startsWith(LEAVES + part));
  const wrong = seen.find(({ name, finite }) => !finite && needed(name));
  if (wrong === undefined) return;
  const values = await read(gpu, wrong.tensor), at = indexOfNonFinite(values);
  const what = wrong.name.slice(wrong.name.indexOf(".") + 1);
  throw new NonFiniteError(`element ${at} of "${what}"`, step, values[at], { action: "save a checkpoint" });
}

/**
 * Reads a checkpoint, for `training.resume`.
 *
 * @param path The file. When it is damaged, or gone as a process died while it was replaced, the newest whole one of those
 * that were kept before it is read
 * @param options The file system
 * @returns The saved state on the host, and the file that it was read from
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When it is damaged, or not a checkpoint
 */
export async function loadCheckpoint(path: string, options: FileSystemOptions = {}): Promise<Checkpoint> {
  const { fileSystem = hostFileSystem() } = options;
  let failure: unknown;
  for (let age = 0;; age++) {
    const file = olderPath(path, age);
    if (age > 1 && await fileSystem.stat(file) === null) throw failure;
    try {
      return await loadFile(file, options);
    } catch (error) {
      failure ??= error;
      const next = error instanceof DataError || age === 0 && error instanceof NotFoundError;
      if (!next) throw failure;
    }
  }
}

async function loadFile(path: string, options: FileSystemOptions): Promise<Checkpoint> {
  await using file = await openSafetensors(path, options);
  const record = parseRecord(Object.hasOwn(file.metadata, "firn") ? file.metadata.firn : null, file.path);
  const params = new Map<Path, HostTensor>(), leaves = new Map<Path, HostTensor>();
  const { version: _, order, blocks = {}, settings, sums, ...rest } = record;
  for (const name of file.names) {
    const [map, prefix] = name.startsWith(PARAMS) ? [params, PARAMS] : [leaves, LEAVES];
    const { shape, dtype } = file.specs.get(name)!, bytes = await file.read(name);
    // Earlier versions wrote no sums.
    if (sums !== undefined && (!Object.hasOwn(sums, name) || sums[name] !== sumOf(bytes))) {
      throw new DataError(
        `Cannot resume from "${file.path}" as "${name}" must be as it was saved: it was changed; use another checkpoint`,
      );
    }
    const words = dtype === "U32" ? { shape, dtype: "u32" as const } : undefined;
    const packed = Object.hasOwn(blocks, name) ? blocks[name] : words;
    map.set(
      name.slice(prefix.length),
      packed !== undefined
        ? { ...packed, data: new Uint32Array(bytes.buffer) }
        : { shape, dtype: SAME[dtype] ?? "f32", data: await file.readF32(name) },
    );
  }
  for (const [name, spec] of Object.entries(blocks)) {
    const seen = file.specs.get(name), bytes = elementBytes(spec);
    if (seen !== undefined && seen.dtype === "U32" && seen.end - seen.begin === bytes) continue;
    throw new DataError(
      `Cannot resume from "${file.path}" as "${name}" must have ${bytes} bytes of ${spec.dtype}: it does not; ` +
        "use another checkpoint",
    );
  }
  const missing = order.find((path) => !params.has(path)), more = params.size > order.length;
  if (missing !== undefined || more) {
    throw new DataError(
      `Cannot resume from "${file.path}" as its tensors must be the parameters that it lists: ${
        missing === undefined ? "it has more" : `"${missing}" is missing`
      }; use another checkpoint`,
    );
  }
  const ordered = new Map(order.map((path) => [path, params.get(path)!]));
  const known = typeof settings === "string" ? earlierSettings(settings) : settings;
  return { ...rest, settings: known, params: ordered, leaves, path };
}
