/**
 * How ops compute a result of one buffer from inputs that are larger than one binding.
 *
 * @module
 */

import { add } from "../../ops/arithmetic.ts";
import { type ReduceAttrs, reduceSumOp, sum, sumEach, sumEachOp } from "../../ops/broadcast.ts";
import { maximum } from "../../ops/comparison.ts";
import { embedding, embeddingOp } from "../../ops/embedding.ts";
import { matmulOp, type ProductAttrs } from "../../ops/matmul.ts";
import { concat, reshape, sliceOp } from "../../ops/movement.ts";
import { reduceMaxOp } from "../../ops/reduce.ts";
import { tensor } from "../../sources.ts";
import { apply, type Op, type Tensor } from "../../tensor.ts";
import type { Splitting } from "../rows.ts";
import { columns, lookup, slicePieces, timesMatrix } from "./rows_of_ops.ts";

/** Computes a node from parts of its inputs; null where that is not possible. */
type CombineRule = (node: Tensor, splitting: Splitting) => Tensor | null;

/** Ops that can read an input by parts. */
export const COMBINE: ReadonlyMap<Op, CombineRule> = new Map<Op, CombineRule>([
  [embeddingOp, ({ inputs: [table, ids] }, splitting) => lookup(splitting.whole(ids), { table, splitting })],
  [matmulOp, combineProducts],
  [reduceSumOp, combineReductions],
  [reduceMaxOp, combineReductions],
  [sumEachOp, combineSums],
  [sliceOp, sliceParts],
]);

function combineProducts(
  { inputs: [a, b, ...limit], attrs, shape }: Tensor,
  splitting: Splitting,
): Tensor | null {
  const { rows, whole, cut, isLarge } = splitting, product = attrs as ProductAttrs;
  const { transposeA, transposeB } = product, limits = limit.map(whole);
  if (shape.length > 2) {
    const large = isLarge(a) ? a : b;
    return concat(cut(large).map((own) => apply(matmulOp, [rows(a, own), rows(b, own)], product)), 0);
  }
  if (!isLarge(a)) return timesMatrix(whole(a), { b, limits, attrs: product, splitting });
  if (limits.length > 0) return null;
  if (transposeA) {
    const terms = cut(a).map((own) => {
      const part = transposeB ? columns(whole(b), own) : rows(b, own);
      return apply(matmulOp, [rows(a, own), part], product);
    });
    return terms.reduce((x, y) => add(x, y));
  }
  const parts = cut(a).map((own) => timesMatrix(rows(a, own), { b, limits, attrs: product, splitting }));
  return concat(parts.map((part) => part!), 0);
}

function combineReductions({ op, inputs: [x], attrs }: Tensor, { cut, rows }: Splitting): Tensor {
  const { axis, kind } = attrs as ReduceAttrs;
  const parts = cut(x).map((own) => apply(op, [rows(x, own)], attrs));
  if (axis > 0) return concat(parts, 0);
  return parts.reduce((a, b) => kind === "sum" ? add(a, b) : maximum(a, b));
}

/** Totals of tensors: a total of a large one is the sum of the totals of its parts. */
function combineSums({ inputs, attrs }: Tensor, { isLarge, cut, rows, whole }: Splitting): Tensor {
  const { size } = attrs as { size: number };
  const terms = inputs.map((x) => isLarge(x) ? cut(x).map((own) => rows(x, own)) : [whole(x)]);
  const flat = terms.flat(), most = Math.max(...terms.map(({ length }) => length));
  // What is no term reads the zero behind the last one.
  const places = new Int32Array(size * most).fill(flat.length);
  let at = 0;
  terms.forEach((own, i) => own.forEach((_, k) => places[i * most + k] = at++));
  const totals = reshape(sumEach(flat, { size: flat.length + 1 }), [flat.length + 1, 1]);
  return sum(embedding(totals, tensor(places, [size, most])), [1, 2]);
}

function sliceParts({ inputs: [x], attrs }: Tensor, { pieces }: Splitting): Tensor {
  const { starts, sizes } = attrs as { starts: readonly number[]; sizes: readonly number[] };
  return slicePieces(pieces(x, { start: starts[0], size: sizes[0] }), { starts, sizes });
}
