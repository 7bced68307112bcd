/**
 * A mixture of experts: a router sends each token to a few of many gated feed-forward layers.
 *
 * Axes: N tokens, K experts of a token, E experts, C channels, F hidden channels of an expert.
 *
 * @module
 */

import { silu } from "../ops/activations.ts";
import { divide, multiply } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { fromExperts, groupedMatmul, inExpertOrder, sortByExpert, toExperts } from "../ops/experts.ts";
import { reshape, slice } from "../ops/movement.ts";
import { softmax } from "../ops/softmax.ts";
import { topK } from "../ops/top_k.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { type Linear, linear, type LoraOptions } from "./linear.ts";
import { normal, type ParamSpec } from "./params.ts";

/** A mixture of experts, named as in Hugging Face. */
export interface Mixture<T> {
  /** C to E: the router. */
  readonly gate: Linear<T>;
  /** Matrices of all experts. */
  readonly experts: {
    /** [E, 2 F, C]: of each expert the rows of the gate, then those of the value. */
    readonly gate_up_proj: T;
    /** [E, C, F]. */
    readonly down_proj: T;
  };
}

/** Declaration of a mixture of experts. */
export type MixtureSpec = Mixture<ParamSpec>;

/** Options of {@link mixture}. */
export interface MixtureOptions extends LoraOptions {
  /** Experts of a token, K. */
  readonly top: number;
  /** Whether the weights of a token's experts add up to 1; else they are shares of all experts. */
  readonly normalize?: boolean;
  /** The activation; `silu` when absent. */
  readonly activation?: (x: Tensor) => Tensor;
}

/**
 * Declares a mixture of experts. Checkpoints store the matrices of each expert under names of their own, or all in one tensor.
 *
 * @param sizes Channels outside and inside an expert, and how many experts there are
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mixtureParams } from "@firn/train/nn";
 *
 * const { gate, experts } = mixtureParams({ hiddenSize: 4, expertSize: 6, experts: 8 });
 * assertEquals([gate.weight.shape, experts.gate_up_proj.shape, experts.down_proj.shape], [[8, 4], [8, 12, 4], [8, 4, 6]]);
 * ```
 */
export function mixtureParams(
  { hiddenSize: c, expertSize: f, experts }: {
    readonly hiddenSize: number;
    readonly expertSize: number;
    readonly experts: number;
  },
): MixtureSpec {
  const parts = (names: readonly string[]): string[] =>
    Array.from({ length: experts }, (_, e) => names.map((name) => `${e}.${name}.weight`)).flat();
  return {
    gate: { weight: { ...normal([experts, c]), use: "router" } },
    experts: {
      gate_up_proj: { ...normal([experts, 2 * f, c]), parts: parts(["gate_proj", "up_proj"]) },
      down_proj: { ...normal([experts, c, f]), parts: parts(["down_proj"]) },
    },
  };
}

/**
 * The sum of a token's experts, each times its weight. The weights are the largest shares of a softmax over all experts. Only
 * the chosen experts are computed: rows are sorted by expert.
 *
 * Source: Shazeer et al., "Outrageously Large Neural Networks", arXiv 1701.06538, section 2; the order of softmax and choice is
 * that of Qwen3 and OLMoE.
 *
 * @param x f32 [..., C]
 * @param params Router and experts
 * @param options Experts of a token, activation
 * @returns f32 [..., C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { mixture } from "@firn/train/nn";
 *
 * const experts = { gate_up_proj: fill(0.1, [8, 12, 4]), down_proj: fill(0.1, [8, 4, 6]) };
 * const y = mixture(fill(1, [2, 3, 4]), { gate: { weight: fill(0.1, [8, 4]) }, experts }, { top: 2 });
 * assertEquals(y.shape, [2, 3, 4]);
 * ```
 */
export function mixture(x: Tensor, { gate, experts }: Mixture<Tensor>, options: MixtureOptions): Tensor {
  const { top, normalize = false, activation = silu } = options, c = x.shape.at(-1)!;
  const rows = reshape(x, [sizeOf(x.shape) / c, c]), [count, , f] = experts.down_proj.shape;
  const { values, indices } = topK(softmax(linear(rows, gate, options)), top); // [N, K]
  const weights = normalize ? divide(values, sum(values, -1, { keepDims: true })) : values;
  const order = sortByExpert(indices, { experts: count });
  const both = groupedMatmul(toExperts(rows, order), { weight: experts.gate_up_proj, order }); // [N K, 2 F]
  const half = (from: number): Tensor => slice(both, { starts: [0, from], sizes: [both.shape[0], f] });
  const inner = multiply(activation(half(0)), half(f));
  const out = groupedMatmul(inner, { weight: experts.down_proj, order }); // [N K, C]
  return reshape(fromExperts(multiply(out, inExpertOrder(weights, order)), order), x.shape);
}
