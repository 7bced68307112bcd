/**
 * Reads the parameters of a model from a checkpoint onto a device, in parts: the host never has a whole one of many bytes.
 *
 * @module
 */

import { fromBf16 } from "../data/floats.ts";
import { packValues } from "../data/packed_values.ts";
import type { RowRange } from "../data/row_range.ts";
import type { Weights } from "../data/weights.ts";
import { declaredParams, type ModelDescription, modelParams } from "../models/model.ts";
import type { ListedParam } from "../nn/params.ts";
import { checkSize, SMALLER_MODEL } from "../runtime/buffers.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import { partUpload, reserve, upload } from "../runtime/upload.ts";
import { bytesOf } from "../plan/storage.ts";
import { type DType, elementBytes, sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { checkLoaded } from "./check_storable.ts";
import type { HeadDifference } from "./new_head.ts";
import { deviationOf, drawing } from "./new_model.ts";
import { type Storage, storedIn } from "./storage.ts";
import type { NamedCheckpoint } from "./stored_names.ts";

/** What to read. */
export interface ReadOptions<I extends object> {
  readonly checkpoint: NamedCheckpoint;
  readonly model: ModelDescription<I>;
  /** Which parameters are new. */
  readonly head: HeadDifference;
  /** Path of the configuration, for errors. */
  readonly file: string;
  readonly storage?: Storage;
  readonly seed?: number;
  readonly onProgress?: OnProgress;
}

/** A parameter that the checkpoint has. */
interface Stored extends ListedParam {
  readonly path: Path;
  /** Its name in the checkpoint. */
  readonly name: string;
  /** How the device stores it. */
  readonly dtype: DType;
  /** Whether the file has codes of bf16, which are half the bytes to read and to check. */
  readonly codes: boolean;
}

/** Some rows of a parameter. */
interface Part {
  readonly of: Stored;
  readonly rows: RowRange | undefined;
}

/** Bytes of a part on the device. */
const PART = 2 ** 24;

/**
 * Reads parameters, draws those of a new head, and tells the names that differ in the file.
 *
 * @param gpu The device
 * @param options The checkpoint, the model, storage
 * @returns Parameters by path, and the names that the file has for them where they are not those of the family
 * @throws {DataError} When a value is not finite
 * @throws {OutOfMemoryError} When a parameter is larger than a buffer of the device can be
 */
export async function readParams<I extends object>(
  gpu: Gpu,
  { checkpoint, model, head, file, storage = "f32", seed = 0, onProgress }: ReadOptions<I>,
): Promise<{ readonly params: ReadonlyMap<Path, Tensor>; readonly keys: ReadonlyMap<Path, string> }> {
  const names = storedKeys(checkpoint, model),
    params = new Map<Path, Tensor>(),
    keys = new Map<Path, string>();
  const draw = drawing({ seed, deviation: deviationOf(model.source, file) });
  const found: Stored[] = [];
  for (const [path, param] of modelParams(model)) {
    const name = names.get(path)!, spec = checkpoint.specs.get(name), fresh = head.fresh.has(path);
    if (param.spare && spec === undefined) continue;
    const { shape, use } = param;
    const dtype = fresh ? "f32" : storedIn(storage, { path, shape, dtype: spec!.dtype, use });
    checkSize(gpu, { label: path, bytes: bytesOf({ shape, dtype }), mend: SMALLER_MODEL });
    if (!fresh) found.push({ ...param, path, name, dtype, codes: spec!.dtype === "BF16" });
  }
  for (const [path, param] of modelParams(model)) {
    if (!head.fresh.has(path)) continue;
    params.set(path, upload(gpu, draw(param), { shape: param.shape, label: path }));
  }
  const send = partUpload(gpu), scratch = new Float32Array(found.some(({ codes }) => codes) ? PART / 4 : 0);
  const total = found.reduce((sum, { name }) => sum + bytesIn(checkpoint, name), 0);
  let done = 0;
  for await (
    const { of: { path, name, key, shape, dtype, parts }, rows, values } of ahead(checkpoint, found)
  ) {
    const from = rows?.from ?? 0, width = shape.at(-1) ?? 1;
    const source = {
      name: checkpoint.storedName(name),
      path: checkpoint.path,
      first: from * sizeOf(shape.slice(1)),
    };
    checkLoaded(values, source);
    // An upload copies at once, so all parts are widened in one place: fresh memory takes as long as the widening.
    const wide = values instanceof Uint16Array && dtype !== "bf16" ? fromBf16(values, scratch) : values;
    const stored = wide instanceof Uint16Array ? wide : packValues(wide, { dtype, width, name });
    if (!params.has(path)) params.set(path, reserve(gpu, { shape, dtype }, path));
    await send(params.get(path)!, stored, { offset: from * elementBytes({ shape: shape.slice(1), dtype }) });
    done += bytesIn(checkpoint, name) * values.length / sizeOf(shape);
    onProgress?.({ done, total });
    // What is in one tensor here is saved as one again, though the family may have names for its parts.
    const asOne = parts !== undefined && !checkpoint.inParts(name);
    if (name === key && (source.name !== key || asOne)) keys.set(path, source.name);
  }
  const ordered = [...modelParams(model).keys()].filter((path) => params.has(path));
  return { params: new Map(ordered.map((path) => [path, params.get(path)!])), keys };
}

function bytesIn({ specs }: Weights, name: string): number {
  const { begin, end } = specs.get(name)!;
  return end - begin;
}

/** Reads part after part, each while the one before it is looked at. */
async function* ahead(
  checkpoint: Weights,
  stored: readonly Stored[],
): AsyncGenerator<Part & { readonly values: Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> }> {
  const parts = stored.flatMap((of): Part[] => rangesOf(of).map((rows) => ({ of, rows })));
  const start = async ({ of: { name, codes }, rows }: Part) => {
    if (codes) return new Uint16Array((await checkpoint.read(name, rows)).buffer);
    return await checkpoint.readF32(name, rows);
  };
  let next = parts.length === 0 ? null : start(parts[0]);
  for (const [i, part] of parts.entries()) {
    const values = await next!;
    next = i + 1 < parts.length ? start(parts[i + 1]) : null;
    // It is awaited in the next round, unless this one ends the loop.
    next?.catch(() => {});
    yield { ...part, values };
  }
}

/** The rows of each part of a parameter: all at once where the mean of all of its scales counts. */
function rangesOf({ shape, dtype }: Stored): (RowRange | undefined)[] {
  return dtype === "nf4" ? [undefined] : partsOf(shape, dtype === "bf16" ? 2 : 4);
}

/** The rows of each part of a tensor. Their number is even, so that each part begins at a whole word. */
function partsOf([rows = 1, ...row]: readonly number[], elementBytes: number): (RowRange | undefined)[] {
  const most = Math.max(2, 2 * Math.floor(PART / (elementBytes * sizeOf(row)) / 2));
  if (rows <= most) return [undefined];
  return Array.from({ length: Math.ceil(rows / most) }, (_, i) => ({
    from: i * most,
    to: Math.min(rows, (i + 1) * most),
  }));
}

/** The key under which each parameter is stored: a tied one may have only the name of the other. */
function storedKeys<I extends object>(
  { specs }: Weights,
  model: ModelDescription<I>,
): Map<Path, string> {
  const declared = [...declaredParams(model)];
  return new Map(declared.map(([path, { key }]) => {
    const twin = specs.has(key) ? undefined : declared.find(([, { tiedTo }]) => tiedTo === path)?.[1].key;
    return [path, twin !== undefined && specs.has(twin) ? twin : key];
  }));
}

/**
 * Whether two tensors of a checkpoint have the same bits, compared in parts.
 *
 * @param checkpoint The checkpoint
 * @param names Both
 * @returns Whether they do
 */
export async function sameValues(
  checkpoint: Weights,
  [one, other]: readonly [string, string],
): Promise<boolean> {
  const { shape } = checkpoint.specs.get(one)!;
  if (shape.join() !== checkpoint.specs.get(other)!.shape.join()) return false;
  const bits = async (name: string, rows?: RowRange): Promise<Uint32Array> =>
    new Uint32Array((await checkpoint.readF32(name, rows)).buffer);
  for (const rows of partsOf(shape, 4)) {
    const [a, b] = [await bits(one, rows), await bits(other, rows)];
    if (!a.every((value, i) => value === b[i])) return false;
  }
  return true;
}
