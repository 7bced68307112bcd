/**
 * Matrix products.
 *
 * @module
 */

import { matmul as matmulKernel } from "../../kernels/matmul/matmul.ts";
import { type Matmul, type MatmulVariant, productKey, splitOf } from "../../kernels/matmul/types.ts";
import { chooseMatmul } from "../../kernels/matmul/variants.ts";
import type { Stored } from "../../kernels/packed.ts";
import { checkOptions } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import type { KernelCall, Target } from "../kernel_call.ts";
import { isPacked, sameShape, sizeOf, type StoredSpec } from "../spec.ts";
import { apply, checkFloats, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { add } from "./arithmetic.ts";
import { broadcast, broadcastShape } from "./broadcast.ts";
import { permute, reshape } from "./movement.ts";

/** Attributes of {@link matmulOp}: which operands are stored transposed. */
export interface MatmulAttrs {
  /** Whether the first operand is stored [..., K, M]. */
  readonly transposeA: boolean;
  /** Whether the second operand is stored [..., N, K]. */
  readonly transposeB: boolean;
}

/**
 * Attributes of {@link matmulOp}. Padding and limits are for one matrix times another; `limit` is `"k"` where the first
 * operand is transposed, and `"m"` elsewhere, so that it limits the rows that it is stored in.
 */
export interface ProductAttrs extends MatmulAttrs {
  /** Padding at the end of each stored row of the first operand; none when absent. */
  readonly padA?: number;
  /** Padding columns of the product, which hold meaningless finite numbers; none when absent. */
  readonly padOut?: number;
  /** What a third operand, u32 [1], limits: rows of the first (`m`) or summands (`k`) from there on are zeros. */
  readonly limit?: "m" | "k";
}

/** Sizes of `batch` products `[M, K] x [K, N]`, and how their operands are stored. */
export function matmulSizes([a, b]: readonly StoredSpec[], attrs: ProductAttrs): {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly strideA?: number;
  readonly columnsB?: number;
  readonly storedA?: "f16";
  readonly storedB?: Exclude<Stored, "f32">;
} {
  const { transposeA, transposeB, padA = 0, padOut = 0 } = attrs;
  const [a0, a1] = a.shape.slice(-2), [b0, b1] = b.shape.slice(-2);
  const columns = transposeB ? b0 : b1;
  return {
    batch: sizeOf(a.shape.slice(0, -2)),
    m: transposeA ? a1 - padA : a0,
    k: transposeA ? a0 : a1 - padA,
    n: columns + padOut,
    ...(padA > 0 && { strideA: a1 }),
    ...(padOut > 0 && { columnsB: columns }),
    ...(a.dtype === "f16" && { storedA: a.dtype }),
    ...((b.dtype === "half" || isPacked(b.dtype)) && { storedB: b.dtype }),
  };
}

/** The matrix product; the planner chooses its kernel and fuses elementwise readers into it. */
export const matmulOp: Op<ProductAttrs> = {
  name: "matmul",
  packed: [1],
  infer(inputs, attrs) {
    const [a, b] = inputs;
    checkFloats("matmul", [a, b]);
    const shapes = [a.shape, b.shape];
    if (a.shape.length < 2 || a.shape.length !== b.shape.length) {
      throw new ShapeError("matmul", "operands must be matrices, or stacks of as many", shapes);
    }
    const lead = a.shape.slice(0, -2);
    if (!sameShape(lead, b.shape.slice(0, -2))) {
      throw new ShapeError("matmul", "stacks must be alike", shapes);
    }
    const { m, n, k } = matmulSizes(inputs, attrs);
    const inner = b.shape.at(attrs.transposeB ? -1 : -2);
    if (inner !== k) throw new ShapeError("matmul", `inner sizes ${k} and ${inner} must be equal`, shapes);
    return [{ shape: [...lead, m, n], dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [, b, ...limit], gradient: g, attrs: { transposeA: ta, transposeB: tb, padA, padOut } }) =>
      ta
        ? product([b, g, ...limit], { transposeA: tb, transposeB: true, padOut: padA })
        : product([g, b, ...limit], { transposeA: false, transposeB: !tb, padA: padOut, padOut: padA }),
    ({ inputs: [a, , ...limit], gradient: g, attrs: { transposeA: ta, transposeB: tb, padA, padOut } }) =>
      tb
        ? product([g, a, ...limit], { transposeA: true, transposeB: ta, padA: padOut })
        : product([a, g, ...limit], { transposeA: !ta, transposeB: false, padA }),
  ],
  matmulFlops(inputs, _, attrs) {
    const { batch, m, n, k, columnsB = n } = matmulSizes(inputs, attrs);
    return 2 * batch * m * columnsB * k;
  },
  // A stack of products, or rows times one matrix.
  batch(inputs, attrs) {
    if (attrs.padA !== undefined || attrs.padOut !== undefined || attrs.limit !== undefined) return null;
    const { batch, m } = matmulSizes(inputs, attrs);
    if (batch > 1) return { parts: batch, inputs: ["split", "split"] };
    return attrs.transposeA ? null : { parts: m, inputs: ["split", "shared"] };
  },
  roles: ["matrix", "matrix"],
};

/**
 * Matrix product, in all four layouts without moving memory. Leading sizes broadcast as in NumPy: a matrix serves a whole
 * stack of others.
 *
 * @param a f32 [..., M, K], or [..., K, M] with `transposeA`
 * @param b f32, or stored in fewer bytes, [..., K, N], or [..., N, K] with `transposeB`
 * @param options Which operands are stored transposed
 * @returns f32 [..., M, N]
 * @throws {ShapeError} When the inner sizes differ, or the leading sizes do not broadcast
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { matmul, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const a = tensor([1, 2, 3, 4], [2, 2]), b = tensor([1, 0, 0, 2], [2, 2]);
 * assertEquals([...await read(gpu, matmul(a, b))], [1, 4, 3, 8]);
 * ```
 */
export function matmul(a: Tensor, b: Tensor, options: Partial<MatmulAttrs> = {}): Tensor {
  checkTensor("matmul", a, "a");
  checkTensor("matmul", b, "b");
  checkOptions("matmul", options);
  const { transposeA = false, transposeB = false } = options;
  const attrs = { transposeA, transposeB }, shapes = [a.shape, b.shape];
  const [leadA, leadB] = shapes.map((shape) => shape.slice(0, -2));
  if (sameShape(leadA, leadB) || shapes.some(({ length }) => length < 2)) {
    return apply(matmulOp, [a, b], attrs);
  }
  if (leadB.length === 0) return rowsTimes(a, { b, attrs });
  const lead = broadcastShape("matmul", [leadA, leadB]);
  const stack = (x: Tensor): Tensor => {
    const shape = [...lead, ...x.shape.slice(-2)];
    return sameShape(x.shape, shape) ? x : broadcast(x, shape);
  };
  return apply(matmulOp, [stack(a), stack(b)], attrs);
}

/** A product that is a gradient: the limit of rows holds for it too. */
function product([a, b, limit]: readonly Tensor[], attrs: ProductAttrs): Tensor {
  const { transposeA, transposeB, padA, padOut } = attrs;
  if (limit === undefined) return matmul(a, b, { transposeA, transposeB });
  const set = { transposeA, transposeB, ...(padA && { padA }), ...(padOut && { padOut }) };
  return apply(matmulOp, [a, b, limit], { ...set, limit: transposeA ? "k" : "m" });
}

/** A stack times one matrix: all its rows are the rows of one product. */
function rowsTimes(
  a: Tensor,
  { b, attrs: { transposeA, transposeB } }: { readonly b: Tensor; readonly attrs: MatmulAttrs },
): Tensor {
  const rank = a.shape.length;
  const turned = transposeA ? permute(a, [...a.shape.keys()].with(-2, rank - 1).with(-1, rank - 2)) : a;
  const k = turned.shape[rank - 1], lead = turned.shape.slice(0, -1);
  const product = apply(matmulOp, [reshape(turned, [sizeOf(lead), k]), b], { transposeA: false, transposeB });
  return reshape(product, [...lead, product.shape[1]]);
}

/** Most products that one {@link matmulSumOp} adds up. */
export const MOST_SUMMED = 6;

/**
 * The sum of products of equal shapes. Inputs: all first operands, then all second ones. Made by the planner.
 */
export const matmulSumOp: Op<MatmulAttrs> = {
  name: "matmulSum",
  packed: Array.from({ length: 2 * MOST_SUMMED }, (_, i) => i),
  infer: (inputs, attrs) => matmulOp.infer([inputs[0], inputs[inputs.length / 2]], attrs),
  definition: (inputs, attrs) => [
    inputs.slice(0, inputs.length / 2)
      .map((a, i) => apply(matmulOp, [a, inputs[inputs.length / 2 + i]], attrs))
      .reduce(add),
  ],
  matmulFlops: (inputs, outputs, attrs, wanted) =>
    matmulOp.matmulFlops!([inputs[0], inputs[inputs.length / 2]], outputs, attrs, wanted) * inputs.length / 2,
  batch(inputs, attrs) {
    const count = inputs.length / 2, one = matmulOp.batch!([inputs[0], inputs[count]], attrs);
    return one && { parts: one.parts, inputs: inputs.map((_, i) => one.inputs[i < count ? 0 : 1]) };
  },
};

/**
 * The kernel that adds a product to a sum so far, which is the last input that it binds, and the one that adds it in place.
 *
 * @param product The product
 * @param target The device
 * @returns Both
 */
export function accumulated(
  product: Omit<Matmul, "variant" | "epilogue">,
  target: Target,
): Pick<KernelCall, "kernel" | "alias"> & { readonly variant: MatmulVariant } {
  const { m, n } = product;
  const text = (args: readonly string[]): string => args.join(" + ");
  const expression = {
    shape: [m, n],
    inputs: [{ type: "f32" as const, strides: [n, 1] }],
    steps: [
      { kind: "load" as const, input: 0 },
      { kind: "given" as const, name: "acc" },
      { kind: "compute" as const, text, args: [0, 1] },
    ],
  };
  // A split-K product would need a further launch.
  const known = target.variants?.get(productKey(product));
  const variant = known !== undefined && splitOf(known) === 1
    ? known
    : chooseMatmul(product, { ...target, whole: true });
  const epilogue = { expression, outputs: [2] };
  const additive = { ...epilogue, overwrites: [0], additive: true }, { units } = target;
  return {
    variant,
    kernel: matmulKernel({ ...product, variant, epilogue, units }),
    alias: { input: 0, kernel: () => matmulKernel({ ...product, variant, epilogue: additive, units }) },
  };
}

/** Inputs: a sum so far [M, N] and two matrices. Output: the sum plus their product. */
export const accumulateOp: Op<ProductAttrs> = {
  name: "accumulate",
  half: { reads: [1, 2], writes: [] },
  infer: ([total]) => [{ shape: total.shape, dtype: "f32" }],
  kernel({ inputs: [, a, b, ...limit], attrs, target }) {
    const product = { ...matmulSizes([a, b], attrs), ...attrs };
    return { ...accumulated(product, target), reads: [1, 2, ...limit.map(() => 3), 0] };
  },
  definition: ([total, ...operands], attrs) => [add(total, apply(matmulOp, operands, attrs))],
  matmulFlops: ([, a, b], _, attrs) => matmulOp.matmulFlops!([a, b], [], attrs, []),
};

/**
 * Adds a product to a sum so far, in one launch. An `add` would be fused with others into one kernel that needs all
 * products in memory at once.
 *
 * @param total f32 [M, N]
 * @param options Operands and attributes of {@link matmulOp}
 * @returns f32 [M, N]; it has no gradient
 */
export function accumulate(
  total: Tensor,
  options: { readonly operands: readonly Tensor[]; readonly attrs: ProductAttrs },
): Tensor {
  return apply(accumulateOp, [total, ...options.operands], options.attrs);
}
