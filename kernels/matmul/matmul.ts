/**
 * Matrix products from one description: layouts, tiles, epilogue.
 *
 * @module
 */

import { elementwise } from "../elementwise.ts";
import type { Step } from "../expression.ts";
import type { Kernel } from "../kernel.ts";
import { direct } from "./direct.ts";
import { identityEpilogue } from "./frame.ts";
import { tiled } from "./tiled.ts";
import { type Matmul, partialSize } from "./types.ts";

/**
 * Whether several such products may share a launch: no tile of theirs has an end, along k, in two of them, and all loads are
 * of quads.
 *
 * @param product One of them
 * @returns Whether they may
 */
export function canGroup(
  { batch, m, n, k, transposeA, transposeB, strideA, columnsB, limit }: Omit<Matmul, "variant">,
): boolean {
  return batch === 1 && k % DEEPEST === 0 && strideA === undefined && columnsB === undefined &&
    limit === undefined && (transposeA ? m : k) % 4 === 0 && (transposeB ? k : n) % 4 === 0;
}

/** Depth of the deepest tile. */
const DEEPEST = 32;

/**
 * The kernel of a product. Bindings: A, B, the limit if any, inputs of the epilogue, outputs that overwrite
 * nothing. Of several products: all A, all B, the results.
 *
 * @param product Sizes, layouts and variant; sizes of any kind, as long as the grid fits
 * @returns The kernel
 */
export function matmul(product: Matmul): Kernel {
  return product.variant.kind === "direct"
    ? direct(product, product.variant)
    : tiled(product, product.variant);
}

/**
 * Adds the parts of a product whose sums several workgroups share. Bindings: inputs of the epilogue, the parts, outputs;
 * of several products apart: the parts and the result of each.
 *
 * @param product The product
 * @returns The kernel
 */
export function reduceSplits(product: Matmul & { readonly variant: { readonly kind: "tiled" } }): Kernel {
  const { batch, m, n, group, variant: { split } } = product;
  const { expression: { shape, inputs, steps }, outputs, half } = product.epilogue ??
    identityEpilogue([batch * m, n]);
  const parts: Step = { kind: "partials", input: inputs.length, count: split, size: partialSize(product) };
  const strides = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
  return elementwise({
    expression: {
      shape,
      inputs: [...inputs, { type: "f32", strides }],
      steps: steps.map((step) => step.kind === "given" ? parts : step),
    },
    outputs,
    half,
    ...(group?.as === "separate" && { parts: group.count }),
    label: `join ${split} ${batch * m}x${n}`,
  });
}
