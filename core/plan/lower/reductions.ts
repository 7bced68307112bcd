/**
 * Launches of reductions, and of sums of partial sums that elementwise kernels write.
 *
 * @module
 */

import { partialCount } from "../../../kernels/elementwise.ts";
import type { Expression } from "../../../kernels/expression.ts";
import { MOST_ROUNDS } from "../../../kernels/rows.ts";
import {
  collect,
  columnPieces,
  reduce as reduceText,
  reduceThreads,
  type Run,
  RUN_FIELDS,
} from "../../../kernels/reduce.ts";
import type { ReduceAttrs } from "../../ops/broadcast.ts";
import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { codegen } from "../fuse/codegen.ts";
import { isElement } from "../predicates.ts";
import { storedSpec } from "../storage.ts";
import { loadAll } from "../strides.ts";
import { addUnit, type LowerContext } from "./context.ts";

/** Adds the launch of a reduction, which also computes an input that is not stored: two launches for long columns. */
export function addReduction(context: LowerContext, node: Tensor): void {
  const { table, places, target, isHalf, texts } = context, reduce = texts.remembered(reduceText);
  const { axis, count, kind } = node.attrs as ReduceAttrs, [{ shape }] = node.inputs;
  const outer = sizeOf(shape.slice(0, axis)), inner = sizeOf(shape.slice(axis + count));
  const length = sizeOf(shape.slice(axis, axis + count));
  const { expression, loads } = inputOf(context, node.inputs[0]);
  const few = target.software && length <= (length % 4 === 0 ? 4 : 1) * MOST_ROUNDS;
  const threads = few ? 1 : reduceThreads(length);
  const pieces = columnPieces({ outer, length, inner, threads });
  const label = `${kind} ${outer}x${length}x${inner}`;
  const priority = places.get(node)!, half = isHalf(node);
  if (pieces === 1) {
    const kernel = reduce({ expression, outer, length, inner, kind, threads, label, half });
    addUnit(context, { kernel, reads: loads, writes: [table.bufferOf(node)], priority });
    return;
  }
  const scratch = table.add(outer * pieces * inner);
  const kernel = reduce({ expression, outer, length, inner, kind, threads, label });
  addUnit(context, { kernel, reads: loads, writes: [scratch], priority });
  // 64 pieces or fewer: the second launch never splits again.
  const join = reduce({
    expression: loadAll({ shape: [outer * pieces * inner], dtype: "f32" }),
    outer,
    length: pieces,
    inner,
    kind,
    threads,
    label: `${label} join`,
    half,
  });
  addUnit(context, { kernel: join, reads: [scratch], writes: [table.bufferOf(node)], priority });
}

/** The expression that computes or loads the input of a reduction. */
function inputOf(
  { fusion: { stored }, table, isHalf }: LowerContext,
  x: Tensor,
): { readonly expression: Expression; readonly loads: readonly number[] } {
  if (!isElement(x) || stored.has(x)) {
    return { expression: loadAll(storedSpec(x, isHalf(x))), loads: [table.bufferOf(x)] };
  }
  return codegen([x], {
    stored,
    isHalf,
    bufferOf: (node) => table.bufferOf(node),
    scalarOf: (node) => table.scalarOf(node),
    shape: x.shape,
  });
}

/** Adds the launches that add up partial sums. Each writes as many totals as its bindings allow. */
export function addSums(context: LowerContext, node: Tensor): void {
  const { table, places, target } = context;
  const most = target.maxBindings - 2, { size } = node.attrs as { size: number };
  for (let place = 0; place < size;) {
    const { reads, runs } = runsFrom(context, { node, place, most });
    place += runs.length;
    // The number of inputs is rounded up to a power of two, and one is repeated: few kernels serve any number of sums.
    const inputs = Math.min(most, 2 ** Math.ceil(Math.log2(reads.length)));
    const filled = Array.from({ length: inputs }, (_, i) => reads[Math.min(i, reads.length - 1)]);
    const numbers = table.constant(
      Uint32Array.from(runs.flatMap((run) => RUN_FIELDS.map((field) => run[field]))),
    );
    const writes = [table.bufferOf(node)];
    addUnit(context, {
      kernel: collect({ inputs, runs }),
      reads: [numbers, ...reads],
      writes,
      priority: places.get(node)!,
      bindings: [numbers, ...filled, ...writes],
    });
  }
}

/** The partial sums that one launch can read, from a total on. */
function runsFrom(
  { fusion: { clusterOf }, partials, target }: LowerContext,
  { node, place, most }: { readonly node: Tensor; readonly place: number; readonly most: number },
): { readonly reads: readonly number[]; readonly runs: readonly Run[] } {
  const reads: number[] = [], runs: Run[] = [], { size } = node.attrs as { size: number };
  for (let at = place; at < size; at++) {
    const input = node.inputs[at];
    if (input === undefined) {
      runs.push({ input: 0, start: 0, count: 0, place: at });
      continue;
    }
    const cluster = clusterOf.get(input)!, { buffer, row } = partials.get(cluster)!;
    if (!reads.includes(buffer)) {
      if (reads.length === most) break;
      reads.push(buffer);
    }
    const count = partialCount(sizeOf(input.shape), target);
    const start = (row + cluster.summed.indexOf(input)) * count;
    runs.push({ input: reads.indexOf(buffer), start, count, place: at });
  }
  return { reads, runs };
}
