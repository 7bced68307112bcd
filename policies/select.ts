import type { Component, FreezePolicy } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";

/**
 * Which components: a predicate, or a glob over whole paths in which `*` stands for any characters, dots included,
 * as in `"*.q_proj"`.
 */
export type Selector = string | ((component: Component) => boolean);

/**
 * Shows a policy only some components; the others stay active.
 *
 * @param selector Which components
 * @param policy The policy
 * @returns The narrowed policy; its `init` throws when no component matches
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { below, only } from "@firn/train/policies";
 *
 * const q = { path: "layers.0.q_proj", layer: 0, parameters: [], kind: "linear", size: 4 } as const;
 * const components = [q, { ...q, path: "layers.0.k_proj" }];
 * const readings = { gradNorm: { "layers.0.q_proj": [0.5], "layers.0.k_proj": [0.5] } };
 * const policy = only("*.q_proj", below("gradNorm", 1));
 * const start = policy.init(components, { steps: 1 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings });
 * assertEquals(policy.frozen(state), ["layers.0.q_proj"]);
 * assertThrows(() => only("*.qproj", policy).init(components, { steps: 1 }), RangeError, "layers.0.q_proj");
 * ```
 */
export function only(selector: Selector, policy: FreezePolicy): FreezePolicy {
  return narrow("only", selector, { policy, keep: (matches) => matches });
}

/**
 * Hides some components from a policy; these stay active.
 *
 * @param selector Which components
 * @param policy The policy
 * @returns The narrowed policy; its `init` throws when no component matches
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { below, except } from "@firn/train/policies";
 *
 * const q = { path: "layers.0.q_proj", layer: 0, parameters: [], kind: "linear", size: 4 } as const;
 * const readings = { gradNorm: { "layers.0.q_proj": [0.5], "layers.0.k_proj": [0.5] } };
 * const policy = except((component) => component.path.endsWith("q_proj"), below("gradNorm", 1));
 * const start = policy.init([q, { ...q, path: "layers.0.k_proj" }], { steps: 1 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings });
 * assertEquals(policy.frozen(state), ["layers.0.k_proj"]);
 * ```
 */
export function except(selector: Selector, policy: FreezePolicy): FreezePolicy {
  return narrow("except", selector, { policy, keep: (matches) => !matches });
}

interface Narrowing {
  readonly policy: FreezePolicy;
  readonly keep: (matches: boolean) => boolean;
}

function narrow(name: string, selector: Selector, { policy, keep }: Narrowing): FreezePolicy {
  const label = typeof selector === "string" ? selector : selector.name || "predicate";
  const matches = typeof selector === "string" ? glob(selector) : selector;
  return definePolicy({
    name: `${name}(${label}, ${policy.name})`,
    signals: policy.signals,
    init(components, run) {
      if (!components.some(matches)) {
        const first = components.length === 0 ? "there are none" : `the first is "${components[0].path}"`;
        throw new RangeError(`Cannot select components by "${label}" as none matches: ${first}`);
      }
      const kept = components.filter((component) => keep(matches(component)));
      return { inner: policy.init(kept, run), paths: kept.map(({ path }) => path) };
    },
    next: (state, { look }) => ({ ...state, inner: policy.next(state.inner, look) }),
    frozen: ({ inner, paths }) => policy.frozen(inner).filter((path) => paths.includes(path)),
  });
}

function glob(pattern: string): (component: Component) => boolean {
  const literals = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${literals.join(".*")}$`);
  return ({ path }) => expression.test(path);
}
