/**
 * Which launches are worth sharing: a combination of kernels is one more shader to compile.
 *
 * @module
 */

import type { KernelText } from "../../kernel_call.ts";
import type { Unit } from "../types.ts";

/** Gradients of weights share launches with other products where those do nearly everywhere: where nothing is frozen. */
const NEARLY_ALL = 0.75;
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
  const numbers = new Map<KernelText, number>(), counts = new Map<KernelText, number>();
  for (const { kernel } of order) {
    if (!numbers.has(kernel)) numbers.set(kernel, numbers.size);
    counts.set(kernel, (counts.get(kernel) ?? 0) + 1);
  }
  const alike = (all: readonly Shared[]): Shared[][] => [
    ...Map.groupBy(
      all,
      ({ members }) => members.map((at) => numbers.get(order[at].kernel)!).sort((a, b) => a - b).join(" "),
    ).values(),
  ];
  const isMixed = ({ members }: Shared): boolean => needed[members[0]] !== needed[members.at(-1)!];
  const sorted = groups.map(({ members, place }) => ({
    members: members.toSorted((a, b) => Number(needed[b]) - Number(needed[a]) || a - b),
    place,
  }));
  const whole = alike(sorted).flatMap((all) => {
    const [{ members }] = all;
    // Once some of them are frozen, no launch has gradients of weights beside others: that is few new kernels, once.
    if (!isMixed(all[0]) || all.length >= NEARLY_ALL * counts.get(order[members[0]].kernel)!) return all;
    return all.map(({ members, place }) => ({ members: members.filter((at) => needed[at]), place }));
  });
  return alike(whole.flatMap((one) => inPortions(one, { order, needed })))
    .filter((all) => all.length * (all[0].members.length - 1) >= LEAST).flat();
}

/** Of units that depend on what is frozen a power of two shares a launch: few kernels serve any number of them. */
function inPortions({ members, place }: Shared, { order, needed }: Known): Shared[] {
  const [first] = members;
  if (needed[first] || order[first].operands !== undefined) return [{ members, place }];
  const portions: Shared[] = [];
  for (let at = 0; members.length - at > 1;) {
    const count = 2 ** Math.floor(Math.log2(members.length - at));
    portions.push({ members: members.slice(at, at += count), place });
  }
  return portions;
}
