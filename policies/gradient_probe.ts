import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { definePolicy } from "./define_policy.ts";
import { checkLayerShare } from "./layer_share.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link gradientProbe}. */
export interface GradientProbeOptions {
  /** Steps of the probe, a whole number above 0; 5 when absent, as published. */
  readonly steps?: number;
  /** Share of the layers that train after it, above 0 and at most 1; 0.5 when absent, as published. */
  readonly share?: number;
}

/**
 * Aletheia: chooses the layers to train once, by the size of their gradients in a few first steps, and freezes the others
 * for good.
 *
 * When: LoRA, where a layer that does not train saves its adapter's gradients and memory, and whatever lies below the lowest
 * layer that trains its gradients of inputs too. Cost: one sum per component and step.
 *
 * A layer's score is the sum of the norms of its components' gradients, `sqrt(sum g^2)` each, meaned over the steps of the
 * probe; of equals the lower one trains. The number of layers is `share` of all, rounded down, and one at least. What lies
 * outside of the layers, by {@link blocksOf}, trains on. A layer without readings has a score of 0; a step without any
 * reading does not count.
 *
 * Source: Saket, "Aletheia: Gradient-Guided Layer Selection for Efficient LoRA Fine-Tuning Across Architectures",
 * arXiv 2604.15351, and its package `aletheia-lora` (April 2026), whose score, choice and defaults these are. Deviations:
 * gradients are those of what trains, which for an adapter are those of its pairs, in steps that train; the package takes
 * those of the base model's weights, of 5 single samples, before adapters are there. A component, such as a weight with its
 * bias, counts as one vector. All adapters have one rank, where the package can give the maps of the feed-forward part a
 * larger one.
 *
 * @param options Length of the probe, and how many layers train
 * @returns The policy
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { gradientProbe } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = gradientProbe({ steps: 2, share: 0.5 });
 * const start = policy.init([layer(0), layer(1)], { steps: 100 });
 * const readings = { gradSquare: { "layers.0": [1, 1], "layers.1": [4, 4] } };
 * const state = policy.next(start, { steps: [1, 2], loss: [2, 1], learningRate: [0.1, 0.1], readings });
 * assertEquals(policy.frozen(state), ["layers.0"]);
 * ```
 */
export function gradientProbe(options: GradientProbeOptions = {}): FreezePolicy {
  const { steps = 5, share = 0.5 } = options;
  const name = `gradientProbe(${steps} steps, ${share} of the layers)`;
  if (!(Number.isInteger(steps) && steps >= 1)) {
    throw new InputError(`Cannot probe gradients as "steps" must be a whole number above 0: got ${steps}`);
  }
  checkLayerShare(share, name);
  return definePolicy({
    name,
    signals: ["gradSquare"],
    measured: (_, components) => blocksOf(components).layers.flat(),
    init(components) {
      const { layers } = blocksOf(components);
      return {
        layers,
        active: Math.max(1, Math.floor(shareOf(share, layers.length))),
        seen: 0,
        scores: layers.map(() => 0),
        least: null as number | null,
        frozen: null as readonly number[] | null,
      };
    },
    next(state, { read }) {
      if (state.frozen !== null) return state;
      const norms = state.layers.map((paths) => normsOf(paths.map((path) => read("gradSquare", path))));
      if (norms.every((norm) => norm === null)) return state;
      const scores = state.scores.map((score, i) => score + (norms[i] ?? 0)), seen = state.seen + 1;
      if (seen < steps) return { ...state, scores, seen };
      const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
      const least = scores[order[state.active - 1]] / seen;
      return { ...state, scores, seen, least, frozen: order.slice(state.active) };
    },
    frozen: ({ layers, frozen }) => layers.filter((_, i) => frozen?.includes(i)).flat(),
    reason({ layers, scores, seen, least }, path) {
      const value = scores[layers.findIndex((paths) => paths.includes(path))] / seen;
      return { signal: "gradient norms of its layer", value, threshold: least, rule: name };
    },
  });
}

/** The sum of the norms of a layer's gradients by `sum g^2` of its components; null when none was measured. */
function normsOf(squares: readonly number[]): number | null {
  const known = squares.filter(Number.isFinite);
  return known.length === 0 ? null : known.reduce((sum, square) => sum + Math.sqrt(square), 0);
}
