/**
 * From elementwise nodes to the expression that a kernel computes.
 *
 * @module
 */

import type { Expression, Operand, Step } from "../../../kernels/expression.ts";
import { sameShape } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { constant, isConstant, isElement, isScalarAt, isStepScalar } from "../predicates.ts";
import { storedSpec } from "../storage.ts";
import { operandType, stridesIn } from "../strides.ts";
import type { IsHalf } from "../types.ts";

/** An expression, and what its inputs and steps stand for. */
export interface Code {
  readonly expression: Expression;
  /** Buffer of each input. */
  readonly loads: readonly number[];
  /** Index of the step that computes a node. */
  readonly stepOf: ReadonlyMap<Tensor, number>;
}

/** Where the values of nodes are. */
export interface CodegenOptions {
  /** Elementwise nodes that are in memory; all others are computed again. */
  readonly stored: ReadonlySet<Tensor>;
  readonly isHalf: IsHalf;
  bufferOf(node: Tensor): number;
  /** The buffer of a scalar of the step, or of a list, and its index there. */
  scalarOf(node: Tensor): { readonly buffer: number; readonly index: number };
}

/**
 * Writes the expression that computes some nodes.
 *
 * @param results The nodes, in memory or not
 * @param options `shape`: the iteration space; `given`: a node whose value is the variable `acc`
 * @returns The expression
 */
export function codegen(
  results: readonly Tensor[],
  options: CodegenOptions & { readonly shape: readonly number[]; readonly given?: Tensor },
): Code {
  const { shape, given, stored, isHalf, bufferOf, scalarOf } = options;
  const steps: Step[] = [], inputs: Operand[] = [], loads: number[] = [];
  const stepOf = new Map<Tensor, number>();
  const own = new Set(results);
  const operand = (buffer: number, type: Operand["type"], strides: readonly number[]): number => {
    for (let i = 0; i < loads.length; i++) {
      if (loads[i] === buffer && sameShape(inputs[i].strides, strides)) return i;
    }
    loads.push(buffer);
    return inputs.push({ type, strides }) - 1;
  };
  const isComputed = (node: Tensor): boolean =>
    isElement(node) && (own.has(node) || !stored.has(node)) && baseOf(node) !== given;
  const stepFor = (node: Tensor): Step => {
    if (given !== undefined && baseOf(node) === given) return { kind: "given", name: "acc" };
    if (isConstant(node)) return { kind: "constant", value: constant(node)! };
    if (isStepScalar(node) || isScalarAt(node)) {
      const { buffer, index } = scalarOf(node);
      return { kind: "scalar", input: operand(buffer, "f32", shape.map(() => 0)), index };
    }
    if (isComputed(node)) {
      return { kind: "compute", text: node.op.element!.text, args: node.inputs.map((i) => stepOf.get(i)!) };
    }
    const type = operandType(storedSpec(node, isHalf(node)));
    return { kind: "load", input: operand(bufferOf(node), type, stridesIn(node.shape, shape)) };
  };
  // Inputs first, without recursion: a chain may be longer than the stack.
  const open = results.toReversed();
  while (open.length > 0) {
    const node = open.at(-1)!;
    const input = isComputed(node) ? node.inputs.find((i) => !stepOf.has(i)) : undefined;
    if (input !== undefined && !stepOf.has(node)) open.push(input);
    else {
      open.pop();
      if (!stepOf.has(node)) stepOf.set(node, steps.push(stepFor(node)) - 1);
    }
  }
  return { expression: { shape, inputs, steps }, loads, stepOf };
}
