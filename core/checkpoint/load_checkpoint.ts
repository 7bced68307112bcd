/**
 * Reads checkpoints: that of one process, or of one of several ranks, where each has saved what is its own.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { DataError, InputError, NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { openSafetensors, type StoredDType } from "../data/safetensors.ts";
import type { Json } from "../policy.ts";
import type { Ranks } from "../train/ranks.ts";
import { type DType, elementBytes } from "../spec.ts";
import type { HostTensor, SavedState } from "../train/types.ts";
import type { Path } from "../tree.ts";
import { sumOf } from "./checksums.ts";
import { earlierSettings } from "./earlier_settings.ts";
import { LEAVES, olderPath, PARAMS, rankPath } from "./file_names.ts";
import { parseRecord, type SavedRecord } from "./saved_record.ts";

/** A training state read from a file. */
export interface Checkpoint extends SavedState {
  /** What was saved beside the state. */
  readonly extra: Json;
  /** The file that it was read from: an older one when the newest is damaged. */
  readonly path: string;
}

/** Options of {@link loadCheckpoint}. */
export interface LoadCheckpointOptions extends FileSystemOptions {
  /** The processes that train together, where each has saved what is its own: see {@link checkpointKeeper}. This one alone when absent. */
  readonly ranks?: Pick<Ranks, "rank" | "size">;
}

/** Types of a device that files have, too. */
const SAME: { readonly [stored in StoredDType]?: DType } = { BF16: "bf16", F16: "f16" };

/**
 * Reads a checkpoint, for `training.resume`.
 *
 * @param path The file. When it is damaged, or gone as a process died while it was replaced, the newest whole one of those
 * that were kept before it is read
 * @param options The file system, and the ranks: then it is the newest that all of them have saved
 * @returns The saved state on the host, and the file that it was read from
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When it is damaged, or not a checkpoint
 * @throws {InputError} When it is of another number of ranks
 */
export async function loadCheckpoint(
  path: string,
  options: LoadCheckpointOptions = {},
): Promise<Checkpoint> {
  const { fileSystem = hostFileSystem() } = options;
  let failure: unknown;
  for (let age = 0;; age++) {
    const file = olderPath(path, age);
    if (age > 1 && await fileSystem.stat(file) === null) throw failure;
    try {
      const { run, ...loaded } = await loadFile(file, options), { ranks } = options;
      return ranks === undefined ? loaded : await withRank(loaded, { ...options, ranks, run, newest: path });
    } catch (error) {
      failure ??= error;
      const next = error instanceof DataError || age === 0 && error instanceof NotFoundError;
      if (!next) throw failure;
    }
  }
}

/** A checkpoint of rank 0, for {@link withRank}. */
interface OfRank extends FileSystemOptions, Pick<SavedRecord, "run"> {
  readonly ranks: Pick<Ranks, "rank" | "size">;
  /** Path of the newest checkpoint. */
  readonly newest: string;
}

/**
 * What a rank goes on from: the checkpoint of rank 0, with what is its own.
 *
 * @throws {InputError} When it is of another number of ranks
 * @throws {DataError} When a rank has not saved that step: the one before is that of all
 */
async function withRank(
  loaded: Checkpoint,
  { ranks: { rank, size }, newest, run, ...options }: OfRank,
): Promise<Checkpoint> {
  const { exchanges, params, leaves } = loaded;
  // Ranks that add up gradients have all in common.
  if (exchanges === undefined) return loaded;
  if (exchanges.ranks !== size) {
    throw new InputError(
      `Cannot resume from "${loaded.path}" on ${
        counted(size, "rank")
      } as each goes on from moments of its own: it is of ${exchanges.ranks}; start as many`,
    );
  }
  let own: Checkpoint | null = null;
  for (let r = 1; r < size; r++) {
    const file = await fileLike(rankPath(newest, r), { ...loaded, run }, options);
    if (r === rank) own = await loadOwn(file, options);
  }
  if (own === null) return loaded;
  return {
    ...loaded,
    skipped: own.skipped,
    params: new Map([...params].map(([path, value]) => [path, own.params.get(path) ?? value])),
    leaves: new Map([...leaves].map(([path, value]) => [path, own.leaves.get(path) ?? value])),
  };
}

/** The file of a rank that was saved with that of rank 0, among its newest and those before. */
async function fileLike(
  path: string,
  { step, settings, run }: Pick<SavedRecord, "step" | "settings" | "run">,
  options: FileSystemOptions,
): Promise<string> {
  const { fileSystem = hostFileSystem() } = options, own = JSON.stringify(settings);
  let other: string | null = null;
  for (let age = 0; age < 2 || await fileSystem.stat(olderPath(path, age)) !== null; age++) {
    const file = olderPath(path, age), record = await recordOf(file, options);
    if (record?.step !== step) continue;
    if (record.run === run && JSON.stringify(record.settings) === own) return file;
    other ??= file;
  }
  if (other !== null) {
    throw new DataError(
      `Cannot resume from step ${step} as the files of all ranks must be of one run: "${other}" is of another, and has its moments; use another checkpoint`,
    );
  }
  throw new DataError(
    `Cannot resume from step ${step} as all ranks must have saved it: "${path}" has not; use another checkpoint`,
  );
}

/** The record of a file; null where it is gone or damaged: there may be an older one. */
async function recordOf(path: string, options: FileSystemOptions): Promise<SavedRecord | null> {
  try {
    await using opened = await openSafetensors(path, options);
    return parseRecord(opened.metadata.firn ?? null, path);
  } catch (error) {
    if (error instanceof DataError || error instanceof NotFoundError) return null;
    throw error;
  }
}

/**
 * What a rank has saved of its own.
 *
 * @throws {InputError} When it is damaged: the other ranks, which do not read it, would go on from it
 */
async function loadOwn(path: string, options: FileSystemOptions): Promise<Checkpoint> {
  try {
    return await loadTensors(path, options);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new InputError(
      `Cannot resume from "${path}" as what a rank has saved must be whole: it is damaged; remove it, and all ranks go on from the step before`,
      { cause: error },
    );
  }
}

async function loadFile(path: string, options: FileSystemOptions): Promise<Loaded> {
  const { order, params, ...loaded } = await loadTensors(path, options);
  const missing = order.find((path) => !params.has(path)), more = params.size > order.length;
  if (missing !== undefined || more) {
    throw new DataError(
      `Cannot resume from "${loaded.path}" as its tensors must be the parameters that it lists: ${
        missing === undefined ? "it has more" : `"${missing}" is missing`
      }; use another checkpoint`,
    );
  }
  return { ...loaded, params: new Map(order.map((path) => [path, params.get(path)!])) };
}

/** A checkpoint, and the run that the files of its ranks have in common. */
type Loaded = Checkpoint & Pick<SavedRecord, "run">;

/** A file as it is: that of a rank has not all parameters. */
async function loadTensors(
  path: string,
  options: FileSystemOptions,
): Promise<Loaded & Pick<SavedRecord, "order">> {
  await using file = await openSafetensors(path, options);
  const record = parseRecord(Object.hasOwn(file.metadata, "firn") ? file.metadata.firn : null, file.path);
  const params = new Map<Path, HostTensor>(), leaves = new Map<Path, HostTensor>();
  const { version: _, rank: __, blocks = {}, settings, sums, ...rest } = record;
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
      `Cannot resume from "${file.path}" as "${name}" must have ${
        counted(bytes, "byte")
      } of ${spec.dtype}: it does not; ` +
        "use another checkpoint",
    );
  }
  const known = typeof settings === "string" ? earlierSettings(settings) : settings;
  return { ...rest, settings: known, params, leaves, path };
}
