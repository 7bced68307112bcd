/**
 * How ops compute some rows of a result that is larger than one binding.
 *
 * @module
 */

import { add, cast, subtract } from "../../ops/arithmetic.ts";
import { type ReduceAttrs, reduceSumOp } from "../../ops/broadcast.ts";
import { less, maximum, minimum, where } from "../../ops/comparison.ts";
import { embeddingGradOp, embeddingOp } from "../../ops/embedding.ts";
import { integers } from "../../ops/integers.ts";
import { accumulateOp, matmulOp, type ProductAttrs } from "../../ops/matmul.ts";
import {
  concat,
  concatOp,
  pad,
  padOp,
  permute,
  permuteOp,
  reshape,
  reshapeOp,
  slice,
  sliceOp,
} from "../../ops/movement.ts";
import { reduceMaxOp } from "../../ops/reduce.ts";
import { fill } from "../../sources.ts";
import { sizeOf } from "../../spec.ts";
import { apply, dequantizeOp, type Op, type Tensor } from "../../tensor.ts";
import { isBroadcast } from "../predicates.ts";
import type { Rows, Splitting } from "../rows.ts";

/** Which rows of a node are asked for. */
export interface RowsRequest {
  readonly rows: Rows;
  readonly splitting: Splitting;
}

/** Computes some rows of a node; null where that is not possible. */
export type RowsRule = (node: Tensor, request: RowsRequest) => Tensor | null;

/** Ops without an `element` that can compute some rows of their result. */
export const ROWS: ReadonlyMap<Op, RowsRule> = new Map<Op, RowsRule>([
  [matmulOp, matmulRows],
  [accumulateOp, accumulateRows],
  [
    dequantizeOp,
    ({ inputs: [x] }, { rows, splitting }) => apply(dequantizeOp, [splitting.rows(x, rows)], null),
  ],
  [
    embeddingOp,
    ({ inputs: [table, ids] }, { rows, splitting }) =>
      lookup(splitting.rows(ids, rows), { table, splitting }),
  ],
  [embeddingGradOp, embeddingGradRows],
  [reshapeOp, reshapeRows],
  [concatOp, concatRows],
  [sliceOp, sliceRows],
  [padOp, padRows],
  [permuteOp, permuteRows],
  [reduceSumOp, reduceRows],
  [reduceMaxOp, reduceRows],
]);

/** Some rows of an elementwise node. */
export function elementRows(node: Tensor, { rows, splitting }: RowsRequest): Tensor {
  const { op, inputs, attrs, shape } = node;
  const own = inputs.map((x) =>
    x.shape.length < shape.length || (x.shape[0] === 1 && shape[0] !== 1)
      ? splitting.whole(x)
      : splitting.rows(x, rows)
  );
  return apply(op, own, isBroadcast(node) ? { shape: shape.with(0, rows.size) } : attrs);
}

function matmulRows({ inputs, attrs, shape }: Tensor, { rows, splitting }: RowsRequest): Tensor | null {
  const [a, b, ...limit] = inputs, product = attrs as ProductAttrs;
  if (shape.length > 2) return apply(matmulOp, [a, b].map((x) => splitting.rows(x, rows)), product);
  const limits = limit.map(splitting.whole);
  if (product.transposeA) {
    return timesMatrix(columns(splitting.whole(a), rows), {
      b,
      limits,
      splitting,
      attrs: withoutPadA(product),
    });
  }
  // A limit counts rows from the first one.
  if (limits.length > 0) return null;
  return timesMatrix(splitting.rows(a, rows), { b, limits, splitting, attrs: product });
}

/** What {@link timesMatrix} multiplies by. */
interface Times {
  /** The second operand, in the old graph. */
  readonly b: Tensor;
  /** The limit of the product, or none. */
  readonly limits: readonly Tensor[];
  readonly attrs: ProductAttrs;
  readonly splitting: Splitting;
}

/**
 * A matrix times one that may be large: columns of the result by its parts, or a sum over them; null where a limit does not
 * allow it.
 */
export function timesMatrix(a: Tensor, { b, limits, attrs, splitting }: Times): Tensor | null {
  if (!splitting.isLarge(b)) return apply(matmulOp, [a, splitting.whole(b), ...limits], attrs);
  const cut = splitting.cut(b), { padOut: _, ...unpadded } = attrs;
  if (attrs.transposeB) {
    return concat(
      cut.map((rows, k) =>
        apply(matmulOp, [a, splitting.rows(b, rows), ...limits], k === cut.length - 1 ? attrs : unpadded)
      ),
      1,
    );
  }
  if (attrs.limit === "k") return null;
  const own = attrs.transposeA ? attrs : withoutPadA(attrs);
  return cut.map((rows) => {
    const part = attrs.transposeA
      ? slice(a, { starts: [rows.start, 0], sizes: [rows.size, a.shape[1]] })
      : columns(a, rows);
    return apply(matmulOp, [part, splitting.rows(b, rows), ...limits], own);
  }).reduce((x, y) => add(x, y));
}

/** Columns of a matrix: rows of what it is stored for. */
export function columns(x: Tensor, { start, size }: Rows): Tensor {
  return slice(x, { starts: [0, start], sizes: [x.shape[0], size] });
}

/** Columns that were cut out of padded rows have no padding. */
function withoutPadA({ padA: _, ...attrs }: ProductAttrs): ProductAttrs {
  return attrs;
}

function accumulateRows({ inputs, attrs }: Tensor, { rows, splitting }: RowsRequest): Tensor | null {
  const [total, a, b, ...limit] = inputs, product = attrs as ProductAttrs;
  if (!product.transposeA) return null;
  const operands = [columns(splitting.whole(a), rows), splitting.whole(b), ...limit.map(splitting.whole)];
  return apply(accumulateOp, [splitting.rows(total, rows), ...operands], withoutPadA(product));
}

/** f32 holds integers up to here. */
const EXACT = 2 ** 24;

/** Rows of a table that may be large; null where f32 does not hold its ids. */
export function lookup(
  ids: Tensor,
  { table, splitting }: { readonly table: Tensor; readonly splitting: Splitting },
): Tensor | null {
  if (!splitting.isLarge(table)) return apply(embeddingOp, [splitting.whole(table), ids], null);
  if (table.shape[0] > EXACT) return null;
  // An id outside the table is outside the first part or the last, so that its row is NaN.
  return splitting.cut(table)
    .map((rows) => ({
      rows,
      found: apply(embeddingOp, [splitting.rows(table, rows), idsIn(ids, rows)], null),
    }))
    .reduce((below, own) => {
      const isBelow = reshape(less(cast(ids), own.rows.start), [...ids.shape, 1]);
      return { ...own, found: where(isBelow, below.found, own.found) };
    }).found;
}

/** Ids counted from the first of some rows; those outside lie outside. */
function idsIn(ids: Tensor, { start, size }: Rows): Tensor {
  return integers(maximum(-1, minimum(size, subtract(cast(ids), start))));
}

function embeddingGradRows({ inputs, shape }: Tensor, { rows, splitting }: RowsRequest): Tensor | null {
  if (shape[0] > EXACT) return null;
  const [gradient, order, sorted, ids] = inputs.map(splitting.whole);
  return apply(embeddingGradOp, [gradient, order, idsIn(sorted, rows), ids], { vocab: rows.size });
}

/** A reshape, where the rows asked for are whole rows before it. */
function reshapeRows({ inputs: [x], shape }: Tensor, { rows, splitting }: RowsRequest): Tensor | null {
  const own = sizeOf(shape.slice(1)), before = sizeOf(x.shape.slice(1));
  const start = rows.start * own / before, size = rows.size * own / before;
  if (!Number.isInteger(start) || !Number.isInteger(size)) return null;
  return reshape(splitting.rows(x, { start, size }), shape.with(0, rows.size));
}

function concatRows({ inputs, attrs }: Tensor, { rows, splitting }: RowsRequest): Tensor {
  const { axis } = attrs as { axis: number };
  if (axis > 0) return concat(inputs.map((x) => splitting.rows(x, rows)), axis);
  let at = 0;
  return concat(
    inputs.flatMap((x) => {
      const from = Math.max(0, rows.start - at), to = Math.min(x.shape[0], rows.start + rows.size - at);
      at += x.shape[0];
      return from < to ? [splitting.rows(x, { start: from, size: to - from })] : [];
    }),
    0,
  );
}

function sliceRows({ inputs: [x], attrs }: Tensor, { rows, splitting }: RowsRequest): Tensor {
  const { starts, sizes } = attrs as { starts: readonly number[]; sizes: readonly number[] };
  return slicePieces(splitting.pieces(x, { start: starts[0] + rows.start, size: rows.size }), {
    starts,
    sizes,
  });
}

/** The columns of a slice, of pieces that have its rows. */
export function slicePieces(
  pieces: readonly Tensor[],
  { starts, sizes }: { readonly starts: readonly number[]; readonly sizes: readonly number[] },
): Tensor {
  return concat(
    pieces.map((piece) => slice(piece, { starts: starts.with(0, 0), sizes: sizes.with(0, piece.shape[0]) })),
    0,
  );
}

/** A permutation: its rows are places along another axis before it. */
function permuteRows({ inputs: [x], attrs }: Tensor, { rows, splitting }: RowsRequest): Tensor {
  const { axes } = attrs as { axes: readonly number[] }, [axis] = axes;
  if (axis === 0) return permute(splitting.rows(x, rows), axes);
  const starts = x.shape.map((_, d) => d === axis ? rows.start : 0);
  const pieces = splitting.pieces(x, { start: 0, size: x.shape[0] });
  return permute(slicePieces(pieces, { starts, sizes: x.shape.with(axis, rows.size) }), axes);
}

function padRows({ inputs: [x], attrs, shape }: Tensor, { rows, splitting }: RowsRequest): Tensor | null {
  const { before, after } = attrs as { before: readonly number[]; after: readonly number[] };
  const from = Math.max(0, rows.start - before[0]);
  const to = Math.min(x.shape[0], rows.start + rows.size - before[0]);
  if (from >= to) return x.dtype === "f32" ? fill(0, shape.with(0, rows.size)) : null;
  const above = from + before[0] - rows.start;
  return pad(splitting.rows(x, { start: from, size: to - from }), {
    before: before.with(0, above),
    after: after.with(0, rows.size - above - (to - from)),
  });
}

function reduceRows({ op, inputs: [x], attrs }: Tensor, { rows, splitting }: RowsRequest): Tensor | null {
  return (attrs as ReduceAttrs).axis === 0 ? null : apply(op, [splitting.rows(x, rows)], attrs);
}
