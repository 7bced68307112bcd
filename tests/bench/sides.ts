/**
 * What each side of a comparison does in a step, so that anyone can judge whether it is fair.
 *
 * @module
 */

import type { Precision } from "@firn/train";

/** What a step consists of. */
export interface Side {
  /** Of storage and of sums. */
  readonly precision: string;
  readonly optimizer: string;
  readonly clipping: string;
  readonly attention: string;
  /** What the backward pass computes again rather than keeps. */
  readonly recompute: string;
  /** Whether the output projection is the embedding. */
  readonly head: string;
  readonly batch: string;
}

/** Firn's training of a Llama. */
export const FIRN_MODEL: Side = {
  precision: "f32",
  optimizer: "AdamW, fused",
  clipping: "global norm 1",
  attention: "fused",
  recompute: "attention's probabilities",
  head: "tied",
  batch: "one, uploaded each step",
};

/** What `f32x3` is. */
const PAIRS = "f32, products by pairs of f16";

/** The same as its values are stored between kernels: these compute in f32 either way, and weights and moments are f32. */
export function firnModelSide(precision: Precision = "f32"): Side {
  const precisions = { f32: FIRN_MODEL.precision, f16: "f16 storage, f32 sums", f32x3: PAIRS };
  return { ...FIRN_MODEL, precision: precisions[precision] };
}

/** Firn's training of the one-layer network. */
export const FIRN_LAYER: Side = {
  ...FIRN_MODEL,
  optimizer: "Adam, fused",
  clipping: "none",
  batch: "a new one each step, uploaded",
};

/** The one-layer network in jax-js. */
export const JAX_LAYER: Side = {
  ...FIRN_LAYER,
  optimizer: "Adam, by hand under jit",
  attention: "nn.dotProductAttention",
  recompute: "nothing",
};

/** A product alone. */
export const PRODUCT: Side = {
  precision: "f32",
  optimizer: "none",
  clipping: "none",
  attention: "none",
  recompute: "nothing",
  head: "none",
  batch: "operands on the device",
};

/** The same by how its operands are stored. */
export function productSide(precision: Precision): Side {
  const precisions = { f32: PRODUCT.precision, f16: "f16 operands, f32 sums", f32x3: PAIRS };
  return { ...PRODUCT, precision: precisions[precision] };
}

/** Firn's training of pairs of LoRA beside a frozen base. */
export function firnAdapterSide(precision: Precision): Side {
  return { ...firnModelSide(precision), optimizer: "AdamW of LoRA pairs, fused", clipping: "none" };
}

/** A side in one line. */
export function describeSide(side: Side): string {
  if (side.optimizer === "none") return `${side.precision}, forward only, ${side.batch}`;
  return [
    side.precision,
    side.optimizer,
    `clipping ${side.clipping}`,
    `attention ${side.attention}`,
    `recomputes ${side.recompute}`,
    `head ${side.head}`,
    `batch ${side.batch}`,
  ].join("; ");
}
