/**
 * The header of a GGUF file: metadata, and where the tensors are. A file of a stranger: counts are compared with the bytes
 * that there are before anything is done for them.
 *
 * Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the checks are those of `gguf.cpp` and stricter.
 *
 * @module
 */

import { shorten } from "../../json_rules.ts";
import { invalid } from "../safetensors_header.ts";
import type { WeightSpec } from "../weights.ts";
import type { Cursor, Parse } from "./cursor.ts";
import {
  aligned,
  ALIGNMENT,
  type GgufDType,
  MAGIC,
  OTHER_TYPES,
  TENSOR_TYPES,
  VALUE_BYTES,
  VALUE_TYPES,
  type ValueType,
  VERSION,
} from "./types.ts";

/** A value of metadata. Whole numbers beyond 2^53 are rounded. */
export type GgufValue = string | number | boolean | readonly (string | number | boolean)[];

/** A parsed header. */
export interface GgufHeader {
  /** Values by key. */
  readonly metadata: Readonly<Record<string, GgufValue>>;
  /** Tensors by name; shapes are outermost first, bytes from the end of the header. */
  readonly specs: ReadonlyMap<string, WeightSpec & { readonly dtype: GgufDType }>;
  /** The first byte after the header. */
  readonly data: number;
}

const MOST_KEYS = 2 ** 16, MOST_TENSORS = 2 ** 17, MOST_ELEMENTS = 2 ** 22, LONGEST_NAME = 2 ** 16 - 1;

/** Bytes of the shortest entry of metadata, and of the shortest tensor. */
const LEAST_KEY = 8 + 1 + 4 + 1, LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8;

const MEND = "get the file again, or convert it again with a current version of llama.cpp";

/** A file that is parsed. */
interface Source {
  readonly cursor: Cursor;
  readonly path: string;
  /** Bytes of the whole file. */
  readonly size: number;
}

/**
 * Parses and checks a header.
 *
 * @param source The bytes, the path for errors, and the size of the file
 * @returns Metadata and tensors
 * @throws {DataError} When it breaks a rule of the format, or has a type that is not read
 */
export function* parseHeader(source: Source): Parse<GgufHeader> {
  const { cursor, path } = source;
  const start = yield* cursor.take(8), magic = cursor.view.getUint32(start, true);
  if (magic !== MAGIC) throw invalid(path, 'it must begin with "GGUF"', `it does not; give a GGUF file`);
  const version = cursor.view.getUint32(start + 4, true);
  if (version !== 2 && version !== VERSION) {
    const seen = version === 1
      ? "it is 1"
      : version > 0xffff
      ? "it is for big-endian machines"
      : `it is ${version}`;
    throw invalid(path, `its version must be 2 or ${VERSION}`, `${seen}; convert it again with llama.cpp`);
  }
  const tensors = yield* countOf(source, { what: "tensors", most: MOST_TENSORS, least: LEAST_TENSOR });
  const keys = yield* countOf(source, { what: "keys", most: MOST_KEYS, least: LEAST_KEY });
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keys; i++) {
    const key = yield* textOf(source, { what: `key ${i}`, most: LONGEST_NAME });
    if (metadata.has(key)) {
      throw invalid(path, "its keys must differ", `"${shorten(key)}" comes twice; ${MEND}`);
    }
    const type = yield* typeOf(source, key);
    metadata.set(key, yield* type === "array" ? arrayOf(source, key) : valueOf(source, { type, key }));
  }
  const infos: Info[] = [], names = new Set<string>();
  for (let i = 0; i < tensors; i++) {
    const info = yield* infoOf(source, i);
    if (names.has(info.name)) {
      throw invalid(path, "its tensors must differ in name", `"${info.name}" comes twice`);
    }
    names.add(info.name);
    infos.push(info);
  }
  const alignment = metadata.get("general.alignment") ?? ALIGNMENT;
  if (typeof alignment !== "number" || !(alignment >= 8 && alignment <= 2 ** 20) || alignment % 8 !== 0) {
    throw invalid(path, '"general.alignment" must be a multiple of 8', `it is ${shorten(String(alignment))}`);
  }
  const data = aligned(cursor.at, alignment);
  return { metadata: Object.fromEntries(metadata), specs: placed(source, { infos, alignment, data }), data };
}

/** A number of things that the file says it has. */
function* countOf(
  { cursor, path }: Source,
  { what, most, least }: { readonly what: string; readonly most: number; readonly least: number },
): Parse<number> {
  const at = yield* cursor.take(8), count = cursor.view.getBigUint64(at, true);
  const room = Math.min(most, Math.floor(Math.max(0, cursor.left()) / least));
  if (count <= BigInt(room)) return Number(count);
  throw invalid(
    path,
    `it can have ${room} ${what}`,
    `it says ${count}; it is cut short or damaged: get it again`,
  );
}

function* textOf(
  { cursor, path }: Source,
  { what, most = Infinity }: { readonly what: string; readonly most?: number },
): Parse<string> {
  // The view is another one after bytes were taken.
  const at = yield* cursor.take(8), length = cursor.view.getBigUint64(at, true);
  const room = Math.min(most, cursor.left());
  if (length > BigInt(Math.max(0, room))) {
    const seen = `it says ${length}; it is cut short or damaged: get it again`;
    throw invalid(path, `${what} can have ${room} bytes`, seen);
  }
  const begin = yield* cursor.take(Number(length)),
    bytes = cursor.bytes.subarray(begin, begin + Number(length));
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw invalid(path, `${what} must be UTF-8`, `it is not; ${MEND}`);
  }
}

function* typeOf({ cursor, path }: Source, key: string): Parse<ValueType> {
  const at = yield* cursor.take(4), code = cursor.view.getUint32(at, true);
  if (code < VALUE_TYPES.length) return VALUE_TYPES[code];
  throw invalid(
    path,
    `the type of "${shorten(key)}" must be 0 to ${VALUE_TYPES.length - 1}`,
    `it is ${code}`,
  );
}

function* valueOf(
  source: Source,
  { type, key }: { readonly type: ValueType; readonly key: string },
): Parse<string | number | boolean> {
  if (type === "string") return yield* textOf(source, { what: `"${shorten(key)}"` });
  const { cursor, path } = source, at = yield* cursor.take(VALUE_BYTES[type]), { view } = cursor;
  switch (type) {
    case "u8":
      return view.getUint8(at);
    case "i8":
      return view.getInt8(at);
    case "u16":
      return view.getUint16(at, true);
    case "i16":
      return view.getInt16(at, true);
    case "u32":
      return view.getUint32(at, true);
    case "i32":
      return view.getInt32(at, true);
    case "f32":
      return view.getFloat32(at, true);
    case "f64":
      return view.getFloat64(at, true);
    case "u64":
      return Number(view.getBigUint64(at, true));
    case "i64":
      return Number(view.getBigInt64(at, true));
    case "bool": {
      const value = view.getUint8(at);
      if (value > 1) throw invalid(path, `"${shorten(key)}" must be 0 or 1`, `it is ${value}; ${MEND}`);
      return value === 1;
    }
    case "array":
      throw invalid(path, `"${shorten(key)}" must be a list of plain values`, `it has lists; ${MEND}`);
  }
}

function* arrayOf(source: Source, key: string): Parse<readonly (string | number | boolean)[]> {
  const type = yield* typeOf(source, key), what = `elements of "${shorten(key)}"`;
  const count = yield* countOf(source, { what, most: MOST_ELEMENTS, least: VALUE_BYTES[type] });
  const values: (string | number | boolean)[] = [];
  for (let i = 0; i < count; i++) values.push(yield* valueOf(source, { type, key }));
  return values;
}

/** What the header says of a tensor. */
interface Info {
  readonly name: string;
  readonly dtype: GgufDType;
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly offset: bigint;
}

const DTYPES = new Map(
  (Object.keys(TENSOR_TYPES) as GgufDType[]).map((dtype) => [TENSOR_TYPES[dtype].code, dtype]),
);

function* infoOf(source: Source, index: number): Parse<Info> {
  const { cursor, path } = source;
  const name = yield* textOf(source, { what: `the name of tensor ${index}`, most: 256 });
  const fail = (rule: string, seen: string) =>
    invalid(path, `tensor "${shorten(name)}" ${rule}`, `${seen}; ${MEND}`);
  const start = yield* cursor.take(4), axes = cursor.view.getUint32(start, true);
  if (axes < 1 || axes > 4) throw fail("must have 1 to 4 axes", `it has ${axes}`);
  const at = yield* cursor.take(8 * axes + 12), { view } = cursor;
  const sizes = Array.from({ length: axes }, (_, i) => Number(view.getBigUint64(at + 8 * i, true)));
  const code = view.getUint32(at + 8 * axes, true), dtype = DTYPES.get(code);
  if (dtype === undefined) {
    throw invalid(
      path,
      `tensor "${shorten(name)}" must be one of ${[...DTYPES.values()].join(", ")}`,
      `it is ${OTHER_TYPES[code] ?? `type ${code}`}; convert the file: ` +
        `llama-quantize --allow-requantize "${path}" "${path.replace(/(\.gguf)?$/i, "-q8_0.gguf")}" Q8_0`,
    );
  }
  const { elements, bytes } = TENSOR_TYPES[dtype];
  const total = sizes.reduce((n, d) => n * d, 1) / elements * bytes;
  if (!sizes.every((d) => d >= 1) || !Number.isSafeInteger(total) || sizes[0] % elements !== 0) {
    throw fail(
      `must have rows of whole blocks of ${elements}, below 2^53 bytes`,
      `its sizes are ${sizes.join(", ")}`,
    );
  }
  return {
    name,
    dtype,
    shape: sizes.reverse(),
    bytes: total,
    offset: view.getBigUint64(at + 8 * axes + 4, true),
  };
}

/** Where the tensors are: one after the other, each at a multiple of the alignment, to the end of the file. */
function placed(
  { path, size }: Source,
  { infos, alignment, data }: {
    readonly infos: readonly Info[];
    readonly alignment: number;
    readonly data: number;
  },
): GgufHeader["specs"] {
  const specs = new Map<string, WeightSpec & { readonly dtype: GgufDType }>();
  let next = 0, end = 0;
  for (const { name, dtype, shape, bytes, offset } of infos) {
    if (offset !== BigInt(next)) {
      const seen = `it begins at ${offset}, the one before ends at ${next}; ${MEND}`;
      throw invalid(
        path,
        `tensor "${shorten(name)}" must follow the one before without a gap or an overlap`,
        seen,
      );
    }
    end = next + bytes;
    specs.set(name, { dtype, shape, begin: next, end });
    next = aligned(end, alignment);
  }
  // Writers may leave out what fills up the last tensor.
  if (data + end <= size && size <= data + next || infos.length === 0 && size <= data) return specs;
  const seen = `they end at byte ${data + end} of ${size}; ` +
    (data + end > size ? "the file is cut short: get it again" : MEND);
  throw invalid(path, "its tensors must fill the file", seen);
}
