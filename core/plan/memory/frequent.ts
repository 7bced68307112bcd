/**
 * Which launches are worth sharing: a combination of kernels is one more shader to compile.
 *
 * @module
 */

import type { KernelText } from "../../kernel_call.ts";
import type { Unit } from "../types.ts";

/** Gradients of weights share launches with other products where nearly all of those do: where nothing is frozen. */
const NEARLY_ALL = 0.9;
/** Each combination must come for such a share of them. */
const SOME = 0.25;
/** A combination of kernels must save so many launches: each is one more shader to compile. */
const LEAST = 3;

/** Units that will share a launch. */
export interface Shared {
  /** Their indices in the order. */
  readonly members: readonly number[];
  /** Where the launch stands in the order. */
  readonly place: number;
}

/** What {@link frequent} knows of units. */
interface Known {
  readonly order: readonly Unit[];
  /** Whether a later product needs what each unit computes. */
  readonly needed: readonly boolean[];
}

/**
 * Finds the launches whose combination of kernels comes often enough.
 *
 * @param groups Units that could share a launch
 * @param known All units
 * @returns Some of the launches, perhaps with fewer units
 */
export function frequent(groups: readonly Shared[], { order, needed }: Known): Shared[] {
  const numbers = new Map<KernelText, number>();
  for (const { kernel } of order) if (!numbers.has(kernel)) numbers.set(kernel, numbers.size);
  const keyOf = (members: readonly number[]): string =>
    members.map((at) => numbers.get(order[at].kernel)!).sort((a, b) => a - b).join(" ");
  const alike = (all: readonly Shared[]): Shared[][] => [
    ...Map.groupBy(all, ({ members }) => keyOf(members)).values(),
  ];
  const lasting = ({ members }: Shared): number[] => members.filter((at) => needed[at]);
  const isMixed = (group: Shared): boolean =>
    lasting(group).length > 0 && lasting(group).length < group.members.length;
  // How often the units of each launch that stay when something freezes come together, and how often with others.
  const grouped = new Set(groups.flatMap(({ members }) => members));
  const alone = order.flatMap((_, at) => grouped.has(at) ? [] : [{ members: [at], place: at }]);
  const bases = Map.groupBy([...groups, ...alone], (group) => keyOf(lasting(group)));
  const isStable = (all: readonly Shared[]): boolean => {
    const base = bases.get(keyOf(lasting(all[0])))!;
    return base.filter(isMixed).length >= NEARLY_ALL * base.length && all.length >= SOME * base.length;
  };
  const whole = alike(groups).flatMap((all) => {
    // Once some of them are frozen, no launch has gradients of weights beside others: that is few new kernels, once.
    if (!isMixed(all[0]) || isStable(all)) return all;
    // Groups of the same kernels may have nothing that stays.
    return all.map((group) => isMixed(group) ? { ...group, members: lasting(group) } : group);
  });
  return alike(whole.flatMap((one) => inPortions(one, { order, needed })))
    .filter((all) => all.length * (all[0].members.length - 1) >= LEAST).flat();
}

/** Of units that depend on what is frozen a power of two shares a launch: few kernels serve any number of them. */
function inPortions({ members, place }: Shared, { order, needed }: Known): Shared[] {
  const [first] = members;
  if (members.some((at) => needed[at]) || order[first].operands !== undefined) return [{ members, place }];
  const portions: Shared[] = [];
  for (let at = 0; members.length - at > 1;) {
    const count = 2 ** Math.floor(Math.log2(members.length - at));
    portions.push({ members: members.slice(at, at += count), place });
  }
  return portions;
}
