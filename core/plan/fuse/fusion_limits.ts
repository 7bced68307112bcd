/**
 * Groups of elementwise nodes that bind more buffers than a launch can, and where to cut them.
 *
 * @module
 */

import type { Step } from "../../../kernels/expression.ts";
import type { Tensor } from "../../tensor.ts";
import { bufferTable } from "../buffers.ts";
import type { Cluster, FuseOptions, Fusion } from "../types.ts";
import { isConstant } from "../predicates.ts";
import { type Code, codegen } from "./codegen.ts";
import { walkComputed } from "./loads.ts";

/** What a group must fit. */
export type Limits = Pick<FuseOptions, "targets" | "target">;

/** A group as a launch of its own. */
interface LaunchSize extends Code {
  /** How many buffers it binds. */
  readonly bindings: number;
  /** The buffers that it overwrites, by where they are among its inputs. */
  readonly overwritten: readonly (readonly number[])[];
}

/**
 * Finds the groups that bind more buffers than a launch can.
 *
 * @param fusion The groups
 * @param limits Which nodes overwrite a leaf, and what the device is
 * @returns Some of the groups
 */
export function crowdedClusters(fusion: Pick<Fusion, "clusters" | "stored">, limits: Limits): Cluster[] {
  return fusion.clusters.filter((cluster) => isCrowded(cluster, { ...limits, stored: fusion.stored }));
}

/** Whether a group binds more buffers than a launch can, or than some launches together. */
export function isCrowded(
  cluster: Cluster,
  options: Limits & Pick<Fusion, "stored"> & { readonly launches?: number },
): boolean {
  const { launches = 1, target: { maxBindings }, stored } = options;
  return mostBindings(cluster, stored) > launches * maxBindings &&
    launchSize(cluster, options).bindings > launches * maxBindings;
}

/** A number of buffers that a group does not exceed: of most groups it is small enough, and quickly found. */
function mostBindings({ stored: written, summed }: Cluster, stored: ReadonlySet<Tensor>): number {
  let loads = 0;
  walkComputed([...written, ...summed], {
    isComputed: (node) => !stored.has(node),
    seen: new Set(),
    visit(node, computed) {
      if (!computed && !isConstant(node)) loads++;
    },
  });
  return loads + written.length + (summed.length > 0 ? 1 : 0);
}

function launchSize(
  { nodes, stored: written, summed }: Cluster,
  { targets, stored }: Limits & Pick<Fusion, "stored">,
): LaunchSize {
  const table = bufferTable({ targets, isHalf: () => false });
  const code = codegen([...written, ...summed], {
    stored,
    isHalf: () => false,
    bufferOf: (node) => table.bufferOf(node),
    scalarOf: (node) => table.scalarOf(node),
    shape: nodes[0].shape,
  });
  const { loads } = code;
  const overwritten = written.filter((node) => targets.has(node)).flatMap((node) => {
    const buffer = table.bufferOf(node), inputs = loads.flatMap((load, k) => load === buffer ? [k] : []);
    return inputs.length === 0 ? [] : [inputs];
  });
  const fresh = written.length - overwritten.length;
  return { ...code, overwritten, bindings: loads.length + fresh + (summed.length > 0 ? 1 : 0) };
}

/**
 * Finds where to cut a group: after the value that saves what reads it most buffers when it is in memory.
 *
 * A value in memory takes one binding, and saves those of all inputs that only it needs: these are the inputs that it
 * dominates in the graph of the group, from the results down.
 *
 * @param cluster A group that binds too many buffers
 * @param fusion All groups
 * @param limits Which nodes overwrite a leaf, and what the device is
 * @returns The value, or undefined where none saves a buffer
 */
export function cutOf(
  { nodes, stored: written, summed }: Cluster,
  { stored }: Pick<Fusion, "stored">,
  limits: Limits,
): Tensor | undefined {
  const size = launchSize({ nodes, stored: written, summed }, { ...limits, stored });
  const { expression: { steps }, stepOf } = size;
  const results = new Set([...written, ...summed]), saved = savedBindings(size, results);
  const inputs = inputCounts(size, {
    written: new Set(written.map((node) => stepOf.get(node)!)),
    most: limits.target.maxBindings,
  });
  let most = 0, best: Tensor | undefined;
  for (const [node, step] of stepOf) {
    if (steps[step].kind !== "compute" || results.has(node) || saved[step] <= most) continue;
    // Its own launch binds its inputs and itself.
    if (inputs[step] + 1 > limits.target.maxBindings) continue;
    most = saved[step];
    best = node;
  }
  return best;
}

/** How many bindings each step of a group would save in memory. */
function savedBindings(
  { expression: { steps, inputs }, stepOf, overwritten }: LaunchSize,
  results: ReadonlySet<Tensor>,
): readonly number[] {
  const tree = dominators(steps, {
    inputs: inputs.length,
    results: new Set([...results].map((node) => stepOf.get(node)!)),
  });
  // A step in memory is an input itself.
  const saved = steps.map(() => -1);
  tree.inputs.forEach((above) => above >= 0 && saved[above]++);
  // An output that overwrites an input needs a binding of its own when the input is gone.
  for (const inputs of overwritten) {
    const above = inputs.map((k) => tree.inputs[k]).reduce(tree.common);
    if (above >= 0) saved[above]--;
  }
  // Steps stand behind their arguments, so that each adds what it has to the one above it.
  const total = saved.map((own) => own + 1);
  steps.forEach((_, step) => {
    saved[step] = total[step] - 1;
    if (tree.steps[step] >= 0) total[tree.steps[step]] += total[step];
  });
  return saved;
}

/** For each step and input the step that all paths to it from the results pass last; -1 where there is none. */
interface Dominators {
  readonly steps: readonly number[];
  readonly inputs: readonly number[];
  /** The last step that all paths to two steps pass, themselves included. */
  common(a: number, b: number): number;
}

function dominators(
  steps: readonly Step[],
  { inputs, results }: { readonly inputs: number; readonly results: ReadonlySet<number> },
): Dominators {
  const above = new Array<number>(steps.length).fill(-1), depth = new Array<number>(steps.length).fill(1);
  const aboveInputs = new Array<number>(inputs).fill(-1);
  const reached = { steps: new Set(results), inputs: new Set<number>() };
  const common = (a: number, b: number): number => {
    while (a !== b) {
      if (a < 0 || b < 0) return -1;
      if (depth[a] >= depth[b]) a = above[a];
      else b = above[b];
    }
    return a;
  };
  for (let user = steps.length - 1; user >= 0; user--) {
    const step = steps[user];
    depth[user] = above[user] < 0 ? 1 : depth[above[user]] + 1;
    if (step.kind === "load" || step.kind === "scalar") {
      const known = reached.inputs.has(step.input);
      aboveInputs[step.input] = known ? common(aboveInputs[step.input], user) : user;
      reached.inputs.add(step.input);
    } else if (step.kind === "compute") {
      for (const arg of step.args) {
        if (steps[arg].kind === "constant") continue;
        above[arg] = reached.steps.has(arg) ? common(above[arg], user) : user;
        reached.steps.add(arg);
      }
    }
  }
  return { steps: above, inputs: aboveInputs, common };
}

/**
 * How many inputs a launch of each step alone would bind: it reads results of the group that are in memory. A number above
 * `most` says no more than that.
 */
function inputCounts(
  { expression: { steps, inputs } }: LaunchSize,
  { written, most }: { readonly written: ReadonlySet<number>; readonly most: number },
): readonly number[] {
  const needed: ReadonlySet<number>[] = [];
  for (const step of steps) {
    if (step.kind === "load" || step.kind === "scalar") needed.push(new Set([step.input]));
    else if (step.kind !== "compute") needed.push(new Set());
    else {
      const all = new Set<number>();
      for (const arg of step.args) {
        const own = written.has(arg) ? [inputs.length + arg] : needed[arg];
        for (const input of own) if (all.size <= most) all.add(input);
      }
      needed.push(all);
    }
  }
  return needed.map(({ size }) => size);
}
