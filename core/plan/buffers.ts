/**
 * The numbered buffers of a plan.
 *
 * @module
 */

import { type AgedScalar, type HostData, isHost } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { pickedBy } from "./alias.ts";
import {
  dataOf,
  isPick,
  isReshape,
  isScalarAt,
  isSource,
  isStepScalar,
  isStepTable,
  writtenBy,
} from "./predicates.ts";
import { isResult } from "./rows.ts";
import { bytesOf, storedSpec } from "./storage.ts";
import type { Buffer, Prepared, Source, StepValue } from "./types.ts";

/** Numbers buffers in the order in which they are first asked for. */
export interface BufferTable {
  readonly buffers: readonly Buffer[];
  /** The contents of the buffer of scalars. */
  readonly scalars: readonly StepValue[];
  /** Adds a buffer for partial results, f32. */
  add(elements: number): number;
  /** Adds a buffer of constants. */
  constant(data: HostData): number;
  /** Number of the buffer of a node's output; the first output when absent. */
  bufferOf(node: Tensor, output?: number): number;
  /** The buffer of a scalar of the step, or of a list, and its index there. */
  scalarOf(node: Tensor): { readonly buffer: number; readonly index: number };
}

/**
 * Makes the table of buffers of a graph.
 *
 * @param graph `targets`: nodes that overwrite a leaf; `isHalf`: which outputs are stored as f16
 * @returns The table, empty at first
 */
export function bufferTable({ targets, isHalf }: Pick<Prepared, "targets" | "isHalf">): BufferTable {
  const buffers: Buffer[] = [], scalars: StepValue[] = [];
  const ids = new Map<Tensor, number[]>();
  let scalarBuffer = -1;
  const add = (buffer: Buffer): number => buffers.push(buffer) - 1;

  function bufferOf(node: Tensor, output = 0): number {
    if (isReshape(node) || isScalarAt(node)) return bufferOf(node.inputs[0]);
    if (isPick(node)) return bufferOf(node.inputs[0], pickedBy(node));
    const known = ids.get(node) ?? [];
    if (known[output] !== undefined) return known[output];
    if (targets.has(node)) known[output] = bufferOf(targets.get(node)!);
    else {
      const written = writtenBy(node)[output];
      const spec = output === 0 ? node : node.op.infer(node.inputs, node.attrs)[output];
      const source: Source | null = isHost(node)
        ? { kind: "host", data: dataOf(node) }
        : isStepTable(node)
        ? { kind: "table", ...node.attrs as { rows: readonly AgedScalar[]; columns: number } }
        : written !== undefined
        // A number of its own for the same memory, so that readers of the new value come after the launch.
        ? { kind: "leaf", node: written }
        : isSource(node)
        ? { kind: isResult(node) ? "result" : "leaf", node }
        : null;
      known[output] = add({ bytes: bytesOf(storedSpec(spec, isHalf(node, output))), source });
    }
    ids.set(node, known);
    return known[output];
  }

  function scalarOf(node: Tensor): { buffer: number; index: number } {
    if (!isStepScalar(node)) return { buffer: bufferOf(node), index: pickedBy(node) };
    const { value, group } = node.attrs as StepValue;
    if (scalarBuffer < 0) scalarBuffer = add({ bytes: 16, source: { kind: "scalars" } });
    const at = scalars.findIndex((known) => known.value === value && known.group === group);
    const index = at >= 0 ? at : scalars.push({ value, group }) - 1;
    buffers[scalarBuffer] = { source: { kind: "scalars" }, bytes: bytesOf({ shape: [scalars.length] }) };
    return { buffer: scalarBuffer, index };
  }

  return {
    buffers,
    scalars,
    add: (elements) => add({ bytes: bytesOf({ shape: [elements] }), source: null }),
    constant: (data) => add({ bytes: data.byteLength, source: { kind: "host", data } }),
    bufferOf,
    scalarOf,
  };
}
