/**
 * What the models of the example `digits` share: new layers, and images cut into patches.
 *
 * Axes: B batch, T patches, C channels.
 *
 * @module
 */

import { fill, multiply, permute, reshape, type Tensor } from "@firn/train";
import { linear, type LinearParams } from "@firn/train/nn";
import { gelu, randomNormal, rmsNorm } from "@firn/train/ops";
import { SIDE } from "./digits_data.ts";

/** A classifier of digits. Its parameters are nested records; a number in a name is the layer, from the bottom. */
export interface DigitModel<P extends object = object> {
  /** New parameters; the same seed gives the same. */
  init(seed: number): P;
  /** From images f32 [B, 784] to scores f32 [B, 10]. */
  logits(params: P, images: Tensor): Tensor;
  /** How it is trained when nothing else is said. */
  readonly recipe: Recipe;
}

/** Numbers of a training run. */
export interface Recipe {
  readonly steps: number;
  /** Images in a batch. */
  readonly batch: number;
  /** Largest learning rate. */
  readonly rate: number;
  /** Threshold of gradES on `gradNorm`; it depends on all the others, and was read off a run. */
  readonly tau: number;
}

/** A linear map up to more channels and one back, as in transformers and mixers. */
export interface TwoLayers {
  readonly up: LinearParams;
  readonly down: LinearParams;
}

/** Makes layers whose matrices are drawn one after the other from one seed. */
export interface Initialiser {
  /** A matrix f32 [rows, columns] of that standard deviation. */
  normal(shape: readonly [number, number], deviation: number): Tensor;
  /** A linear layer that multiplies the scale of its input by `gain`, 1 when absent; the bias is zero. */
  linear(width: number, out: number, gain?: number): LinearParams;
  /** The gain of a norm: ones. */
  norm(width: number): { readonly weight: Tensor };
  /** Two linear layers, `width` to `inner` channels and back. */
  twoLayers(width: number, inner: number): TwoLayers;
}

/**
 * Begins to draw parameters.
 *
 * @param seed A whole number from 0
 * @returns What makes layers
 */
export function initialiser(seed: number): Initialiser {
  let stream = 0;
  const normal: Initialiser["normal"] = (shape, deviation) =>
    multiply(randomNormal(shape, { seed, stream: stream++ }), deviation);
  const linear: Initialiser["linear"] = (width, out, gain = 1) => ({
    weight: normal([out, width], gain / Math.sqrt(width)),
    bias: fill(0, [out]),
  });
  return {
    normal,
    linear,
    norm: (width) => ({ weight: fill(1, [width]) }),
    twoLayers: (width, inner) => ({ up: linear(width, inner), down: linear(inner, width) }),
  };
}

/**
 * Makes a stack of layers.
 *
 * @param count How many
 * @param layer Makes the one of an index, counted from the bottom
 * @returns The layers by index
 */
export function stack<L>(count: number, layer: (index: number) => L): { readonly [index: string]: L } {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [i, layer(i)]));
}

/**
 * Applies two linear layers with a GELU between them.
 *
 * @param x f32 [..., C]
 * @param params The layers
 * @returns f32 [..., C]
 */
export function twoLayers(x: Tensor, { up, down }: TwoLayers): Tensor {
  return linear(gelu(linear(x, up)), down);
}

/**
 * Normalises channels: RMSNorm with a gain.
 *
 * @param x f32 [..., C]
 * @param params The gain f32 [C]
 * @returns f32 [..., C]
 */
export function normed(x: Tensor, { weight }: { readonly weight: Tensor }): Tensor {
  return rmsNorm(x, weight, { eps: 1e-6 });
}

/**
 * Cuts images into square patches: with a linear layer behind it, a convolution whose stride is its width.
 *
 * @param images f32 [B, 784]
 * @param side Pixels on a side of a patch; divides 28
 * @returns f32 [B, T, side * side], row after row
 */
export function patchesOf(images: Tensor, side: number): Tensor {
  const [batch] = images.shape, along = SIDE / side;
  const grid = reshape(images, [batch, along, side, along, side]);
  return reshape(permute(grid, [0, 1, 3, 2, 4]), [batch, along * along, side * side]);
}
