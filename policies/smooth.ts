import { InputError } from "../core/errors.ts";
import { type FreezePolicy, signalName } from "../core/policy.ts";
import { addReading, type Average } from "./average.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Shows a policy exponential averages instead of readings, which are noisy from batch to batch.
 *
 * Every measured step counts, however many a look delivers. The average is bias-corrected as Adam's moments are (arXiv
 * 1412.6980, algorithm 1): the first reading is its own average. An absent reading stays absent for the policy and
 * leaves the average unchanged.
 *
 * @param weight Weight of a new reading, above 0 and at most 1 (no smoothing); 0.1 averages about 10 steps
 * @param policy The policy
 * @returns The policy that sees averages
 * @throws {InputError} When `weight` is not above 0 and at most 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { below, smooth } from "@firn/train/policies";
 *
 * const policy = smooth(0.5, below("gradNorm", 1));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (a: number[]) =>
 *   ({ steps: a.map((_, i) => i + 1), loss: a, learningRate: a, readings: { gradNorm: { a } } });
 * const start = policy.init([component], { steps: 3 });
 * assertEquals(policy.frozen(policy.next(start, look([3, 0.5]))), []); // (0.5 * 3 + 0.5) / 1.5 = 1.33
 * assertEquals(policy.frozen(policy.next(start, look([3, 0.5, 0.5]))), ["a"]); // 0.86
 * ```
 */
export function smooth(weight: number, policy: FreezePolicy): FreezePolicy {
  if (!(weight > 0 && weight <= 1)) {
    throw new InputError(
      `Cannot smooth what "${policy.name}" reads as "weight" must be above 0 and at most 1: got ${weight}`,
    );
  }
  return wrapPolicy(policy, {
    name: `smooth(${weight}, ${policy.name})`,
    init: (components, run) => ({ inner: policy.init(components, run), averages: {} as Averages }),
    next({ inner, averages }, { look }) {
      const next: Record<string, Averages[string]> = {},
        readings: Record<string, Record<string, number[]>> = {};
      for (const signal of policy.signals.map(signalName)) {
        const own = next[signal] = { ...averages[signal] },
          shown: Record<string, number[]> = readings[signal] = {};
        for (const [path, [reading]] of Object.entries(look.readings[signal] ?? {})) {
          if (Number.isFinite(reading)) own[path] = addReading(own[path], { reading, weight });
          shown[path] = [Number.isFinite(reading) ? own[path].mean : reading];
        }
      }
      return { inner: policy.next(inner, { ...look, readings }), averages: next };
    },
    frozen: ({ inner }) => policy.frozen(inner),
    coming: policy.coming && (({ inner }) => policy.coming!(inner)),
    reason({ inner }, path) {
      const reason = policy.reason?.(inner, path) ?? null;
      return reason && { ...reason, rule: `smooth(${weight}, ${reason.rule})` };
    },
  });
}

type Averages = { readonly [signal: string]: { readonly [path: string]: Average } };
