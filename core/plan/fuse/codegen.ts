/**
 * From elementwise nodes to the program that computes them.
 *
 * @module
 */

import type { Expression, Operand, Step } from "../../../kernels/expression.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { constant, isConstant, isElement, isStepScalar } from "../predicates.ts";
import { storedSpec } from "../storage.ts";
import { operandType, stridesIn } from "../strides.ts";
import type { IsHalf } from "../types.ts";

/** A program and the buffers that its inputs are. */
export interface Expressed {
  readonly expression: Expression;
  readonly loads: readonly number[];
  readonly stepOf: ReadonlyMap<Tensor, number>;
}

/** What programs read. */
export interface ExpressOptions {
  /** Elementwise nodes that are in memory. */
  readonly stored: ReadonlySet<Tensor>;
  readonly isHalf: IsHalf;
  bufferOf(node: Tensor): number;
  /** Where the step's scalars are, and the place of one among them. */
  scalarOf(node: Tensor): { readonly buffer: number; readonly index: number };
}

/**
 * Writes the program that computes some nodes.
 *
 * @param results The nodes, in memory or not
 * @param options `shape`: the iteration space; `given`: a node whose value is the variable `acc`
 * @returns The program
 */
export function express(
  results: readonly Tensor[],
  options: ExpressOptions & { readonly shape: readonly number[]; readonly given?: Tensor },
): Expressed {
  const { shape, given, stored, isHalf, bufferOf, scalarOf } = options;
  const steps: Step[] = [], inputs: Operand[] = [], loads: number[] = [];
  const stepOf = new Map<Tensor, number>(), operandOf = new Map<string, number>();
  const own = new Set(results);
  const operand = (buffer: number, type: Operand["type"], strides: readonly number[]): number => {
    const key = `${buffer} ${strides}`;
    if (!operandOf.has(key)) {
      operandOf.set(key, inputs.push({ type, strides }) - 1);
      loads.push(buffer);
    }
    return operandOf.get(key)!;
  };
  const isComputed = (node: Tensor): boolean =>
    isElement(node) && (own.has(node) || !stored.has(node)) && baseOf(node) !== given;
  const stepFor = (node: Tensor): Step => {
    if (given !== undefined && baseOf(node) === given) return { kind: "given", name: "acc" };
    if (isConstant(node)) return { kind: "constant", value: constant(node)! };
    if (isStepScalar(node)) {
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
