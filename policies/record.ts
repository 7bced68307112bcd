import { InputError } from "../core/errors.ts";
import { type AnySignal, type FreezePolicy, signalName } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";

/**
 * Measures signals and freezes nothing, so that the log of a run has them: policies can then be replayed by {@link simulate}.
 *
 * When: beside another policy, `anyOf(policy, record("benefit"))`, or alone. Cost: that of the signals.
 *
 * @param signals What to measure, one or more
 * @returns The policy
 * @throws {InputError} When there is none
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { anyOf, gradES, record } from "@firn/train/policies";
 *
 * const policy = anyOf(gradES(), record("gradNorm", "benefit"));
 * assertEquals(policy.signals, ["gradNorm", "benefit"]);
 * ```
 */
export function record(...signals: readonly AnySignal[]): FreezePolicy {
  if (signals.length === 0) {
    throw new InputError("Cannot record signals as there must be one at least: there is none");
  }
  return definePolicy({
    name: `record(${signals.map(signalName).join(", ")})`,
    signals,
    init: () => null,
    next: () => null,
    frozen: () => [],
  });
}
