/**
 * Merges equal nodes and removes arithmetic that changes nothing.
 *
 * @module
 */

import { rebuild } from "../../graph.ts";
import { concat, pad, reshape } from "../../ops/movement.ts";
import { fill, fillOp, hostOp, sameShape, sizeOf, stepScalarOp, type Tensor } from "../../tensor.ts";
import { constant } from "../predicates.ts";

/**
 * Merges equal nodes and removes arithmetic that changes nothing. Dead nodes vanish, as nothing reaches them.
 *
 * @param roots Roots of the graph
 * @returns Equivalent roots
 */
export function simplify(roots: readonly Tensor[]): Tensor[] {
  const ids = new Map<unknown, number>(), known = new Map<string, Tensor>();
  const id = (value: unknown): number => {
    let known = ids.get(value);
    if (known === undefined) ids.set(value, known = ids.size);
    return known;
  };
  return rebuild(roots, (node) => {
    const simple = simplifyNode(node);
    if (simple.op === hostOp && simple.inputs.length === 0) {
      const { data } = simple.attrs as { data: unknown };
      return merge(`host ${id(data)} ${simple.shape}`, simple);
    }
    if (simple.op.distinct) return simple;
    if (simple.op === stepScalarOp) {
      const { value, group } = simple.attrs as { value: unknown; group: number };
      return merge(`step ${id(value)} ${group}`, simple);
    }
    let key = `${id(simple.op)} ${simple.shape}`;
    for (const input of simple.inputs) key += ` ${id(input)}`;
    return merge(simple.attrs === null ? key : key + JSON.stringify(simple.attrs, exact), simple);
  });

  function merge(key: string, node: Tensor): Tensor {
    const twin = known.get(key);
    if (twin !== undefined) return twin;
    known.set(key, node);
    return node;
  }
}

/** JSON has no word for infinities, NaN and negative zero. */
function exact(_: string, value: unknown): unknown {
  return typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))
    ? `number ${Object.is(value, -0) ? "-0" : value}`
    : value;
}

/** Removes a node that computes nothing new; one step, as inputs are simple already. */
function simplifyNode(node: Tensor): Tensor {
  const [a, b] = node.inputs;
  const keeps = (x: Tensor): boolean => sameShape(x.shape, node.shape) && x.dtype === node.dtype;
  switch (node.op.name) {
    case "reshape":
      if (keeps(a)) return a;
      if (a.op === node.op) return keeps(a.inputs[0]) ? a.inputs[0] : { ...node, inputs: a.inputs };
      if (a.op === fillOp) return fill(constant(a)!, node.shape);
      return node;
    case "broadcast":
      if (keeps(a)) return a;
      if (a.op === fillOp) return fill(constant(a)!, node.shape);
      return node;
    case "pad":
    case "slice":
      return keeps(a) ? a : node;
    case "add": {
      if (constant(a) === 0 && keeps(b)) return b;
      if (constant(b) === 0 && keeps(a)) return a;
      const joined = sideBySide(node);
      if (joined !== null) return joined;
      break;
    }
    case "subtract":
      if (constant(b) === 0 && keeps(a)) return a;
      break;
    case "multiply":
      if (constant(a) === 1 && keeps(b)) return b;
      if (constant(b) === 1 && keeps(a)) return a;
      break;
    case "divide":
      if (constant(b) === 1 && keeps(a)) return a;
      break;
    case "reduce":
      // Over axes of one element.
      if (sizeOf(a.shape) === sizeOf(node.shape) && a.dtype === node.dtype) return reshape(a, node.shape);
      break;
    case "negate":
      if (a.op === node.op && keeps(a.inputs[0])) return a.inputs[0];
      break;
  }
  if (node.op.element !== undefined && node.inputs.every((i) => i.op === fillOp)) {
    return fill(node.op.element.value(...node.inputs.map((i) => constant(i)!)), node.shape);
  }
  return node;
}

interface Padding {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** Sums of tensors among zeros that lie side by side, as gradients of slices do, are those joined; null for others. */
function sideBySide(node: Tensor): Tensor | null {
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
    x.op.name === "concat" && (x.attrs as { axis: number }).axis === axis ? x.inputs.flatMap(partsOf) : [x];
  const joined = concat(sorted.flatMap(({ inputs: [x] }) => partsOf(x)), axis);
  const { before } = paddingOf(sorted[0]), { after } = paddingOf(sorted.at(-1)!);
  return sameShape(joined.shape, node.shape) ? joined : pad(joined, { before, after });
}

const paddingOf = (node: Tensor): Padding => node.attrs as Padding;

/** What a sum adds up where all of it are tensors among zeros. */
function paddedTerms({ shape, dtype, inputs }: Tensor): Tensor[] | null {
  if (!inputs.some((input) => input.op.name === "pad")) return null;
  const terms: Tensor[] = [];
  for (const input of inputs) {
    if (!sameShape(input.shape, shape) || input.dtype !== dtype) return null;
    const own = input.op.name === "pad" ? [input] : input.op.name === "add" ? paddedTerms(input) : null;
    if (own === null) return null;
    terms.push(...own);
  }
  return terms;
}
