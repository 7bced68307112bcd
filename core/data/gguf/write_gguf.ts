/**
 * Writes GGUF files.
 *
 * @module
 */

import { counted } from "../../counted.ts";
import { InputError } from "../../errors.ts";
import type { FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { sizeOf } from "../../spec.ts";
import {
  aligned,
  ALIGNMENT,
  type GgufDType,
  MAGIC,
  TENSOR_TYPES,
  VALUE_BYTES,
  VALUE_TYPES,
  type ValueType,
  VERSION,
} from "./types.ts";

/** A type of a plain value. */
type PlainType = Exclude<ValueType, "array">;

/** A value to store: its type, and itself or a list. */
export type TypedValue = readonly [
  PlainType,
  string | number | boolean | readonly (string | number | boolean)[],
];

/** A tensor to store. */
export interface GgufTensor {
  /** Its name, unique in the file. */
  readonly name: string;
  /** The type of its blocks. */
  readonly dtype: GgufDType;
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** Gets its bytes just before they are written, to keep one tensor in memory. */
  readonly data: () => Uint8Array | Promise<Uint8Array>;
}

/** What to store. */
export interface GgufContent extends FileSystemOptions {
  /** Values by key, in the order in which they are written. */
  readonly metadata: Readonly<Record<string, TypedValue>>;
  /** Tensors, in the order in which they are written. */
  readonly tensors: readonly GgufTensor[];
}

/**
 * Writes a GGUF file, completely or not at all: version 3, little-endian, tensors at multiples of 32 bytes.
 *
 * @param path Where; an existing file is replaced
 * @param content Metadata and tensors
 * @throws {InputError} When the bytes of a tensor do not fit its shape
 * @throws {FileError} When the machine refuses it, such as for a full disk
 */
export async function writeGguf(
  path: string,
  { metadata, tensors, fileSystem = hostFileSystem() }: GgufContent,
): Promise<void> {
  const header = headerOf(metadata, tensors), begin = aligned(header.length, ALIGNMENT);
  const bytes = tensors.reduce((sum, tensor) => sum + aligned(bytesOf(tensor), ALIGNMENT), begin);
  async function* chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    yield header;
    yield new Uint8Array(begin - header.length);
    for (const tensor of tensors) {
      const data = await tensor.data(), expected = bytesOf(tensor);
      if (data.length !== expected) {
        const seen = `[${tensor.shape.join(", ")}] takes ${
          counted(expected, "byte")
        }: its data has ${data.length}`;
        throw new InputError(`Cannot write tensor "${tensor.name}" to "${path}" as ${tensor.dtype} ${seen}`);
      }
      yield data;
      yield new Uint8Array(aligned(expected, ALIGNMENT) - expected);
    }
  }
  await fileSystem.write(path, chunks(), { bytes });
}

function bytesOf({ dtype, shape }: Pick<GgufTensor, "dtype" | "shape">): number {
  const { elements, bytes } = TENSOR_TYPES[dtype];
  return sizeOf(shape) / elements * bytes;
}

function headerOf(metadata: GgufContent["metadata"], tensors: readonly GgufTensor[]): Uint8Array {
  const keys = Object.entries(metadata), parts: Uint8Array[] = [];
  const put = (type: PlainType, value: string | number | boolean): void =>
    void parts.push(encoded(type, value));
  put("u32", MAGIC);
  put("u32", VERSION);
  put("u64", tensors.length);
  put("u64", keys.length);
  for (const [key, [type, value]] of keys) {
    put("string", key);
    const list = typeof value === "object";
    put("u32", VALUE_TYPES.indexOf(list ? "array" : type));
    if (!list) put(type, value);
    else {
      put("u32", VALUE_TYPES.indexOf(type));
      put("u64", value.length);
      for (const one of value) put(type, one);
    }
  }
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    put("string", name);
    put("u32", shape.length);
    for (const size of shape.toReversed()) put("u64", size);
    put("u32", TENSOR_TYPES[dtype].code);
    put("u64", offset);
    offset += aligned(bytesOf({ dtype, shape }), ALIGNMENT);
  }
  return joined(parts);
}

/** A value as the file has it. */
function encoded(type: PlainType, value: string | number | boolean): Uint8Array {
  if (type === "string") {
    const text = new TextEncoder().encode(String(value));
    return joined([encoded("u64", text.length), text]);
  }
  const bytes = new Uint8Array(VALUE_BYTES[type]), view = new DataView(bytes.buffer), number = Number(value);
  switch (type) {
    case "u8":
    case "i8":
    case "bool":
      view.setInt8(0, number);
      break;
    case "u16":
    case "i16":
      view.setInt16(0, number, true);
      break;
    case "u32":
    case "i32":
      view.setInt32(0, number, true);
      break;
    case "u64":
    case "i64":
      view.setBigInt64(0, BigInt(number), true);
      break;
    case "f32":
      view.setFloat32(0, number, true);
      break;
    case "f64":
      view.setFloat64(0, number, true);
      break;
  }
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
