import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";
import { shareOf } from "./share_of.ts";
import { checkSeed, randomOrder } from "./random.ts";

/** Options of {@link randomSubset}. */
export interface RandomSubsetOptions {
  /** Share of the components to freeze, 0 to 1; the number is rounded down. */
  readonly share: number;
  /** Steps from one draw to the next, a whole number above 0. */
  readonly every: number;
  /** A whole number; 0 when absent. The same seed gives the same sets, however often training looks or resumes. */
  readonly seed?: number;
}

/**
 * Freezes a random share of the components, drawn anew every n steps, so that all train but not at once.
 *
 * When: as the baseline that a measuring policy has to beat. Cost: none, it measures nothing; thawed components start
 * with empty moments. Training acts at looks: let `every` be a multiple of `lookEvery`. Until the first look everything
 * trains.
 *
 * Source: Cho et al., "TimelyFreeze: Adaptive Parameter Freezing Mechanism for Pipeline Parallelism", arXiv 2602.05754.
 * Deviation: one given share for all components; the paper finds one per pipeline stage by a linear programme.
 *
 * @param options Share, time and seed
 * @returns The policy
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { randomSubset } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = randomSubset({ share: 0.5, every: 10, seed: 7 });
 * const start = policy.init([0, 1, 2, 3].map(layer), { steps: 100 });
 * const frozen = (step: number) =>
 *   policy.frozen(policy.next(start, { steps: [step], loss: [1], learningRate: [0.1], readings: {} }));
 * assertEquals(frozen(10).length, 2);
 * assertEquals(frozen(10), frozen(19));
 * ```
 */
export function randomSubset(options: RandomSubsetOptions): FreezePolicy {
  const { share, every, seed = 0 } = options;
  if (!(share >= 0 && share <= 1)) {
    throw new InputError(
      `Cannot freeze at random as "share" is a share of the components, 0 to 1: got ${share}`,
    );
  }
  if (!(Number.isInteger(every) && every >= 1)) {
    throw new InputError(`Cannot freeze at random as "every" must be a whole number above 0: got ${every}`);
  }
  checkSeed(seed);
  const name = `randomSubset(${share}, every ${every}, seed ${seed})`;
  return definePolicy({
    name,
    init: (components) => ({ draw: 0, paths: components.map(({ path }) => path) }),
    next: (state, { step }) => ({ ...state, draw: Math.floor(step / every) }),
    frozen({ draw, paths }) {
      const order = randomOrder(paths.length, { seed, draw });
      return order.slice(0, Math.floor(shareOf(share, paths.length))).map((i) => paths[i]);
    },
    reason: () => ({ signal: "step", value: null, threshold: null, rule: name }),
  });
}
