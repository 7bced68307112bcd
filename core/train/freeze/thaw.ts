/**
 * Thawed parameters: their optimizer state is younger than the run.
 *
 * Parameters that thawed after the same step are one group. A plan depends on which parameters share a group, not on when
 * the group thawed: frozen sets that come back share their plans.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { add, multiply, subtract } from "../../ops/arithmetic.ts";
import { type Moment, momentPath, type OptimizerStep } from "../../optim/optimizer.ts";
import { isStepScalar } from "../../plan/predicates.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { moduleOf } from "./components.ts";
import type { ThawSteps } from "../types.ts";

/** Groups of parameters by the step after which they thawed. */
export interface ThawGroups {
  /** Group of each thawed parameter, from 1 in the order of the parameters; group 0 is all others, and not listed. */
  readonly groups: ReadonlyMap<Path, number>;
  /** For each group the step after which it thawed; 0 for group 0. */
  readonly starts: readonly number[];
}

/** Groups parameters by the step after which they thawed. */
export function thawGroupsOf(paths: readonly Path[], thawSteps: ThawSteps): ThawGroups {
  const groups = new Map<Path, number>(), starts = [0];
  for (const path of paths) {
    const start = thawSteps[moduleOf(path)] ?? 0;
    const known = starts.indexOf(start), group = known >= 0 ? known : starts.push(start) - 1;
    if (group > 0) groups.set(path, group);
  }
  return { groups, starts };
}

/** Thaw steps after a change of the frozen set: thawed components get this step, frozen ones lose theirs. */
export function thawStepsAfter(
  thawSteps: ThawSteps,
  { step, frozen, thawed }: {
    readonly step: number;
    readonly frozen: readonly Path[];
    readonly thawed: readonly Path[];
  },
): ThawSteps {
  const kept = Object.entries(thawSteps).filter(([path]) => !frozen.includes(path));
  return Object.fromEntries([...kept, ...thawed.map((path) => [path, step] as const)]);
}

/**
 * Gives thawed parameters the step scalars of their own group, such as bias corrections, and a warm-up.
 *
 * @param step The optimizer's step, in which no parameter has thawed
 * @param options Gradients by path, the optimizer's state, the groups, and the factor of a group's updates; null for no
 * factor
 * @returns The step; it is the same for parameters of group 0
 */
export function withThawGroups(
  step: OptimizerStep,
  options: {
    readonly grads: Leaves;
    readonly moments: readonly Moment[];
    readonly groups: ReadonlyMap<Path, number>;
    readonly warmup: Tensor | null;
  },
): OptimizerStep {
  const { grads, moments, groups, warmup } = options;
  if (groups.size === 0) return step;
  const updates = new Map(step.updates), state = new Map(step.state), readings = new Map(step.readings);
  // Random numbers of the loss depend on the step of the run.
  const before = new Set(topological([...grads.values()]));
  for (const group of new Set(groups.values())) {
    const inGroup = regrouped(group, before);
    for (const [path, own] of groups) {
      if (own !== group) continue;
      const aged = inGroup(updates.get(path)!);
      const scaled = warmup === null ? aged : multiply(aged, inGroup(warmup));
      updates.set(path, scaled);
      for (const moment of moments) {
        const name = momentPath(moment, path), value = state.get(name), reading = readings.get(name);
        if (reading !== undefined) readings.set(name, inGroup(reading));
        if (value === undefined) continue;
        const now = inGroup(value);
        // The point that a distance leads to stays, though the parameter goes less far.
        state.set(name, moment.offset && scaled !== aged ? add(now, subtract(aged, scaled)) : now);
      }
    }
  }
  return { ...step, updates, state, readings };
}

/** Rebuilds graphs with the step scalars of a group, down to some nodes. */
function regrouped(group: number, stop: ReadonlySet<Tensor>): (node: Tensor) => Tensor {
  const known = new Map<Tensor, Tensor>();
  const visit = (node: Tensor): Tensor => {
    if (stop.has(node)) return node;
    let made = known.get(node);
    if (made === undefined) known.set(node, made = rebuilt(node));
    return made;
  };
  const rebuilt = (node: Tensor): Tensor => {
    if (isStepScalar(node)) return { ...node, attrs: { ...(node.attrs as object), group } };
    const inputs = node.inputs.map(visit);
    return inputs.some((input, i) => input !== node.inputs[i]) ? { ...node, inputs } : node;
  };
  return visit;
}
