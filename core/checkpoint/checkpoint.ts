/**
 * Training states as files.
 *
 * @module
 */

import { isBlocked } from "../../kernels/blocks.ts";
import { indexOfNonFinite } from "../data/floats.ts";
import { InputError, NonFiniteError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { joined, parentOf, slashed } from "../host/paths.ts";
import { temporaryPath } from "../host/temporary.ts";
import type { StoredDType } from "../data/safetensors.ts";
import { inFileOrder, type TensorToStore, writeSafetensors } from "../data/safetensors_write.ts";
import type { Gpu } from "../runtime/device.ts";
import { read } from "../infer/read.ts";
import { type HostMemory, type HostParts, streamParts } from "../runtime/host_parts.ts";
import { isConstant, storageOf } from "../runtime/residents.ts";
import type { Json } from "../policy.ts";
import { type DType, elementBytes } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type TensorTree } from "../tree.ts";
import { checksums } from "./checksums.ts";
import { LEAVES, olderPath, PARAMS } from "./file_names.ts";
import { type SavedRecord, textOf, VERSION } from "./saved_record.ts";
import { BEST, OPTIMIZER, OUTER, START } from "../train/state/specs.ts";
import type { TrainingState } from "../train/types.ts";

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
  const { write } = await captureCheckpoint(gpu, state, { extra, copy: null, rank: 0, run: null });
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
 * Makes a training state ready to be written. Its bytes are read while they are written: from a copy in memory of the
 * host, where one is asked for and there is room.
 *
 * @param gpu The device
 * @param state The state, not consumed
 * @param options `extra`: JSON to keep beside it; `copy`: where it is copied to, and whether that is kept, null for no copy; `rank`: whose file it is, of which all but that of rank 0
 * have what is their own; `run`: what the files of all ranks have in common, null for one alone
 * @returns What writes it
 * @throws {NonFiniteError} When a parameter or the optimizer's state is not finite
 * @throws {ConsumedError} When a step has consumed the state
 */
export async function captureCheckpoint<P extends TensorTree>(
  gpu: Gpu,
  state: TrainingState<P>,
  { extra, copy, rank, run }: {
    readonly extra: Json;
    readonly copy: { readonly memory: HostMemory; readonly keeps: boolean } | null;
    readonly rank: number;
    readonly run: string | null;
  },
): Promise<Captured> {
  const all = [
    ...[...flatten(state.params)].map(([path, tensor]) => stored(PARAMS + path, tensor)),
    ...[...state.leaves].map(([path, tensor]) => stored(LEAVES + path, tensor)),
  ];
  const named = inFileOrder(
    rank === 0 ? all : all.filter(({ name, tensor }) => isOwn(state, { name, tensor })),
  );
  const tensors = named.map(({ tensor }) => tensor);
  const sources = tensors.map((tensor) => ({
    buffer: storageOf(tensor).buffer,
    bytes: elementBytes(tensor),
  }));
  const copied = copy && await copy.memory.copy(sources, copy);
  try {
    const seen = await checksums(gpu, tensors);
    await checkFinite(gpu, named.map(({ name, tensor }, i) => ({ name, tensor, ...seen[i] })), state.step);
    const sums = Object.fromEntries(named.map(({ name }, i) => [name, seen[i].sum]));
    const text = textOf({
      ...recordOf(state, named),
      extra,
      sums,
      ...rank > 0 && { rank },
      ...run !== null && { run },
    });
    return {
      apart: copied !== null,
      async write({ path, keep, fileSystem }) {
        const parts = copied ?? streamParts(gpu, sources);
        // A step that reused a buffer would mix two states.
        const stored = streamed(named, parts, copied === null ? storageOf : () => {});
        const write = (fresh: string): Promise<void> =>
          writeSafetensors(fresh, stored, { metadata: { firn: text }, fileSystem });
        try {
          await keepOlder(path, { keep, fileSystem, write });
        } finally {
          await parts.close();
        }
      },
    };
  } catch (error) {
    await copied?.close();
    throw error;
  }
}

/** Whether a tensor of a state is not that of all ranks. */
function isOwn<P extends TensorTree>(
  { step, exchanges }: TrainingState<P>,
  { name, tensor }: Pick<Named, "name" | "tensor">,
): boolean {
  // Right after an exchange all have the same parameters, and at any time the same of those that are not trained.
  if (name.startsWith(PARAMS)) return exchanges?.step !== step && !isConstant(tensor);
  return ![BEST, OUTER, START].some((part) => name.startsWith(LEAVES + part));
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

/** Tensors in the order of the file, whose bytes are taken as they are asked for, once a tensor is looked at. */
function streamed(
  named: readonly Named[],
  parts: HostParts,
  look: (tensor: Tensor) => unknown,
): TensorToStore[] {
  return named.map(({ tensor, ...spec }) => ({
    ...spec,
    async *data() {
      for (let left = elementBytes(tensor); left > 0;) {
        look(tensor);
        const bytes = (await parts.next())!;
        left -= bytes.length;
        yield bytes;
        // It is written now, and so is what is left of it: a file of fewer bytes must not take the place of a whole one.
        await parts.check();
      }
    },
  }));
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
 * Removes a checkpoint, the older ones that were kept, and those of other ranks.
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
    if (age !== null && /^(\.rank-\d+)?(\.\d+)?$/.test(age)) await fileSystem.remove(joined(folder, name));
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
