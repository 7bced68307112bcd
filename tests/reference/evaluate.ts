/**
 * The value of a graph, node by node, in float64. Shares no code with the planner or the kernels.
 *
 * @module
 */

import type { StepFunction, Tensor } from "@firn/train";
import { erf, erfc } from "./erf.ts";
import { concat, fold, map, matmul, pad, permute, reshape, slice, total } from "./ops.ts";
import { build, type Values } from "./values.ts";

/** What each elementwise op computes, by its name. */
export const ELEMENT: Readonly<Record<string, (...args: number[]) => number>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
  maximum: (a, b) => a > b ? a : b,
  minimum: (a, b) => a < b ? a : b,
  less: (a, b) => a < b ? 1 : 0,
  equal: (a, b) => a === b ? 1 : 0,
  where: (condition, a, b) => condition !== 0 ? a : b,
  negate: (a) => -a,
  exp: (a) => Math.exp(a),
  log: (a) => Math.log(a),
  sqrt: (a) => Math.sqrt(a),
  rsqrt: (a) => 1 / Math.sqrt(a),
  abs: (a) => a < 0 ? -a : a,
  sign: (a) => a > 0 ? 1 : a < 0 ? -1 : 0,
  tanh: (a) => Math.tanh(a),
  sigmoid: (a) => 1 / (1 + Math.exp(-a)),
  cast: (a) => a,
  integers: (a) => Math.round(a),
  stopGradient: (a) => a,
  pow: (a, b) => Math.pow(a, b),
  sin: (a) => Math.sin(a),
  cos: (a) => Math.cos(a),
  erf,
  normalCdf: (a) => erfc(-a / Math.SQRT2) / 2,
  softplus: (a) => Math.log1p(Math.exp(a)),
};

// deno-lint-ignore no-explicit-any
type Attrs = any;

/** What the other ops compute, by their names. */
const OPS: Readonly<Record<string, (inputs: readonly Values[], attrs: Attrs) => Values>> = {
  host: (_, { data, spec }) => ({ shape: spec.shape, data: Float64Array.from(data) }),
  fill: (_, { value, shape }) => build(shape, () => value),
  stepScalar: (_, { value }) => build([], () => (value as StepFunction)(1, 1)),
  reshape: ([x], { shape }) => reshape(x, shape),
  broadcast: ([x], { shape }) => map((a) => a, x, build(shape, () => 0)),
  permute: ([x], { axes }) => permute(x, axes),
  slice: ([x], attrs) => slice(x, attrs),
  pad: ([x], attrs) => pad(x, attrs),
  concat: (all, { axis }) => concat(all, axis),
  matmul: ([a, b], attrs) => matmul(a, b, attrs),
  sumEach: (all, { size }) => build([size], ([i]) => i < all.length ? total([...all[i].data]) : 0),
  reduce: ([x], { axis, count, kind }) =>
    fold(x, {
      axes: Array.from({ length: count }, (_, i) => axis + i),
      join: kind === "sum" ? total : (parts) => Math.max(...parts),
    }),
};

/**
 * Evaluates graphs at step 1.
 *
 * @param roots What to evaluate
 * @param leaves Values of the leaves, by path
 * @returns The value of each root
 * @throws {TypeError} When an op is not known here
 */
export function evaluate(roots: readonly Tensor[], leaves: ReadonlyMap<string, Values>): Values[] {
  const known = new Map<Tensor, Values>();
  const stack = [...roots];
  while (stack.length > 0) {
    const node = stack.at(-1)!;
    const open = node.inputs.filter((input) => !known.has(input));
    if (known.has(node) || open.length === 0) stack.pop();
    if (open.length > 0) stack.push(...open);
    else if (!known.has(node)) known.set(node, valueOf(node, node.inputs.map((i) => known.get(i)!), leaves));
  }
  return roots.map((root) => known.get(root)!);
}

function valueOf(
  { op, attrs }: Tensor,
  inputs: readonly Values[],
  leaves: ReadonlyMap<string, Values>,
): Values {
  if (op.name === "leaf") return leaves.get((attrs as { path: string }).path)!;
  if (OPS[op.name] !== undefined) return OPS[op.name](inputs, attrs);
  if (ELEMENT[op.name] === undefined) throw new TypeError(`Cannot evaluate "${op.name}": not known`);
  return map(ELEMENT[op.name], ...inputs);
}
