/**
 * Angles of rotary position embedding.
 *
 * @module
 */

import { type Tensor, tensor } from "../tensor.ts";

/** How positions become angles. */
export interface RopeOptions {
  /** Base of the geometric series of wavelengths, 10000 in the paper. */
  readonly theta: number;
  /** Elements of a head, D. */
  readonly dim: number;
  /** Positions T. */
  readonly length: number;
  /** Stretches long wavelengths, as Llama 3.1 does. */
  readonly llama3?: {
    readonly factor: number;
    readonly lowFreqFactor: number;
    readonly highFreqFactor: number;
    readonly originalLength: number;
  };
}

/** One tensor pair for each setting: the planner then sees one constant, not one a layer. */
const tables = new Map<string, { readonly cos: Tensor; readonly sin: Tensor }>();

/**
 * Tables of cosines and sines, computed in float64.
 *
 * Source: Su et al., arXiv 2104.09864, section 3.4.2.
 *
 * @param options Base, head size, positions
 * @returns f32 [T, D / 2] each
 */
export function ropeTables(options: RopeOptions): { readonly cos: Tensor; readonly sin: Tensor } {
  const key = JSON.stringify(options);
  const known = tables.get(key);
  if (known !== undefined) return known;
  const { theta, dim, length, llama3 } = options;
  const half = dim / 2;
  const cos = new Float32Array(length * half), sin = new Float32Array(length * half);
  for (let i = 0; i < half; i++) {
    let frequency = theta ** (-2 * i / dim);
    if (llama3 !== undefined) {
      const { factor, lowFreqFactor, highFreqFactor, originalLength } = llama3;
      const turns = originalLength * frequency / (2 * Math.PI);
      const mix = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
      const share = Math.min(1, Math.max(0, mix));
      frequency = share * frequency + (1 - share) * frequency / factor;
    }
    for (let t = 0; t < length; t++) {
      cos[t * half + i] = Math.cos(t * frequency);
      sin[t * half + i] = Math.sin(t * frequency);
    }
  }
  const pair = { cos: tensor(cos, [length, half]), sin: tensor(sin, [length, half]) };
  tables.set(key, pair);
  return pair;
}
