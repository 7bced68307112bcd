/**
 * Counter-based random numbers: Threefry 2x32 with 20 rounds, in WGSL and in TypeScript.
 *
 * A value is a function of the key (seed, stream), the step and its own index: no state, any order, any adapter.
 *
 * Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
 *
 * @module
 */

import { f32, type Kernel, repeat } from "./kernel.ts";
import { flatKernel } from "./rows.ts";

const ROTATIONS: readonly number[] = [13, 15, 26, 6, 17, 29, 16, 24];
const PARITY = 0x1bd11bda;
const ROUNDS = 20;

/** Two words of 32 bits, each from 0 to 2^32 - 1. */
export type Pair = readonly [number, number];

/**
 * Encrypts a counter with a key; the result is two uniformly distributed words.
 *
 * @param key The seed
 * @param counter Distinguishes this draw from all others
 * @returns Two words, each from 0 to 2^32 - 1
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { threefry2x32 } from "@firn/train/kernels";
 *
 * assertEquals(threefry2x32([0, 0], [0, 0]), [0x6b200159, 0x99ba4efe]);
 * ```
 */
export function threefry2x32(key: Pair, counter: Pair): Pair {
  const keys = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
  let x = (counter[0] + keys[0]) >>> 0;
  let y = (counter[1] + keys[1]) >>> 0;
  for (let round = 0; round < ROUNDS; round++) {
    const rotation = ROTATIONS[round % 8];
    x = (x + y) >>> 0;
    y = (((y << rotation) | (y >>> (32 - rotation))) ^ x) >>> 0;
    if (round % 4 === 3) {
      const group = (round + 1) / 4;
      x = (x + keys[group % 3]) >>> 0;
      y = (y + keys[(group + 1) % 3] + group) >>> 0;
    }
  }
  return [x, y];
}

/** WGSL `threefry2x32(key: vec2u, counter: vec2u) -> vec2u`, the same function as {@link threefry2x32}. */
export const THREEFRY: string = `fn threefry2x32(key: vec2u, counter: vec2u) -> vec2u {
  let k0 = key.x;
  let k1 = key.y;
  let k2 = ${PARITY}u ^ key.x ^ key.y;
  var x = counter.x + k0;
  var y = counter.y + k1;
${
  repeat(ROUNDS, (round) => {
    const rotation = ROTATIONS[round % 8];
    const group = (round + 1) / 4;
    const inject = round % 4 === 3 ? ` x += k${group % 3}; y += k${(group + 1) % 3} + ${group}u;` : "";
    return `  x += y; y = ((y << ${rotation}u) | (y >> ${32 - rotation}u)) ^ x;${inject}\n`;
  })
}  return vec2u(x, y);
}
`;

/** Options of {@link uniform} and {@link normal}. */
export interface RandomOptions {
  /** Number of values, at most 2^33. */
  readonly size: number;
  /** Whether the step is an input, so that every step draws anew. */
  readonly eachStep?: boolean;
}

/** Options of {@link uniformValues} and {@link normalValues}. */
export interface RandomValuesOptions {
  /** Number of values, at most 2^33. */
  readonly size: number;
  /** Seed and stream: values with different streams are independent. */
  readonly key: Pair;
  /** Number of the step; 0 if absent. */
  readonly step?: number;
}

/**
 * Fills a buffer with values in [0, 1), multiples of 2^-24.
 *
 * Bindings: a0 `key[2]` u32, with `eachStep` a1 `step[1]` f32; o0 `out[size]`. The bits are those of
 * {@link uniformValues}.
 *
 * @param options Size, and whether each step draws anew
 * @returns The kernel
 */
export function uniform({ size, eachStep = false }: RandomOptions): Kernel {
  const values = `  let first = ${unit("words.x")};\n  let second = ${unit("words.y")};\n`;
  return randomKernel({ name: `uniform ${size}`, size, eachStep, flops: 0, values });
}

/**
 * Fills a buffer with normal values of mean 0 and deviation 1.
 *
 * Bindings: a0 `key[2]` u32, with `eachStep` a1 `step[1]` f32; o0 `out[size]`. Close to {@link normalValues}, but
 * logarithm, sine and cosine differ in their last bits between adapters.
 *
 * Source: Box and Muller 1958.
 *
 * @param options Size, and whether each step draws anew
 * @returns The kernel
 */
export function normal({ size, eachStep = false }: RandomOptions): Kernel {
  return randomKernel({
    name: `normal ${size}`,
    size,
    eachStep,
    flops: 20 * size,
    values: `  let radius = sqrt(-2.0f * log(f32((words.x >> 8u) + 1u) * 0x1p-24f));
  let angle = f32(words.y >> 8u) * ${(2 * Math.PI / 2 ** 24).toExponential(9)}f;
  let first = radius * cos(angle);
  let second = radius * sin(angle);
`,
  });
}

/**
 * Dropout: zeroes a share of the elements, drawn anew each step, and scales the others by `1 / (1 - rate)`. It is its own
 * gradient.
 *
 * Bindings: a0 `key[2]` u32, a1 `step[1]` f32, a2 `x[size]`; o0 `out[size]`. An element survives when
 * {@link uniform} gives `rate` or more.
 *
 * Source: Srivastava et al. 2014, "Dropout", scaled in training.
 *
 * @param options Size, and the share of zeros: at least 0, below 1
 * @returns The kernel
 */
export function dropout({ size, rate }: { readonly size: number; readonly rate: number }): Kernel {
  const keep = (word: string, index: string): string =>
    `select(0.0f, a2[${index}] * ${f32(1 / (1 - rate))}, ${unit(word)} >= ${f32(rate)})`;
  return randomKernel({
    name: `dropout ${size}`,
    size,
    eachStep: true,
    flops: size,
    more: ["f32"],
    values: `  let first = ${keep("words.x", "2u * i")};
  let second = ${keep("words.y", `min(2u * i + 1u, ${size - 1}u)`)};
`,
  });
}

/** WGSL that maps a word to [0, 1). */
export const unit = (word: string): string => `f32(${word} >> 8u) * 0x1p-24f`;

/** A kernel with one thread per two values; `values` is WGSL that computes `first` and `second` from `words`. */
function randomKernel(
  { name, size, eachStep, flops, more = [], values }: {
    readonly name: string;
    readonly size: number;
    readonly eachStep: boolean;
    readonly flops: number;
    readonly more?: readonly string[];
    readonly values: string;
  },
): Kernel {
  return flatKernel({
    name,
    items: Math.ceil(size / 2),
    inputs: ["u32", ...(eachStep ? ["f32"] : []), ...more],
    outputs: ["f32"],
    functions: THREEFRY,
    flops,
    body: `  let words = threefry2x32(vec2u(a0[0], a0[1]), vec2u(i, ${eachStep ? "u32(a1[0])" : "0u"}));
${values}  o0[2u * i] = first;
  if (2u * i + 1u < ${size}u) { o0[2u * i + 1u] = second; }
`,
  });
}

/**
 * Computes the values of the kernel {@link uniform} on the CPU, bit for bit.
 *
 * @param options Size, key and step
 * @returns Values in [0, 1)
 *
 * @example
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { uniformValues } from "@firn/train/kernels";
 *
 * const draw = uniformValues({ size: 5, key: [7, 0] });
 * assert(draw.every((u) => u >= 0 && u < 1));
 * assertEquals(draw, uniformValues({ size: 5, key: [7, 0] }));
 * ```
 */
export function uniformValues({ size, key, step = 0 }: RandomValuesOptions): Float32Array<ArrayBuffer> {
  const out = new Float32Array(size);
  for (let i = 0; i < size; i += 2) {
    const [x, y] = threefry2x32(key, [i / 2, step]);
    out[i] = (x >>> 8) / 2 ** 24;
    if (i + 1 < size) out[i + 1] = (y >>> 8) / 2 ** 24;
  }
  return out;
}

/**
 * Computes the values of the kernel {@link normal} on the CPU, up to rounding.
 *
 * @param options Size, key and step
 * @returns Values of mean 0 and deviation 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { normalValues } from "@firn/train/kernels";
 *
 * const draw = normalValues({ size: 5, key: [7, 0] });
 * assertEquals(draw, normalValues({ size: 5, key: [7, 0] }));
 * ```
 */
export function normalValues({ size, key, step = 0 }: RandomValuesOptions): Float32Array<ArrayBuffer> {
  const out = new Float32Array(size);
  for (let i = 0; i < size; i += 2) {
    const [x, y] = threefry2x32(key, [i / 2, step]);
    const radius = Math.sqrt(-2 * Math.log(((x >>> 8) + 1) / 2 ** 24));
    const angle = 2 * Math.PI * ((y >>> 8) / 2 ** 24);
    out[i] = radius * Math.cos(angle);
    if (i + 1 < size) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/**
 * What kernels with dropout inside read of seed and stream: two numbers below 2^16, so that f32 holds them. The step is the third number.
 *
 * @param seed Seed and stream
 * @returns Both
 */
export function dropoutKey(seed: readonly [seed: number, stream: number]): readonly [number, number] {
  const [word] = threefry2x32(seed, [0, 0]);
  return [word >>> 16, word & 0xffff];
}
