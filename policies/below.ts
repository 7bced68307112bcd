import type { FreezePolicy, Signal } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";

/** What a reading is divided by: nothing, the elements of its component, or these times the learning rate. */
export type Normalise = "none" | "size" | "lr*size";

/** Options of {@link below}. */
export interface BelowOptions {
  /**
   * `"none"` when absent: the published thresholds are meant for plain sums. `"lr*size"` takes the learning-rate
   * schedule and the element count out of `weightDelta`, which under Adam measures little else.
   */
  readonly normalise?: Normalise;
}

/**
 * Freezes each component whose reading of the last step lies below a threshold.
 *
 * It has no memory. A reading that is absent (NaN) is never below, and a frozen component is not measured: it
 * thaws at the next look, to be measured again. Wrap it in {@link sticky} to freeze for good.
 *
 * @param signal What to measure
 * @param tau Threshold, above 0, in units of the signal after normalisation
 * @param options Normalisation
 * @returns The policy
 * @throws {RangeError} When `tau` is not a number above 0; during training, when `"lr*size"` meets an optimizer
 * that has no learning rate
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { below } from "@firn/train/policies";
 *
 * const policy = below("gradNorm", 0.5, { normalise: "size" });
 * const wide = { path: "wide", layer: 0, parameters: ["wide.weight"], kind: "linear", size: 100 } as const;
 * const state = policy.init([wide, { ...wide, path: "slim", size: 2 }], { steps: 10 });
 * const readings = { gradNorm: { wide: [40], slim: [40] } };
 * const next = policy.next(state, { steps: [1], loss: [2], learningRate: [0.1], readings });
 * assertEquals(policy.frozen(next), ["wide"]);
 * assertEquals(policy.name, "below(gradNorm/size, 0.5)");
 * ```
 */
export function below(signal: Signal, tau: number, options: BelowOptions = {}): FreezePolicy {
  const { normalise = "none" } = options;
  if (!(Number.isFinite(tau) && tau > 0)) {
    throw new RangeError(
      `Cannot compare "${signal}" with a threshold as "tau" must be a number above 0: got ${tau}`,
    );
  }
  const label = readingLabel(signal, normalise), name = `below(${label}, ${tau})`;
  return definePolicy({
    name,
    signals: [signal],
    init: (components) => ({
      components: components.map(({ path, size }) => ({ path, divisor: normalise === "none" ? 1 : size })),
      frozen: {} as { readonly [path: string]: number },
    }),
    next({ components }, { step, learningRate, read }) {
      if (normalise === "lr*size" && Number.isNaN(learningRate)) {
        throw new RangeError(
          `Cannot normalise "${signal}" of step ${step} by "lr*size" as the optimizer has no learning rate: ` +
            `use "size" or "none"`,
        );
      }
      const rate = normalise === "lr*size" ? learningRate : 1;
      const values = components.map(({ path, divisor }) =>
        [path, read(signal, path) / (rate * divisor)] as const
      );
      return { components, frozen: Object.fromEntries(values.filter(([, value]) => value < tau)) };
    },
    frozen: ({ frozen }) => Object.keys(frozen),
    reason: ({ frozen }, path) => ({ signal: label, value: frozen[path], threshold: tau, rule: name }),
  });
}

/** How a normalised signal prints in the name of a policy. */
export function readingLabel(signal: Signal, normalise: Normalise = "none"): string {
  return signal + { none: "", size: "/size", "lr*size": "/(lr*size)" }[normalise];
}
