/**
 * Matrix products: one description, and a kernel for each kind of device (see {@link MatmulVariant}).
 *
 * @module
 */

import { elementwise } from "../elementwise.ts";
import type { Step } from "../expression.ts";
import type { Kernel } from "../kernel.ts";
import { direct } from "./direct.ts";
import { identityEpilogue } from "./frame.ts";
import type { MatrixProducts } from "./matrix_products.ts";
import { narrow } from "./narrow.ts";
import { rows } from "./rows.ts";
import { tiled } from "./tiled.ts";
import { type Matmul, partialSize, productKey, splitOf } from "./types.ts";

/**
 * Whether products can be computed as a group, in one launch: no tile may span two products along k, and all loads must
 * be of quads.
 *
 * @param product One of the products
 * @returns True when they can
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
 * The kernel of a product.
 *
 * Bindings: A, B, the limit if any, inputs of the epilogue, outputs that do not overwrite an input. For a group: all A, all
 * B, the results.
 *
 * @param product Sizes, layouts and variant; any sizes whose grid fits. A variant of kind `matrix` needs `units`
 * @returns The kernel
 */
export function matmul(product: Matmul & { readonly units?: MatrixProducts }): Kernel {
  const { variant, units } = product;
  switch (variant.kind) {
    case "direct":
      return direct(product, variant);
    case "narrow":
      return narrow(product, variant);
    case "rows":
      return rows(product, variant);
    case "tiled":
      return tiled(product, variant);
    case "matrix":
      if (units === undefined) {
        throw new TypeError(`Cannot compute ${productKey(product)} as matrix units need "units"`);
      }
      return units.kernel(product, variant);
  }
}

/**
 * The reduction after a split-K product: adds the partial sums of its workgroups.
 *
 * Bindings: inputs of the epilogue, the partial sums, outputs; for a group of separate products: the partial sums and the
 * result of each.
 *
 * @param product The product
 * @returns The kernel
 */
export function reduceSplits(product: Matmul): Kernel {
  const { batch, m, n, group } = product, split = splitOf(product.variant);
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
