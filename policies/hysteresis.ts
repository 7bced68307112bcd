import { InputError } from "../core/errors.ts";
import { type AnySignal, type FreezePolicy, signalName } from "../core/policy.ts";
import { below, type BelowOptions, readingLabel } from "./below.ts";
import { definePolicy } from "./define_policy.ts";
import { addReasons, type FrozenReasons } from "./frozen_reasons.ts";

/** Options of {@link hysteresis}. */
export interface HysteresisOptions extends BelowOptions {
  /** A component freezes when its reading lies below, above 0. */
  readonly low: number;
  /** A frozen component thaws when its reading reaches it, at least `low`. */
  readonly high: number;
}

/**
 * Freezes below one threshold and thaws only above a higher one, so that a reading near a threshold does not toggle.
 *
 * In training a frozen component has no readings, and an absent reading changes nothing: alone, this policy never
 * thaws. It thaws under {@link thaw}, whose probes measure frozen components (`gradNorm`, `gradSquare`), or within
 * {@link allOf}, when another policy keeps the component active. Cost: one sum per component and step.
 *
 * @param signal What to measure
 * @param options Thresholds, in units of the signal after normalisation
 * @returns The policy
 * @throws {InputError} When a threshold is not a number above 0, or `high` lies below `low`
 *
 * @example On readings of every step
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { hysteresis } from "@firn/train/policies";
 *
 * const policy = hysteresis("gradNorm", { low: 1, high: 2 });
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (a: number[]) =>
 *   ({ steps: a.map((_, i) => i + 1), loss: a, learningRate: a, readings: { gradNorm: { a } } });
 * const start = policy.init([component], { steps: 3 });
 * assertEquals(policy.frozen(policy.next(start, look([0.9, 1.9]))), ["a"]);
 * assertEquals(policy.frozen(policy.next(start, look([0.9, 2.1, 1.9]))), []);
 * ```
 *
 * @example In training, where what is frozen has no reading but in probes
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { hysteresis, thaw } from "@firn/train/policies";
 *
 * const policy = thaw(hysteresis("gradNorm", { low: 1, high: 2 }), { every: 3, wake: 99 });
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (a: number[], from = 1) =>
 *   ({ steps: a.map((_, i) => from + i), loss: a, learningRate: a, readings: { gradNorm: { a } } });
 * const state = policy.next(policy.init([component], { steps: 9 }), look([0.9, NaN, NaN, NaN, NaN, NaN]));
 * assertEquals([policy.frozen(state), policy.probed?.(state)], [["a"], ["a"]]);
 * assertEquals(policy.frozen(policy.next(state, look([1.9], 7))), ["a"]);
 * assertEquals(policy.frozen(policy.next(state, look([2.1], 7))), []);
 * ```
 */
export function hysteresis(signal: AnySignal, options: HysteresisOptions): FreezePolicy {
  const { low, high, normalise } = options;
  for (const [name, value] of Object.entries({ low, high })) {
    if (value > 0 && value < Infinity) continue;
    throw new InputError(
      `Cannot compare "${
        signalName(signal)
      }" with a threshold as "${name}" must be a number above 0: got ${value}`,
    );
  }
  const cold = below(signal, low, { normalise }), cool = below(signal, high, { normalise });
  if (low > high) {
    throw new InputError(
      `Cannot thaw by "${signalName(signal)}" as "high" must be at least "low", ${low}: got ${high}`,
    );
  }
  const name = `hysteresis(${readingLabel(signal, normalise)}, ${low}, ${high})`;
  return definePolicy({
    name,
    signals: [signal],
    init: (components, run) => ({
      cold: cold.init(components, run),
      cool: cool.init(components, run),
      held: {} as FrozenReasons,
    }),
    next(state, { read, look }) {
      const next = { cold: cold.next(state.cold, look), cool: cool.next(state.cool, look) };
      const cooled = cool.frozen(next.cool);
      const kept = Object.entries(state.held)
        .filter(([path]) => Number.isNaN(read(signal, path)) || cooled.includes(path));
      return { ...next, held: addReasons(Object.fromEntries(kept), cold, next.cold) };
    },
    frozen: ({ held }) => Object.keys(held),
    reason: ({ held }, path) => held[path] && { ...held[path], rule: name },
  });
}
