/**
 * Products on matrix units. Few devices have them and no browser does, so they are loaded where a device has some.
 *
 * @module
 */

import type { Kernel } from "../kernel.ts";
import { type Magnitudes, magnitudes, magnitudesOf } from "./magnitudes.ts";
import { matrix } from "./matrix.ts";
import { type MatrixOptions, matrixVariants } from "./matrix_variants.ts";
import type { Predicted, ProductSizes } from "./predict.ts";
import type { Matmul, MatmulVariant } from "./types.ts";

/** What computes products on matrix units. */
export interface MatrixProducts {
  /** The kernel of a product. */
  kernel(product: Matmul, variant: Extract<MatmulVariant, { readonly kind: "matrix" }>): Kernel;
  /** The variants that suit a product. */
  variants(sizes: ProductSizes, options: MatrixOptions): Predicted[];
  /** The kernel that finds the largest magnitudes of an operand. */
  magnitudes(product: Omit<Matmul, "variant" | "epilogue" | "limit">, name: "a" | "b"): Kernel;
  /** How these magnitudes are stored. */
  magnitudesOf(product: Omit<Matmul, "variant" | "epilogue" | "limit">, name: "a" | "b"): Magnitudes;
}

/** The only one. */
export const matrixProducts: MatrixProducts = {
  kernel: matrix,
  variants: matrixVariants,
  magnitudes,
  magnitudesOf,
};
