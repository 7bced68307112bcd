/**
 * Attention kernels on matrix units.
 *
 * Source: Dao, arXiv 2307.08691 (FlashAttention-2).
 *
 * @module
 */

import { f32 } from "../kernel.ts";
import { queryRow } from "./frame.ts";
import { type MatrixFrame, matrixMain, type MatrixMemory, queryRowOf } from "./matrix_frame.ts";
import {
  declareMatrixSums,
  matrixKeys,
  matrixLoop,
  matrixQueries,
  ownOperand,
  scoreProduct,
  sumProduct,
  writeMatrixSums,
} from "./matrix_products.ts";
import {
  DECLARE_FADE,
  DECLARE_SOFTMAX,
  finishSoftmax,
  keyWeights,
  ownNumbers,
  queryWeights,
  rescaleSums,
  ROUNDED,
  softmaxMemory,
  softmaxWeights,
  streamedNumbers,
} from "./matrix_weights.ts";
import { keyRange, queryRange } from "./ranges.ts";
import { lseOf } from "./softmax.ts";

/** Which gradients a kernel of keys makes. */
type Outputs = { readonly k: boolean; readonly v: boolean };

/** What the workgroup memory of a pass holds. */
export function matrixMemory(
  pass: MatrixFrame["pass"],
  outputs: Outputs = { k: true, v: true },
): MatrixMemory {
  const two = pass === "gradQ" || (pass === "gradKV" && outputs.k);
  return { own: two ? 2 : 1, streamed: 2, scores: two ? 2 : 1, numbers: pass === "gradKV" };
}

/** Writes the forward kernel. */
export function matrixForward(frame: MatrixFrame): string {
  const own = ownOperand(frame, matrixQueries(frame, "a0"), 0), memory = matrixMemory("forward");
  const main = { reversed: frame.causal, memory, range: queryRange(frame), extra: softmaxMemory(frame) };
  const loop = matrixLoop(frame, {
    streamed: { rows: [matrixKeys(frame, "a1"), matrixKeys(frame, "a2")] },
    start: DECLARE_FADE,
    scores: (which) => scoreProduct(frame, { own, operand: 0, block: 0, which }),
    weigh: () => softmaxWeights(frame),
    between: rescaleSums(frame, "y"),
    sums: (which) => sumProduct(frame, { name: "y", operand: 1, block: 0, which }),
  });
  const lse = lseOf(frame, "row", "high + log2(total)");
  return matrixMain(frame, main) + own.declare + declareMatrixSums(frame, "y") + DECLARE_SOFTMAX + loop +
    finishSoftmax(frame) +
    `  if (side == 0u && row < ${frame.count}u) { o1[${queryRowOf(frame, "row")}] = ${lse}; }\n` +
    writeMatrixSums(frame, {
      name: "y",
      buffer: "o0",
      rowOf: (i) => queryRowOf(frame, i),
      factor: "factors[sid][r]",
    }) + "}\n";
}

/** Writes the gradient by the queries. */
export function matrixGradQ(frame: MatrixFrame): string {
  const { causal, shape: { scale } } = frame, memory = matrixMemory("gradQ");
  const query = ownOperand(frame, matrixQueries(frame, "a0"), 0);
  const grad = ownOperand(frame, matrixQueries(frame, "a3"), 1);
  const loop = matrixLoop(frame, {
    streamed: { rows: [matrixKeys(frame, "a1"), matrixKeys(frame, "a2")] },
    scores: (which) =>
      scoreProduct(frame, { own: query, operand: 0, block: 0, which }) +
      scoreProduct(frame, { own: grad, operand: 1, block: 1, which }),
    weigh: () => queryWeights(frame),
    sums: (which) => sumProduct(frame, { name: "y", operand: 0, block: 0, which }),
  });
  return matrixMain(frame, { reversed: causal, memory, range: queryRange(frame), extra: ROUNDED }) +
    query.declare + grad.declare + ownNumbers(frame) + declareMatrixSums(frame, "y") + loop +
    writeMatrixSums(frame, {
      name: "y",
      buffer: "o0",
      rowOf: (i) => queryRowOf(frame, i),
      factor: f32(scale),
    }) + "}\n";
}

/** Writes the gradients by keys and values. */
export function matrixGradKV(frame: MatrixFrame, { outputs }: { readonly outputs: Outputs }): string {
  const { count, inputs, shape: { scale } } = frame,
    { k, v } = outputs,
    memory = matrixMemory("gradKV", outputs);
  const key = ownOperand(frame, matrixKeys(frame, "a1"), 0);
  const value = ownOperand(frame, matrixKeys(frame, "a2"), 1);
  const streamed = [matrixQueries(frame, "a0"), matrixQueries(frame, inputs.grad)];
  const numbers = streamedNumbers(frame, { operands: streamed.length, k });
  const loop = matrixLoop(frame, {
    streamed: { rows: streamed, load: numbers.load, store: numbers.store },
    scores: (which) =>
      scoreProduct(frame, { own: key, operand: 0, block: 0, which }) +
      (k ? scoreProduct(frame, { own: value, operand: 1, block: 1, which }) : ""),
    weigh: (which) => keyWeights(frame, { operands: streamed.length, which, outputs }),
    sums: (which) =>
      (v ? sumProduct(frame, { name: "z", operand: 1, block: 0, which }) : "") +
      (k ? sumProduct(frame, { name: "y", operand: 0, block: 1, which }) : ""),
  });
  const rowOf = (i: string): string => queryRow(frame, { i, count });
  return matrixMain(frame, { reversed: false, memory, range: keyRange(frame), extra: ROUNDED }) +
    key.declare +
    (k ? value.declare + declareMatrixSums(frame, "y") : "") + (v ? declareMatrixSums(frame, "z") : "") +
    numbers.declare + loop +
    (k ? writeMatrixSums(frame, { name: "y", buffer: "o0", rowOf, factor: f32(scale) }) : "") +
    (v ? writeMatrixSums(frame, { name: "z", buffer: k ? "o1" : "o0", rowOf, factor: "1.0f" }) : "") + "}\n";
}
