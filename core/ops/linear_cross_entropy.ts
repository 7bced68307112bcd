/**
 * Cross-entropy of a linear map's scores, computed in chunks so that not all scores are in memory.
 *
 * Legend: N rows, C channels, V classes.
 *
 * @module
 */

import { checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sizeOf } from "../spec.ts";
import { apply, checkFloats, checkTensor, type Op, pick, type Tensor } from "../tensor.ts";
import { compactOrderOp, gatherRowsOp, scatterRowsOp } from "./compact_rows.ts";
import { crossEntropyGradOp, crossEntropyOp, IGNORE } from "./cross_entropy.ts";
import { cast, divide, multiply, subtract } from "./arithmetic.ts";
import { maximum } from "./comparison.ts";
import { tanh } from "./functions.ts";
import { checkIds } from "./ids.ts";
import { accumulate, matmulOp } from "./matmul.ts";
import { sum } from "./broadcast.ts";
import { concat, reshape } from "./movement.ts";

/** Options of {@link linearCrossEntropy}. */
export interface LinearCrossEntropyOptions {
  /** Weight of the map, f32 or stored in fewer bytes, [V, C]. */
  readonly weight: Tensor;
  /** i32 [...], class ids; -100 is ignored. An id that is no class is refused in a tensor of values, and else gives NaN. */
  readonly labels: Tensor;
  /** A bound of the scores, `cap * tanh(scores / cap)`; none when absent or null. */
  readonly softCap?: number | null;
  /** Most bytes of scores in memory at a time; 128 MiB when absent, which every adapter can bind. */
  readonly bytes?: number;
}

/** How rows are divided into chunks. */
export interface ChunkAttrs {
  /** Rows of a chunk; the last may have fewer. */
  readonly rows: number;
  /** A bound of the scores. */
  readonly softCap: number | null;
}

/** A chunk of rows, labelled ones first, and their losses. */
export interface Chunk {
  /** Zeros in ignored rows. */
  readonly hidden: Tensor;
  readonly labels: Tensor;
  /** u32 [1]: number of labelled rows, where the products end. */
  readonly limit: Tensor;
  /** With the bound of the scores. */
  readonly logits: Tensor;
  readonly losses: Tensor;
}

/** The order of rows: labelled ones first. */
export function orderOf(labels: Tensor): Tensor {
  return apply(compactOrderOp, [labels], null);
}

/** The chunks of the rows, and their losses. */
export function chunksOf(
  [hidden, weight, labels]: readonly Tensor[],
  { rows, softCap }: ChunkAttrs,
): Chunk[] {
  const [all] = hidden.shape, [classes] = weight.shape, order = orderOf(labels);
  const layout = { transposeA: false, transposeB: true, padOut: padOf(classes), limit: "m" } as const;
  return Array.from({ length: Math.ceil(all / rows) }, (_, i) => {
    const places = { start: i * rows, count: Math.min(rows, all - i * rows) };
    const own = apply(gatherRowsOp, [hidden, labels, order, pick(order, 1)], places);
    const chunk = { hidden: own, labels: pick(own, 1), limit: pick(own, 2) };
    const logits = softCapped(apply(matmulOp, [chunk.hidden, weight, chunk.limit], layout), softCap);
    return { ...chunk, logits, losses: apply(crossEntropyOp, [logits, chunk.labels], { classes }) };
  });
}

/** Gradients of the sum of losses by the scores of each chunk, times a factor [1]. */
export function slopesOf(
  inputs: readonly Tensor[],
  { attrs, scale }: { readonly attrs: ChunkAttrs; readonly scale: Tensor },
): (Pick<Chunk, "hidden" | "limit"> & { readonly slope: Tensor })[] {
  const [classes] = inputs[1].shape, { softCap } = attrs;
  return chunksOf(inputs, attrs).map(({ hidden, labels, limit, logits, losses }) => {
    const slope = apply(crossEntropyGradOp, [logits, labels, pick(losses, 1), scale], { classes });
    if (softCap === null) return { hidden, limit, slope };
    const share = divide(logits, softCap);
    return { hidden, limit, slope: multiply(slope, subtract(1, multiply(share, share))) };
  });
}

/** Gradients by the hidden rows of the sum of losses, times a factor [1]. */
export function hiddenSlopes(
  inputs: readonly Tensor[],
  options: { readonly attrs: ChunkAttrs; readonly scale: Tensor },
): Tensor {
  const [, weight, labels] = inputs;
  const layout = { transposeA: false, transposeB: false, padA: padOf(weight.shape[0]), limit: "m" } as const;
  const rows = slopesOf(inputs, options).map(({ slope, limit }) =>
    apply(matmulOp, [slope, weight, limit], layout)
  );
  const order = orderOf(labels);
  return apply(scatterRowsOp, [concat(rows, 0), order, labels, pick(order, 1)], null);
}

/** The sum of products of slopes [R, V] and rows [R, C], by chunk: [V, C]. */
export function weightSlopes(
  chunks: readonly (readonly [slope: Tensor, rows: Tensor, limit: Tensor])[],
  classes: number,
): Tensor {
  const attrs = { transposeA: true, transposeB: false, padA: padOf(classes), limit: "k" } as const;
  const [first, ...others] = chunks;
  return others.reduce(
    (total, operands) => accumulate(total, { operands, attrs }),
    apply(matmulOp, first, attrs),
  );
}

/**
 * Inputs: hidden [N, C], weight [V, C] and labels [N]. Output: the sum of the losses of all rows.
 *
 * Chunks are independent: the scores of one can be dropped before those of the next are computed. A gradient repeats the
 * nodes of the forward pass; the planner merges them.
 *
 * Labelled rows come first, so that all three products skip tiles of ignored rows. This needs no more launches than slicing
 * chunks does, and one more for a single chunk.
 */
const linearCrossEntropyOp: Op<ChunkAttrs> = {
  name: "linearCrossEntropy",
  packed: [1],
  roles: ["matrix", "matrix"],
  infer([hidden, weight, labels]) {
    checkFloats("linearCrossEntropy", [hidden, weight]);
    if (labels.dtype !== "i32") {
      throw new ShapeError("linearCrossEntropy", `labels must be i32, not ${labels.dtype}`, [labels.shape]);
    }
    return [{ shape: [], dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs, attrs, gradient }) => hiddenSlopes(inputs, { attrs, scale: reshape(gradient, [1]) }),
    ({ inputs, attrs, gradient }) => {
      const slopes = slopesOf(inputs, { attrs, scale: reshape(gradient, [1]) });
      return weightSlopes(
        slopes.map(({ slope, hidden, limit }) => [slope, hidden, limit] as const),
        inputs[1].shape[0],
      );
    },
    null,
  ],
  definition: (inputs, attrs) => [sum(concat(chunksOf(inputs, attrs).map(({ losses }) => losses), 0))],
};

/**
 * Scores within a bound: `cap * tanh(scores / cap)`.
 *
 * Source: Gemma Team, "Gemma 2", arXiv 2408.00118, section 2.
 *
 * @param scores f32
 * @param cap The bound, or null for none
 * @returns f32 of the same shape
 */
export function softCapped(scores: Tensor, cap: number | null): Tensor {
  return cap === null ? scores : multiply(tanh(divide(scores, cap)), cap);
}

/** Elements of a memory sector of 32 bytes: rows of scores that start at a sector load without waste. */
const SECTOR = 8;

/** Padding of a row of scores; none when the number of classes is a multiple of four. */
function padOf(classes: number): number | undefined {
  return classes % 4 === 0 ? undefined : Math.ceil(classes / SECTOR) * SECTOR - classes;
}

/** Number of labels that are not ignored, at least 1. */
function countOf(labels: Tensor): Tensor {
  return maximum(cast(reshape(pick(orderOf(labels), 1), [])), 1);
}

/** Rows of a tile of the matrix product kernels. */
const ROWS = 64;
/** Most bytes of scores at a time, where nothing else is said. */
const BYTES = 128 * 2 ** 20;
/** Chunks may be smaller by this factor if all are then equal, so that one set of kernels serves them. */
const LEAST_SHARE = 0.75;

/** Rows of a chunk, at most `most`. */
function chunkRows(all: number, most: number): number {
  const whole = most < ROWS ? 1 : ROWS, top = most - most % whole;
  for (let rows = top; rows >= LEAST_SHARE * most; rows -= whole) if (all % rows === 0) return rows;
  return Math.ceil(all / Math.ceil(all / top) / whole) * whole;
}

/**
 * Mean negative log-likelihood of labels under the scores `hidden W^T`, over the rows whose label is not -100.
 *
 * The same as `crossEntropy(matmul(hidden, weight, { transposeB: true }), labels)`, in chunks of rows whose scores are
 * dropped one after the other, in the backward pass too. Ignored rows cost almost nothing.
 *
 * Source: Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", arXiv 2410.10989, FusedLinearCrossEntropy.
 *
 * @param hidden f32 [..., C]
 * @param options Weight, labels, and most memory for scores
 * @returns f32 scalar, nats; 0 when all labels are ignored
 * @throws {ShapeError} When the shapes do not fit or the labels are not i32
 * @throws {InputError} When a tensor of values has a label that is no class
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { linearCrossEntropy } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const hidden = tensor([1, 0, 0, 1], [2, 2]), weight = tensor([1, 1, 1, 1, 1, 1], [3, 2]);
 * const labels = tensor(new Int32Array([2, -100]));
 * const loss = linearCrossEntropy(hidden, { weight, labels });
 * assertAlmostEquals((await read(gpu, loss))[0], Math.log(3), 1e-6);
 * ```
 */
export function linearCrossEntropy(hidden: Tensor, options: LinearCrossEntropyOptions): Tensor {
  const { inputs, attrs } = chunkedRows("linearCrossEntropy", hidden, options);
  return divide(apply(linearCrossEntropyOp, inputs, attrs), countOf(inputs[2]));
}

/**
 * Checks the arguments of {@link linearCrossEntropy}, and divides their rows into chunks.
 *
 * @param op Name of the function, for errors
 * @param hidden f32 [..., C]
 * @param options Weight, labels, and most memory for scores
 * @returns Hidden rows [N, C], weight [V, C] and labels [N]; how they are divided
 */
export function chunkedRows(
  op: string,
  hidden: Tensor,
  options: LinearCrossEntropyOptions,
): { readonly inputs: readonly [Tensor, Tensor, Tensor]; readonly attrs: ChunkAttrs } {
  checkTensor(op, hidden, "hidden");
  checkOptions(op, options, "its second argument must be a record of weight and labels");
  const { weight, bytes = BYTES, softCap = null } = options;
  checkTensor(op, weight, "weight");
  checkTensor(op, options.labels, "labels");
  if (!(typeof bytes === "number" && bytes > 0)) {
    refuse(op, '"bytes" must be a number above 0', bytes);
  }
  if (softCap !== null && !(typeof softCap === "number" && softCap > 0 && softCap < Infinity)) {
    refuse(op, '"softCap" must be a number above 0', softCap);
  }
  const [classes, width] = weight.shape, all = sizeOf(options.labels.shape);
  if (weight.shape.length !== 2 || hidden.shape.at(-1) !== width || sizeOf(hidden.shape) !== all * width) {
    throw new ShapeError(op, "hidden must be [..., C], weight [V, C] and labels [...]", [
      hidden.shape,
      weight.shape,
      options.labels.shape,
    ]);
  }
  checkIds(op, options.labels, { classes, ignore: IGNORE });
  const rows = reshape(hidden, [all, width]), labels = reshape(options.labels, [all]);
  const most = Math.max(1, Math.floor(bytes / (4 * (classes + (padOf(classes) ?? 0)))));
  const chunk = all <= most ? all : chunkRows(all, most);
  return { inputs: [rows, weight, labels], attrs: { rows: chunk, softCap } };
}
