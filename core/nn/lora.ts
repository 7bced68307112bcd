/**
 * What adapters add to layers: low-rank pairs, DoRA, dropout.
 *
 * @module
 */

import { add, divide, multiply, subtract } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { sqrt } from "../ops/functions.ts";
import { matmul } from "../ops/matmul.ts";
import { reshape } from "../ops/movement.ts";
import { stopGradient } from "../ops/stop_gradient.ts";
import type { Tensor } from "../tensor.ts";
import type { Layout } from "./params.ts";

/** How the pair of one layer is used. */
export interface LoraSettings {
  /** Factor of its product: alpha / r, or alpha / sqrt(r) where it is rank-stabilised. */
  readonly scale: number;
  /** Dropout of its input, in training only; none when absent. */
  readonly dropout?: LoraDropout;
}

/** A dropout that draws anew at each step: the same seed, stream and step give the same draw. */
export interface LoraDropout {
  /** The share of zeros, at least 0 and below 1. */
  readonly rate: number;
  /** A whole number of 32 bits. */
  readonly seed: number;
  /** Tells layers apart. */
  readonly stream: number;
}

/** The tensors of a pair. */
export interface LoraPair {
  /** f32 [r, in]. */
  readonly a: Tensor;
  /** f32 [out, r]. */
  readonly b: Tensor;
  /** f32 [out]: a bias of the second layer. */
  readonly bias?: Tensor;
  /** f32 [out]: lengths of the rows of the weight, of DoRA. */
  readonly magnitude?: Tensor;
}

/** Holds the settings of a layer in its record of tensors, where walks over the tree do not see them. */
const SETTINGS = Symbol("settings of a LoRA pair");

type Adapted = object & { readonly [SETTINGS]?: LoraSettings };

/**
 * Gives a layer the settings of its pair.
 *
 * @param layer Its record of tensors
 * @param settings How the pair is used
 * @returns The same record with settings
 */
export function withLoraSettings<T extends object>(layer: T, settings: LoraSettings): T {
  return { ...layer, [SETTINGS]: settings };
}

/** The settings that a layer was given. */
export function loraSettings(layer: object): LoraSettings | undefined {
  return (layer as Adapted)[SETTINGS];
}

/**
 * The weight with its pair: `W + scale B A`, and with DoRA each row at the length that its magnitude says.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685, section 4.1; Liu et al., "DoRA", arXiv 2402.09353, equation 5.
 *
 * @param weight f32 or stored in fewer bytes, [out, in], or [in, out] in the layout of that name
 * @param pair The pair
 * @param options Its factor, and the layout of the weight
 * @returns f32 of the shape of the weight
 */
export function adaptedWeight(
  weight: Tensor,
  pair: LoraPair,
  options: { readonly scale: number; readonly layout: Layout },
): Tensor {
  const whole = summedWeight(weight, pair, options);
  if (pair.magnitude === undefined) return whole;
  const gain = divide(pair.magnitude, lengths(whole, options.layout));
  return multiply(whole, options.layout === "inOut" ? gain : reshape(gain, [gain.shape[0], 1]));
}

function summedWeight(
  weight: Tensor,
  { a, b }: LoraPair,
  { scale, layout }: { readonly scale: number; readonly layout: Layout },
): Tensor {
  const product = layout === "inOut" ? matmul(a, b, { transposeA: true, transposeB: true }) : matmul(b, a);
  return add(weight, multiply(product, scale));
}

/**
 * The lengths of the weights of each output, of the weight with its pair.
 *
 * @param weight As in {@link adaptedWeight}
 * @param pair The pair
 * @param options Its factor, and the layout of the weight
 * @returns f32 [out]
 */
export function weightLengths(
  weight: Tensor,
  pair: LoraPair,
  options: { readonly scale: number; readonly layout: Layout },
): Tensor {
  return lengths(summedWeight(weight, pair, options), options.layout);
}

/** The lengths of the weights of each output, f32 [out]. */
function lengths(weight: Tensor, layout: Layout): Tensor {
  return sqrt(sum(multiply(weight, weight), layout === "inOut" ? 0 : 1));
}

/** Options of {@link withPair}. */
export interface PairOptions {
  /** f32 [N, out]: the output of the layer without pair and bias. */
  readonly y: Tensor;
  /** f32 [N, r]: the product of the input, perhaps with dropout, and A. */
  readonly low: Tensor;
  /** The weight that the pair adapts. */
  readonly weight: Tensor;
  /** Its layout. */
  readonly layout: Layout;
  /** Factor of the pair. */
  readonly scale: number;
  /** f32 [N, out]: with dropout and DoRA, the output of the layer for the input that was dropped from. */
  readonly dropped?: Tensor;
}

/**
 * The output of a layer with its pair: `y + scale (x A^T) B^T`. With DoRA each output is multiplied by `magnitude` over the
 * length of its row of the adapted weight, through which no gradient flows.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685, equation 3; Liu et al., "DoRA", arXiv 2402.09353, section 4.3.
 *
 * @param pair The pair
 * @param options What the layer gives without it
 * @returns f32 [N, out], without the bias of the layer
 */
export function withPair(pair: LoraPair, { y, low, weight, layout, scale, dropped }: PairOptions): Tensor {
  // The factor is for what lies between the two products, which is narrow: their gradients multiply by it there, too.
  const product = matmul(multiply(low, scale), pair.b, { transposeB: true });
  const update = pair.bias === undefined ? product : add(product, multiply(pair.bias, scale));
  if (pair.magnitude === undefined) return add(y, update);
  const gain = divide(pair.magnitude, stopGradient(weightLengths(weight, pair, { scale, layout })));
  if (dropped === undefined) return multiply(add(y, update), gain);
  // As in PEFT: what DoRA adds to the layer sees the input with dropout, the product with the frozen weight too.
  return add(y, add(multiply(dropped, subtract(gain, 1)), multiply(update, gain)));
}
