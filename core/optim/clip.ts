/**
 * Gradient clipping.
 *
 * @module
 */

import { add, divide, minimum, multiply } from "../ops/elementwise.ts";
import { sqrt } from "../ops/functions.ts";
import { sum, sumEach } from "../ops/reduce.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves } from "../tree.ts";
import type { Optimizer } from "./optimizer.ts";

/**
 * The L2 norm of all gradients together.
 *
 * @param grads Gradients by path
 * @returns f32 scalar
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { globalNorm, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const norm = globalNorm(new Map([["a", tensor([3])], ["b", tensor([0, 4])]]));
 * assertAlmostEquals((await read(gpu, norm))[0], 5, 1e-6);
 * ```
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
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { clipByGlobalNorm, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const grads = new Map([["w", tensor([3, 4])]]);
 * const { updates } = clipByGlobalNorm(1).next(new Map(), grads, new Map());
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], 0.6, 1e-6);
 * ```
 */
export function clipByGlobalNorm(limit: number): Optimizer {
  return {
    name: `clipByGlobalNorm(${limit})`,
    init: () => new Map(),
    next(_, grads) {
      const scale = minimum(1, divide(limit, add(globalNorm(grads), 1e-6)));
      return {
        updates: new Map([...grads].map(([path, g]) => [path, multiply(g, scale)])),
        state: new Map(),
      };
    },
  };
}
