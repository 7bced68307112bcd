/**
 * Computes a group in several launches, each of which fits.
 *
 * @module
 */

import { summingBytes } from "../../../kernels/elementwise.ts";
import type { Tensor } from "../../tensor.ts";
import type { Cluster, FuseOptions } from "../types.ts";
import { type LoadKey, walkComputed } from "./loads.ts";

/** What {@link runOf} depends on. */
export interface RunOptions extends FuseOptions {
  /** Elementwise nodes that are in memory. */
  readonly stored: ReadonlySet<Tensor>;
  readonly keyOf: LoadKey;
  /** Elementwise nodes that should be computed once; see {@link Run.shared}. */
  readonly costly: ReadonlySet<Tensor>;
}

/** The launches that compute a group. */
export interface Run {
  /** The nodes of each launch, inputs first. */
  readonly launches: readonly (readonly Tensor[])[];
  /** Costly values that several launches need and that are not in memory. */
  readonly shared: ReadonlySet<Tensor>;
}

/** A launch that takes results until it is full. */
interface OpenLaunch {
  /** Adds a result if it fits; the first one in any case. */
  add(result: Tensor): boolean;
  /** What it computes, results included. */
  readonly computed: ReadonlySet<Tensor>;
}

/**
 * Puts the results of a group into launches in the order of the graph; each launch takes as many as fit. Results that
 * overwrite a leaf come last, in launches of their own: these may have to wait for readers of the leaf, and no launch waits
 * for them.
 *
 * @param cluster The group
 * @param options Values in memory, and limits
 * @returns The launches; each fits if each result alone does
 */
export function runOf({ nodes, stored, summed }: Cluster, options: RunOptions): Run {
  const { targets } = options, sums = new Set(summed);
  const results = new Set([...stored, ...summed]);
  const launchOf = new Map<Tensor, number>(), shared = new Set<Tensor>();
  let count = 0, launch: OpenLaunch | undefined;
  for (const overwriting of [false, true]) {
    const close = (): void => {
      for (const node of launch?.computed ?? []) if (!launchOf.has(node)) launchOf.set(node, count);
      if (launch !== undefined) count++;
      launch = undefined;
    };
    for (const node of nodes) {
      if (!results.has(node) || targets.has(node) !== overwriting) continue;
      if (launch?.add(node)) continue;
      close();
      launch = openLaunch({ ...options, sums, elsewhere: launchOf, shared });
      launch.add(node);
    }
    close();
  }
  const launches = Array.from({ length: Math.max(1, count) }, (): Tensor[] => []);
  for (const node of nodes) launches[launchOf.get(node) ?? 0].push(node);
  return { launches, shared };
}

function openLaunch(
  { targets, target, stored, keyOf, costly, sums, elsewhere, shared }: RunOptions & {
    readonly sums: ReadonlySet<Tensor>;
    /** Nodes that an earlier launch computes. */
    readonly elsewhere: ReadonlyMap<Tensor, number>;
    readonly shared: Set<Tensor>;
  },
): OpenLaunch {
  const results: Tensor[] = [], keys = new Set<number>(), seen = new Set<Tensor>();
  const computed = new Set<Tensor>();
  const fits = (): boolean => {
    const summed = results.filter((node) => sums.has(node)).length;
    const fresh = results.filter((node) =>
      stored.has(node) && !(targets.has(node) && keys.has(keyOf(targets.get(node)!)!))
    );
    return keys.size + fresh.length + (summed > 0 ? 1 : 0) <= target.maxBindings &&
      summingBytes(summed) <= target.workgroupBytes;
  };
  const isComputed = (node: Tensor): boolean => {
    if (stored.has(node)) return false;
    if (!costly.has(node) || !elsewhere.has(node)) return true;
    shared.add(node);
    return false;
  };
  const add = (result: Tensor): boolean => {
    const visited: Tensor[] = [];
    const visit = (node: Tensor, isOwn: boolean): void => {
      if (isOwn) visited.push(node);
      else {
        const key = keyOf(node);
        if (key !== null) keys.add(key);
      }
    };
    walkComputed([result], { isComputed, seen, visit });
    results.push(result);
    // One that does not fit ends the launch, so what it added to the keys does not matter.
    if (results.length > 1 && !fits()) return false;
    for (const node of visited) computed.add(node);
    return true;
  };
  return { add, computed };
}
