/**
 * NF4 with scales that are quantized again, as bitsandbytes computes it.
 *
 * Source: Dettmers et al., "QLoRA", arXiv 2305.14314, section 3; the codes of scales are the dynamic map of Dettmers et al.,
 * "8-bit Optimizers via Block-wise Quantization", arXiv 2110.02861, section 2.
 *
 * @module
 */

import { BLOCK, NF4, rowLayout, SHARED_SCALES, ZERO_CODE } from "../../kernels/blocks.ts";

/**
 * The 256 values of codes of scales, in order: 127 negative ones, 0, 127 positive ones and 1. Between two powers of ten stand
 * the middles of equal parts, twice as many between the next two.
 */
export const SCALE_CODES: Float32Array<ArrayBuffer> = Float32Array.from(
  { length: 256 },
  (_, code) => {
    const size = Math.abs(code - 127);
    if (size === 0) return 0;
    if (size === 128) return 1;
    const power = 31 - Math.clz32(size), place = (size - 2 ** power + 0.5) / 2 ** power;
    return Math.sign(code - 127) * 10 ** (power - 6) * (0.1 + 0.9 * place);
  },
);

const VALUES = Float32Array.from(NF4);

/** Cells of a table that tells where to begin: they are narrower than what lies between most middles. */
const CELLS = 4096;

/** Finds the nearest value of a sorted list, the lower of two that are as near, for numbers from -1 to 1. */
function nearestIn(values: Float32Array): (x: number) => number {
  // Nothing lies above the last value.
  const middles = Float32Array.from(
    values,
    (value, i) => i + 1 < values.length ? (value + values[i + 1]) / 2 : Infinity,
  );
  const first = Uint8Array.from(
    { length: CELLS + 1 },
    (_, cell) => middles.findIndex((middle) => middle >= 2 * cell / CELLS - 1),
  );
  return (x) => {
    let code = first[(x + 1) * (CELLS / 2) | 0];
    while (x > middles[code]) code++;
    return code;
  };
}

/** Rounds rows to words of NF4. */
export function toNf4(values: Float32Array, width: number): Uint32Array<ArrayBuffer> {
  const { blocks, scales, offset, shared, words: size } = rowLayout("nf4", width),
    rows = values.length / width;
  const words = new Uint32Array(rows * size), bytes = new Uint8Array(words.buffer);
  const floats = new Float32Array(words.buffer), nearest = nearestIn(VALUES);
  const largest = new Float32Array(rows * blocks);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = block * BLOCK.nf4, to = Math.min(width, from + BLOCK.nf4);
      let most = 0;
      for (let i = row * width + from; i < row * width + to; i++) {
        const size = Math.abs(values[i]);
        if (size > most) most = size;
      }
      largest[row * blocks + block] = most;
      const inverse = most === 0 ? 0 : Math.fround(1 / most);
      const at = row * size * 4 + from / 2;
      const codeOf = (i: number): number =>
        i < to ? nearest(Math.fround(values[row * width + i] * inverse)) : ZERO_CODE.nf4;
      for (let i = from; i < from + BLOCK.nf4; i += 2) {
        bytes[at + (i - from >> 1)] = codeOf(i) | codeOf(i + 1) << 4;
      }
    }
  }
  const { mean, codes, tops } = quantizeScales(largest);
  for (let row = 0; row < rows; row++) {
    const at = row * size, first = Math.floor(row * blocks / SHARED_SCALES);
    bytes.set(codes.subarray(row * blocks, (row + 1) * blocks), (at + scales) * 4);
    floats[at + offset] = mean;
    for (let i = 0; i < shared; i++) floats[at + offset + 1 + i] = tops[first + i] ?? 0;
  }
  return words;
}

/** Quantizes scales: their mean is subtracted, and blocks of 256 are divided by their largest magnitude. */
function quantizeScales(scales: Float32Array): {
  readonly mean: number;
  readonly codes: Uint8Array;
  /** The largest magnitude of each block. */
  readonly tops: Float32Array;
} {
  const mean = meanOf(scales), nearest = nearestIn(SCALE_CODES);
  const codes = new Uint8Array(scales.length);
  const tops = new Float32Array(Math.ceil(scales.length / SHARED_SCALES));
  for (let block = 0; block < tops.length; block++) {
    const own = scales.subarray(block * SHARED_SCALES, (block + 1) * SHARED_SCALES);
    const rest = own.map((scale) => scale - mean);
    const most = rest.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    const inverse = most === 0 ? 0 : Math.fround(1 / most);
    tops[block] = most;
    rest.forEach((x, i) => codes[block * SHARED_SCALES + i] = nearest(Math.fround(x * inverse)));
  }
  return { mean, codes, tops };
}

/** The mean, summed in f64 and rounded once. */
function meanOf(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return Math.fround(sum / Math.max(1, values.length));
}

/** The values of words of NF4. */
export function fromNf4(words: Uint32Array<ArrayBuffer>, width: number): Float32Array<ArrayBuffer> {
  const { blocks, scales, offset, words: size } = rowLayout("nf4", width), rows = words.length / size;
  const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const at = row * size, before = row * blocks % SHARED_SCALES;
    for (let block = 0; block < blocks; block++) {
      const top = floats[at + offset + 1 + Math.floor((before + block) / SHARED_SCALES)];
      const scale = Math.fround(
        Math.fround(SCALE_CODES[bytes[(at + scales) * 4 + block]] * top) + floats[at + offset],
      );
      const from = block * BLOCK.nf4, to = Math.min(width, from + BLOCK.nf4);
      for (let i = from; i < to; i++) {
        values[row * width + i] = VALUES[bytes[at * 4 + (i >> 1)] >> (i % 2 * 4) & 15] * scale;
      }
    }
  }
  return values;
}
