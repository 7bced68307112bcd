/**
 * Plans of training steps, one for each frozen set and each shape of parameters and batch.
 *
 * @module
 */

import type { Gpu } from "../../runtime/device.ts";
import { chooseMatmul, isVariant } from "../../../kernels/matmul/variants.ts";
import type { MatmulVariant } from "../../../kernels/matmul/types.ts";
import { plan, prepare } from "../../plan/plan.ts";
import type { Plan, Precision, PrefixOptions } from "../../plan/types.ts";
import { type Product, productsOf } from "../../plan/lower/products.ts";
import { textCache } from "../../plan/lower/kernel_cache.ts";
import { tune } from "../../tune/tune.ts";
import { topological } from "../../graph.ts";
import type { Optimizer } from "../../optim/optimizer.ts";
import type { Signal } from "../../policy.ts";
import { leaf, type Spec, stepScalar, type Target, type Tensor } from "../../tensor.ts";
import { type Leaves, type Path, unflatten } from "../../tree.ts";
import { type Ages, agesOf } from "../freeze/thaw.ts";
import { moduleOf } from "../freeze/components.ts";
import type { Measures } from "../freeze/signals.ts";
import type { Chosen, Since, TensorTree } from "../types.ts";
import { type Column, columnsBefore, stateSpecs, type StepGraph, traceStep } from "./trace.ts";

/** Plans that are kept for a frozen set that comes back: turns of the layers of a deep model among them. */
const MOST_PLANS = 64;

/** Which step is meant. */
export interface StepRequest {
  /** Parameters, trained or not. */
  readonly params: Leaves;
  /** Entries of the batch. */
  readonly batch: Leaves;
  /** Names and shapes of the parameters, by {@link describe}. */
  readonly layout: string;
  /** Paths of the frozen components. */
  readonly frozen: readonly Path[];
  /** Paths of those among them that are measured all the same. */
  readonly probed: readonly Path[];
  /** When the state of components that thawed began. */
  readonly since: Since;
}

/** A planned step. */
export interface Compiled {
  /** Equal for equal steps. */
  readonly key: string;
  readonly plan: Plan;
  readonly columns: readonly Column[];
  readonly replaced: ReadonlyMap<Path, Spec>;
  /** Step after which each group of the plan began, to replay it with. */
  readonly starts: readonly number[];
}

/** Plans steps, and remembers them. */
export interface StepCompiler {
  /** The loss as a graph of leaves. */
  trace(request: StepRequest): { readonly loss: Tensor; readonly leaves: Leaves };
  /** Plans a step. */
  compile(request: StepRequest): Compiled;
  /**
   * Chooses the kernels of the matrix products in all steps of these shapes, whatever is frozen.
   *
   * @returns What to wait for; null when all are chosen
   */
  choose(request: StepRequest): Promise<void> | null;
  /** What was chosen so far. */
  chosen(): Chosen;
  /** Takes the choice of a saved run, as far as it is of this adapter and of this version; plans are made anew. */
  adopt(chosen: Chosen): void;
  /** Parameters that a step changes. */
  activePaths(params: Leaves, frozen: readonly Path[]): Path[];
  /** State besides the parameters that a frozen set leaves. */
  leafSpecs(params: Leaves, frozen: readonly Path[]): Map<Path, Spec>;
}

/**
 * Makes a compiler of steps.
 *
 * @param gpu The device
 * @param loss From parameters and a batch to a scalar
 * @param options What the step does with gradients
 * @returns The compiler
 */
export function stepCompiler<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  loss: (params: P, batch: B) => Tensor,
  options: {
    readonly optimizer: Optimizer;
    readonly signals: readonly Signal[];
    /** Of which parameters each of them is measured, the same for all steps. */
    readonly measures: Measures;
    readonly trainable: (path: Path) => boolean;
    readonly lookEvery: number;
    readonly thawWarmup: number;
    readonly precision: Precision;
    readonly cachePrefix: boolean;
  },
): StepCompiler {
  const { optimizer, signals, measures, trainable, lookEvery, thawWarmup, precision, cachePrefix } = options;
  const warmup = thawWarmup === 0 ? null : stepScalar((_, age) => Math.min(1, age / thawWarmup));
  const compiled = new Map<string, Omit<Compiled, "starts">>(), ready = new Set<string>();
  /** The request before, and its plan: those of a run are alike until something freezes. */
  let last:
    | Omit<StepRequest, "params" | "batch"> & { readonly entries: string; readonly found: Compiled }
    | null = null;
  const variants = new Map<string, MatmulVariant>(), texts = textCache();
  const target: Target = { ...gpu.target, variants };
  let saved: Chosen["variants"] = {}, chosen: Chosen = { adapter: gpu.name, variants: {} };

  function trace({ params, batch }: StepRequest): { loss: Tensor; leaves: Leaves } {
    const leaves = new Map([...params].map(([path, t]) => [path, leaf(path, t)]));
    const entries = new Map([...batch].map(([path, t]) => [path, leaf(`batch.${path}`, t)]));
    return { loss: loss(unflatten(leaves) as P, unflatten(entries) as B), leaves };
  }

  function graphOf(request: StepRequest): StepGraph {
    const traced = trace(request);
    // What the loss does not read has no gradient: absent, never zero.
    const read = new Set(topological([traced.loss]));
    const leavesOf = (paths: readonly Path[]): Leaves =>
      new Map(
        paths.map((path) => [path, traced.leaves.get(path)!] as const).filter(([, leaf]) => read.has(leaf)),
      );
    const active = leavesOf(activePaths(request.params, request.frozen));
    const probed = leavesOf(
      [...request.params.keys()].filter((path) => trainable(path) && request.probed.includes(moduleOf(path))),
    );
    const { groups } = ages(request), ring = ringShape(request.params);
    const given = { loss: traced.loss, active, probed, trainable: activePaths(request.params, []), groups };
    return traceStep({ ...given, optimizer, signals, measures, ring, warmup, precision });
  }

  function isLast({ batch, layout, frozen, probed, since }: StepRequest): boolean {
    return last !== null && frozen === last.frozen && probed === last.probed && since === last.since &&
      layout === last.layout && describe(batch) === last.entries;
  }

  function ages({ params, frozen, since }: StepRequest): Ages {
    return agesOf(activePaths(params, frozen), since);
  }

  function activePaths(params: Leaves, frozen: readonly Path[]): Path[] {
    return [...params.keys()].filter((path) => trainable(path) && !frozen.includes(moduleOf(path)));
  }

  /** Where a plan may be cut; what is probed is not cut, as it reads values inside of what is frozen. */
  function prefixIn(
    { params, batch, probed }: StepRequest,
    replaced: ReadonlyMap<Path, Spec>,
  ): PrefixOptions | undefined {
    if (!cachePrefix || probed.length > 0) return undefined;
    const samples = [...batch.values()].find(({ shape }) => shape.length > 0)?.shape[0] ?? 1;
    const kindOf = (path: Path): "batch" | "fixed" | null =>
      path.startsWith("batch.") ? "batch" : params.has(path) && !replaced.has(path) ? "fixed" : null;
    return { samples, kindOf };
  }

  /** Rows and columns of the readings. */
  function ringShape(params: Leaves): [number, number] {
    const paths = activePaths(params, []);
    const readings = signals.map((signal) => paths.filter((path) => measures(signal, path)).length);
    return [lookEvery, readings.reduce((a, b) => a + b, columnsBefore(precision))];
  }

  return {
    trace,
    activePaths,
    leafSpecs(params, frozen) {
      const active = new Map(activePaths(params, frozen).map((path) => [path, params.get(path)!]));
      const trainable = activePaths(params, []);
      return new Map<Path, Spec>([
        ...stateSpecs(active, { optimizer, signals, measures, trainable, precision }),
        ["ring", { shape: ringShape(params), dtype: "f32" }],
        ["loss", { shape: [], dtype: "f32" }],
      ]);
    },
    compile(request) {
      if (isLast(request)) return last!.found;
      const { groups, starts } = ages(request);
      const key = [
        request.frozen.toSorted().join(","),
        request.probed.toSorted().join(","),
        [...groups].map(([path, group]) => `${path}: ${group}`).join(","),
        shapesOf(request),
      ].join(" | ");
      let found = compiled.get(key);
      if (found === undefined) {
        const { roots, updates, doubleBuffered, columns, replaced } = graphOf(request);
        const prefix = prefixIn(request, replaced);
        found = {
          key,
          plan: plan(roots, { target, updates, doubleBuffered, precision, prefix, texts }),
          columns,
          replaced,
        };
        compiled.set(key, found);
        // The oldest goes: a policy that draws sets at random would fill the memory with plans.
        if (compiled.size > MOST_PLANS) compiled.delete(compiled.keys().next().value!);
      }
      const { params: _, batch, ...same } = request;
      last = { ...same, entries: describe(batch), found: { ...found, starts } };
      return last.found;
    },
    choose(request) {
      if (isLast(request)) return null;
      const key = shapesOf(request);
      if (ready.has(key)) return null;
      // A step that freezes less has all products of one that freezes more.
      const { roots, updates, doubleBuffered } = graphOf({ ...request, frozen: [], probed: [], since: {} });
      const products = productsOf(prepare(roots, { target, updates, doubleBuffered, precision }));
      const open = new Map<string, Product>();
      for (const [name, product] of products) {
        const known = variants.get(name) ?? saved[name];
        if (isVariant(known, { sizes: product, options: target })) variants.set(name, known);
        else open.set(name, product);
      }
      const settle = (): void => {
        for (const [name, product] of open) {
          const measured = gpu.tuning.variants.get(name) ?? gpu.target.variants?.get(name);
          variants.set(name, measured ?? chooseMatmul(product, target));
        }
        chosen = { adapter: gpu.name, variants: Object.fromEntries(variants) };
        ready.add(key);
      };
      if (gpu.tuning.enabled && open.size > 0) return tune(gpu, open).then(settle);
      settle();
      return null;
    },
    chosen: () => chosen,
    adopt({ adapter, variants: theirs }) {
      saved = adapter === gpu.name ? theirs : {};
      for (const known of [compiled, ready, variants]) known.clear();
      last = null;
    },
  };
}

const shapesOf = ({ batch, layout }: StepRequest): string => `${describe(batch)} | ${layout}`;

/** Names, shapes and types of some tensors. */
export function describe(tree: Leaves): string {
  return [...tree].map(([path, t]) => `${path} ${t.shape} ${t.dtype}`).join("; ");
}
