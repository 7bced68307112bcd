import type { Priced } from "./cost.ts";

/** A set of active components as a list that shares its tail with others. */
interface Chain {
  readonly path: string;
  readonly rest: Chain | null;
}

/** A set of active components, its benefit, and the FLOPs of a step that trains them. */
export interface ActiveSet {
  readonly cost: number;
  readonly benefit: number;
  readonly chain: Chain | null;
}

/** Sets that a further component is combined with at most. */
const LIMIT = 1000;

/**
 * The sets of active components among which the best ones are: for each depth that can be the lowest active one, the one of
 * most benefit of each cost.
 *
 * A dynamic programme over the components from the top down, as in GreenTrainer (arXiv 2309.13192), but over
 * the sets themselves in place of a table of rounded costs: it is exact up to {@link LIMIT} different costs, and above
 * keeps the best of each of as many equal ranges.
 *
 * @param prices All components
 * @param benefits Of each that can be active, 0 or more; what has none stays frozen
 * @returns The sets, each with at least one component
 */
export function activeSets(
  prices: readonly Priced[],
  benefits: { readonly [path: string]: number },
): readonly ActiveSet[] {
  const depths = [...new Set(prices.map(({ depth }) => depth))].sort((a, b) => b - a);
  const forward = prices.reduce((sum, price) => sum + price.forward, 0);
  const found: ActiveSet[] = [];
  let front: readonly ActiveSet[] = [{ cost: forward, benefit: 0, chain: null }], above = 0;
  for (const depth of depths) {
    const level = prices.filter((price) => price.depth === depth);
    const before = new Set(front);
    for (const { path, dW } of level.filter(({ path }) => Object.hasOwn(benefits, path))) {
      const added = front.map(({ cost, benefit, chain }) => (
        { cost: cost + dW, benefit: benefit + benefits[path], chain: { path, rest: chain } }
      ));
      front = bestOfEach([...front, ...added]);
    }
    for (const set of front) if (!before.has(set)) found.push({ ...set, cost: set.cost + above });
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

/** By rising cost, the best of each cost; where these are too many, of each of as many equal ranges of cost. */
function bestOfEach(sets: readonly ActiveSet[]): readonly ActiveSet[] {
  const sorted = sets.toSorted((a, b) => a.cost - b.cost || b.benefit - a.benefit);
  const distinct = sorted.filter(({ cost }, i) => i === 0 || cost !== sorted[i - 1].cost);
  if (distinct.length <= LIMIT) return distinct;
  const least = distinct[0].cost, width = (distinct[distinct.length - 1].cost - least) / (LIMIT - 1);
  const best = new Map<number, ActiveSet>();
  for (const set of distinct) {
    const range = Math.floor((set.cost - least) / width), other = best.get(range);
    if (other === undefined || set.benefit > other.benefit) best.set(range, set);
  }
  return [...best.values()];
}
