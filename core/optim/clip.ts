/**
 * Gradient clipping.
 *
 * @module
 */

import { add, divide, minimum, multiply, sqrt } from "../ops/elementwise.ts";
import { sum, sumEach } from "../ops/reduce.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves } from "../tree.ts";
import type { Optimizer } from "./optimizer.ts";

/**
 * The L2 norm of all gradients together.
 *
 * @param grads Gradients by path
 * @returns f32 scalar
 */
export function globalNorm(grads: Leaves): Tensor {
  return sqrt(sum(sumEach([...grads.values()].map((g) => multiply(g, g)))));
}

/**
 * Scales all gradients down when their common norm is above a limit. No host read.
 *
 * The norm is taken over the *active* parameters: freezing some shrinks it, so the same limit clips less.
 *
 * Source: Pascanu et al., arXiv 1211.5063, algorithm 1; the 1e-6 is PyTorch's.
 *
 * @param limit Largest norm
 * @returns An optimizer for {@link chain}; it has no state
 */
export function clipByGlobalNorm(limit: number): Optimizer {
  return {
    name: `clipByGlobalNorm(${limit})`,
    init: () => new Map(),
    next(_, grads) {
      const scale = minimum(1, divide(limit, add(globalNorm(grads), 1e-6)));
      return { updates: new Map([...grads].map(([path, g]) => [path, multiply(g, scale)])), state: new Map() };
    },
  };
}
