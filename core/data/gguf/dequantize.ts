/**
 * Blocks of GGUF as float32. The values are those of ggml: each is a sum of products that float32 holds exactly, rounded
 * once.
 *
 * Source: `quants.py` of the package `gguf`, and `ggml-quants.c`.
 *
 * @module
 */

import { fromBf16, fromF16 } from "../floats.ts";
import { type BlockDType, type GgufDType, TENSOR_TYPES } from "./types.ts";

/** Writes the elements of a block: `at` is its first byte, `to` its first element, `d` and `m` are its 16-bit floats. */
type Block = (bytes: Uint8Array, at: number, block: {
  readonly out: Float32Array;
  readonly to: number;
  readonly d: number;
  readonly m: number;
}) => void;

/** The byte of the scale of a block, of its second 16-bit float where it has one, and its elements. */
interface BlockRule {
  readonly scale: number;
  readonly offset?: number;
  readonly write: Block;
}

const signed = (byte: number): number => byte << 24 >> 24;

const RULES: Readonly<Record<BlockDType, BlockRule>> = {
  Q8_0: {
    scale: 0,
    write(bytes, at, { out, to, d }) {
      for (let i = 0; i < 32; i++) out[to + i] = d * signed(bytes[at + 2 + i]);
    },
  },
  Q4_0: {
    scale: 0,
    write(bytes, at, { out, to, d }) {
      for (let i = 0; i < 16; i++) {
        const byte = bytes[at + 2 + i];
        out[to + i] = d * ((byte & 15) - 8);
        out[to + 16 + i] = d * ((byte >> 4) - 8);
      }
    },
  },
  Q4_1: {
    scale: 0,
    offset: 2,
    write(bytes, at, { out, to, d, m }) {
      for (let i = 0; i < 16; i++) {
        const byte = bytes[at + 4 + i];
        out[to + i] = d * (byte & 15) + m;
        out[to + 16 + i] = d * (byte >> 4) + m;
      }
    },
  },
  Q5_0: {
    scale: 0,
    write(bytes, at, { out, to, d }) {
      for (let i = 0; i < 32; i++) out[to + i] = d * (five(bytes, at + 2, i) - 16);
    },
  },
  Q5_1: {
    scale: 0,
    offset: 2,
    write(bytes, at, { out, to, d, m }) {
      for (let i = 0; i < 32; i++) out[to + i] = d * five(bytes, at + 4, i) + m;
    },
  },
  Q4_K: {
    scale: 0,
    offset: 2,
    write(bytes, at, { out, to, d, m }) {
      for (let part = 0; part < 8; part++) {
        const [scale, least] = sixBits(bytes, at + 4, part), shift = 4 * (part & 1);
        const first = at + 16 + 32 * (part >> 1);
        for (let i = 0; i < 32; i++) {
          out[to + 32 * part + i] = d * scale * (bytes[first + i] >> shift & 15) - m * least;
        }
      }
    },
  },
  Q5_K: {
    scale: 0,
    offset: 2,
    write(bytes, at, { out, to, d, m }) {
      for (let part = 0; part < 8; part++) {
        const [scale, least] = sixBits(bytes, at + 4, part), shift = 4 * (part & 1);
        const first = at + 48 + 32 * (part >> 1);
        for (let i = 0; i < 32; i++) {
          const high = bytes[at + 16 + i] >> part & 1;
          out[to + 32 * part + i] = d * scale * (bytes[first + i] >> shift & 15 | high << 4) - m * least;
        }
      }
    },
  },
  Q6_K: {
    scale: 208,
    write(bytes, at, { out, to, d }) {
      for (let part = 0; part < 8; part++) {
        const half = part >> 2, low = at + 64 * half + 32 * (part & 1), shift = 4 * (part >> 1 & 1);
        const high = at + 128 + 32 * half, up = 2 * (part & 3);
        for (let i = 0; i < 32; i++) {
          const code = bytes[low + i] >> shift & 15 | (bytes[high + i] >> up & 3) << 4;
          const scale = signed(bytes[at + 192 + 2 * part + (i >> 4)]);
          out[to + 32 * part + i] = d * scale * (code - 32);
        }
      }
    },
  },
};

/** Five bits of an element: the highest ones come first, in four bytes. */
function five(bytes: Uint8Array, at: number, i: number): number {
  const low = bytes[at + 4 + (i & 15)] >> 4 * (i >> 4) & 15;
  return low | (bytes[at + (i >> 3)] >> (i & 7) & 1) << 4;
}

/** Scale and least value of 32 elements, six bits each, of the twelve bytes that eight such pairs share. */
function sixBits(bytes: Uint8Array, at: number, part: number): readonly [scale: number, least: number] {
  if (part < 4) return [bytes[at + part] & 63, bytes[at + 4 + part] & 63];
  const both = bytes[at + 4 + part];
  return [both & 15 | bytes[at + part - 4] >> 6 << 4, both >> 4 | bytes[at + part] >> 6 << 4];
}

/**
 * Widens stored values to float32.
 *
 * @param bytes Whole blocks, at the beginning of a buffer
 * @param dtype Their type
 * @returns The values; those of F64 are rounded
 */
export function dequantize(bytes: Uint8Array<ArrayBuffer>, dtype: GgufDType): Float32Array<ArrayBuffer> {
  switch (dtype) {
    case "F32":
      return new Float32Array(bytes.buffer);
    case "F64":
      return new Float32Array(new Float64Array(bytes.buffer));
    case "F16":
      return fromF16(new Uint16Array(bytes.buffer));
    case "BF16":
      return fromBf16(new Uint16Array(bytes.buffer));
  }
  const { scale, offset, write } = RULES[dtype], { elements, bytes: size } = TENSOR_TYPES[dtype];
  const count = bytes.length / size, out = new Float32Array(count * elements);
  const halves = (first: number): Float32Array => {
    const codes = new Uint16Array(count);
    for (let i = 0, at = first; i < count; i++, at += size) codes[i] = bytes[at] | bytes[at + 1] << 8;
    return fromF16(codes);
  };
  const d = halves(scale), m = offset === undefined ? null : halves(offset);
  for (let i = 0; i < count; i++) write(bytes, i * size, { out, to: i * elements, d: d[i], m: m?.[i] ?? 0 });
  return out;
}
