import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { definePolicy } from "./define_policy.ts";
import { quantileOf } from "./quantile.ts";

/** Options of {@link prefix}. */
export interface PrefixOptions {
  /** Number of intervals in the planned steps, each ending in a decision; 10 when absent, as published. */
  readonly intervals?: number;
  /** A layer whose change is below this percentile has converged, 0 to 100; 50 when absent, as published. */
  readonly percentile?: number;
}

/**
 * AutoFreeze: freezes the layers below the first one whose gradient still changes, interval by interval.
 *
 * When: fine-tuning, where low layers settle first; a frozen prefix also saves the gradients of inputs. Cost: one sum
 * per component of a layer and step.
 *
 * At the end of an interval it compares the gradient of each active layer with that of the interval before, `|before -
 * now| / before`. From the bottom up, layers whose change is below the percentile of all these changes freeze for good,
 * and with the lowest layer whatever lies below the layers. What lies above the layers, and the layer that changes
 * most, never freeze. A layer without readings in either interval ends the prefix.
 *
 * Source: Liu et al., "AutoFreeze: Automatically Freezing Model Blocks to Accelerate Fine-tuning", arXiv 2102.01386,
 * and its code. Deviations: a layer's gradient is the sum over its components of the mean of `gradNorm` over the
 * steps of the interval, where the paper takes the norm of the summed gradient, which needs a copy of the gradient.
 *
 * @param options Intervals and percentile
 * @returns The policy
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { prefix } from "@firn/train/policies";
 *
 * const policy = prefix({ intervals: 2 });
 * const layer = (n: number) =>
 *   ({ path: `${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const steps = [1, 2, 3, 4];
 * const gradNorm = { 0: [8, 8, 8, 8], 1: [8, 8, 4, 4], 2: [8, 8, 7, 7] };
 * const start = policy.init([0, 1, 2].map(layer), { steps: 4 });
 * const state = policy.next(start, { steps, loss: steps, learningRate: steps, readings: { gradNorm } });
 * assertEquals(policy.frozen(state), ["0"]); // changes 0, 0.5 and 0.125, their median 0.125
 * ```
 */
export function prefix(options: PrefixOptions = {}): FreezePolicy {
  const { intervals = 10, percentile = 50 } = options;
  if (!(Number.isInteger(intervals) && intervals >= 1)) {
    throw new InputError(
      `Cannot compare intervals as "intervals" must be a whole number above 0: got ${intervals}`,
    );
  }
  if (!(percentile >= 0 && percentile <= 100)) {
    throw new InputError(`Cannot compare layers as "percentile" must be 0 to 100: got ${percentile}`);
  }
  const name = `prefix(${intervals} intervals, percentile ${percentile})`;
  return definePolicy({
    name,
    signals: ["gradNorm"],
    measured: (_, components) => blocksOf(components).layers.flat(),
    init(components, { steps }) {
      const { below, layers } = blocksOf(components);
      const length = Math.max(1, Math.floor(steps / intervals));
      return {
        below,
        layers,
        length,
        sums: {} as Sums,
        before: [] as readonly (number | null)[],
        passed: [] as Passed,
      };
    },
    next(state, { step, read }) {
      const sums = { ...state.sums };
      for (const path of state.layers.flat()) {
        const reading = read("gradNorm", path), { sum, count } = sums[path] ?? { sum: 0, count: 0 };
        if (Number.isFinite(reading)) sums[path] = { sum: sum + reading, count: count + 1 };
      }
      if (step % state.length !== 0) return { ...state, sums };
      const now = state.layers.map((paths) => meanOf(paths, sums));
      const changes = now.map((value, i) => changeOf(state.before[i] ?? null, value)).slice(
        state.passed.length,
      );
      const limit = quantileOf(percentile / 100, changes.filter((change) => change !== null));
      const found = changes.findIndex((change) => change === null || !(change < limit));
      const passed = changes.slice(0, Math.max(0, found)).map((change) => ({ change, limit }));
      return { ...state, sums: {}, before: now, passed: [...state.passed, ...passed] };
    },
    frozen: ({ below, layers, passed }) =>
      passed.length === 0 ? [] : [...below, ...layers.slice(0, passed.length).flat()],
    reason({ layers, passed }, path) {
      const { change, limit } = passed[Math.max(0, layers.findIndex((paths) => paths.includes(path)))];
      return { signal: "change of gradNorm", value: change, threshold: limit, rule: name };
    },
  });
}

/** The change of each frozen layer and the limit it was below, from the bottom. */
type Passed = readonly { readonly change: number | null; readonly limit: number }[];

type Sums = { readonly [path: string]: { readonly sum: number; readonly count: number } };

/** The sum of the mean readings of a layer's components; null when none was measured. */
function meanOf(paths: readonly string[], sums: Sums): number | null {
  const own = paths.flatMap((path) => sums[path] ?? []);
  return own.length === 0 ? null : own.reduce((total, { sum, count }) => total + sum / count, 0);
}

function changeOf(before: number | null, now: number | null): number | null {
  return before === null || now === null || before === 0 ? null : Math.abs(before - now) / before;
}
