import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { checkLayerShare, layersOf } from "./layer_share.ts";
import { definePolicy } from "./define_policy.ts";

/**
 * Freezes the lowest layers of a model, and what lies below them, from the first look to the end.
 *
 * When: fine-tuning a pretrained model, and as the static baseline that a measuring policy has to beat. Gradients end above
 * the frozen layers, so a step saves those of their weights and of their inputs; with `cachePrefix: true` their forward pass
 * is computed once for each sample, as long as nothing is dropped there at random. Cost: none, it measures nothing.
 *
 * The number of layers is `share` of all, rounded. {@link blocksOf} says which they are and what lies below. An embedding
 * that is also the head lies below, so it freezes too. With a share of 1 only what lies above the layers trains. Wrap it in
 * {@link after} to train everything for a while first.
 *
 * Source: Lee et al., "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", arXiv 1911.03090, which freezes
 * the embedding and the lowest layers of BERT and RoBERTa.
 *
 * @param share Of the layers, above 0 and at most 1
 * @returns The policy; its `init` throws an InputError when the share is less than half a layer
 * @throws {InputError} When `share` is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { bottomFreeze } from "@firn/train/policies";
 *
 * const part = (path: string, layer: number | null) =>
 *   ({ path, layer, parameters: [], kind: layer === null ? "embedding" : "linear", size: 4 }) as const;
 * const policy = bottomFreeze(0.5);
 * const start = policy.init([part("embed", null), ...[0, 1, 2, 3].map((n) => part(`${n}`, n))], { steps: 100 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings: {} });
 * assertEquals(policy.frozen(state), ["embed", "0", "1"]);
 * ```
 */
export function bottomFreeze(share: number): FreezePolicy {
  const name = `bottomFreeze(${share})`;
  checkLayerShare(share, name);
  return definePolicy({
    name,
    init(components) {
      const { below, layers } = blocksOf(components);
      return {
        paths: [...below, ...layers.slice(0, layersOf(share, { count: layers.length, policy: name })).flat()],
      };
    },
    next: (state) => state,
    frozen: ({ paths }) => paths,
    coming: ({ paths }) => paths,
    reason: () => ({ signal: "share of the layers", value: null, threshold: share, rule: name }),
  });
}
