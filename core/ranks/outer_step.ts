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
import { EXCHANGE, OUTER, START } from "../train/state/specs.ts";
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

/** The parameters are `summed` times their mean. */
function traceOuter(
  { params, leaves }: Omit<OuterState, "count">,
  { outer, summed }: { readonly outer: Optimizer | null; readonly summed: number },
): OuterGraph {
  const roots: Tensor[] = [], updates = new Map<number, Tensor>();
  const replace = (target: Tensor, value: Tensor): void => void updates.set(roots.push(value) - 1, target);
  const now = leavesOf("", params);
  const means = new Map([...now].map(([path, t]) => [path, summed === 1 ? t : divide(t, summed)]));
  if (outer === null) {
    for (const [path, mean] of means) if (summed > 1) replace(now.get(path)!, mean);
    return { roots, updates };
  }
  const starts = leavesOf(START, params), owned = [...leaves].filter(([path]) => path.startsWith(OUTER));
  const state = leavesOf(OUTER, new Map(owned.map(([path, t]) => [path.slice(OUTER.length), t])));
  const gradients = new Map([...starts].map(([path, start]) => [path, subtract(start, means.get(path)!)]));
  const step = outer.next(state, gradients, starts);
  for (const [path, start] of starts) {
    const value = add(start, step.updates.get(path)!);
    replace(now.get(path)!, value);
    replace(start, value);
  }
  for (const [path, value] of step.state) replace(state.get(path)!, value);
  return { roots, updates };
}

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
  let last: { readonly buffers: ReadonlyMap<Path, GPUBuffer>; readonly recording: Recording } | null = null;
  const forget = (): void => {
    last?.recording.destroy();
    last = null;
  };
  return {
    async take({ count, params, leaves }) {
      const buffers = buffersOf(params, leaves);
      if (last === null || !isSame(last.buffers, buffers)) {
        forget();
        const { roots, updates } = traceOuter({ params, leaves }, options);
        if (roots.length === 0) return;
        const recording = await record(gpu, {
          plan: planFor(gpu, roots, updates),
          label: "outer step",
          resolve: (node) => buffers.get((node.attrs as { path: Path }).path)!,
        });
        last = { buffers, recording };
      }
      last.recording.replay(count);
    },
    destroy: forget,
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
