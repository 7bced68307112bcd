/**
 * Which readings a step takes.
 *
 * @module
 */

import type { Component, FreezePolicy, Signal } from "../../policy.ts";
import type { Path } from "../../tree.ts";
import { moduleOf } from "./components.ts";

/** Whether a signal of a parameter is measured. */
export type Measures = (signal: Signal, path: Path) => boolean;

/**
 * Asks a policy what to measure.
 *
 * @param policy The policy; nothing is measured without one
 * @param components All components: it may name others, which count for nothing
 * @returns Which signals of which parameters
 */
export function measuresOf(policy: FreezePolicy | undefined, components: readonly Component[]): Measures {
  const paths = components.map(({ path }) => path);
  const asked = new Map(
    policy?.signals.map((signal) => [signal, new Set(policy.measured?.(signal, components) ?? paths)]),
  );
  return (signal, path) => asked.get(signal)?.has(moduleOf(path)) ?? false;
}
