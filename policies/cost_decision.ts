import { type ActiveSet, type ActiveSetOptions, bestActiveSet } from "./active_sets.ts";
import { addReading, type Average } from "./average.ts";
import { costOf, type Priced } from "./cost.ts";
import type { StepLook } from "./define_policy.ts";
import { type AdamDecays, expectedGain, type Moments, nextSquare } from "./moments.ts";
import { shareOf } from "./share_of.ts";

/** The options of `costAware` with their defaults. */
export interface Rules extends Required<AdamDecays> {
  readonly targetSpeedup?: number;
  readonly maxSaving?: number;
  readonly worth: "gain" | "benefit";
  readonly weight: number;
  readonly thaw?: number;
  readonly curiosity: number;
}

/** The state of `costAware`. */
export type CostState = {
  readonly prices: readonly Priced[];
  /** Elements of each component. */
  readonly sizes: { readonly [path: string]: number };
  /** Step of the first decision, steps between decisions, and how many there are. */
  readonly times: { readonly first: number; readonly apart: number; readonly count: number };
  readonly moments: Followed;
  /** Running average of the worth of each component. */
  readonly averages: Averages;
  readonly frozen: Frozen;
};

type Averages = { readonly [path: string]: Average };

type Followed = { readonly [path: string]: Moments };

/** Frozen components, each with its signed share of all absolute worths when it froze. */
type Frozen = { readonly [path: string]: number };

/** The moments after a step. Those of frozen components start anew; a step without readings was skipped. */
function follow(
  before: Followed,
  { prices, read, beta1, beta2 }: Required<AdamDecays> & {
    readonly prices: readonly Priced[];
    readonly read: (path: string) => number;
  },
): Followed {
  const after = prices.flatMap(({ path }) => {
    const second = read(path);
    if (!(second > 0)) return [];
    const { steps, ...past } = before[path] ?? { steps: 0, second: 0, square: 0 };
    return [
      [path, { steps: steps + 1, second, square: nextSquare(past, { second, beta1, beta2 }) }] as const,
    ];
  });
  return after.length === 0 ? before : Object.fromEntries(after);
}

/** Adds the readings of a step to the averages. */
export function observe(
  { worth, weight, beta1, beta2 }: Rules,
  state: CostState,
  { learningRate, read }: StepLook,
): CostState {
  const { prices, sizes } = state, rate = Number.isNaN(learningRate) ? 1 : learningRate;
  const moments = worth === "gain"
    ? follow(state.moments, { prices, beta1, beta2, read: (path) => read("secondMoment", path) })
    : state.moments;
  const readingOf = (path: string): number => {
    if (worth === "benefit") return read("benefit", path) / rate;
    const now = moments[path];
    if (now === undefined) return NaN;
    return expectedGain(now, { first: read("firstMoment", path), size: sizes[path], beta1, beta2 });
  };
  const averages = prices.flatMap(({ path }) => {
    const reading = readingOf(path), before = state.averages[path];
    return Number.isFinite(reading) ? [[path, addReading(before, { reading, weight })] as const] : [];
  });
  return { ...state, moments, averages: { ...state.averages, ...Object.fromEntries(averages) } };
}

/** Chooses the frozen set anew, if a decision is due after this step. */
export function decide(
  rules: Rules,
  state: CostState,
  { before, now: { step } }: { readonly before: Averages; readonly now: StepLook },
): CostState {
  const { prices, times, averages, frozen } = state, { thaw, curiosity } = rules;
  const part = (step - times.first) / times.apart + 1;
  const due = Number.isInteger(part) && part >= 1 && part <= times.count;
  if (!due || prices.some(({ path }) => averages[path] === undefined)) return state;
  // Remembered worths grow by curiosity.
  const rested = Object.keys(frozen).filter((path) => thaw !== undefined && averages[path] === before[path])
    .map((path) => [path, { mean: averages[path].mean * (1 + curiosity), total: 0 }] as const);
  const next: Averages = { ...averages, ...Object.fromEntries(rested) };
  const able = prices.flatMap(({ path }) => {
    const { mean } = next[path];
    if (!Object.hasOwn(frozen, path)) return [[path, mean] as const];
    return thaw !== undefined && mean > 0 ? [[path, mean / thaw] as const] : [];
  });
  const worths = Object.fromEntries(able);
  const active = new Set(choose(rules, prices, { worths, part: part / times.count }));
  const total = prices.reduce((sum, { path }) => sum + Math.abs(next[path].mean), 0);
  const left = prices.filter(({ path }) => !active.has(path))
    .map(({ path }) => [path, frozen[path] ?? (total > 0 ? next[path].mean / total : 0)] as const);
  return { ...state, averages: next, frozen: Object.fromEntries(left) };
}

/** Chooses the components to train while a part of the budget is due. */
function choose(
  { targetSpeedup, maxSaving }: Pick<Rules, "targetSpeedup" | "maxSaving">,
  prices: readonly Priced[],
  { worths, part }: { readonly worths: { readonly [path: string]: number }; readonly part: number },
): readonly string[] {
  const full = costOf(prices, () => true);
  const best = (options: Omit<ActiveSetOptions, "worths">): ActiveSet =>
    bestActiveSet(prices, { worths, ...options })!;
  if (targetSpeedup === undefined) {
    const most = shareOf(maxSaving!, full);
    return best({ valueOf: (cost, worth) => full - cost <= most ? worth / cost : null }).paths;
  }
  // Compare quotients: 33 / 30 equals 1.1 exactly, but 33 / 1.1 is not quite 30.
  const last = best({ valueOf: (cost, worth) => full / cost >= targetSpeedup ? worth : null });
  if (part === 1) return last.paths;
  const most = Math.max(last.cost, full - part * (full - full / targetSpeedup));
  return best({ kept: last.paths, valueOf: (cost, worth) => cost <= most ? worth : null }).paths;
}
