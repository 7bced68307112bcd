import { InputError } from "../core/errors.ts";
import type { Component } from "../core/policy.ts";
import { labelOf, select, type Selector } from "./selector.ts";

/**
 * A number above 0 for all components, or one for each kind: by globs over paths, as in `{ "vision.*": 3.3, "*": 33 }`, or
 * as a list of pairs with predicates. The first match counts.
 */
export type Threshold =
  | number
  | { readonly [glob: string]: number }
  | readonly (readonly [Selector, number])[];

/**
 * Checks a threshold.
 *
 * @param threshold One or many
 * @param signal What is compared with it
 * @returns Its label in the name of a policy
 * @throws {InputError} When one is not a number above 0, or there is none
 */
export function labelOfThreshold(threshold: Threshold, signal: string): string {
  const pairs = pairsOf(threshold);
  if (pairs.length === 0) {
    throw new InputError(`Cannot compare "${signal}" with a threshold as "tau" is empty: add "*"`);
  }
  for (const [selector, tau] of pairs) {
    if (Number.isFinite(tau) && tau > 0) continue;
    const whose = typeof threshold === "object" ? ` of "${labelOf(selector)}"` : "";
    throw new InputError(
      `Cannot compare "${signal}" with a threshold as "tau"${whose} must be a number above 0: got ${tau}`,
    );
  }
  if (typeof threshold === "number") return `${threshold}`;
  return `{ ${pairs.map(([selector, tau]) => `${labelOf(selector)}: ${tau}`).join(", ")} }`;
}

/**
 * Finds the threshold of each component.
 *
 * @param threshold One or many
 * @param components All components
 * @returns One number per component
 * @throws {InputError} When a selector matches no component, or a component no selector
 */
export function thresholdsOf(threshold: Threshold, components: readonly Component[]): number[] {
  if (typeof threshold === "number") return components.map(() => threshold);
  const pairs = pairsOf(threshold).map(([selector, tau]) => ({ tau, paths: select(selector, components) }));
  return components.map(({ path }) => {
    const found = pairs.find(({ paths }) => paths.includes(path));
    if (found !== undefined) return found.tau;
    const selectors = pairsOf(threshold).map(([selector]) => `"${labelOf(selector)}"`).join(", ");
    throw new InputError(
      `Cannot compare "${path}" with a threshold as it matches none of ${selectors}: add "*" as the last`,
    );
  });
}

function pairsOf(threshold: Threshold): readonly (readonly [Selector, number])[] {
  if (typeof threshold !== "object") return [["*", threshold]];
  return threshold instanceof Array ? threshold : Object.entries(threshold);
}
