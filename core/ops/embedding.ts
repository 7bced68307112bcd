/**
 * Embedding: rows of a table by id.
 *
 * @module
 */

import {
  embedding as embeddingKernel,
  embeddingGrad as embeddingGradKernel,
  type EmbeddingGradOptions,
  embeddingOrder as embeddingOrderKernel,
} from "../../kernels/embedding.ts";
import type { Stored } from "../../kernels/packed.ts";
import { rowThreads } from "../../kernels/rows.ts";
import { ShapeError } from "../errors.ts";
import type { Target } from "../kernel_call.ts";
import { sizeOf, type StoredSpec } from "../spec.ts";
import { apply, checkFloats, type Op, pick, type Tensor } from "../tensor.ts";
import { f16Bindings } from "./half_precision.ts";
import { checkIds } from "./ids.ts";
import { cast } from "./arithmetic.ts";
import { equal, less, maximum, where } from "./comparison.ts";
import { integers } from "./integers.ts";
import { matmul } from "./matmul.ts";
import { reshape } from "./movement.ts";
import { oneHot } from "./one_hot.ts";

/** Attributes of {@link embeddingOp}; null for an id of padding that is none. */
export type EmbeddingAttrs = { readonly padding: number } | null;

/** Inputs: a table and ids. Output: the rows of the ids. No gradient reaches the row of the padding. */
export const embeddingOp: Op<EmbeddingAttrs> = {
  name: "embedding",
  half: { reads: [], writes: [0] },
  packed: [0],
  roles: ["table"],
  batch: ([, ids]) => ({ parts: sizeOf(ids.shape), inputs: ["shared", "split"] }),
  infer([table, ids]) {
    checkFloats("embedding", [table]);
    if (table.shape.length !== 2 || ids.dtype !== "i32") {
      throw new ShapeError("embedding", `the table must be [V, C] and the ids i32, not ${ids.dtype}`, [
        table.shape,
        ids.shape,
      ]);
    }
    return [{ shape: [...ids.shape, table.shape[1]], dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [table, ids], gradient, attrs }) => {
      const trained = attrs === null ? ids : withoutPadding(ids, attrs);
      const order = apply(orderOp, [trained], null);
      return apply(embeddingGradOp, [gradient, order, pick(order, 1), trained], {
        vocab: table.shape[0],
        ...attrs,
      });
    },
    null,
  ],
  kernel: ({ inputs: [table, ids], outputs }) => ({
    kernel: embeddingKernel({
      f16: f16Bindings([], outputs),
      rows: sizeOf(ids.shape),
      vocab: table.shape[0],
      width: table.shape[1],
      stored: table.dtype as Exclude<Stored, "f16">,
    }),
  }),
  definition([table, ids]) {
    const [vocab, width] = table.shape, hot = oneHot(ids, vocab);
    return [reshape(matmul(reshape(hot, [-1, vocab]), table), [...ids.shape, width])];
  },
};

/** Ids with -1, which no row has, in place of the padding. */
function withoutPadding(ids: Tensor, { padding }: { readonly padding: number }): Tensor {
  const values = cast(ids);
  return integers(where(equal(values, padding), -1, values));
}

/** Input: ids. Outputs: the indices that sort them, and the sorted ids. */
const orderOp: Op<null> = {
  name: "embeddingOrder",
  infer([ids]) {
    const shape = [sizeOf(ids.shape)];
    return [{ shape, dtype: "u32" }, { shape, dtype: "i32" }];
  },
  kernel: ({ inputs: [ids] }) => ({
    kernel: embeddingOrderKernel({ rows: sizeOf(ids.shape) }),
    writes: [0, 1],
  }),
};

/**
 * Inputs: the gradient of the output, both outputs of {@link orderOp}, and the ids, which its own gradient reads. Output: the
 * gradient by the table.
 */
export const embeddingGradOp: Op<{ vocab: number; padding?: number }> = {
  name: "embeddingGrad",
  half: { reads: [0], writes: [] },
  onto: (inputs, _, other) => apply(embeddingGradOntoOp, [other, ...inputs], null),
  infer: ([gradient], { vocab }) => [{ shape: [vocab, gradient.shape.at(-1)!], dtype: "f32" }],
  pullbacks: [({ inputs: [, , , ids], gradient, attrs: { padding } }) => {
    if (padding === undefined) return apply(embeddingOp, [gradient, ids], null);
    const trained = reshape(less(-1, cast(ids)), [...ids.shape, 1]);
    return where(trained, apply(embeddingOp, [gradient, integers(maximum(cast(ids), 0))], null), 0);
  }, "flat"],
  kernel: ({ inputs, attrs: { vocab }, target }) => ({
    kernel: embeddingGradKernel(gradSizes(inputs, { vocab, target })),
    reads: [0, 1, 2],
  }),
};

/** {@link embeddingGradOp} with a further first input to add: the gradient of a tied table by its other use. */
export const embeddingGradOntoOp: Op<null> = {
  name: "embeddingGradOnto",
  half: { reads: [1], writes: [] },
  infer: ([table]) => [{ shape: table.shape, dtype: "f32" }],
  kernel({ inputs: [table, ...inputs], target }) {
    const sizes = gradSizes(inputs, { vocab: table.shape[0], target });
    return {
      kernel: embeddingGradKernel({ ...sizes, residual: "separate" }),
      reads: [1, 2, 3, 0],
      alias: { input: 0, kernel: () => embeddingGradKernel({ ...sizes, residual: "in place" }) },
    };
  },
};

function gradSizes(
  [gradient, order]: readonly StoredSpec[],
  { vocab, target }: { readonly vocab: number; readonly target: Target },
): EmbeddingGradOptions {
  const width = gradient.shape.at(-1)!, threads = rowThreads(target.software, width);
  return { rows: order.shape[0], vocab, width, threads, f16: f16Bindings([gradient], []) };
}

/**
 * Looks up rows of a table. The gradient sums each row's contributions in a fixed order: no float atomics.
 *
 * @param table f32, or stored in fewer bytes, [V, C]
 * @param ids i32 [...]; an id outside the table is refused in a tensor of values, and gives a row of NaN in all others
 * @param options `padding`: an id whose row gets no gradient from here, as in PyTorch; null or absent for none
 * @returns f32 [..., C]
 * @throws {ShapeError} When the table is not a matrix or the ids are not i32
 * @throws {InputError} When a tensor of values has an id outside the table
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { embedding, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const table = tensor([1, 2, 3, 4], [2, 2]);
 * assertEquals([...await read(gpu, embedding(table, tensor(new Int32Array([1]))))], [3, 4]);
 * ```
 */
export function embedding(
  table: Tensor,
  ids: Tensor,
  { padding = null }: { readonly padding?: number | null } = {},
): Tensor {
  const rows = apply(embeddingOp, [table, ids], padding === null ? null : { padding });
  checkIds("embedding", ids, { classes: table.shape[0] });
  return rows;
}
