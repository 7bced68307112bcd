import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { measuredPaths } from "./measured_paths.ts";
import { frozenOf, judge, measure, probeFrom, type ThawState, wakeUp } from "./thaw_state.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/** Options of {@link thaw}. */
export interface ThawOptions {
  /** Components to probe at a time, a whole number above 0; 4 when absent. */
  readonly count?: number;
  /** Steps between probes, and least steps that a woken component trains; 50 when absent. */
  readonly every?: number;
  /** Measured steps averaged by a probe, a whole number above 0; 3 when absent. */
  readonly readings?: number;
  /** A component wakes when its `gradNorm` has grown by this factor since it froze, above 1; 2 when absent. */
  readonly wake?: number;
  /** All thaw when the learning rate has fallen by this factor since they froze, above 1; never when absent. */
  readonly drop?: number;
}

/**
 * Wakes components that a policy froze too early: a few at a time are measured again without training them.
 *
 * When: around a policy that freezes for good. Cost: a probe needs the gradient of what is probed and the chain of
 * gradients down to it, from one look to the next.
 *
 * Every `every` steps the frozen components that waited longest are probed. If the `gradNorm` of one is, on average,
 * what it was before it froze, it is left alone for longer: its wait grows by `every`. If it has grown by the factor
 * `wake`, the component thaws and its wait is halved. A fall of the learning rate by `drop` wakes all.
 *
 * A second copy of the policy, started anew at each wake, judges everything awake, and freezes it again after `every`
 * steps at the earliest; the first copy continues with the others. So thawing works around {@link sticky} too. A policy
 * that ends training when all is frozen, such as {@link untilFrozen}, waits until nothing is awake.
 *
 * Sources: Chen et al., "Communication-Efficient Federated Learning with Adaptive Parameter Freezing" (APF), ICDCS 2021:
 * the waits, which grow by addition and are halved. Wang et al., "Egeria: Efficient DNN Training with Knowledge-Guided
 * Layer Freezing", arXiv 2201.06227: thawing when the learning rate falls. Deviations: APF thaws to see, here it is a
 * probe; both judge by other measures of their own.
 *
 * @param policy The policy
 * @param options When to probe and to wake
 * @returns The policy that thaws; with `drop` its `next` throws an InputError when the optimizer has no learning rate
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sticky, stopAt, thaw } from "@firn/train/policies";
 *
 * const policy = thaw(sticky(stopAt(2)), { every: 4, readings: 1 });
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (a: number[], from = 1) =>
 *   ({ steps: a.map((_, i) => from + i), loss: a, learningRate: a, readings: { gradNorm: { a } } });
 * let state = policy.next(policy.init([component], { steps: 20 }), look([1, 1, NaN, NaN, NaN, NaN, NaN, NaN]));
 * assertEquals([policy.frozen(state), policy.probed?.(state)], [["a"], ["a"]]);
 * state = policy.next(state, look([2.5], 9));
 * assertEquals(policy.frozen(state), []); // more than twice what it was
 * ```
 */
export function thaw(policy: FreezePolicy, options: ThawOptions = {}): FreezePolicy {
  const { count = 4, every = 50, readings = 3, wake = 2, drop } = options;
  for (const [name, value] of Object.entries({ count, every, readings })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new InputError(
      `Cannot thaw what "${policy.name}" freezes as "${name}" must be a whole number above 0: got ${value}`,
    );
  }
  for (const [name, value] of Object.entries({ wake, drop: drop ?? 2 })) {
    if (value > 1 && value < Infinity) continue;
    throw new InputError(
      `Cannot thaw what "${policy.name}" freezes as "${name}" must be a number above 1: got ${value}`,
    );
  }
  const thawing = { policy, count, every, readings, wake };
  const falls = drop === undefined ? "" : `, drop ${drop}`;

  return wrapPolicy<ThawState>(policy, {
    name: `thaw(${policy.name}, ${count} every ${every}, mean of ${readings}, wake ${wake}${falls})`,
    signals: [...new Set([...policy.signals, "gradNorm" as const])],
    measured: (signal, components) =>
      signal === "gradNorm"
        ? components.map(({ path }) => path)
        : measuredPaths(policy, { signal, components }),
    init(components, run) {
      const inner = policy.init(components, run);
      const tracks = components.map(({ path }) => [path, { average: null, wait: every, due: every }]);
      const rest = { awake: {}, probe: {}, rate: null, reasons: {} };
      return { inner, again: inner, fresh: inner, tracks: Object.fromEntries(tracks), ...rest };
    },
    next(state, now) {
      const { step, learningRate } = now;
      if (drop !== undefined && Number.isNaN(learningRate)) {
        throw new InputError(
          `Cannot tell a fall of the learning rate in step ${step} as the optimizer has none: leave out "drop"`,
        );
      }
      const { grown, ...measured } = measure(thawing, judge(thawing, state, now), {
        now,
        before: new Set(frozenOf(thawing, state)),
      });
      const frozen = frozenOf(thawing, measured);
      const rate = drop === undefined || frozen.length === 0 ? null : Math.max(state.rate ?? 0, learningRate);
      const fallen = rate !== null && rate > 0 && learningRate * drop! <= rate;
      const next = wakeUp(thawing, measured, { step, paths: fallen ? frozen : grown });
      return { ...next, probe: probeFrom(thawing, next, step), rate: fallen ? null : rate };
    },
    frozen: (state) => frozenOf(thawing, state),
    probed: ({ inner, probe }) => [...new Set([...Object.keys(probe), ...policy.probed?.(inner) ?? []])],
    reason: ({ inner, reasons }, path) => reasons[path] ?? policy.reason?.(inner, path) ?? null,
  });
}
