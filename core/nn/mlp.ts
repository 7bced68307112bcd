/**
 * The feed-forward part of a transformer block.
 *
 * Axes: C channels, F hidden channels.
 *
 * @module
 */

import { gelu, silu } from "../ops/activations.ts";
import { multiply } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { type Linear, linear, linearParams, type LoraOptions } from "./linear.ts";
import type { ParamSpec } from "./params.ts";

/** Two linear layers with an activation between them. */
export interface Mlp<T> {
  /** C to F. */
  readonly up_proj: Linear<T>;
  /** F to C. */
  readonly down_proj: Linear<T>;
}

/** The same with a gate, named as in decoders of Hugging Face. */
export interface GatedMlp<T> extends Mlp<T> {
  /** C to F. */
  readonly gate_proj: Linear<T>;
}

/** Declaration of a feed-forward layer. */
export type MlpSpec = Mlp<ParamSpec>;

/** Declaration of a gated feed-forward layer. */
export type GatedMlpSpec = GatedMlp<ParamSpec>;

/** Options of {@link mlp} and {@link gatedMlp}. */
export interface MlpOptions extends LoraOptions {
  /** The activation. */
  readonly activation?: (x: Tensor) => Tensor;
}

/** Channels of a feed-forward layer. */
export interface MlpSizes {
  /** Channels outside C. */
  readonly hiddenSize: number;
  /** Channels inside F. */
  readonly intermediateSize: number;
}

/**
 * Declares a feed-forward layer.
 *
 * @param sizes Channels outside and inside
 * @param options `bias`: whether both linear layers add one; false when absent
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mlpParams } from "@firn/train/nn";
 *
 * assertEquals(mlpParams({ hiddenSize: 4, intermediateSize: 16 }).down_proj.weight.shape, [4, 16]);
 * ```
 */
export function mlpParams(
  { hiddenSize: c, intermediateSize: f }: MlpSizes,
  options: { readonly bias?: boolean } = {},
): MlpSpec {
  return { up_proj: linearParams([f, c], options), down_proj: linearParams([c, f], options) };
}

/**
 * Declares a gated feed-forward layer.
 *
 * @param sizes Channels outside and inside
 * @param options `bias`: whether the linear layers add one; false when absent
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gatedMlpParams } from "@firn/train/nn";
 *
 * const spec = gatedMlpParams({ hiddenSize: 4, intermediateSize: 16 });
 * assertEquals(Object.keys(spec), ["gate_proj", "up_proj", "down_proj"]);
 * ```
 */
export function gatedMlpParams(
  sizes: MlpSizes,
  options: { readonly bias?: boolean } = {},
): GatedMlpSpec {
  const { hiddenSize: c, intermediateSize: f } = sizes;
  return { gate_proj: linearParams([f, c], options), ...mlpParams(sizes, options) };
}

/**
 * `down(activation(up(x)))`.
 *
 * @param x f32 [..., C]
 * @param params Both linear layers
 * @param options The activation, `gelu` when absent
 * @returns f32 [..., C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { mlp } from "@firn/train/nn";
 *
 * const params = { up_proj: { weight: fill(0.1, [8, 4]) }, down_proj: { weight: fill(0.1, [4, 8]) } };
 * assertEquals(mlp(fill(1, [2, 3, 4]), params).shape, [2, 3, 4]);
 * ```
 */
export function mlp(x: Tensor, params: Mlp<Tensor>, options: MlpOptions = {}): Tensor {
  const { activation = gelu } = options;
  return linear(activation(linear(x, params.up_proj, options)), params.down_proj, options);
}

/**
 * `down(activation(gate(x)) * up(x))`.
 *
 * Source: Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202, equation 6.
 *
 * @param x f32 [..., C]
 * @param params The three linear layers
 * @param options The activation, `silu` when absent
 * @returns f32 [..., C]
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { gatedMlp } from "@firn/train/nn";
 *
 * const up = { weight: fill(0.1, [8, 4]) }, down_proj = { weight: fill(0.1, [4, 8]) };
 * const y = gatedMlp(fill(1, [2, 3, 4]), { gate_proj: up, up_proj: up, down_proj });
 * assertEquals(y.shape, [2, 3, 4]);
 * ```
 */
export function gatedMlp(x: Tensor, params: GatedMlp<Tensor>, options: MlpOptions = {}): Tensor {
  const { activation = silu } = options;
  const gated = multiply(
    activation(linear(x, params.gate_proj, options)),
    linear(x, params.up_proj, options),
  );
  return linear(gated, params.down_proj, options);
}
