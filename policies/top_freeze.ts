import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { checkLayerShare, layersOf } from "./layer_share.ts";
import { definePolicy } from "./define_policy.ts";

/**
 * Freezes the highest layers of a model from the first look to the end.
 *
 * When: as the control of {@link bottomFreeze}: as many layers at the other end. A step saves only the gradients of their
 * weights, as those of their inputs are needed below. What lies above the layers, such as a last norm and a head, trains on:
 * a new head must. Cost: none, it measures nothing.
 *
 * The number of layers is `share` of all, rounded; {@link blocksOf} says which they are.
 *
 * Source: Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts", arXiv 2210.11466: where inputs
 * change and labels do not, tuning the lowest blocks alone is best. Deviation: a share of the layers, and the head trains.
 *
 * @param share Of the layers, above 0 and at most 1
 * @returns The policy; its `init` throws an InputError when the share is less than half a layer
 * @throws {InputError} When `share` is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { topFreeze } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = topFreeze(0.5);
 * const start = policy.init([0, 1, 2, 3].map(layer), { steps: 100 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings: {} });
 * assertEquals(policy.frozen(state), ["layers.2", "layers.3"]);
 * ```
 */
export function topFreeze(share: number): FreezePolicy {
  const name = `topFreeze(${share})`;
  checkLayerShare(share, name);
  return definePolicy({
    name,
    init(components) {
      const { layers } = blocksOf(components);
      return {
        paths: layers.slice(layers.length - layersOf(share, { count: layers.length, policy: name })).flat(),
      };
    },
    next: (state) => state,
    frozen: ({ paths }) => paths,
    coming: ({ paths }) => paths,
    reason: () => ({ signal: "share of the layers", value: null, threshold: share, rule: name }),
  });
}
