/**
 * The header of a safetensors file: its rules, and the checks.
 *
 * Source: the format's description and limits, https://github.com/huggingface/safetensors
 *
 * @module
 */

import { counted } from "../counted.ts";
import { DataError } from "../errors.ts";
import { isCount, isRecord, shorten } from "../json_rules.ts";

/** Element type of a stored tensor. */
export type StoredDType =
  | "BOOL"
  | "U8"
  | "I8"
  | "F4"
  | "F6_E2M3"
  | "F6_E3M2"
  | "F8_E4M3"
  | "F8_E4M3FNUZ"
  | "F8_E5M2FNUZ"
  | "F8_E5M2"
  | "F8_E8M0"
  | "I16"
  | "U16"
  | "F16"
  | "BF16"
  | "I32"
  | "U32"
  | "F32"
  | "F64"
  | "I64"
  | "U64"
  | "C64";

/**
 * Element types that Firn reads and writes, in the order of the format. Floats of 8 bits
 * or fewer and complex numbers are read as bytes only.
 */
export const BYTES_PER_ELEMENT: Readonly<Record<StoredDType, number>> = {
  BOOL: 1,
  F4: 0.5,
  F6_E2M3: 0.75,
  F6_E3M2: 0.75,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
  C64: 8,
};

/** Type, shape and byte range of a tensor. */
export interface StoredSpec {
  /** Element type. */
  readonly dtype: StoredDType;
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** First byte, relative to the end of the header. */
  readonly begin: number;
  /** Byte after the last. */
  readonly end: number;
}

/** A parsed header. */
export interface Header {
  /** Text by key; empty when the file has none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Tensors by name, in the order of their bytes. */
  readonly specs: ReadonlyMap<string, StoredSpec>;
}

/** Bytes of the longest header that the format allows. */
export const MAX_HEADER_BYTES = 100_000_000;

const MEND = "get the file again, or write it again with a current version of its tool";

/** The error of a file that breaks a rule. */
export function invalid(path: string, rule: string, seen: string): DataError {
  return new DataError(`Cannot read "${path}" as ${rule}: ${seen}`);
}

/**
 * Parses and checks a header.
 *
 * @param bytes The header, without its length
 * @param file Path for error texts, and how many bytes follow the header
 * @returns Metadata and tensors
 * @throws {DataError} When it breaks a rule of the format
 */
export function parseHeader(
  bytes: Uint8Array,
  { path, dataBytes }: { readonly path: string; readonly dataBytes: number },
): Header {
  const { __metadata__, ...entries } = parseObject(bytes, path);
  const metadata = __metadata__ ?? {};
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw invalid(path, '"__metadata__" must map text to text', `got ${show(metadata)}; ${MEND}`);
  }
  const specs = Object.entries(entries).map(([name, entry]) => [name, specOf(path, name, entry)] as const)
    .sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, { begin, end }] of specs) {
    if (begin !== at) {
      const seen = `it begins at byte ${begin}, the one before ends at ${at}; ${MEND}`;
      throw invalid(path, `tensor "${name}" must follow the one before without a gap or an overlap`, seen);
    }
    at = end;
  }
  if (at !== dataBytes) {
    const seen = `they take ${counted(at, "byte")} of ${dataBytes}; ${
      at > dataBytes ? "the file is cut short: get it again" : MEND
    }`;
    throw invalid(path, "its tensors must fill the file", seen);
  }
  return { metadata: metadata as Record<string, string>, specs: new Map(specs) };
}

function parseObject(bytes: Uint8Array, path: string): Record<string, unknown> {
  const rule = "its header must be a JSON object in UTF-8";
  if (bytes[0] !== 0x7b) throw invalid(path, rule, `it does not begin with "{"; ${MEND}`);
  let text: string;
  let value: Record<string, unknown>;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(path, rule, `${(error as Error).message}; ${MEND}`);
  }
  const twice = repeatedKey(text);
  if (twice !== null) {
    throw invalid(path, "its header must name every key once", `${show(twice)} comes twice; ${MEND}`);
  }
  return value;
}

/** The first key that an object in valid JSON text has twice, at any depth; null when there is none. */
function repeatedKey(text: string): string | null {
  const open: Set<string>[] = [];
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === "{") open.push(new Set());
    else if (char === "}") open.pop();
    else if (char === '"') {
      const start = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
      let next = i + 1;
      while (" \t\r\n".includes(text[next] ?? "x")) next++;
      if (text[next] !== ":") continue;
      const key: string = JSON.parse(text.slice(start, i + 1));
      const keys = open[open.length - 1];
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return null;
}

function specOf(path: string, name: string, entry: unknown): StoredSpec {
  const fail = (rule: string, seen: string) => invalid(path, `tensor "${shorten(name)}" ${rule}`, seen);
  if (!isRecord(entry)) {
    throw fail('must have "dtype", "shape" and "data_offsets"', `got ${show(entry)}; ${MEND}`);
  }
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(BYTES_PER_ELEMENT, dtype)) {
    const known = Object.keys(BYTES_PER_ELEMENT).join(", ");
    throw fail(`must be one of ${known}`, `got ${show(dtype)}; save it as one of these, such as F32`);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw fail("must have a shape of whole numbers", `got ${show(shape)}; ${MEND}`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[0] > offsets[1]) {
    throw fail("must have two ascending byte offsets", `got ${show(offsets)}; ${MEND}`);
  }
  const [begin, end] = offsets;
  const bytes = byteLength(dtype as StoredDType, shape);
  if (bytes === null) throw fail("must have whole bytes, below 2^53", `the shape is ${show(shape)}; ${MEND}`);
  if (bytes !== end - begin) {
    throw fail(
      `must take ${counted(bytes, "byte")} as ${dtype} ${show(shape)}`,
      `its offsets give ${end - begin}; ${MEND}`,
    );
  }
  return { dtype: dtype as StoredDType, shape, begin, end };
}

/**
 * Bytes of a tensor.
 *
 * @param dtype Element type
 * @param shape Sizes
 * @returns The bytes, or null when they are too many to count exactly
 */
export function byteLength(dtype: StoredDType, shape: readonly number[]): number | null {
  if (shape.includes(0)) return 0;
  const bytes = shape.reduce((n, d) => n * d, BYTES_PER_ELEMENT[dtype]);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

function show(value: unknown): string {
  return value === undefined ? "nothing" : shorten(JSON.stringify(value));
}
