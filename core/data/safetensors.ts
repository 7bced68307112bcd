/**
 * Reads safetensors files, one tensor at a time.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { fromBf16, fromF16 } from "./floats.ts";
import { openWeights } from "./open_weights.ts";
import { readAt, type RowRange } from "./row_range.ts";
import {
  invalid,
  MAX_HEADER_BYTES,
  parseHeader,
  type StoredDType,
  type StoredSpec,
} from "./safetensors_header.ts";

export type { RowRange } from "./row_range.ts";
export type { StoredDType, StoredSpec } from "./safetensors_header.ts";

/** An open file or sharded checkpoint. A tensor is read when it is asked for. */
export interface SafetensorsFile extends AsyncDisposable {
  /** Path of the file, or folder of the checkpoint. */
  readonly path: string;
  /** Names of the tensors. */
  readonly names: readonly string[];
  /** Text by key. Files of Hugging Face have `format` with the value `pt`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Type, shape and byte range of every tensor. */
  readonly specs: ReadonlyMap<string, StoredSpec>;
  /** The bytes of a tensor, or of some rows, as stored: row-major, little-endian, in a buffer of their own. */
  read(name: string, rows?: RowRange): Promise<Uint8Array<ArrayBuffer>>;
  /** The values of a tensor, or of some rows. F64 is rounded to nearest; BOOL is 0 or 1; other types are exact or throw. */
  readF32(name: string, rows?: RowRange): Promise<Float32Array<ArrayBuffer>>;
}

/**
 * Opens a safetensors file and checks its header. No tensor is read.
 *
 * @param path The file
 * @param options The file system
 * @returns The open file; dispose of it with `await using`
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When the header is not as the format says
 */
export async function openSafetensors(
  path: string,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<SafetensorsFile> {
  if ((await fileSystem.stat(path))?.kind === "folder") {
    throw invalid(path, "it must be a file", "it is a folder; give the path of a file in it");
  }
  const file = await fileSystem.open(path);
  try {
    const { size } = file;
    if (size < 8) throw invalid(path, "it must begin with 8 bytes of length", `it has ${size}; get it again`);
    const prefix = new DataView((await readAt(file, { path, begin: 0, end: 8 })).buffer);
    const length = prefix.getBigUint64(0, true);
    if (length > BigInt(MAX_HEADER_BYTES) || 8n + length > BigInt(size)) {
      const limit = Math.min(MAX_HEADER_BYTES, size - 8);
      const seen = `the file says ${length}; it is cut short or no safetensors file: get it again`;
      throw invalid(path, `its header can have ${limit} bytes at most`, seen);
    }
    const data = 8 + Number(length);
    const bytes = await readAt(file, { path, begin: 8, end: data });
    const { metadata, specs } = parseHeader(bytes, { path, dataBytes: size - data });
    const widen = (bytes: Uint8Array<ArrayBuffer>, name: string, { dtype }: StoredSpec) =>
      toF32(bytes, { path, name, dtype });
    return { ...openWeights(file, { path, data, specs, widen }), metadata };
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}

function toF32(
  { buffer }: Uint8Array<ArrayBuffer>,
  { path, name, dtype }: { readonly path: string; readonly name: string; readonly dtype: StoredDType },
): Float32Array<ArrayBuffer> {
  const exact = (values: ArrayLike<number | bigint>): Float32Array<ArrayBuffer> => {
    const result = new Float32Array(values.length);
    for (let i = 0; i < values.length; i++) {
      result[i] = Number(values[i]);
      if (typeof values[i] === "bigint" ? BigInt(result[i]) !== values[i] : result[i] !== values[i]) {
        throw new InputError(
          `Cannot read tensor "${name}" of "${path}" as f32 holds whole numbers exactly to 2^24 only: ` +
            `element ${i} is ${values[i]}; use read()`,
        );
      }
    }
    return result;
  };
  switch (dtype) {
    case "F32":
      return new Float32Array(buffer);
    case "F64":
      return new Float32Array(new Float64Array(buffer));
    case "F16":
      return fromF16(new Uint16Array(buffer));
    case "BF16":
      return fromBf16(new Uint16Array(buffer));
    case "BOOL":
      return Float32Array.from(new Uint8Array(buffer), (value) => value === 0 ? 0 : 1);
    case "U8":
      return exact(new Uint8Array(buffer));
    case "I8":
      return exact(new Int8Array(buffer));
    case "U16":
      return exact(new Uint16Array(buffer));
    case "I16":
      return exact(new Int16Array(buffer));
    case "U32":
      return exact(new Uint32Array(buffer));
    case "I32":
      return exact(new Int32Array(buffer));
    case "U64":
      return exact(new BigUint64Array(buffer));
    case "I64":
      return exact(new BigInt64Array(buffer));
    default:
      throw new InputError(
        `Cannot read tensor "${name}" of "${path}" as f32 as its type must be a number of at least 8 bits: it is ${dtype}; ` +
          "use read(), or save it as F32",
      );
  }
}
