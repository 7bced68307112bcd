import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";

/**
 * Freezes everything after a step, which ends training: `state.done` is true when nothing is left to train.
 *
 * When: as the plainest baseline. A policy that freezes everything at the end of a grace period has to beat stopping
 * there. Training acts at looks, so it ends at the first look from that step on. Cost: none.
 *
 * @param step Last step to take, a whole number above 0
 * @returns The policy
 * @throws {InputError} When `step` is not a whole number above 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { stopAt } from "@firn/train/policies";
 *
 * const policy = stopAt(5);
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (step: number) => ({ steps: [step], loss: [1], learningRate: [0.1], readings: {} });
 * const start = policy.init([component], { steps: 10 });
 * assertEquals(policy.frozen(policy.next(start, look(4))), []);
 * assertEquals(policy.frozen(policy.next(start, look(5))), ["a"]);
 * ```
 */
export function stopAt(step: number): FreezePolicy {
  if (!(Number.isInteger(step) && step >= 1)) {
    throw new InputError(`Cannot stop training as "step" must be a whole number above 0: got ${step}`);
  }
  const name = `stopAt(${step})`;
  return definePolicy({
    name,
    init: (components) => ({ paths: components.map(({ path }) => path), done: false as boolean }),
    next: (state, now) => ({ ...state, done: now.step >= step }),
    frozen: ({ paths, done }) => done ? paths : [],
    reason: () => ({ signal: "step", value: null, threshold: step, rule: name }),
  });
}
