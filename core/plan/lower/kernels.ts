/**
 * Launches of ops that have their own kernel.
 *
 * @module
 */

import type { Tensor } from "../../tensor.ts";
import { pickedBy } from "../alias.ts";
import { isPick, isPlainData, writtenBy } from "../predicates.ts";
import { storedSpec } from "../storage.ts";
import { addUnit, type LowerContext } from "./context.ts";

/** Adds the launch of an op's own kernel, which binds the outputs that somebody reads. */
export function addKernel(context: LowerContext, node: Tensor): void {
  const { texts, table, places, target, targets, isHalf } = context;
  const { op, inputs, attrs } = node, specs = op.infer(inputs, attrs);
  const outputs = specs.map((spec, k) => storedSpec(spec, isHalf(node, k)));
  const wanted = outputs.map((_, k) => isRead(context, { node, output: k }));
  const stored = inputs.map((x) => storedSpec(x, isHalf(x)));
  const kernel = isPlainData(attrs) ? texts.remembered(op.kernel!) : op.kernel!;
  const call = kernel({ inputs: stored, outputs, wanted, attrs, target });
  const { reads = inputs.map((_, i) => i), writes = outputs.flatMap((_, k) => wanted[k] ? [k] : []) } = call;
  const overwritten = [...writtenBy(node), ...(targets.has(node) ? [targets.get(node)!] : [])];
  const operands = reads.map((i) => table.bufferOf(inputs[i]));
  const written = writes.map((k) => table.bufferOf(node, k));
  const { waits } = call;
  addUnit(context, {
    kernel: call.kernel,
    reads: waits === undefined ? operands : [...operands, ...waits.map((i) => table.bufferOf(inputs[i]))],
    writes: written,
    ...(waits !== undefined && { bindings: [...operands, ...written] }),
    priority: places.get(node)!,
    overwrites: overwritten.map((leaf) => table.bufferOf(leaf)),
    matmulFlops: op.matmulFlops?.(inputs, specs, attrs, wanted),
    ...(op.matmulFlops && { operands }),
    inPlace: call.alias && { ...call.alias, input: table.bufferOf(inputs[call.alias.input]) },
  });
}

/** Whether somebody reads an output of a node. */
function isRead(
  { fusion: { roots, readers } }: LowerContext,
  { node, output }: { readonly node: Tensor; readonly output: number },
): boolean {
  const all = readers.get(node)!;
  return output === 0
    ? roots.has(node) || all.some((reader) => !isPick(reader))
    : all.some((reader) => isPick(reader) && pickedBy(reader) === output);
}
