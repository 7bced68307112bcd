import type { Priced } from "./cost.ts";

/** The components of a set, as a linked list that shares its tail with other sets. */
interface Chain {
  readonly path: string;
  readonly rest: Chain | null;
}

/** A set of active components: its worth, and the FLOPs of a step that trains it. */
export interface ActiveSet {
  readonly cost: number;
  /** Sum of the positive worths. */
  readonly worth: number;
  /** Sum of the negative worths. */
  readonly lack: number;
  readonly chain: Chain | null;
}

/** Which sets to consider. */
export interface ActiveSetOptions {
  /** The worth of each component that can be active; others stay frozen. */
  readonly worths: { readonly [path: string]: number };
  /** Paths that are active in every set, among those that can be; none when absent. */
  readonly kept?: readonly string[];
}

/** Most sets that a further component is combined with. */
const LIMIT = 4000;

/**
 * Lists candidates for the best set of active components: for each depth of the lowest active component, the set worth
 * most at each cost. Negative worths count as zero; of equal sets, the one with the smallest sum of negative worths is
 * kept.
 *
 * A dynamic programme over the components from the top down, as in GreenTrainer (arXiv 2309.13192), but over the sets
 * themselves instead of a table of rounded costs. It is exact up to {@link LIMIT} different costs; above that, it keeps
 * the best set of each of as many equal ranges. The cheapest set is always included.
 *
 * @param prices All components
 * @param options Worths, and what must be in each set
 * @returns The sets, each with at least one component
 */
export function activeSets(
  prices: readonly Priced[],
  { worths, kept = [] }: ActiveSetOptions,
): readonly ActiveSet[] {
  const must = new Set(kept);
  const lowest = Math.min(...prices.filter(({ path }) => must.has(path)).map(({ depth }) => depth));
  const depths = [...new Set(prices.map(({ depth }) => depth))].sort((a, b) => b - a);
  const forward = prices.reduce((sum, price) => sum + price.forward, 0);
  const none: ActiveSet = { cost: forward, worth: 0, lack: 0, chain: null };
  const found: ActiveSet[] = [];
  let front: readonly ActiveSet[] = [none], above = 0;
  for (const depth of depths) {
    const level = prices.filter((price) => price.depth === depth);
    // Sets without and with a component of this depth: the chain of gradients costs them differently.
    let without = front, within: readonly ActiveSet[] = [];
    for (const price of level.filter(({ path }) => Object.hasOwn(worths, path))) {
      const worth = worths[price.path], add = (set: ActiveSet) => withOne(set, { price, worth });
      // A component without cost saves nothing: it is frozen only if nothing below is active.
      const always = price.dW === 0 || must.has(price.path);
      within = bestOfEach([...always ? [] : within, ...within.map(add), ...without.map(add)]);
      if (always) without = [];
    }
    if (depth <= lowest) found.push(...within.map((set) => ({ ...set, cost: set.cost + above })));
    front = bestOfEach([...without, ...within]);
    above += level.reduce((sum, { dX }) => sum + dX, 0);
  }
  return found;
}

/** The paths of a set. */
export function pathsOf({ chain }: ActiveSet): readonly string[] {
  const paths: string[] = [];
  for (let at = chain; at !== null; at = at.rest) paths.push(at.path);
  return paths;
}

function withOne(
  set: ActiveSet,
  { price: { path, dW }, worth }: { readonly price: Priced; readonly worth: number },
): ActiveSet {
  return {
    cost: set.cost + dW,
    worth: set.worth + Math.max(0, worth),
    lack: set.lack + Math.min(0, worth),
    chain: { path, rest: set.chain },
  };
}

/** The best set of each cost, by rising cost; if there are too many, the cheapest and the best of each of equal ranges. */
function bestOfEach(sets: readonly ActiveSet[]): readonly ActiveSet[] {
  const sorted = sets.toSorted((a, b) => a.cost - b.cost || b.worth - a.worth || b.lack - a.lack);
  const distinct = sorted.filter(({ cost }, i) => i === 0 || cost !== sorted[i - 1].cost);
  if (distinct.length <= LIMIT) return distinct;
  const [cheapest, ...others] = distinct;
  const least = cheapest.cost, width = (distinct[distinct.length - 1].cost - least) / (LIMIT - 2);
  const best = new Map<number, ActiveSet>();
  for (const set of others) {
    const range = Math.floor((set.cost - least) / width), other = best.get(range);
    if (other === undefined || set.worth >= other.worth) best.set(range, set);
  }
  return [cheapest, ...best.values()];
}
