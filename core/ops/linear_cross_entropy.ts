/**
 * Cross-entropy of a linear map's scores, without ever holding all scores.
 *
 * Legend: N rows, C channels, V classes.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { apply, type Op, pick, type PullbackContext, sizeOf, type Tensor } from "../tensor.ts";
import { compactOrderOp, gatherRowsOp, scatterRowsOp } from "./compact_rows.ts";
import { crossEntropyGradOp, crossEntropyOp } from "./cross_entropy.ts";
import { cast, divide } from "./arithmetic.ts";
import { maximum } from "./comparison.ts";
import { accumulate, matmulOp } from "./matmul.ts";
import { sum } from "./broadcast.ts";
import { concat, reshape } from "./movement.ts";

/** Options of {@link linearCrossEntropy}. */
export interface LinearCrossEntropyOptions {
  /** f32 or bf16 [V, C], the map. */
  readonly weight: Tensor;
  /** i32 [...], class ids; -100 does not count. */
  readonly labels: Tensor;
  /** Most bytes of scores to hold at a time; 128 MiB when absent, which every adapter can bind. */
  readonly bytes?: number;
}

interface Attrs {
  /** Rows of a chunk; the last may have fewer. */
  readonly rows: number;
}

/** Some rows, those that count first, and the loss of each. */
interface Chunk {
  /** Zeros in rows that do not count. */
  readonly hidden: Tensor;
  readonly labels: Tensor;
  /** u32 [1]: how many rows count. Products end there. */
  readonly limit: Tensor;
  readonly logits: Tensor;
  readonly losses: Tensor;
}

/** The rows, those that count before all others. */
function orderOf(labels: Tensor): Tensor {
  return apply(compactOrderOp, [labels], null);
}

function chunksOf([hidden, weight, labels]: readonly Tensor[], { rows }: Attrs): Chunk[] {
  const [all] = hidden.shape, [classes] = weight.shape, order = orderOf(labels);
  const layout = { transposeA: false, transposeB: true, padOut: padOf(classes), limit: "m" } as const;
  return Array.from({ length: Math.ceil(all / rows) }, (_, i) => {
    const places = { start: i * rows, count: Math.min(rows, all - i * rows) };
    const own = apply(gatherRowsOp, [hidden, labels, order, pick(order, 1)], places);
    const chunk = { hidden: own, labels: pick(own, 1), limit: pick(own, 2) };
    const logits = apply(matmulOp, [chunk.hidden, weight, chunk.limit], layout);
    return { ...chunk, logits, losses: apply(crossEntropyOp, [logits, chunk.labels], { classes }) };
  });
}

/** Gradient of the total by the scores of each chunk. */
function slopesOf(
  { inputs, attrs, gradient }: PullbackContext<Attrs>,
): (Pick<Chunk, "hidden" | "limit"> & { readonly slope: Tensor })[] {
  const scale = reshape(gradient, [1]), [classes] = inputs[1].shape;
  return chunksOf(inputs, attrs).map(({ hidden, labels, limit, logits, losses }) => ({
    hidden,
    limit,
    slope: apply(crossEntropyGradOp, [logits, labels, pick(losses, 1), scale], { classes }),
  }));
}

function hiddenGradient(context: PullbackContext<Attrs>): Tensor {
  const { inputs: [, weight, labels] } = context;
  const layout = { transposeA: false, transposeB: false, padA: padOf(weight.shape[0]), limit: "m" } as const;
  const rows = slopesOf(context).map(({ slope, limit }) => apply(matmulOp, [slope, weight, limit], layout));
  return apply(scatterRowsOp, [concat(rows, 0), orderOf(labels)], null);
}

function weightGradient(context: PullbackContext<Attrs>): Tensor {
  const { inputs: [, weight] } = context;
  const attrs = { transposeA: true, transposeB: false, padA: padOf(weight.shape[0]), limit: "k" } as const;
  const [first, ...others] = slopesOf(context).map(({ slope, hidden, limit }) => [slope, hidden, limit]);
  return others.reduce(
    (total, operands) => accumulate(total, { operands, attrs }),
    apply(matmulOp, first, attrs),
  );
}

/**
 * Inputs hidden [N, C], weight [V, C] and labels [N]; output the sum of the losses of all rows.
 *
 * Each chunk is independent of the others: its scores can be dropped before the next chunk's are computed. A gradient
 * repeats the nodes of the forward pass, which the planner merges.
 *
 * Rows that count come first, so that tiles of rows that do not are left out of all three products. That takes no launch
 * more than cutting out chunks does, and one more where there is but one chunk: too few to ask whether many rows count.
 */
export const linearCrossEntropyOp: Op<Attrs> = {
  name: "linearCrossEntropy",
  bf16: [1],
  roles: ["matrix", "matrix"],
  infer([, weight, labels]) {
    const [classes] = weight.shape;
    crossEntropyOp.infer([{ shape: [labels.shape[0], classes], dtype: "f32" }, labels], { classes });
    return [{ shape: [], dtype: "f32" }];
  },
  pullbacks: [hiddenGradient, weightGradient, null],
  definition: (inputs, attrs) => [sum(concat(chunksOf(inputs, attrs).map(({ losses }) => losses), 0))],
};

/** Elements of a memory sector, 32 bytes: where rows of scores begin with one, every load is whole. */
const SECTOR = 8;

/** How much longer a row of scores is than its classes: nothing where four classes can be loaded at once as they are. */
function padOf(classes: number): number | undefined {
  return classes % 4 === 0 ? undefined : Math.ceil(classes / SECTOR) * SECTOR - classes;
}

/** How many labels count, 1 at least. */
function countOf(labels: Tensor): Tensor {
  return maximum(cast(reshape(pick(orderOf(labels), 1), [])), 1);
}

/** Whole tiles of the kernels for matrix products. */
const ROWS = 64;
const BYTES = 128 * 2 ** 20;
/** Chunks this much smaller than they could be are worth that all are alike: one set of kernels then serves them all. */
const LEAST_SHARE = 0.75;

/** Rows of a chunk, of `most` at most. */
function chunkRows(all: number, most: number): number {
  const whole = most < ROWS ? 1 : ROWS, top = most - most % whole;
  for (let rows = top; rows >= LEAST_SHARE * most; rows -= whole) if (all % rows === 0) return rows;
  return Math.ceil(all / Math.ceil(all / top) / whole) * whole;
}

/**
 * Mean negative log-likelihood of labels under the scores `hidden W^T`, over the rows whose label is not -100.
 *
 * The same as `crossEntropy(matmul(hidden, weight, { transposeB: true }), labels)`, in chunks of rows whose scores are
 * used and dropped one after the other, in the backward pass as well. Rows that do not count cost next to nothing.
 *
 * Source: Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training", arXiv 2410.10989, FusedLinearCrossEntropy.
 *
 * @param hidden f32 [..., C]
 * @param options Weight, labels and how much memory scores may take
 * @returns f32 scalar, nats; 0 when no label counts
 * @throws {ShapeError} When the shapes do not fit
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { linearCrossEntropy, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const hidden = tensor([1, 0, 0, 1], [2, 2]), weight = tensor([1, 1, 1, 1, 1, 1], [3, 2]);
 * const labels = tensor(new Int32Array([2, -100]));
 * const loss = linearCrossEntropy(hidden, { weight, labels });
 * assertAlmostEquals((await read(gpu, loss))[0], Math.log(3), 1e-6);
 * ```
 */
export function linearCrossEntropy(hidden: Tensor, options: LinearCrossEntropyOptions): Tensor {
  const { weight, bytes = BYTES } = options;
  const [classes, width] = weight.shape, all = sizeOf(options.labels.shape);
  if (weight.shape.length !== 2 || hidden.shape.at(-1) !== width || sizeOf(hidden.shape) !== all * width) {
    throw new ShapeError("linearCrossEntropy", "hidden must be [..., C], weight [V, C] and labels [...]", [
      hidden.shape,
      weight.shape,
      options.labels.shape,
    ]);
  }
  const rows = reshape(hidden, [all, width]), labels = reshape(options.labels, [all]);
  const most = Math.max(1, Math.floor(bytes / (4 * (classes + (padOf(classes) ?? 0)))));
  const chunk = all <= most ? all : chunkRows(all, most);
  return divide(apply(linearCrossEntropyOp, [rows, weight, labels], { rows: chunk }), countOf(labels));
}
