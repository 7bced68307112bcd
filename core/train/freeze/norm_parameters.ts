/**
 * Finds gains and biases of norms that are composed of simple ops, as LayerNorm is of means, products and a root.
 *
 * A tensor is normalised when it is multiplied or divided by a root of a statistic of its own last axis. Vectors along that
 * axis which scale or shift it afterwards are gain and bias.
 *
 * Legend: C channels, the size of the last axis.
 *
 * @module
 */

import { addOp, divideOp, multiplyOp, subtractOp } from "../../ops/arithmetic.ts";
import { rsqrtOp, sqrtOp } from "../../ops/functions.ts";
import { isBroadcast, isConstant, isElement, isLeaf, isReduction, isReshape } from "../../plan/predicates.ts";
import { type Op, sizeOf, type Tensor } from "../../tensor.ts";

const SCALING: ReadonlySet<Op> = new Set([multiplyOp, divideOp]);
const AFFINE: ReadonlySet<Op> = new Set([multiplyOp, divideOp, addOp, subtractOp]);
const ROOTS: ReadonlySet<Op> = new Set([sqrtOp, rsqrtOp]);

/** Values that have one element for each row of a tensor. */
interface Statistic {
  /** The tensors whose last axis was reduced. */
  readonly of: readonly Tensor[];
  /** Whether a root was taken. */
  readonly root: boolean;
}

/**
 * Finds the parameters of composed norms.
 *
 * @param order Nodes of a graph, inputs first
 * @returns Leaves that are gain or bias of a norm
 */
export function normParameters(order: readonly Tensor[]): ReadonlySet<Tensor> {
  const statistics = new Map<Tensor, Statistic>(), normalised = new Set<Tensor>(), found = new Set<Tensor>();
  for (const node of order) {
    const statistic = statisticOf(node, statistics);
    if (statistic !== null) statistics.set(node, statistic);
    else if (isView(node)) {
      if (normalised.has(node.inputs[0]) && node.shape.at(-1) === node.inputs[0].shape.at(-1)) {
        normalised.add(node);
      }
    } else if (isNormalised(node, statistics)) normalised.add(node);
    else if (AFFINE.has(node.op)) {
      const rows = node.inputs.find((input) => normalised.has(input));
      const other = node.inputs.find((input) => !normalised.has(input));
      const vector = rows === undefined || other === undefined ? null : vectorOf(other, node);
      if (vector === null) continue;
      normalised.add(node);
      for (const leaf of vector) found.add(leaf);
    }
  }
  return found;
}

/** A statistic of rows, or an elementwise function of statistics and constants alone. */
function statisticOf(node: Tensor, known: ReadonlyMap<Tensor, Statistic>): Statistic | null {
  if (isReduction(node)) {
    const [x] = node.inputs, { axis, count } = node.attrs as { axis: number; count: number };
    return axis + count === x.shape.length && count === 1 ? { of: [x], root: false } : null;
  }
  if (!isView(node) && !isElement(node)) return null;
  const varying = node.inputs.filter((input) => !isConstant(baseOf(input)));
  if (varying.length === 0 || !varying.every((input) => known.has(input))) return null;
  const parts = varying.map((input) => known.get(input)!);
  return {
    of: [...new Set(parts.flatMap((part) => part.of))],
    root: ROOTS.has(node.op) || parts.some(({ root }) => root),
  };
}

/** Whether a node scales a tensor by a root of a statistic of its own rows. */
function isNormalised({ op, inputs, shape }: Tensor, statistics: ReadonlyMap<Tensor, Statistic>): boolean {
  if (!SCALING.has(op)) return false;
  const scale = inputs.map((input) => statistics.get(input)).find((statistic) => statistic?.root);
  const rows = inputs.find((input) => !statistics.has(input));
  if (scale === undefined || rows === undefined) return false;
  const own = valuesIn(rows);
  return scale.of.some((x) =>
    sizeOf(x.shape) === sizeOf(shape) && [...valuesIn(x)].some((value) => own.has(value))
  );
}

/** A tensor and the tensors of its size that it is an elementwise function of. */
function valuesIn(x: Tensor): ReadonlySet<Tensor> {
  const values = new Set<Tensor>();
  const visit = (node: Tensor): void => {
    if (values.has(node) || sizeOf(node.shape) !== sizeOf(x.shape)) return;
    values.add(node);
    if (isElement(node) || isView(node)) node.inputs.forEach(visit);
  };
  visit(x);
  return values;
}

/** The leaves that a vector [C] is an elementwise function of, none for a constant; null for any other tensor. */
function vectorOf(x: Tensor, { shape }: Tensor): readonly Tensor[] | null {
  const base = baseOf(x);
  if (isConstant(base)) return [];
  if (sizeOf(base.shape) !== shape.at(-1) || x.shape.at(-1) !== shape.at(-1)) return null;
  if (isLeaf(base)) return [base];
  if (!isElement(base)) return null;
  const parts = base.inputs.map((input) =>
    vectorOf(input, { ...base, shape: [...base.shape.slice(0, -1), shape.at(-1)!] })
  );
  return parts.every((part) => part !== null) ? parts.flat() : null;
}

/** Whether a node shows its input as it is, in another shape. */
function isView(node: Tensor): boolean {
  return isReshape(node) || isBroadcast(node);
}

function baseOf(node: Tensor): Tensor {
  return isView(node) ? baseOf(node.inputs[0]) : node;
}
