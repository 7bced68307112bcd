/**
 * Plans of training steps, one for each frozen set and each shape of parameters and batch.
 *
 * @module
 */

import type { Gpu } from "../../runtime/device.ts";
import { plan, prepare } from "../../plan/plan.ts";
import { bytesOf } from "../../plan/storage.ts";
import type { Ranks } from "../ranks.ts";
import type { Ages, Cost, Plan, PrefixOptions, RecomputeOptions, WeightKind } from "../../plan/types.ts";
import { type Product, productsOf } from "../../plan/lower/products.ts";
import type { Target } from "../../kernel_call.ts";
import { textCache } from "../../plan/lower/kernel_cache.ts";
import type { Spec } from "../../spec.ts";
import type { Path } from "../../tree.ts";
import type { Column } from "../freeze/ring.ts";
import { describe } from "../state/run.ts";
import { rowsOf } from "../state/run_info.ts";
import { agesOf, NONE_SKIPPED } from "../state/skipped.ts";
import type { StepMemory } from "../memory.ts";
import type { ChosenVariants } from "../types.ts";
import {
  activeSpecs,
  partGraph,
  type StepDefinition,
  stepGraph,
  type StepRequest,
  thawGroups,
} from "./definition.ts";
import type { PlannedPart } from "./accumulation.ts";
import { arenasOf, exchangeBytes, totalBytes } from "./buckets.ts";
import { type ProductVariants, productVariants } from "./product_variants.ts";
import type { StepGraph } from "./trace.ts";
import { heldBytes, withinMemory } from "./within_memory.ts";

/** Plans that are kept for frozen sets that come back, such as a rotation through the layers of a deep model. */
const MOST_PLANS = 64;

/** A planned step. */
export interface CompiledStep {
  /** Equal for equal steps. */
  readonly key: string;
  readonly plan: Plan;
  /** What the parts of the step compute before it; null where a step has one batch. */
  readonly part: PlannedPart | null;
  /** What a step costs, with as many parts as it may have. */
  readonly cost: Cost;
  /** What a step takes on the device, and what it computes again; null without a limit. */
  readonly memory: StepMemory | null;
  /** Columns of the ring. */
  readonly columns: readonly Column[];
  /** Specs of all tensors that the step overwrites, by path. */
  readonly replaced: ReadonlyMap<Path, Spec>;
  /** What the ages of its parameters follow from, to replay the plan with. */
  readonly ages: Ages;
}

/** Plans steps, and caches the plans. */
export interface StepCompiler {
  /** Plans a step. */
  compile(request: StepRequest): CompiledStep;
  /**
   * Chooses the kernels of the matrix products in all steps of these shapes, whatever is frozen.
   *
   * @returns What to wait for; null when all are chosen
   */
  choose(request: StepRequest): Promise<void> | null;
  /** The kernels that were chosen so far. */
  chosen(): ChosenVariants;
  /** Takes the kernels that a saved run chose, and forgets all plans. */
  adopt(chosen: ChosenVariants): void;
}

/**
 * Makes a compiler of steps.
 *
 * @param gpu The device
 * @param definition What all steps have in common
 * @returns The compiler
 */
export function stepCompiler(gpu: Gpu, definition: StepDefinition): StepCompiler {
  const compiled = new Map<string, Omit<CompiledStep, "ages">>(), ready = new Set<string>();
  const texts = textCache(), products = productVariants(gpu);
  /** The last request and its step: most steps are like the step before. */
  let last: { readonly request: LastRequest; readonly step: CompiledStep } | null = null;

  function planned(key: string, request: StepRequest): Omit<CompiledStep, "ages"> {
    const step = stepGraph(definition, request), graph = partGraph(definition, request);
    const { updates, doubleBuffered, columns, replaced } = step, { wide, run } = request;
    const { target } = products, { precision, memory: limit } = definition;
    const prefix = graph === null ? prefixOptions(definition, request, replaced) : undefined;
    const weightKind: WeightKind = (path) => {
      if (!run.params.has(path)) return null;
      // Parts have the same weights until the step changes them.
      return !replaced.has(path) ? "fixed" : graph === null ? null : "changing";
    };
    const priced = (rest: Cost, part: PlannedPart | null) => costOf(gpu, rest, { part, definition, request });
    const options = { target, weightKind, wide, texts }, recomputing = recomputeIn(graph ?? step);
    // What follows the parts is state and sums, which stay f32.
    const wholeWith = (recompute?: RecomputeOptions): Plan =>
      plan(step.roots, {
        ...options,
        updates,
        doubleBuffered,
        precision: graph === null ? precision : "f32",
        prefix,
        recompute,
      });
    const rest = graph && wholeWith();
    const planWith = (recompute?: RecomputeOptions): Pick<CompiledStep, "plan" | "part" | "cost"> => {
      const whole = rest ?? wholeWith(recompute);
      if (rest === null) return { plan: whole, part: null, cost: priced(whole.cost, null) };
      const { roots, updates, sums } = graph!, prompt = definition.ranks !== null;
      const part = { sums, plan: plan(roots, { ...options, updates, precision, recompute, prompt }) };
      return { plan: rest, part, cost: priced(rest.cost, part) };
    };
    if (limit === null) return { key, ...planWith(), memory: null, columns, replaced };
    const { planned, memory } = withinMemory(limit, {
      held: heldBytes(definition, request),
      planWith(blocks) {
        const made = planWith(recomputing(blocks));
        return { ...made, recomputed: (made.part ?? made).plan.recomputed! };
      },
    });
    const { recomputed: _, ...made } = planned;
    return { key, ...made, memory, columns, replaced };
  }

  return {
    compile(request) {
      if (last !== null && isLike(request, last.request)) return last.step;
      const { groups, starts } = thawGroups(definition, request), { skipped = NONE_SKIPPED } = request;
      const key = keyOf(request, groups), step = compiled.get(key) ?? planned(key, request);
      compiled.set(key, step);
      // The oldest goes: a policy that draws sets at random would fill the memory with plans.
      if (compiled.size > MOST_PLANS) compiled.delete(compiled.keys().next().value!);
      last = { request: lastOf(request), step: { ...step, ages: agesOf(starts, skipped) } };
      return last.step;
    },
    choose(request) {
      if (last !== null && isLike(request, last.request)) return null;
      const key = shapesOf(request);
      if (ready.has(key)) return null;
      const all = (): ReadonlyMap<string, Product> => allProducts(definition, request, products.target);
      const ranks = ready.size === 0 ? definition.together : null;
      const waiting = ranks === null ? products.choose(all()) : chooseTogether(ranks, { products, all });
      if (waiting !== null) return waiting.then(() => void ready.add(key));
      ready.add(key);
      return null;
    },
    chosen: products.chosen,
    adopt(chosen) {
      products.adopt(chosen);
      compiled.clear();
      ready.clear();
      last = null;
    },
  };
}

/** Rank 0 measures its products, and the others take its choice, so that a repeated run has the same bits. */
async function chooseTogether(
  ranks: Ranks,
  { products, all }: { readonly products: ProductVariants; readonly all: () => ReadonlyMap<string, Product> },
): Promise<void> {
  const isFirst = ranks.rank === 0;
  if (isFirst) await products.choose(all());
  const text = isFirst ? JSON.stringify(products.chosen()) : "";
  const chosen = await ranks.gather(new TextEncoder().encode(text));
  if (isFirst) return;
  products.adopt(JSON.parse(new TextDecoder().decode(chosen)));
  await products.choose(all());
}

/** The products of all steps of some shapes: a step that freezes less has all those of one that freezes more. */
function allProducts(
  definition: StepDefinition,
  request: StepRequest,
  target: Target,
): ReadonlyMap<string, Product> {
  const all = { ...request, frozen: [], probed: [], since: {} }, part = partGraph(definition, all);
  const { precision } = definition,
    { wide } = request,
    { roots, updates, doubleBuffered } = stepGraph(definition, all);
  const rest = {
    target,
    updates,
    doubleBuffered,
    wide,
    precision: part === null ? precision : "f32" as const,
  };
  return new Map([
    ...part === null
      ? []
      : productsOf(prepare(part.roots, { target, updates: part.updates, precision, wide })),
    ...productsOf(prepare(roots, rest)),
  ]);
}

/** Blocks of the forward pass of a graph that its backward pass computes again. */
function recomputeIn({ loss }: Pick<StepGraph, "loss">): (blocks: number) => RecomputeOptions {
  return (blocks) => ({ loss, blocks, isBatch });
}

/** What a step costs: its parts, the rest, and its share of the next exchange of parameters. */
function costOf(
  gpu: Gpu,
  rest: Cost,
  { part, definition, request }: {
    readonly part: PlannedPart | null;
    readonly definition: StepDefinition;
    readonly request: StepRequest;
  },
): Cost {
  const cost = part === null ? rest : costOfParts(gpu, rest, { part, definition });
  const own = definition.averages?.costOf(activeSpecs(definition, request).values());
  return own === undefined ? cost : { ...cost, memory: cost.memory + own.memory, exchanged: own.exchanged };
}

/** What the parts of a step and the rest cost together. */
function costOfParts(
  gpu: Gpu,
  rest: Cost,
  { part: { plan: { cost, copies }, sums }, definition: { accumulate: parts, ranks } }: {
    readonly part: PlannedPart;
    readonly definition: Pick<StepDefinition, "accumulate" | "ranks">;
  },
): Cost {
  const once = copies.changing;
  // Besides, the share and the draw number of a part, and the labels of all ranks.
  const scalars = 3 * bytesOf({ shape: [] });
  const arenas = ranks === null ? [] : arenasOf(sums);
  const summed = totalBytes(
    ranks === null ? [...sums.values()].map((spec) => ({ bytes: bytesOf(spec) })) : arenas,
  );
  const bytes = scalars + summed + exchangeBytes(gpu, arenas);
  return {
    launches: parts * cost.launches + once.length + rest.launches,
    flops: parts * cost.flops + rest.flops,
    matmulFlops: parts * cost.matmulFlops + rest.matmulFlops,
    bytes: parts * cost.bytes + once.reduce((n, launch) => n + launch.bytes, 0) + rest.bytes,
    memory: cost.memory + rest.memory + bytes,
    constants: cost.constants + rest.constants,
    ...ranks !== null && { exchanged: summed },
  };
}

/** A request with the shapes of its batch as text, so that it does not keep a batch alive. */
type LastRequest = Omit<StepRequest, "run" | "batch"> & { readonly layout: string; readonly entries: string };

function lastOf({ run: { layout }, batch, ...request }: StepRequest): LastRequest {
  return { ...request, layout, entries: describe(batch) };
}

/** Whether a request is one for the same step. A run hands the same lists on until something freezes. */
function isLike(
  { run, batch, frozen, probed, since, wide, skipped }: StepRequest,
  last: LastRequest,
): boolean {
  return frozen === last.frozen && probed === last.probed && since === last.since && wide === last.wide &&
    skipped === last.skipped &&
    run.layout === last.layout && describe(batch) === last.entries;
}

function keyOf(request: StepRequest, groups: ReadonlyMap<Path, number>): string {
  return [
    request.frozen.toSorted().join(","),
    request.probed.toSorted().join(","),
    [...groups].map(([path, group]) => `${path}: ${group}`).join(","),
    shapesOf(request),
  ].join(" | ");
}

function shapesOf({ run, batch, wide }: StepRequest): string {
  return `${describe(batch)} | ${run.layout}${wide ? " | wide" : ""}`;
}

/** Whether a leaf is an entry of the batch. */
function isBatch(path: Path): boolean {
  return path.startsWith("batch.");
}

/** Where a plan may be cut. With probes it is not: they read values inside of what is frozen. */
function prefixOptions(
  { cachePrefix }: StepDefinition,
  { run, batch, probed }: StepRequest,
  replaced: ReadonlyMap<Path, Spec>,
): PrefixOptions | undefined {
  if (!cachePrefix || probed.length > 0) return undefined;
  const kindOf = (path: Path): "batch" | "fixed" | null =>
    isBatch(path) ? "batch" : run.params.has(path) && !replaced.has(path) ? "fixed" : null;
  return { samples: rowsOf(batch), kindOf };
}
