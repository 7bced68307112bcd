import type { Component, FreezePolicy } from "../core/policy.ts";
import { measuredPaths } from "./measured_paths.ts";
import { labelOf, select, type Selector } from "./selector.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/**
 * Shows a policy only some components. The others stay active and are not measured for it.
 *
 * @param selector Which components
 * @param policy The policy
 * @returns The narrowed policy; its `init` throws when no component matches
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { InputError } from "@firn/train";
 * import { below, only } from "@firn/train/policies";
 *
 * const q = { path: "layers.0.q_proj", layer: 0, parameters: [], kind: "linear", size: 4 } as const;
 * const components = [q, { ...q, path: "layers.0.k_proj" }];
 * const readings = { gradNorm: { "layers.0.q_proj": [0.5], "layers.0.k_proj": [0.5] } };
 * const policy = only("*.q_proj", below("gradNorm", 1));
 * const start = policy.init(components, { steps: 1 });
 * const state = policy.next(start, { steps: [1], loss: [1], learningRate: [0.1], readings });
 * assertEquals(policy.frozen(state), ["layers.0.q_proj"]);
 * assertEquals(policy.measured?.("gradNorm", components), ["layers.0.q_proj"]);
 * assertThrows(() => only("*.qproj", policy).init(components, { steps: 1 }), InputError, "layers.0.q_proj");
 * ```
 */
export function only(selector: Selector, policy: FreezePolicy): FreezePolicy {
  return narrow("only", selector, { policy, keep: (matches) => matches });
}

/**
 * Hides some components from a policy. They stay active and are not measured for it.
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
  function keptOf(components: readonly Component[]): readonly Component[] {
    const named = select(selector, components);
    return components.filter(({ path }) => keep(named.includes(path)));
  }

  return wrapPolicy(policy, {
    name: `${name}(${labelOf(selector)}, ${policy.name})`,
    measured: (signal, components) => measuredPaths(policy, { signal, components: keptOf(components) }),
    init(components, run) {
      const kept = keptOf(components);
      return { inner: policy.init(kept, run), paths: kept.map(({ path }) => path) };
    },
    next: (state, { look }) => ({ ...state, inner: policy.next(state.inner, look) }),
    frozen: ({ inner, paths }) => policy.frozen(inner).filter((path) => paths.includes(path)),
    coming: policy.coming &&
      (({ inner, paths }) => policy.coming!(inner)?.filter((path) => paths.includes(path)) ?? null),
  });
}
