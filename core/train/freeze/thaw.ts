/**
 * Parameters that thawed: the state of the optimizer for them is younger than the run.
 *
 * Parameters whose state began at the same step are one group. A plan depends on who is in a group with whom, not on when
 * the group began: sets that freeze and thaw by turns share their plans.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { multiply } from "../../ops/arithmetic.ts";
import type { OptimizerStep } from "../../optim/optimizer.ts";
import { stepScalarOp, type Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { moduleOf } from "./components.ts";
import type { Since } from "../types.ts";

/** Who is in which group, and when the groups began. */
export interface Ages {
  /** Group of each parameter that thawed, from 1 in the order of the parameters; 0 for all others. */
  readonly groups: ReadonlyMap<Path, number>;
  /** Step after which each group began. */
  readonly starts: readonly number[];
}

/** The groups of some parameters. */
export function agesOf(paths: readonly Path[], since: Since): Ages {
  const groups = new Map<Path, number>(), starts = [0];
  for (const path of paths) {
    const start = since[moduleOf(path)] ?? 0;
    const known = starts.indexOf(start), group = known >= 0 ? known : starts.push(start) - 1;
    if (group > 0) groups.set(path, group);
  }
  return { groups, starts };
}

/** Beginnings after a change of the frozen set: what thawed begins anew, what froze has no state any more. */
export function sinceAfter(
  since: Since,
  { step, frozen, thawed }: {
    readonly step: number;
    readonly frozen: readonly Path[];
    readonly thawed: readonly Path[];
  },
): Since {
  const kept = Object.entries(since).filter(([path]) => !frozen.includes(path));
  return Object.fromEntries([...kept, ...thawed.map((path) => [path, step] as const)]);
}

/**
 * Makes what an optimizer does to parameters that thawed a matter of their age.
 *
 * @param step What the optimizer does with all parameters, as if they were as old as the run
 * @param options Gradients by path, groups, and the factor of the updates of a group: none when null
 * @returns The same with the scalars of each group; parameters of group 0 are as they were
 */
export function aged(
  step: OptimizerStep,
  options: {
    readonly grads: Leaves;
    readonly groups: ReadonlyMap<Path, number>;
    readonly warmup: Tensor | null;
  },
): OptimizerStep {
  const { grads, groups, warmup } = options;
  if (groups.size === 0) return step;
  const updates = new Map(step.updates), state = new Map(step.state);
  // Random numbers of the loss depend on the step, not on an age.
  const before = new Set(topological([...grads.values()]));
  for (const group of new Set(groups.values())) {
    const mine = (path: Path): boolean => groups.get(path) === group;
    const inGroup = regrouped(group, before);
    for (const [name, value] of state) if (mine(parameterOf(name))) state.set(name, inGroup(value));
    for (const [path, update] of updates) {
      if (!mine(path)) continue;
      const own = inGroup(update);
      updates.set(path, warmup === null ? own : multiply(own, inGroup(warmup)));
    }
  }
  return { updates, state };
}

/** Rebuilds graphs with the scalars of a group, down to some nodes. */
function regrouped(group: number, stop: ReadonlySet<Tensor>): (node: Tensor) => Tensor {
  const known = new Map<Tensor, Tensor>();
  const visit = (node: Tensor): Tensor => {
    if (stop.has(node)) return node;
    let made = known.get(node);
    if (made === undefined) known.set(node, made = rebuilt(node));
    return made;
  };
  const rebuilt = (node: Tensor): Tensor => {
    if (node.op === stepScalarOp) return { ...node, attrs: { ...(node.attrs as object), group } };
    const inputs = node.inputs.map(visit);
    return inputs.some((input, i) => input !== node.inputs[i]) ? { ...node, inputs } : node;
  };
  return visit;
}

/** `a.weight` for the state `m.a.weight`. */
function parameterOf(name: Path): Path {
  return name.slice(name.indexOf(".") + 1);
}
