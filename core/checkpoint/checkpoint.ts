/**
 * Training states as files.
 *
 * @module
 */

import { isBlocked } from "../../kernels/blocks.ts";
import { indexOfNonFinite, toBf16, toF16 } from "../data/floats.ts";
import { DataError, InputError, NonFiniteError, NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { joined, parentOf, slashed } from "../host/paths.ts";
import { temporaryPath } from "../host/temporary.ts";
import { openSafetensors, type StoredDType } from "../data/safetensors.ts";
import { type TensorToStore, writeSafetensors } from "../data/safetensors_write.ts";
import type { Gpu } from "../runtime/device.ts";
import { readStored } from "../infer/read.ts";
import type { Json } from "../policy.ts";
import type { HostData } from "../sources.ts";
import { type DType, elementBytes } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path, type TensorTree } from "../tree.ts";
import { earlierSettings } from "./earlier_settings.ts";
import { parseRecord, type SavedRecord, textOf, VERSION } from "./saved_record.ts";
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
  const write = await captureCheckpoint(gpu, state, extra);
  await write({ ...target, keep });
}

/** Writes what was captured, and keeps so many files. */
type WriteCheckpoint = (
  target: FileSystemOptions & { readonly path: string; readonly keep: number },
) => Promise<void>;

/**
 * Reads a training state from the device. The device may go on before it is written.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param extra JSON to keep beside it
 * @returns What writes it
 * @throws {NonFiniteError} When a parameter or the optimizer's state is not finite
 * @throws {ConsumedError} When a step has consumed the state
 */
export async function captureCheckpoint<P extends TensorTree>(
  gpu: Gpu,
  state: TrainingState<P>,
  extra: Json,
): Promise<WriteCheckpoint> {
  const {
    settings,
    step,
    policy,
    frozen,
    probed,
    since,
    skipped,
    wide,
    validation,
    best,
    ending,
    chosen,
    exchanges,
  } = state;
  const named = [
    ...[...flatten(state.params)].map(([path, t]) => [PARAMS + path, t] as const),
    ...[...state.leaves].map(([path, t]) => [LEAVES + path, t] as const),
  ];
  const values = await readStored(gpu, named.map(([, t]) => t));
  checkFinite(named, values, step);
  const tensors = named.map(([name, tensor], i) => stored(name, { ...tensor, data: values[i] }));
  const blocks = Object.fromEntries(
    named.flatMap(([name, { shape, dtype }]) => isBlocked(dtype) ? [[name, { shape, dtype }] as const] : []),
  );
  const order = [...flatten(state.params).keys()];
  const about = { settings, step, policy, frozen, probed, since, validation, best, ending, chosen };
  const plain = {
    ...about,
    ...skipped.until + skipped.skipped > 0 && { skipped },
    ...wide && { wide },
    ...exchanges !== undefined && { exchanges },
  };
  const record: SavedRecord = {
    version: VERSION,
    ...plain,
    order,
    extra,
    ...Object.keys(blocks).length > 0 && { blocks },
  };
  return ({ path, keep, fileSystem }) =>
    keepOlder(path, {
      keep,
      fileSystem,
      write: (fresh) => writeSafetensors(fresh, tensors, { metadata: { firn: textOf(record) }, fileSystem }),
    });
}

/** How a file stores a tensor: blocks as rows of words, whose spec the record has. */
function stored(name: string, { shape, dtype, data }: HostTensor): TensorToStore {
  const values = data as Float32Array<ArrayBuffer>;
  switch (dtype) {
    case "bf16":
      return { name, shape, dtype: "BF16", data: toBf16(values) };
    case "f16":
      return { name, shape, dtype: "F16", data: toF16(values) };
    case "u32":
      return { name, shape, dtype: "U32", data };
    case "int8":
    case "nf4":
      return { name, shape: [data.length], dtype: "U32", data };
    default:
      return { name, shape, dtype: "F32", data };
  }
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
function checkFinite(
  named: readonly (readonly [string, Tensor])[],
  values: readonly HostData[],
  step: number,
): void {
  named.forEach(([name], i) => {
    if (name.startsWith(LEAVES) && ![OPTIMIZER, BEST].some((part) => name.startsWith(LEAVES + part))) return;
    const at = indexOfNonFinite(values[i]);
    if (at < 0) return;
    const what = name.slice(name.indexOf(".") + 1);
    throw new NonFiniteError(`element ${at} of "${what}"`, step, values[i][at], {
      action: "save a checkpoint",
    });
  });
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
  const { version: _, order, blocks = {}, settings, ...rest } = record;
  for (const name of file.names) {
    const [map, prefix] = name.startsWith(PARAMS) ? [params, PARAMS] : [leaves, LEAVES];
    const { shape, dtype } = file.specs.get(name)!;
    const words = dtype === "U32" ? { shape, dtype: "u32" as const } : undefined;
    const packed = Object.hasOwn(blocks, name) ? blocks[name] : words;
    map.set(
      name.slice(prefix.length),
      packed !== undefined
        ? { ...packed, data: new Uint32Array((await file.read(name)).buffer) }
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
