import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { definePolicy } from "./define_policy.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link schedule}. */
export interface ScheduleOptions {
  /** t_0: share of the planned steps after which the lowest layer freezes, 0 to 1, before cubing. */
  readonly first: number;
  /** Spacing of the other layers; `linear` when absent. `cubic` cubes all shares, so that lower layers freeze sooner. */
  readonly spacing?: "linear" | "cubic";
}

/**
 * FreezeOut: freezes layer after layer from the bottom at fixed times.
 *
 * When: a baseline, or a budget that must be known in advance. Cost: none, it measures nothing.
 *
 * Layer i of L trains for a share `t_i = first + (1 - first) i / L` of the planned steps, or for the cube of that
 * share. What lies below the layers freezes with the lowest layer. What lies above counts as layer L and trains to the
 * end; if nothing lies above, the top layer trains to the end, and L becomes L - 1. {@link blocksOf} says what lies
 * where.
 *
 * Source: Brock et al., "FreezeOut: Accelerate Training by Progressively Freezing Layers", arXiv 1706.04983, and its
 * code, whose default is 0.8 cubic. Deviation: the learning rates of layers are neither annealed to zero before
 * they freeze nor scaled.
 *
 * @param options Times
 * @returns The policy
 * @throws {InputError} When `first` is outside 0 to 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { schedule } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = schedule({ first: 0.5 });
 * const start = policy.init([layer(0), layer(1), layer(2)], { steps: 100 });
 * const frozen = (step: number) =>
 *   policy.frozen(policy.next(start, { steps: [step], loss: [1], learningRate: [0.1], readings: {} }));
 * assertEquals(frozen(49), []);
 * assertEquals(frozen(50), ["layers.0"]);
 * assertEquals(frozen(75), ["layers.0", "layers.1"]);
 * assertEquals(frozen(100), ["layers.0", "layers.1"]);
 * ```
 */
export function schedule(options: ScheduleOptions): FreezePolicy {
  const { first, spacing = "linear" } = options;
  if (!(first >= 0 && first <= 1)) {
    throw new InputError(`Cannot schedule freezing as "first" is a share of all steps, 0 to 1: got ${first}`);
  }
  const name = `schedule(${first}, ${spacing})`;
  return definePolicy({
    name,
    init(components, { steps }) {
      const { below, layers, above } = blocksOf(components);
      const last = above.length > 0 ? layers.length : layers.length - 1;
      const queue = layers.slice(0, last).map((paths, i) => {
        const share = (first + (1 - first) * i / last) ** (spacing === "cubic" ? 3 : 1);
        return { paths: i === 0 ? [...below, ...paths] : paths, from: shareOf(share, steps) };
      });
      return { step: 0, queue };
    },
    next: (state, { step }) => ({ ...state, step }),
    frozen: ({ step, queue }) => queue.filter(({ from }) => from <= step).flatMap(({ paths }) => paths),
    reason: ({ queue }, path) => ({
      signal: "step",
      value: null,
      threshold: queue.find(({ paths }) => paths.includes(path))!.from,
      rule: name,
    }),
  });
}
