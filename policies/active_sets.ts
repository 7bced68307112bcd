import type { Priced } from "./cost.ts";

/** A set of active components as a list that shares its tail with others. */
interface Chain {
  readonly path: string;
  readonly rest: Chain | null;
}

/** A set of active components, what it is worth, and the FLOPs of a step that trains it. */
export interface ActiveSet {
  readonly cost: number;
  /** Sum of the worths above 0. */
  readonly worth: number;
  /** Sum of those below 0. */
  readonly lack: number;
  readonly chain: Chain | null;
}

/** Which sets to look at. */
export interface ActiveSetOptions {
  /** What each component that can be active is worth; what has none stays frozen. */
  readonly worths: { readonly [path: string]: number };
  /** Paths, of those that can be active, of what is active in every set; none when absent. */
  readonly kept?: readonly string[];
}

/** Sets that a further component is combined with at most. */
const LIMIT = 4000;

/**
 * The sets of active components among which the best ones are: for each depth that can be the lowest active one, the one
 * of most worth of each cost. What is worth less than nothing counts as nothing; of sets that are level, the one with the
 * smallest lack.
 *
 * A dynamic programme over the components from the top down, as in GreenTrainer (arXiv 2309.13192), but over
 * the sets themselves in place of a table of rounded costs: it is exact up to {@link LIMIT} different costs, and above
 * keeps the best of each of as many equal ranges. The cheapest set of all is always among them.
 *
 * @param prices All components
 * @param options What is worth how much, and what has to be in each set
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
    // Sets with nothing of this level, and those with something: the chain costs them differently.
    let without = front, within: readonly ActiveSet[] = [];
    for (const price of level.filter(({ path }) => Object.hasOwn(worths, path))) {
      const worth = worths[price.path], add = (set: ActiveSet) => withOne(set, { price, worth });
      // What costs nothing saves nothing: it is frozen only where nothing below is active.
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

/** By rising cost, the best of each cost; where these are too many, the cheapest, and that of each of as many equal ranges. */
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
