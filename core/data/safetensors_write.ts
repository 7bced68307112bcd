/**
 * Writes safetensors files.
 *
 * @module
 */

import { isCount } from "../json_rules.ts";
import { InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { byteLength, BYTES_PER_ELEMENT, MAX_HEADER_BYTES, type StoredDType } from "./safetensors_header.ts";

/** A tensor to store. */
export interface TensorToStore {
  /** Its name, unique in the file. */
  readonly name: string;
  /** Element type of `data`. */
  readonly dtype: StoredDType;
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Its bytes, row-major, or a function that gets them in parts just before they are written, to keep one in memory. */
  readonly data: ArrayBufferView | (() => Promise<ArrayBufferView> | AsyncIterable<ArrayBufferView>);
}

/** Options of {@link writeSafetensors}. */
export interface WriteSafetensorsOptions extends FileSystemOptions {
  /** Text by key; Hugging Face tools expect `{ format: "pt" }`. No metadata when absent. */
  readonly metadata?: Readonly<Record<string, string>>;
}

const ORDER = Object.keys(BYTES_PER_ELEMENT);

/**
 * Writes tensors to a safetensors file, completely or not at all. The bytes equal those of Hugging Face's writer: tensors
 * are sorted by element size, widest first, then by name; the header is padded to a multiple of 8 bytes.
 *
 * @param path Where; an existing file is replaced
 * @param tensors What, in any order
 * @param options Metadata, and the file system
 * @throws {InputError} When two tensors share a name or the data does not fit the shape; an existing file stays
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToStore>,
  { metadata, fileSystem = hostFileSystem() }: WriteSafetensorsOptions = {},
): Promise<void> {
  const sorted = inFileOrder(tensors);
  const header = headerOf(path, { sorted, metadata });
  const bytes = sorted.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape)!, header.length);
  await fileSystem.write(path, chunksOf(path, { header, sorted }), { bytes });
}

/**
 * Tensors in the order in which a file has them, and in which they are asked for their bytes.
 *
 * @param tensors They
 * @returns The same in a new array
 */
export function inFileOrder<T extends Pick<TensorToStore, "name" | "dtype">>(tensors: Iterable<T>): T[] {
  return [...tensors].sort((a, b) =>
    ORDER.indexOf(b.dtype) - ORDER.indexOf(a.dtype) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)
  );
}

/** The header, then the bytes of each tensor. */
async function* chunksOf(
  path: string,
  { header, sorted }: { readonly header: Uint8Array; readonly sorted: readonly TensorToStore[] },
): AsyncGenerator<Uint8Array, void, undefined> {
  yield header;
  for (const { name, dtype, shape, data } of sorted) {
    const expected = byteLength(dtype, shape);
    let bytes = 0;
    for await (const view of partsOf(data)) {
      bytes += view.byteLength;
      yield new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    }
    if (bytes === expected) continue;
    throw new InputError(
      `Cannot write tensor "${name}" to "${path}" as ${dtype} [${
        shape.join(", ")
      }] takes ${expected} bytes: ` +
        `its data has ${bytes}`,
    );
  }
}

async function* partsOf(data: TensorToStore["data"]): AsyncGenerator<ArrayBufferView, void, undefined> {
  const found = typeof data === "function" ? data() : data;
  if (Symbol.asyncIterator in found) yield* found;
  else yield await found;
}

interface HeaderParts extends Pick<WriteSafetensorsOptions, "metadata"> {
  readonly sorted: readonly TensorToStore[];
}

function headerOf(path: string, { sorted, metadata }: HeaderParts): Uint8Array {
  const entries = new Map<string, unknown>();
  if (metadata !== undefined) entries.set("__metadata__", metadata);
  let at = 0;
  for (const { name, dtype, shape } of sorted) {
    const fail = (rule: string, seen: string) =>
      new InputError(`Cannot write tensor "${name}" to "${path}" as ${rule}: ${seen}`);
    if (!ORDER.includes(dtype)) throw fail(`its type must be one of ${ORDER.join(", ")}`, `got "${dtype}"`);
    const bytes = shape.every(isCount) ? byteLength(dtype, shape) : null;
    if (bytes === null) throw fail("its shape must be of whole numbers", `got [${shape.join(", ")}]`);
    if (name === "__metadata__") {
      throw fail("the format keeps that name for metadata", "give it another name");
    }
    if (!name.isWellFormed()) throw fail("names must be valid Unicode", "it has half of a surrogate pair");
    if (entries.has(name)) throw fail("names must differ", "two tensors have this one");
    entries.set(name, { dtype, shape, data_offsets: [at, at + bytes] });
    at += bytes;
  }
  const fields = [...entries].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new InputError(
      `Cannot write "${path}" as a header can have ${MAX_HEADER_BYTES} bytes: it needs ${length}`,
    );
  }
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return header;
}
