/**
 * Finds gains and biases of norms that are composed of simple ops, as LayerNorm is of means, products and a root.
 *
 * A tensor is normalised when it is multiplied or divided by a root of a statistic of its own last axes. Parameters along
 * those axes that scale or shift it are gain and bias: after the normalisation, before it, or multiplied into the root.
 *
 * @module
 */

import { addOp, divideOp, multiplyOp, subtractOp } from "../../ops/arithmetic.ts";
import { rsqrtOp, sqrtOp } from "../../ops/functions.ts";
import { isBroadcast, isConstant, isElement, isLeaf, isReduction, isReshape } from "../../plan/predicates.ts";
import { sizeOf } from "../../spec.ts";
import type { Op, Tensor } from "../../tensor.ts";

const SCALING: ReadonlySet<Op> = new Set([multiplyOp, divideOp]);
const AFFINE: ReadonlySet<Op> = new Set([multiplyOp, divideOp, addOp, subtractOp]);
const ROOTS: ReadonlySet<Op> = new Set([sqrtOp, rsqrtOp]);

/** Values that have one element for each row of a tensor, or a row that is made of those and of parameters. */
interface Statistic {
  /** The tensors whose last axes were reduced. */
  readonly of: readonly Tensor[];
  /** Elements of a row: those that were reduced to one. */
  readonly width: number;
  /** Whether a root was taken. */
  readonly root: boolean;
  /** Parameters that scale or shift it. */
  readonly parameters: readonly Tensor[];
}

/**
 * Finds the parameters of composed norms.
 *
 * @param order Nodes of a graph, inputs first
 * @returns Leaves that are gain or bias of a norm
 */
export function normParameters(order: readonly Tensor[]): ReadonlySet<Tensor> {
  const statistics = new Map<Tensor, Statistic>(), found = new Set<Tensor>();
  // Normalised tensors, and the width of their rows.
  const normalised = new Map<Tensor, number>();
  for (const node of order) {
    const statistic = statisticOf(node, statistics);
    if (statistic !== null) {
      statistics.set(node, statistic);
      continue;
    }
    if (isView(node)) {
      const width = normalised.get(node.inputs[0]);
      if (width !== undefined && hasRows(node, width)) normalised.set(node, width);
      continue;
    }
    const made = normalisation(node, statistics) ?? affine(node, { statistics, normalised });
    if (made === null) continue;
    normalised.set(node, made.width);
    for (const leaf of made.parameters) found.add(leaf);
  }
  return found;
}

/** A statistic of rows, or an elementwise function of statistics, constants and parameters of a row. */
function statisticOf(node: Tensor, known: ReadonlyMap<Tensor, Statistic>): Statistic | null {
  if (isReduction(node)) {
    const [x] = node.inputs, { axis, count } = node.attrs as { axis: number; count: number };
    if (axis + count !== x.shape.length) return null;
    const inner = known.get(x), width = sizeOf(x.shape) / sizeOf(node.shape);
    // The mean over one axis of means over another.
    return inner === undefined
      ? { of: [x], width, root: false, parameters: [] }
      : { ...inner, width: inner.width * width };
  }
  if (!isView(node) && !isElement(node)) return null;
  const parts = node.inputs.flatMap((input) => known.get(input) ?? []);
  if (parts.length === 0 || parts.some(({ width }) => width !== parts[0].width)) return null;
  const [{ width }] = parts;
  const rows = node.inputs.filter((input) => !known.has(input)).map((input) => {
    const leaves = rowOf(input, { node, width });
    return leaves === null || leaves.length === 0 || AFFINE.has(node.op) ? leaves : null;
  });
  if (!rows.every((leaves) => leaves !== null)) return null;
  return {
    of: [...new Set(parts.flatMap((part) => part.of))],
    width,
    root: ROOTS.has(node.op) || parts.some(({ root }) => root),
    parameters: [...parts.flatMap(({ parameters }) => parameters), ...rows.flat()],
  };
}

/** What makes a tensor a normalised one. */
type Normalisation = Pick<Statistic, "width" | "parameters">;

/** Tells whether a node scales a tensor by a root of a statistic of its own rows; null when it does not. */
function normalisation(
  { op, inputs, shape }: Tensor,
  statistics: ReadonlyMap<Tensor, Statistic>,
): Normalisation | null {
  if (!SCALING.has(op)) return null;
  const scale = inputs.map((input) => statistics.get(input)).find((statistic) => statistic?.root);
  const rows = inputs.find((input) => !statistics.has(input));
  if (scale === undefined || rows === undefined) return null;
  const measured = scale.of.filter((x) => sizeOf(x.shape) === sizeOf(shape)).map(valuesIn);
  const own = valuesIn(rows);
  if (!measured.some((values) => [...values].some((value) => own.has(value)))) return null;
  const earlier = affineBefore(rows, { statistics, width: scale.width, measured });
  return { width: scale.width, parameters: [...scale.parameters, ...earlier] };
}

/** Tells whether a node scales or shifts a normalised tensor by a row; null when it does not. */
function affine(
  node: Tensor,
  { statistics, normalised }: {
    readonly statistics: ReadonlyMap<Tensor, Statistic>;
    readonly normalised: ReadonlyMap<Tensor, number>;
  },
): Normalisation | null {
  const rows = node.inputs.find((input) => normalised.has(input));
  const other = node.inputs.find((input) => !normalised.has(input));
  if (!AFFINE.has(node.op) || rows === undefined || other === undefined) return null;
  const width = normalised.get(rows)!;
  const parameters = statistics.get(other)?.parameters ?? rowOf(other, { node, width });
  return parameters && { width, parameters };
}

/** The parameters that scale or shift what is normalised after it was measured. */
function affineBefore(
  rows: Tensor,
  { statistics, width, measured }: {
    readonly statistics: ReadonlyMap<Tensor, Statistic>;
    readonly width: number;
    readonly measured: readonly ReadonlySet<Tensor>[];
  },
): readonly Tensor[] {
  const seen = new Set<Tensor>();
  const visit = (node: Tensor): readonly Tensor[] => {
    if (seen.has(node) || measured.some((values) => values.has(node))) return [];
    seen.add(node);
    if (isView(node)) return visit(node.inputs[0]);
    if (!AFFINE.has(node.op)) return [];
    return node.inputs.flatMap((input) =>
      statistics.get(input)?.parameters ?? rowOf(input, { node, width }) ?? visit(input)
    );
  };
  return visit(rows);
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

/** The leaves that a row is an elementwise function of, none for a constant; null for any other tensor. */
function rowOf(
  x: Tensor,
  { node, width }: { readonly node: Tensor; readonly width: number },
): readonly Tensor[] | null {
  const base = baseOf(x);
  if (isConstant(base)) return [];
  if (sizeOf(base.shape) !== width || x.shape.at(-1) !== node.shape.at(-1) || !hasRows(node, width)) {
    return null;
  }
  if (isLeaf(base)) return [base];
  if (!isElement(base)) return null;
  const parts = base.inputs.map((input) => rowOf(input, { node: base, width }));
  return parts.every((part) => part !== null) ? parts.flat() : null;
}

/** Whether the last axes of a tensor have so many elements. */
function hasRows({ shape }: Tensor, width: number): boolean {
  return shape.some((_, axis) => sizeOf(shape.slice(axis)) === width);
}

/** Whether a node shows its input as it is, in another shape. */
function isView(node: Tensor): boolean {
  return isReshape(node) || isBroadcast(node);
}

function baseOf(node: Tensor): Tensor {
  return isView(node) ? baseOf(node.inputs[0]) : node;
}
