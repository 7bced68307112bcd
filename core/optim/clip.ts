/**
 * Gradient clipping.
 *
 * @module
 */

import { refuse } from "../arguments.ts";
import { add, divide, multiply } from "../ops/arithmetic.ts";
import { minimum, where } from "../ops/comparison.ts";
import { embedding } from "../ops/embedding.ts";
import { sqrt } from "../ops/functions.ts";
import { sum, sumEach } from "../ops/broadcast.ts";
import { reshape } from "../ops/movement.ts";
import { fill, tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
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
  return sqrt(sum(squaresOf(grads)));
}

/** Options of {@link clipByGlobalNorm}. */
export interface ClipOptions {
  /**
   * Whose gradients the norm is taken over; `active` when absent.
   *
   * - `active`: active parameters. Freezing shrinks the norm, so the same limit clips less.
   * - `all`: frozen parameters too, with the gradients that they had last. The limit keeps its meaning when something
   *   freezes. But gradients go on falling, so the frozen share grows too large. A parameter that was frozen from the start
   *   counts as zero.
   */
  readonly over?: "active" | "all";
}

/**
 * Scales all gradients down when their global norm is above a limit. Nothing is read to the host.
 *
 * Source: Pascanu et al., arXiv 1211.5063, algorithm 1; the 1e-6 is PyTorch's.
 *
 * @param limit Largest norm
 * @param options Whose gradients count
 * @returns An optimizer for {@link chain}. Over `all` it has shared state: `squares`, the last squared norm of each
 * trainable parameter
 * @throws {InputError} When the limit is no number above 0
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
export function clipByGlobalNorm(limit: number, options: ClipOptions = {}): Optimizer {
  const { over = "active" } = options;
  if (!(typeof limit === "number" && limit > 0 && limit < Infinity)) {
    refuse("clipByGlobalNorm", "the limit must be a number above 0", limit);
  }
  return {
    name: `clipByGlobalNorm(${limit}${over === "all" ? ", over all" : ""})`,
    moments: [],
    clips: true,
    init: (params, trainable = [...params.keys()]) =>
      over === "all" ? new Map([[SQUARES, fill(0, [trainable.length])]]) : new Map(),
    next(state, grads, _, trainable = [...grads.keys()]) {
      const squares = over === "all"
        ? carry(state.get(SQUARES)!, { now: squaresOf(grads), active: [...grads.keys()], trainable })
        : squaresOf(grads, trainable.length);
      const scale = minimum(1, divide(limit, add(sqrt(sum(squares)), 1e-6)));
      return {
        updates: new Map([...grads].map(([path, g]) => [path, multiply(g, scale)])),
        state: over === "all" ? new Map([[SQUARES, squares]]) : new Map(),
        clip: scale,
      };
    },
  };
}

const SQUARES = "squares";

/** The squared norm of each gradient, in one tensor. With a fixed size, other frozen sets have the same kernels. */
function squaresOf(grads: Leaves, size = grads.size): Tensor {
  return sumEach([...grads.values()].map((g) => multiply(g, g)), { size });
}

/** The squared norms of all trainable parameters: of this step where there is a gradient, else the last ones. */
function carry(
  last: Tensor,
  options: { readonly now: Tensor; readonly active: readonly Path[]; readonly trainable: readonly Path[] },
): Tensor {
  const { now, active, trainable } = options;
  if (active.length === trainable.length) return now;
  const places = trainable.map((path) => active.indexOf(path));
  const rows = tensor(Int32Array.from(places, (at) => Math.max(0, at)));
  const spread = embedding(reshape(now, [active.length, 1]), rows);
  const measured = tensor(places.map((at) => at < 0 ? 0 : 1));
  return where(measured, reshape(spread, [trainable.length]), last);
}
