/**
 * What becomes of the mean of the parameters of all ranks: the step of an outer optimizer.
 *
 * @module
 */

import { planFor } from "../infer/read.ts";
import { add, divide, subtract } from "../ops/arithmetic.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import type { Gpu } from "../runtime/device.ts";
import { record, type Recording } from "../runtime/record.ts";
import { storageOf } from "../runtime/residents.ts";
import { leaf } from "../sources.ts";
import type { Spec } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { EXCHANGE, OUTER, SENT, START } from "../train/state/specs.ts";
import type { Leaves, Path } from "../tree.ts";

/** A state whose outer step is to be taken. */
export interface OuterState {
  /** The number of the exchange, from 1. */
  readonly count: number;
  /** Parameters that take part: those of all ranks together. */
  readonly params: Leaves;
  /** State of the training besides parameters. */
  readonly leaves: Leaves;
}

/** Takes the outer steps of a training. */
export interface OuterStep {
  /** Replaces parameters by those that all ranks go on with. */
  take(state: OuterState): Promise<void>;
  /** Replaces parameters by how far they have come since they were sent. */
  since(state: OuterState): Promise<void>;
  /** Adds to how far they have come what all ranks go on with, which follows from the sums of what they sent. */
  rejoin(state: OuterState): Promise<void>;
  /** Frees what is recorded. */
  destroy(): void;
}

/** The state of an outer optimizer, by path. */
export function outerSpecs(
  outer: Optimizer,
  active: ReadonlyMap<Path, Spec>,
  trainable: readonly Path[],
): Map<Path, Spec> {
  const state = outer.init(leavesOf("", active), trainable);
  return new Map([...state].map(([path, { shape, dtype }]) => [OUTER + path, { shape, dtype }]));
}

function leavesOf(prefix: string, specs: ReadonlyMap<Path, Spec>): Map<Path, Tensor> {
  return new Map([...specs].map(([path, { shape, dtype }]) => [path, leaf(prefix + path, { shape, dtype })]));
}

/** The graph of an outer step: its roots, and the leaf that each overwrites. */
interface OuterGraph {
  readonly roots: readonly Tensor[];
  readonly updates: ReadonlyMap<number, Tensor>;
}

/** What a graph makes of parameters: an outer step, its parts where the mean comes later. */
type Work = Exclude<keyof OuterStep, "destroy">;

/** What is averaged is `summed` times its mean. */
function traceOuter(
  work: Work,
  { params, leaves }: Omit<OuterState, "count">,
  { outer, summed }: { readonly outer: Optimizer | null; readonly summed: number },
): OuterGraph {
  const roots: Tensor[] = [], updates = new Map<number, Tensor>();
  const replace = (target: Tensor, value: Tensor): void => void updates.set(roots.push(value) - 1, target);
  const now = leavesOf("", params), sent = work === "take" ? now : leavesOf(SENT, params);
  if (work === "since") {
    for (const [path, value] of now) replace(value, subtract(value, sent.get(path)!));
    return { roots, updates };
  }
  const means = new Map([...sent].map(([path, t]) => [path, summed === 1 ? t : divide(t, summed)]));
  const goOn = (path: Path, value: Tensor): void =>
    replace(now.get(path)!, work === "take" ? value : add(now.get(path)!, value));
  if (outer === null) {
    for (const [path, mean] of means) if (summed > 1 || work === "rejoin") goOn(path, mean);
    return { roots, updates };
  }
  const starts = leavesOf(START, params), owned = [...leaves].filter(([path]) => path.startsWith(OUTER));
  const state = leavesOf(OUTER, new Map(owned.map(([path, t]) => [path.slice(OUTER.length), t])));
  const gradients = new Map([...starts].map(([path, start]) => [path, subtract(start, means.get(path)!)]));
  const step = outer.next(state, gradients, starts);
  for (const [path, start] of starts) {
    const value = add(start, step.updates.get(path)!);
    goOn(path, value);
    replace(start, value);
  }
  for (const [path, value] of step.state) replace(state.get(path)!, value);
  return { roots, updates };
}

/** A recorded graph, and the buffers that it works on. */
interface Recorded {
  readonly work: Work;
  readonly buffers: ReadonlyMap<Path, GPUBuffer>;
  readonly recording: Recording;
}

/** Most graphs that stay recorded: parameters may have one of two buffers, and there are three graphs of each. */
const MOST = 6;

/**
 * Makes what takes outer steps.
 *
 * @param gpu The device
 * @param options The optimizer, null for the mean itself; how many times the mean the parameters are
 * @returns It, with nothing recorded
 */
export function outerStep(
  gpu: Gpu,
  options: { readonly outer: Optimizer | null; readonly summed: number },
): OuterStep {
  const known: Recorded[] = [];
  const run = async (work: Work, { count, params, leaves }: OuterState): Promise<void> => {
    const buffers = buffersOf(params, leaves);
    let found = known.find((one) => one.work === work && isSame(one.buffers, buffers));
    if (found === undefined) {
      const { roots, updates } = traceOuter(work, { params, leaves }, options);
      if (roots.length === 0) return;
      const recording = await record(gpu, {
        plan: planFor(gpu, roots, updates),
        label: "outer step",
        resolve: (node) => buffers.get((node.attrs as { path: Path }).path)!,
      });
      known.push(found = { work, buffers, recording });
      if (known.length > MOST) known.shift()!.recording.destroy();
    }
    found.recording.replay(count);
  };
  return {
    take: (state) => run("take", state),
    since: (state) => run("since", state),
    rejoin: (state) => run("rejoin", state),
    destroy: () => known.splice(0).forEach(({ recording }) => recording.destroy()),
  };
}

/** The buffers that an outer step works on. */
function buffersOf(params: Leaves, leaves: Leaves): Map<Path, GPUBuffer> {
  const own = [...leaves].filter(([path]) => path.startsWith(EXCHANGE));
  return new Map([...params, ...own].map(([path, t]) => [path, storageOf(t).buffer]));
}

function isSame(a: ReadonlyMap<Path, GPUBuffer>, b: ReadonlyMap<Path, GPUBuffer>): boolean {
  return a.size === b.size && [...a].every(([path, buffer]) => b.get(path) === buffer);
}
