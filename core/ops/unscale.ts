/**
 * Takes the factor of loss scaling out of a gradient.
 *
 * @module
 */

import { apply, type Op, type Tensor } from "../tensor.ts";

/** Inputs a gradient and one over the factor. A plan of precision f16 keeps what it reads and all that follows in f32. */
export const unscaleOp: Op<null> = {
  name: "unscale",
  infer: ([gradient]) => [{ shape: gradient.shape, dtype: "f32" }],
  element: { text: ([g, inverse]) => `${g} * ${inverse}`, value: (g, inverse) => g * inverse },
};

/**
 * Divides a gradient by the factor of loss scaling.
 *
 * @param gradient f32, any shape
 * @param inverse One over the factor, f32 scalar
 * @returns f32 of the shape of the gradient
 */
export function unscale(gradient: Tensor, inverse: Tensor): Tensor {
  return apply(unscaleOp, [gradient, inverse], null);
}
