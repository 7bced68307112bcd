import { InputError } from "../core/errors.ts";
import { type AnySignal, type FreezePolicy, signalName } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";
import { labelOfThreshold, type Threshold, thresholdsOf } from "./threshold.ts";

/** What a reading is divided by: nothing, the number of elements, or that times the learning rate. */
export type Normalise = "none" | "size" | "lr*size";

/** Options of {@link below}. */
export interface BelowOptions {
  /**
   * `"none"` when absent, as published thresholds are for plain sums. `"lr*size"` removes the learning rate and the number
   * of elements from `weightDelta`, which under Adam measures little else.
   */
  readonly normalise?: Normalise;
}

/**
 * Freezes each component whose reading of the last step is below a threshold.
 *
 * It has no memory. An absent reading (NaN) is never below. A frozen component is not measured, so it thaws at the next
 * look and is measured again; wrap the policy in {@link sticky} to freeze for good. Cost: one sum per component and
 * step.
 *
 * @param signal What to measure
 * @param tau Threshold, above 0, in units of the signal after normalisation; one for all components, or one for
 * each kind
 * @param options Normalisation
 * @returns The policy; its `init` throws an InputError when a component has no threshold, or a selector no component
 * @throws {InputError} When `tau` is not a number above 0; during training, when `"lr*size"` meets an optimizer
 * that has no learning rate
 *
 * @example One threshold for all
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
 *
 * @example One for each kind: the first match counts
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { below } from "@firn/train/policies";
 *
 * const policy = below("gradNorm", { "vision.*": 3.3, "*": 33 });
 * const eye = { path: "vision.0.up", layer: 0, parameters: ["vision.0.up.weight"], kind: "linear", size: 4 } as const;
 * const state = policy.init([eye, { ...eye, path: "text.0.up" }], { steps: 10 });
 * const readings = { gradNorm: { "vision.0.up": [20], "text.0.up": [20] } };
 * const next = policy.next(state, { steps: [1], loss: [2], learningRate: [0.1], readings });
 * assertEquals(policy.frozen(next), ["text.0.up"]);
 * ```
 */
export function below(signal: AnySignal, tau: Threshold, options: BelowOptions = {}): FreezePolicy {
  const { normalise = "none" } = options;
  const label = readingLabel(signal, normalise);
  const name = `below(${label}, ${labelOfThreshold(tau, signalName(signal))})`;
  return definePolicy({
    name,
    signals: [signal],
    init(components) {
      const limits = thresholdsOf(tau, components);
      return {
        components: components.map(({ path, size }, i) => (
          { path, divisor: normalise === "none" ? 1 : size, limit: limits[i] }
        )),
        frozen: {} as Readings,
      };
    },
    next({ components }, { step, learningRate, read }) {
      if (normalise === "lr*size" && Number.isNaN(learningRate)) {
        throw new InputError(
          `Cannot normalise "${
            signalName(signal)
          }" of step ${step} by "lr*size" as the optimizer has no learning rate: ` +
            `use "size" or "none"`,
        );
      }
      const rate = normalise === "lr*size" ? learningRate : 1;
      const found = components.flatMap(({ path, divisor, limit }) => {
        const value = read(signal, path) / (rate * divisor);
        return value < limit ? [[path, { value, limit }] as const] : [];
      });
      return { components, frozen: Object.fromEntries(found) };
    },
    frozen: ({ frozen }) => Object.keys(frozen),
    reason: ({ frozen }, path) => ({
      signal: label,
      value: frozen[path].value,
      threshold: frozen[path].limit,
      rule: name,
    }),
  });
}

/** The reading and the threshold of each frozen component. */
type Readings = { readonly [path: string]: { readonly value: number; readonly limit: number } };

/** The name of a normalised signal. */
export function readingLabel(signal: AnySignal, normalise: Normalise = "none"): string {
  return signalName(signal) + { none: "", size: "/size", "lr*size": "/(lr*size)" }[normalise];
}
