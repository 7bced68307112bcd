import { InputError } from "../core/errors.ts";
import type { Component } from "../core/policy.ts";

/**
 * Selects components: a predicate, or a glob over whole paths in which `*` matches any characters, dots included, as in
 * `"layers.3.*"`.
 */
export type Selector = string | ((component: Component) => boolean);

/** The label of a selector in the name of a policy: the glob, or the name of the predicate. */
export function labelOf(selector: Selector): string {
  return typeof selector === "string" ? selector : selector.name || "predicate";
}

/**
 * Lists the components that a selector matches.
 *
 * @param selector Which components
 * @param components All components
 * @returns Paths of those that match
 * @throws {InputError} When none matches, as that is a typing error
 */
export function select(selector: Selector, components: readonly Component[]): readonly string[] {
  const found = components.filter(typeof selector === "string" ? glob(selector) : selector);
  if (found.length === 0) {
    const first = components.length === 0 ? "there are none" : `the first is "${components[0].path}"`;
    throw new InputError(`Cannot select components by "${labelOf(selector)}" as none matches: ${first}`);
  }
  return found.map(({ path }) => path);
}

function glob(pattern: string): (component: Component) => boolean {
  const literals = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${literals.join(".*")}$`);
  return ({ path }) => expression.test(path);
}
