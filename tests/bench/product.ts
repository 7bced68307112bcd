/**
 * A product alone, by the kernel that a training would choose.
 *
 * Axes: M rows, N columns, K length of the sums.
 *
 * @module
 */

import { free, type Gpu, matmul, type Precision, sum, type Tensor } from "@firn/train";
import { productsOf } from "../../core/plan/lower/products.ts";
import { plan, prepare } from "../../core/plan/plan.ts";
import { halfCopy } from "../../core/plan/weight_copies.ts";
import type { Launch, Plan } from "../../core/plan/types.ts";
import { record } from "../../core/runtime/record.ts";
import { upload } from "../../core/runtime/upload.ts";
import { checkPrecision } from "../../core/train/options.ts";
import { productVariants } from "../../core/train/step/product_variants.ts";
import type { Contender } from "./measure.ts";
import { familyOf } from "./roofline.ts";
import { productSide } from "./sides.ts";
import { settle } from "./timestamps.ts";

/** Work of one recording: 50 ms at 50 TFLOP/s. */
const RECORDED_FLOPS = 2.5e12;

/** Sizes and layouts of a product. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Which operands are stored transposed: a forward product of weights [out, in] is NT, its dX NN, its dW TN. */
  readonly layout: "NN" | "NT" | "TN";
}

/** How a product is measured. */
export interface ProductOptions {
  /** Of its operands, and of its result where that is no gradient of weights; f32 when absent. */
  readonly precision?: Precision;
  /** Work of one recording. */
  readonly recorded?: number;
}

/** What is planned: the product, and in f16 whatever makes its operands f16 and reads its result as f16. */
export function productGraph(
  [a, b]: readonly [Tensor, Tensor],
  { layout, precision }: Pick<Product, "layout"> & Pick<ProductOptions, "precision">,
): Tensor {
  const options = { transposeA: layout === "TN", transposeB: layout === "NT" };
  if (precision !== "f16") return matmul(a, b, options);
  const product = matmul(halfCopy(a), halfCopy(b), options);
  return layout === "TN" ? product : sum(product);
}

const isOfProduct = ({ kernel }: Launch): boolean => familyOf(kernel.name) === "matmul";

/** Launches of the product again and again, and what they read once before. */
function repeated(plan: Plan, times: number): Plan {
  const own = plan.launches.filter(isOfProduct), at = plan.launches.indexOf(own[0]);
  const copies = plan.launches.slice(0, at).filter((launch) => !isOfProduct(launch));
  return { ...plan, launches: [...copies, ...Array.from({ length: times }, () => own).flat()] };
}

/**
 * A product by the op `matmul`, so often in one recording that the host is out of the way; a step is one product.
 *
 * @param gpu The device; the product is tuned as that of a training would be
 * @param product Sizes and layout
 * @param options Precision
 * @returns The contender
 * @throws {InputError} When the adapter cannot compute in that precision
 */
export async function firnProduct(
  gpu: Gpu,
  { m, n, k, layout }: Product,
  { precision = "f32", recorded = RECORDED_FLOPS }: ProductOptions = {},
): Promise<Contender> {
  checkPrecision(gpu, precision);
  const operand = (label: string, rows: number, columns: number): Tensor =>
    upload(gpu, noise(rows * columns), { shape: [rows, columns], label });
  const a = layout === "TN" ? operand("a", k, m) : operand("a", m, k);
  const b = layout === "NT" ? operand("b", n, k) : operand("b", k, n);
  const perStep = Math.max(1, Math.ceil(recorded / (2 * m * n * k)));
  const roots = [productGraph([a, b], { layout, precision })];
  const variants = productVariants(gpu), { target } = variants;
  await variants.choose(productsOf(prepare(roots, { target, precision })));
  const planned = repeated(plan(roots, { target, precision }), perStep);
  const recording = await record(gpu, { plan: planned, label: "product" });
  return {
    name: "Firn",
    side: productSide(precision),
    perStep,
    step: () => recording.replay(1),
    settle: () => settle(gpu),
    loss: null,
    memory: () => null,
    close() {
      recording.destroy();
      free({ a, b });
    },
  };
}

/** Numbers from -0.5 to 0.5 with random mantissas, as what a product costs in power depends on its bits. */
function noise(size: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(size);
  for (let i = 0, x = 1; i < size; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    values[i] = x / 2 ** 32 - 0.5;
  }
  return values;
}
