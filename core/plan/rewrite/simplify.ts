/**
 * Merges equal nodes and removes arithmetic that changes nothing.
 *
 * @module
 */

import { rebuild } from "../../graph.ts";
import { addOp, divideOp, multiplyOp, negateOp, subtractOp } from "../../ops/arithmetic.ts";
import { broadcastOp, reduceSumOp } from "../../ops/broadcast.ts";
import { concat, concatOp, pad, padOp, reshape, reshapeOp, sliceOp } from "../../ops/movement.ts";
import { reduceMaxOp } from "../../ops/reduce.ts";
import { stopGradientOp } from "../../ops/stop_gradient.ts";
import { fill, isHost } from "../../sources.ts";
import { sameShape, sizeOf } from "../../spec.ts";
import type { Op, Tensor } from "../../tensor.ts";
import {
  constant,
  dataOf,
  isConstant,
  isElement,
  isLeaf,
  isPlainData,
  isSameOp,
  isSource,
  isStepScalar,
  plainText,
} from "../predicates.ts";

/**
 * Merges equal nodes and removes arithmetic that changes nothing. Dead nodes vanish, as nothing reaches them.
 *
 * @param roots Roots of the graph
 * @returns Equivalent roots
 */
export function simplify(roots: readonly Tensor[]): Tensor[] {
  const keyOf = nodeKeys(), known = new Map<string, Tensor>();
  return rebuild(roots, (node) => {
    const simple = RULES.get(node.op)?.(node) ?? foldConstants(node), key = keyOf(simple);
    if (key === null) return simple;
    const twin = known.get(key);
    if (twin !== undefined) return twin;
    known.set(key, simple);
    return simple;
  });
}

/**
 * Makes a function that gives equal nodes equal strings, and null to nodes that may differ although they look alike: a
 * source whose value only the runtime knows, or a node whose attributes are not plain data. What a node is made of decides its shape.
 */
function nodeKeys(): (node: Tensor) => string | null {
  const ids = new Map<unknown, number>();
  const id = (value: unknown): number => {
    let known = ids.get(value);
    if (known === undefined) ids.set(value, known = ids.size);
    return known;
  };
  return (node) => {
    const { op, inputs, attrs, shape } = node;
    if (inputs.length === 0 && isSource(node)) {
      if (isHost(node)) return `host ${id(dataOf(node))} ${shape}`;
      if (isStepScalar(node)) {
        const { value, group } = attrs as { value: unknown; group: number };
        return `step ${id(value)} ${group}`;
      }
      if (!isLeaf(node) && !isConstant(node)) return null;
    }
    if (!isPlainData(attrs)) return null;
    let key = `${id(op)}`;
    for (const input of inputs) key += ` ${id(input)}`;
    return attrs === null ? key : key + plainText(attrs);
  };
}

/** What a node equals, given that its inputs are simple already; null where the rule does not apply. */
type Rule = (node: Tensor) => Tensor | null;

const RULES: ReadonlyMap<Op, Rule> = new Map<Op, Rule>([
  [reshapeOp, (node) => sameAsInput(node) ?? joinReshapes(node) ?? repeatConstant(node)],
  [broadcastOp, (node) => sameAsInput(node) ?? repeatConstant(node)],
  [stopGradientOp, sameAsInput],
  [padOp, sameAsInput],
  [sliceOp, sameAsInput],
  [addOp, (node) => dropNeutral(node, { value: 0 }) ?? joinPads(node)],
  [subtractOp, (node) => dropNeutral(node, { value: 0, right: true })],
  [multiplyOp, (node) => dropNeutral(node, { value: 1 })],
  [divideOp, (node) => dropNeutral(node, { value: 1, right: true })],
  [reduceSumOp, reduceOnes],
  [reduceMaxOp, reduceOnes],
  [negateOp, (node) => undo(node)],
]);

/** Whether a tensor has the shape and type of a node. */
function fits(x: Tensor, node: Tensor): boolean {
  return sameShape(x.shape, node.shape) && x.dtype === node.dtype;
}

function sameAsInput(node: Tensor): Tensor | null {
  const [x] = node.inputs;
  return fits(x, node) ? x : null;
}

/** A reshape of a reshape is one reshape, or none. */
function joinReshapes(node: Tensor): Tensor | null {
  const [inner] = node.inputs;
  if (!isSameOp(inner, node)) return null;
  return fits(inner.inputs[0], node) ? inner.inputs[0] : { ...node, inputs: inner.inputs };
}

function repeatConstant(node: Tensor): Tensor | null {
  const value = constant(node.inputs[0]);
  return value === undefined ? null : fill(value, node.shape);
}

/** Drops an operand that changes nothing: of either side, or of the right side alone. */
function dropNeutral(
  node: Tensor,
  { value, right = false }: { readonly value: number; readonly right?: boolean },
): Tensor | null {
  const [a, b] = node.inputs;
  if (!right && constant(a) === value && fits(b, node)) return b;
  return constant(b) === value && fits(a, node) ? a : null;
}

/** A reduction of axes of one element is a reshape. */
function reduceOnes(node: Tensor): Tensor | null {
  const [x] = node.inputs;
  return sizeOf(x.shape) === sizeOf(node.shape) && x.dtype === node.dtype ? reshape(x, node.shape) : null;
}

/** An op that undoes itself, done twice. */
function undo(node: Tensor): Tensor | null {
  const [inner] = node.inputs;
  return isSameOp(inner, node) && fits(inner.inputs[0], node) ? inner.inputs[0] : null;
}

/** Computes an elementwise node of constants; any other node stays. */
function foldConstants(node: Tensor): Tensor {
  if (!isElement(node) || !node.inputs.every(isConstant)) return node;
  return fill(node.op.element!.value(...node.inputs.map((input) => constant(input)!)), node.shape);
}

interface Padding {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const paddingOf = (node: Tensor): Padding => node.attrs as Padding;

/** A sum of padded tensors that lie side by side, as gradients of slices do, is those tensors joined. */
function joinPads(node: Tensor): Tensor | null {
  const terms = paddedTerms(node);
  if (terms === null) return null;
  const { before: low, after: high } = paddingOf(terms[0]);
  const axis = low.findIndex((n, d) => terms.some((t) => paddingOf(t).before[d] !== n));
  const sorted = terms.toSorted((a, b) => paddingOf(a).before[axis] - paddingOf(b).before[axis]);
  let end = axis < 0 ? NaN : paddingOf(sorted[0]).before[axis];
  for (const term of sorted) {
    const { before, after } = paddingOf(term);
    const alike = before.every((n, d) => d === axis || (n === low[d] && after[d] === high[d]));
    if (!alike || before[axis] !== end) return null;
    end += term.inputs[0].shape[axis];
  }
  const partsOf = (x: Tensor): readonly Tensor[] =>
    x.op === concatOp && (x.attrs as { axis: number }).axis === axis ? x.inputs.flatMap(partsOf) : [x];
  const joined = concat(sorted.flatMap(({ inputs: [x] }) => partsOf(x)), axis);
  const { before } = paddingOf(sorted[0]), { after } = paddingOf(sorted.at(-1)!);
  return sameShape(joined.shape, node.shape) ? joined : pad(joined, { before, after });
}

/** The terms of a sum, if all of them are padded tensors. */
function paddedTerms({ shape, dtype, inputs }: Tensor): Tensor[] | null {
  if (!inputs.some(({ op }) => op === padOp)) return null;
  const terms: Tensor[] = [];
  for (const input of inputs) {
    if (!sameShape(input.shape, shape) || input.dtype !== dtype) return null;
    const own = input.op === padOp ? [input] : input.op === addOp ? paddedTerms(input) : null;
    if (own === null) return null;
    terms.push(...own);
  }
  return terms;
}
