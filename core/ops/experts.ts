/**
 * Rows that go to experts: pairs of a token and an expert are sorted by expert, so that one product with each matrix serves all
 * rows of its expert, and no row meets the matrix of another.
 *
 * Source: Shazeer et al., "Outrageously Large Neural Networks", arXiv 1701.06538, section 2; Gale et al., "MegaBlocks", arXiv
 * 2211.15841, for sorted rows in place of a capacity.
 *
 * Legend: N tokens, K experts of a token, P = N K pairs, E experts, C channels.
 *
 * @module
 */

import { groupedMatmul as groupedKernel, groupedMatmulGrad } from "../../kernels/experts/product.ts";
import {
  blockCount,
  expertCounts,
  expertPlaces,
  type ExpertSizes,
  expertStarts,
  tileCount,
} from "../../kernels/experts/order.ts";
import { sumRows as sumRowsKernel, takeRows as takeRowsKernel } from "../../kernels/experts/rows.ts";
import type { Stored } from "../../kernels/packed.ts";
import { ShapeError } from "../errors.ts";
import { sizeOf } from "../spec.ts";
import { apply, checkFloats, type Op, pick, type Tensor } from "../tensor.ts";
import { reshape } from "./movement.ts";

/** Most experts: a workgroup has two numbers of each in its memory. */
const MOST_EXPERTS = 1024;

/** Input: experts of pairs, i32 [P]. Output: how many pairs of each block each expert has, u32. */
const countsOp: Op<ExpertSizes> = {
  name: "expertCounts",
  infer: (_, { pairs, experts }) => [{ shape: [blockCount(pairs), experts], dtype: "u32" }],
  pullbacks: ["flat"],
  kernel: ({ attrs }) => ({ kernel: expertCounts(attrs) }),
};

/** Input: counts. Outputs: where pairs of each block and expert begin, the first row of each expert, and tiles of rows. */
const startsOp: Op<ExpertSizes> = {
  name: "expertStarts",
  infer: ([counts], sizes) => [
    { shape: counts.shape, dtype: "u32" },
    { shape: [sizes.experts + 1], dtype: "u32" },
    { shape: [tileCount(sizes), 4], dtype: "u32" },
  ],
  pullbacks: ["flat"],
  kernel: ({ attrs }) => ({ kernel: expertStarts(attrs), writes: [0, 1, 2] }),
};

/** Inputs: experts of pairs, and where they begin. Outputs: the pair of each row, and the row of each pair, u32 [P]. */
const placesOp: Op<ExpertSizes> = {
  name: "expertPlaces",
  infer: (_, { pairs }) => [{ shape: [pairs], dtype: "u32" }, { shape: [pairs], dtype: "u32" }],
  pullbacks: ["flat"],
  kernel: ({ attrs }) => ({ kernel: expertPlaces(attrs), writes: [0, 1] }),
};

/** Pairs of a token and an expert, sorted by expert; those of one expert in the order of tokens. */
export interface ExpertOrder extends ExpertSizes {
  /** Experts of a token, K. */
  readonly each: number;
  /** u32 [P]: the pair of each row. */
  readonly order: Tensor;
  /** u32 [P]: the row of each pair. */
  readonly places: Tensor;
  /** u32 [E + 1]: the first row of each expert, and the end. */
  readonly groups: Tensor;
  /** u32 [T, 4]: expert, first row and end of each tile of rows. */
  readonly tiles: Tensor;
}

/**
 * Sorts pairs by expert.
 *
 * @param chosen i32 [N, K]: the experts of each token, from 0 to E - 1
 * @param options How many experts there are
 * @returns The order
 * @throws {ShapeError} When the tensor is no matrix of i32, or there are too many experts
 */
export function sortByExpert(chosen: Tensor, { experts }: { readonly experts: number }): ExpertOrder {
  const [tokens, each] = chosen.shape;
  if (chosen.shape.length !== 2 || chosen.dtype !== "i32" || experts > MOST_EXPERTS) {
    throw new ShapeError("sortByExpert", `experts must be i32 [N, K], at most ${MOST_EXPERTS} of them`, [
      chosen.shape,
    ]);
  }
  const sizes = { pairs: tokens * each, experts }, pairs = reshape(chosen, [sizes.pairs]);
  const starts = apply(startsOp, [apply(countsOp, [pairs], sizes)], sizes);
  const order = apply(placesOp, [pairs, starts], sizes);
  return {
    ...sizes,
    each,
    order,
    places: pick(order, 1),
    groups: pick(starts, 1),
    tiles: pick(starts, 2),
  };
}

interface PairAttrs {
  /** Pairs of a token. */
  readonly each: number;
}

/** Inputs: x [N, C], the pair of each row, and the row of each pair. Output: the token of each pair, [P, C]. */
export const takeRowsOp: Op<PairAttrs> = {
  name: "takeRows",
  infer([x, order]) {
    checkFloats("takeRows", [x]);
    return [{ shape: [order.shape[0], x.shape[1]], dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [, order, places], gradient, attrs }) => apply(sumRowsOp, [gradient, places, order], attrs),
    "flat",
  ],
  kernel: ({ outputs: [{ shape: [pairs, width] }], attrs }) => ({
    kernel: takeRowsKernel({ pairs, width, ...attrs }),
    reads: [0, 1],
  }),
};

/** Inputs: y [P, C], the row of each pair, and the pair of each row. Output: the sum over the pairs of each token, [N, C]. */
export const sumRowsOp: Op<PairAttrs> = {
  name: "sumRows",
  infer([y], { each }) {
    checkFloats("sumRows", [y]);
    return [{ shape: [y.shape[0] / each, y.shape[1]], dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [, places, order], gradient, attrs }) => apply(takeRowsOp, [gradient, order, places], attrs),
    "flat",
  ],
  kernel: ({ inputs: [{ shape: [pairs, width] }], attrs }) => ({
    kernel: sumRowsKernel({ pairs, width, ...attrs }),
    reads: [0, 1],
  }),
};

/**
 * The rows of tokens, once for each of their experts, sorted by expert.
 *
 * @param x f32 [N, C]
 * @param options The order
 * @returns f32 [P, C]
 */
export function toExperts(x: Tensor, { order, places, each }: ExpertOrder): Tensor {
  return apply(takeRowsOp, [x, order, places], { each });
}

/**
 * A number of each pair, sorted by expert.
 *
 * @param x f32 [N, K]
 * @param options The order
 * @returns f32 [P, 1]
 */
export function inExpertOrder(x: Tensor, { order, places }: ExpertOrder): Tensor {
  return apply(takeRowsOp, [reshape(x, [sizeOf(x.shape), 1]), order, places], { each: 1 });
}

/**
 * The sum of the rows of the experts of each token.
 *
 * @param y f32 [P, C], sorted by expert
 * @param options The order
 * @returns f32 [N, C]
 */
export function fromExperts(y: Tensor, { order, places, each }: ExpertOrder): Tensor {
  return apply(sumRowsOp, [y, places, order], { each });
}

interface GroupedAttrs {
  /** Whether matrices are stored [N, K]. */
  readonly transposeB: boolean;
}

/** Inputs: x [P, K], matrices [E, K, N] or [E, N, K], tiles, and groups. Output: [P, N]. */
export const groupedMatmulOp: Op<GroupedAttrs> = {
  name: "groupedMatmul",
  packed: [1],
  infer(inputs, { transposeB }) {
    const [x, w] = inputs, [, b0, b1] = w.shape;
    checkFloats("groupedMatmul", [x, w]);
    if (x.shape.length !== 2 || w.shape.length !== 3 || x.shape[1] !== (transposeB ? b1 : b0)) {
      throw new ShapeError("groupedMatmul", "rows must be [P, K] and matrices of experts have K", [
        x.shape,
        w.shape,
      ]);
    }
    return [{ shape: [x.shape[0], transposeB ? b0 : b1], dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [, w, ...order], gradient, attrs: { transposeB } }) =>
      apply(groupedMatmulOp, [gradient, w, ...order], { transposeB: !transposeB }),
    ({ inputs: [x, w, ...order], gradient, attrs: { transposeB } }) =>
      apply(groupedGradOp, [...transposeB ? [gradient, x] : [x, gradient], ...order], {
        experts: w.shape[0],
      }),
    null,
  ],
  kernel({ inputs: [x, w], outputs: [{ shape: [, n] }], attrs }) {
    const [rows, k] = x.shape, [experts] = w.shape;
    const stored = w.dtype as Exclude<Stored, "f16">;
    return { kernel: groupedKernel({ rows, experts, n, k, stored, ...attrs }), reads: [0, 1, 2] };
  },
  matmulFlops: ([x], [y]) => 2 * sizeOf(x.shape) * y.shape[1],
  roles: [null, "matrix", null],
};

/** Inputs: a [P, N], b [P, K], tiles, and groups. Output: for each expert the sum of products of its rows, [E, N, K]. */
export const groupedGradOp: Op<{ readonly experts: number }> = {
  name: "groupedMatmulGrad",
  infer: ([a, b], { experts }) => [{ shape: [experts, a.shape[1], b.shape[1]], dtype: "f32" }],
  pullbacks: [
    ({ inputs: [, b, ...order], gradient }) =>
      apply(groupedMatmulOp, [b, gradient, ...order], { transposeB: true }),
    ({ inputs: [a, , ...order], gradient }) =>
      apply(groupedMatmulOp, [a, gradient, ...order], { transposeB: false }),
    null,
  ],
  kernel({ inputs: [a, b], attrs: { experts } }) {
    const [rows, n] = a.shape, k = b.shape[1];
    return { kernel: groupedMatmulGrad({ rows, experts, n, k }), reads: [0, 1, 3] };
  },
  matmulFlops: ([a, b]) => 2 * sizeOf(a.shape) * b.shape[1],
};

/**
 * The product of each row with the matrix of its expert. Work and memory grow with the rows, not with the experts.
 *
 * @param x f32 [P, K], sorted by expert
 * @param options `weight`: f32 [E, N, K], as linear layers have it; `order`: which rows each expert has
 * @returns f32 [P, N]
 * @throws {ShapeError} When the shapes do not fit
 */
export function groupedMatmul(
  x: Tensor,
  { weight, order: { tiles, groups } }: { readonly weight: Tensor; readonly order: ExpertOrder },
): Tensor {
  return apply(groupedMatmulOp, [x, weight, tiles, groups], { transposeB: true });
}
