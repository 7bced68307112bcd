import type { Priced } from "./cost.ts";

/** A set of active components. */
export interface ActiveSet {
  /** FLOPs of a step that trains it. */
  readonly cost: number;
  readonly paths: readonly string[];
}

/** Which set is searched for. */
export interface ActiveSetOptions {
  /** The worth of each component that can be active; others stay frozen. */
  readonly worths: { readonly [path: string]: number };
  /** Paths that are active in every set, among those that can be; none when absent. */
  readonly kept?: readonly string[];
  /** How good a set is, by the FLOPs of a step that trains it and the sum of its positive worths; null for one that may not be. */
  valueOf(cost: number, worth: number): number | null;
}

/** Sets of components by rising cost. Numbers, not records: there are a million of them in a model of 300 components. */
interface Front {
  readonly size: number;
  readonly cost: Float64Array;
  /** Sums of the positive worths. */
  readonly worth: Float64Array;
  /** Sums of the negative worths. */
  readonly lack: Float64Array;
  /** The last component of each set, as a place in {@link Chains}; -1 for none. */
  readonly chain: Int32Array;
}

/** Sets of components as linked lists that share their tails: component, and the place of the rest. */
interface Chains {
  readonly component: number[];
  readonly rest: number[];
}

/** Sets, and a component that each of them gets besides; null for none. */
interface Run {
  readonly front: Front;
  readonly added: { readonly component: number; readonly dW: number; readonly worth: number } | null;
}

/** Most sets that a further component is combined with. */
const LIMIT = 4000;

/**
 * Finds the best set of active components. Negative worths count as zero; of equal sets, the costliest is taken, and then
 * the one with the smallest sum of negative worths.
 *
 * A dynamic programme over the components from the top down, as in GreenTrainer (arXiv 2309.13192), but over the sets
 * themselves instead of a table of rounded costs: for each depth of the lowest active component, the set worth most at each cost.
 * It is exact up to {@link LIMIT} different costs; above that, it keeps the best set of each of as many equal ranges. The cheapest
 * set is always among them.
 *
 * @param prices All components
 * @param options Worths, what must be in each set, and how good it is
 * @returns The set, of at least one component; undefined where none may be
 */
export function bestActiveSet(
  prices: readonly Priced[],
  { worths, kept = [], valueOf }: ActiveSetOptions,
): ActiveSet | undefined {
  const must = new Set(kept), chains: Chains = { component: [], rest: [] };
  const lowest = Math.min(...prices.filter(({ path }) => must.has(path)).map(({ depth }) => depth));
  const depths = [...new Set(prices.map(({ depth }) => depth))].sort((a, b) => b - a);
  const best = { value: NaN, cost: NaN, lack: NaN, chain: -1 };
  let front = frontOfOne(prices.reduce((sum, price) => sum + price.forward, 0)), above = 0;
  for (const depth of depths) {
    const level = prices.filter((price) => price.depth === depth);
    // Sets without and with a component of this depth: the chain of gradients costs them differently.
    let without: readonly Front[] = [front], within: readonly Front[] = [];
    for (const { path, dW } of level.filter(({ path }) => Object.hasOwn(worths, path))) {
      const added = { component: prices.findIndex((price) => price.path === path), dW, worth: worths[path] };
      const withIt = [...within, ...without].map((front) => ({ front, added }));
      // A component without cost saves nothing: it is frozen only if nothing below is active.
      const always = dW === 0 || must.has(path);
      within = [
        bestOfEach([...always ? [] : within.map((front) => ({ front, added: null })), ...withIt], chains),
      ];
      if (always) without = [];
    }
    if (depth <= lowest) { for (const sets of within) takeBest(best, sets, { above, valueOf }); }
    front = bestOfEach([...without, ...within].map((front) => ({ front, added: null })), chains);
    above += level.reduce((sum, { dX }) => sum + dX, 0);
  }
  if (best.chain < 0) return undefined;
  const paths: string[] = [];
  for (let at = best.chain; at >= 0; at = chains.rest[at]) paths.push(prices[chains.component[at]].path);
  return { cost: best.cost, paths };
}

/** The front of the empty set. */
function frontOfOne(cost: number): Front {
  const zero = new Float64Array(1);
  return { size: 1, cost: Float64Array.of(cost), worth: zero, lack: zero, chain: Int32Array.of(-1) };
}

/** Replaces the best set so far by a better one. */
function takeBest(
  best: { value: number; cost: number; lack: number; chain: number },
  { size, cost, worth, lack, chain }: Front,
  { above, valueOf }: Pick<ActiveSetOptions, "valueOf"> & {
    /** What the chain of gradients costs above the lowest active component. */
    readonly above: number;
  },
): void {
  for (let i = 0; i < size; i++) {
    const whole = cost[i] + above, value = valueOf(whole, worth[i]);
    if (value === null) continue;
    const better = best.chain < 0 ||
      (value - best.value || whole - best.cost || lack[i] - best.lack) > 0;
    if (better) Object.assign(best, { value, cost: whole, lack: lack[i], chain: chain[i] });
  }
}

/** The best set of each cost, by rising cost; if there are too many, the cheapest and the best of each of equal ranges. */
function bestOfEach(runs: readonly Run[], chains: Chains): Front {
  const merged = mergedRuns(runs), { size, cost, worth, lack, run, place } = merged;
  const kept = size <= LIMIT ? Int32Array.from({ length: size }, (_, i) => i) : bestOfRanges(merged);
  const front = {
    size: kept.length,
    cost: new Float64Array(kept.length),
    worth: new Float64Array(kept.length),
    lack: new Float64Array(kept.length),
    chain: new Int32Array(kept.length),
  };
  for (let k = 0; k < kept.length; k++) {
    const i = kept[k], { front: { chain }, added } = runs[run[i]], rest = chain[place[i]];
    front.cost[k] = cost[i];
    front.worth[k] = worth[i];
    front.lack[k] = lack[i];
    if (added === null) front.chain[k] = rest;
    else {
      front.chain[k] = chains.component.push(added.component) - 1;
      chains.rest.push(rest);
    }
  }
  return front;
}

/** The best set of each cost, by rising cost, and where it comes from. */
interface Merged extends Omit<Front, "chain"> {
  /** Its run, and its place there. */
  readonly run: Uint8Array;
  readonly place: Int32Array;
}

/** Merges runs, each of rising costs; of equal sets the one of the earlier run stays. */
function mergedRuns(runs: readonly Run[]): Merged {
  const most = runs.reduce((n, { front }) => n + front.size, 0);
  const cost = new Float64Array(most), worth = new Float64Array(most), lack = new Float64Array(most);
  const run = new Uint8Array(most), place = new Int32Array(most), at = new Int32Array(runs.length);
  const costOf = (r: number): number => {
    const { front, added } = runs[r];
    return at[r] < front.size ? front.cost[at[r]] + (added === null ? 0 : added.dW) : Infinity;
  };
  const nextCosts = Float64Array.from(runs, (_, r) => costOf(r));
  let size = 0;
  for (let left = most; left > 0; left--) {
    let next = 0;
    for (let r = 1; r < nextCosts.length; r++) if (nextCosts[r] < nextCosts[next]) next = r;
    const { front, added } = runs[next],
      i = at[next]++,
      own = nextCosts[next],
      more = added === null ? 0 : added.worth;
    nextCosts[next] = costOf(next);
    const ownWorth = front.worth[i] + Math.max(0, more), ownLack = front.lack[i] + Math.min(0, more);
    const isNew = size === 0 || cost[size - 1] !== own;
    const ahead = isNew ? 1 : ownWorth - worth[size - 1] || ownLack - lack[size - 1];
    if (!(ahead > 0)) continue;
    const to = isNew ? size++ : size - 1;
    cost[to] = own;
    worth[to] = ownWorth;
    lack[to] = ownLack;
    run[to] = next;
    place[to] = i;
  }
  return { size, cost, worth, lack, run, place };
}

/** The cheapest set, and the best of each of equal ranges of costs. */
function bestOfRanges({ size, cost, worth }: Merged): Int32Array {
  const least = cost[0], width = (cost[size - 1] - least) / (LIMIT - 2), kept = new Int32Array(LIMIT);
  let count = 1, range = -1;
  for (let i = 1; i < size; i++) {
    const own = Math.floor((cost[i] - least) / width);
    if (own !== range) kept[count++] = i;
    else if (worth[i] >= worth[kept[count - 1]]) kept[count - 1] = i;
    range = own;
  }
  return kept.subarray(0, count);
}
