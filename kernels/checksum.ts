/**
 * The checksum of a buffer, and whether all numbers in it are finite.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel } from "./kernel.ts";

const THREADS = 256;
/** Words of a thread: few threads add to the same sum. */
const WORDS = 64;

/** Bits of a word that are the exponents of its numbers: where all of one are set, that number is not finite. */
const EXPONENTS: Readonly<Record<Numbers, readonly number[]>> = {
  f32: [0x7f800000],
  f16: [0x7c00, 0x7c000000],
  bf16: [0x7f80, 0x7f800000],
  words: [],
};

/** What the words of a buffer hold; `words` are no numbers that could be infinite. */
export type Numbers = "f32" | "f16" | "bf16" | "words";

/** Options of {@link checksum}. */
export interface ChecksumOptions {
  /** Words that are read. */
  readonly words: number;
  /** What they hold. */
  readonly numbers: Numbers;
  /** Whether only the lower half of the last word counts; false when absent. */
  readonly half?: boolean;
}

/**
 * Sums a mixture of each word with its place, modulo 2^32, so that the order of additions does not count: the finalizer of
 * MurmurHash3 (Austin Appleby). {@link checksumOf} gives the same number.
 *
 * Bindings: a `words` u32; found `[2]` u32, zeros at first: the sum, and 1 where a number is not finite.
 *
 * @param options How many words, and what they hold
 * @returns The kernel; its text depends on the number of words by nothing but the grid
 */
export function checksum({ words, numbers, half = false }: ChecksumOptions): Kernel {
  const beyond = EXPONENTS[numbers].map((bits) => `u32((w & ${bits}u) == ${bits}u)`).join(" | ");
  return {
    name: `checksum ${words} ${numbers}`,
    grid: foldGrid(Math.ceil(words / (THREADS * WORDS))),
    flops: 0,
    code: `@group(0) @binding(0) var<storage, read> a: array<u32>;
@group(0) @binding(1) var<storage, read_write> found: array<atomic<u32>>;
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
  let count = arrayLength(&a);
  let first = (${GROUP_INDEX}) * ${THREADS * WORDS}u + lid;
  if (first >= count) { return; }
  var sum = 0u;
  var beyond = 0u;
  for (var i = first; i < min(count, first + ${THREADS * WORDS}u); i += ${THREADS}u) {
    ${half ? "let w = select(a[i], a[i] & 0xffffu, i + 1u == count);" : "let w = a[i];"}
    var h = w ^ (i * 0x9e3779b9u);
    h = (h ^ (h >> 16u)) * 0x85ebca6bu;
    h = (h ^ (h >> 13u)) * 0xc2b2ae35u;
    sum += h ^ (h >> 16u);
    ${beyond === "" ? "" : `beyond |= ${beyond};`}
  }
  atomicAdd(&found[0], sum);
  if (beyond != 0u) { atomicOr(&found[1], 1u); }
}
`,
  };
}

/**
 * The checksum of bytes on the host, as {@link checksum} computes it.
 *
 * @param bytes They; where they are no whole words, zeros follow. They begin at a multiple of four in their buffer
 * @returns A number of 32 bits
 */
export function checksumOf(bytes: Uint8Array): number {
  const whole = bytes.length >>> 2, words = new Uint32Array(bytes.buffer, bytes.byteOffset, whole);
  let sum = 0;
  const add = (word: number, i: number): void => {
    let h = word ^ Math.imul(i, 0x9e3779b9);
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    sum = (sum + (h ^ (h >>> 16))) | 0;
  };
  for (let i = 0; i < whole; i++) add(words[i], i);
  const rest = bytes.subarray(4 * whole);
  if (rest.length > 0) add(rest.reduce((word, byte, i) => word | byte << 8 * i, 0), whole);
  return sum >>> 0;
}
