/**
 * What a node is to the planner. Passes ask here; only their own tables of rules name ops.
 *
 * @module
 */

import { addOp } from "../ops/arithmetic.ts";
import { broadcastOp, reduceSumOp, sumEachOp } from "../ops/broadcast.ts";
import { accumulateOp, matmulOp, matmulSumOp } from "../ops/matmul.ts";
import { reduceMaxOp } from "../ops/reduce.ts";
import { reshapeOp } from "../ops/movement.ts";
import { fillOp, type HostData, leafOp, scalarAtOp, stepScalarOp, stepTableOp } from "../sources.ts";
import { sameShape } from "../spec.ts";
import { pickOp, type Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { isKeptCopy } from "./kept_copy.ts";
import { isPart } from "./rows.ts";

/** Whether a node is elementwise. */
export function isElement(node: Tensor): boolean {
  return node.op.element !== undefined;
}

/** Whether no launch computes a node: it has no inputs, and its op has no kernel and no definition. */
export function isSource({ op, inputs }: Tensor): boolean {
  return inputs.length === 0 && op.element === undefined && op.kernel === undefined &&
    op.definition === undefined;
}

/** Whether a node is a parameter, an optimizer moment or a batch entry, some rows of one, or a copy that is kept of one. */
export function isLeaf(node: Tensor): boolean {
  return node.op === leafOp || isPart(node) || isKeptCopy(node);
}

/** The path of a leaf. */
export function pathOf(leaf: Tensor): Path {
  return (leaf.attrs as { path: Path }).path;
}

/** The values of a node that was made from values. */
export function dataOf(node: Tensor): HostData {
  return (node.attrs as { data: HostData }).data;
}

/** Whether two nodes apply the same op. */
export function isSameOp(a: Tensor, b: Tensor): boolean {
  return a.op === b.op;
}

/** Whether a node is a scalar that the host computes for each step. */
export function isStepScalar({ op }: Tensor): boolean {
  return op === stepScalarOp;
}

/** Whether a node holds values of step scalars by how many steps the device left out. */
export function isStepTable({ op }: Tensor): boolean {
  return op === stepTableOp;
}

/** Whether a node is one number of a list, read in the buffer of the list. */
export function isScalarAt({ op }: Tensor): boolean {
  return op === scalarAtOp;
}

/** Whether a node is one repeated number, which is written into the text of kernels. */
export function isConstant({ op }: Tensor): boolean {
  return op === fillOp;
}

/** The value of a constant node, or undefined. */
export function constant(node: Tensor): number | undefined {
  return node.op === fillOp ? (node.attrs as { value: number }).value : undefined;
}

/** Whether a node is a product, or a sum of products. */
export function isProduct({ op }: Tensor): boolean {
  return op === matmulOp || op === matmulSumOp;
}

/** Whether a node is a sum of products. */
export function isProductSum({ op }: Tensor): boolean {
  return op === matmulSumOp;
}

/** Whether a node adds a product to a sum so far, in one launch. */
export function isAccumulated({ op }: Tensor): boolean {
  return op === accumulateOp;
}

/** Whether a node reduces axes of a tensor. */
export function isReduction({ op }: Tensor): boolean {
  return op === reduceSumOp || op === reduceMaxOp;
}

/** Whether a node sums each of many tensors to one number. */
export function isSumEach({ op }: Tensor): boolean {
  return op === sumEachOp;
}

/** Whether a node repeats its input along axes. */
export function isBroadcast({ op }: Tensor): boolean {
  return op === broadcastOp;
}

/** Whether a node adds two tensors. */
export function isAdd({ op }: Tensor): boolean {
  return op === addOp;
}

/** Whether a node adds two tensors of its own shape. */
export function isPlainAdd(node: Tensor): boolean {
  const { inputs, shape } = node;
  return isAdd(node) && inputs.every((input) => sameShape(input.shape, shape));
}

/** Whether a node is its input in another shape, in the same buffer. */
export function isReshape({ op }: Tensor): boolean {
  return op === reshapeOp;
}

/** Whether a node is an output of its input, which has several. */
export function isPick({ op }: Tensor): boolean {
  return op === pickOp;
}

/** The leaves that the launch of a node changes in place, in the order of its outputs. */
export function writtenBy({ op, inputs }: Tensor): readonly Tensor[] {
  return inputs.slice(0, op.inPlace ?? 0);
}

/** Whether a node is another name for a buffer, so that no launch computes it. */
export function isAlias(node: Tensor): boolean {
  return isReshape(node) || isPick(node) || isScalarAt(node);
}

/**
 * Whether attributes are data that text tells apart: numbers, strings, lists and records. A function or a `Map` is not; such
 * nodes are never taken for equal.
 */
export function isPlainData(value: unknown): boolean {
  if (typeof value === "function" || typeof value === "symbol" || typeof value === "bigint") return false;
  if (typeof value !== "object" || value === null) return true;
  if (ArrayBuffer.isView(value)) return !(value instanceof DataView);
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype && !Array.isArray(value)) return false;
  return Object.values(value).every(isPlainData);
}

/**
 * Data as text, equal for equal data alone. JSON has one text for infinities and NaN, and one for both zeros.
 *
 * @param value The data
 * @param nameOf Names a function, of which plain data has none
 * @returns The text
 */
export function plainText(value: unknown, nameOf: (part: unknown) => string = String): string {
  const parts: string[] = [];
  const write = (value: unknown): void => {
    if (typeof value === "string") parts.push(`${value.length}"`, value);
    else if (typeof value === "function") parts.push(nameOf(value));
    else if (typeof value !== "object" || value === null) {
      parts.push(Object.is(value, -0) ? "-0" : `${value}`);
    } else if (Array.isArray(value)) {
      parts.push("[");
      for (let i = 0; i < value.length; i++) {
        write(value[i]);
        parts.push(",");
      }
      parts.push("]");
    } else {
      parts.push(ArrayBuffer.isView(value) ? `${value.constructor.name}{` : "{");
      for (const name of Object.keys(value)) {
        parts.push(name, ":");
        write((value as Readonly<Record<string, unknown>>)[name]);
        parts.push(",");
      }
      parts.push("}");
    }
  };
  write(value);
  return parts.join("");
}

/** Whether the planner can lower a node as it is, without its definition. */
export function isPlannable(node: Tensor): boolean {
  return isElement(node) || isSource(node) || node.op.kernel !== undefined || isAlias(node) ||
    isProduct(node) ||
    isReduction(node) || isSumEach(node);
}
