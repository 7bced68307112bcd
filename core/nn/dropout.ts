/**
 * Dropout of a model that is trained: rates by name, and random numbers of its own for each use.
 *
 * @module
 */

import type { AttentionDropout } from "../ops/attention.ts";
import { dropout } from "../ops/random.ts";
import type { Tensor } from "../tensor.ts";

/** What a model drops while it is trained. The order of its uses in the graph tells their random numbers apart. */
export interface Dropouts {
  /** Drops elements of a tensor at the rate of a name; the tensor itself where that is 0. */
  of(x: Tensor, name: string): Tensor;
  /** Makes the dropout of the weights of one attention; undefined where the rate of the name is 0. */
  weights(name: string): (() => AttentionDropout) | undefined;
}

/**
 * Makes the dropout of a model.
 *
 * @param rates Rates by name
 * @param options Seed, and the stream of the first use; the next ones follow
 * @returns What drops
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { fill } from "@firn/train";
 * import { dropouts } from "@firn/train/nn";
 *
 * const drop = dropouts({ hidden_dropout: 0.1, attention_dropout: 0 }, { seed: 1, stream: 0 }), x = fill(1, [4]);
 * assert(drop.of(x, "hidden_dropout") !== x && drop.weights("attention_dropout") === undefined);
 * ```
 */
export function dropouts(
  rates: Readonly<Record<string, number>>,
  { seed, stream }: { readonly seed: number; readonly stream: number },
): Dropouts {
  let next = stream;
  const rateOf = (name: string): number => rates[name] ?? 0;
  return {
    of(x, name) {
      const rate = rateOf(name);
      return rate === 0 ? x : dropout(x, { rate, seed, stream: next++ });
    },
    weights(name) {
      const rate = rateOf(name);
      return rate === 0 ? undefined : () => ({ rate, seed, stream: next++ });
    },
  };
}

/** The dropout of a part of a model, whose rates have names that begin with the name of the part. */
export function dropoutsWithin(dropouts: Dropouts | undefined, part: string): Dropouts | undefined {
  return dropouts && {
    of: (x, name) => dropouts.of(x, `${part}.${name}`),
    weights: (name) => dropouts.weights(`${part}.${name}`),
  };
}

/** {@link Dropouts.of} of a model that may be in no training. */
export function dropping(dropouts: Dropouts | undefined): Dropouts["of"] {
  return dropouts === undefined ? (x) => x : dropouts.of;
}
