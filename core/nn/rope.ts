/**
 * Rotary position embedding: tables of angles.
 *
 * @module
 */

import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";

/** Interpolation between frequencies as they are and divided by a factor, as in Llama 3.1. */
export interface Llama3Scaling {
  /** Which rule it is. */
  readonly type: "llama3";
  /** Divisor of low frequencies. */
  readonly factor: number;
  /** A frequency with fewer periods than this in the original length is divided. */
  readonly lowFreqFactor: number;
  /** A frequency with more periods than this in the original length stays. */
  readonly highFreqFactor: number;
  /** Positions that the model was pretrained on. */
  readonly originalLength: number;
}

/** How positions become angles. */
export interface RopeConfig {
  /** Base of the geometric series of frequencies, 10000 in the paper. */
  readonly theta: number;
  /** Elements of a head, D; even. */
  readonly dim: number;
  /** How frequencies change for sequences longer than in pretraining; they stay when absent. */
  readonly scaling?: Llama3Scaling;
}

/** Cosines and sines of the angle of each position and pair of channels. */
export interface RopeTables {
  /** f32 [T, D / 2]. */
  readonly cos: Tensor;
  /** f32 [T, D / 2]. */
  readonly sin: Tensor;
}

/**
 * The frequency of each pair of channels.
 *
 * Source: Su et al., "RoFormer", arXiv 2104.09864, section 3.4.2; for `llama3` the code of `transformers`,
 * `_compute_llama3_parameters`.
 *
 * @param config Base, head size, scaling
 * @returns Radians a position, D / 2 numbers
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ropeFrequencies } from "@firn/train/nn";
 *
 * assertEquals(ropeFrequencies({ theta: 100, dim: 4 }), [1, 0.1]);
 * ```
 */
export function ropeFrequencies({ theta, dim, scaling }: RopeConfig): readonly number[] {
  return Array.from({ length: dim / 2 }, (_, i) => {
    const frequency = theta ** (-2 * i / dim);
    if (scaling === undefined) return frequency;
    const { factor, lowFreqFactor, highFreqFactor, originalLength } = scaling;
    const periods = originalLength * frequency / (2 * Math.PI);
    const mix = (periods - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    const share = Math.min(1, Math.max(0, mix));
    return share * frequency + (1 - share) * frequency / factor;
  });
}

/** Tables by configuration and length. Equal tensors are one constant of a plan only if they are the same object. */
const computed = new WeakMap<RopeConfig, Map<number, RopeTables>>();

/**
 * Tables of cosines and sines, computed in float64. The same configuration object and length give the same tensors.
 *
 * @param config Base, head size, scaling
 * @param options `length`: positions T
 * @returns f32 [T, D / 2] each
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { read, openGpu, ropeTables } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const { cos } = ropeTables({ theta: 10000, dim: 2 }, { length: 2 });
 * assertEquals([...await read(gpu, cos)], [1, Math.fround(Math.cos(1))]);
 * ```
 */
export function ropeTables(config: RopeConfig, { length }: { readonly length: number }): RopeTables {
  const known = computed.get(config) ?? new Map<number, RopeTables>();
  computed.set(config, known);
  if (!known.has(length)) known.set(length, tablesOf(ropeFrequencies(config), length));
  return known.get(length)!;
}

function tablesOf(frequencies: readonly number[], length: number): RopeTables {
  const half = frequencies.length;
  const cos = new Float32Array(length * half), sin = new Float32Array(length * half);
  for (let t = 0; t < length; t++) {
    frequencies.forEach((frequency, i) => {
      cos[t * half + i] = Math.cos(t * frequency);
      sin[t * half + i] = Math.sin(t * frequency);
    });
  }
  return { cos: tensor(cos, [length, half]), sin: tensor(sin, [length, half]) };
}
