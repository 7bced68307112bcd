/**
 * Products in float64 and by a kernel, and the ways to cut them up.
 *
 * @module
 */

import type { Kernel } from "../../kernels/kernel.ts";
import { matmul as product, reduceSplits } from "../../kernels/matmul/matmul.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";
import { type Matmul, type MatmulVariant, partialSize, splitOf } from "../../kernels/matmul/types.ts";
import { MATMUL_TILES } from "../../kernels/matmul/variants.ts";
import { fromF16 } from "../../core/data/floats.ts";
import { blank, type Data, runKernel } from "./run_kernel.ts";

/** The kernel of a product, on matrix units too. */
export function matmul(sizes: Matmul): Kernel {
  return product({ ...sizes, units: matrixProducts });
}

/** Every tile of a GPU, with sums shared by so many workgroups. */
export function tiles(split: number): (MatmulVariant & { readonly kind: "tiled" })[] {
  return MATMUL_TILES.map(({ bm, bn, bk, tm, tn }) => ({ kind: "tiled", bm, bn, bk, tm, tn, split }));
}

/** Whether A and B are transposed. */
export const LAYOUTS = [[false, false], [false, true], [true, false], [true, true]] as const;

/** Sizes, and whether a stack: the odd ones load single elements, the others four at once. */
export const SIZES = [{ batch: 2, m: 33, n: 17, k: 53 }, { batch: 1, m: 36, n: 132, k: 52 }];

/** A product in float64. */
export function definition(
  { batch, m, n, k, transposeA, transposeB }: Omit<Matmul, "variant">,
  { a, b }: { readonly a: Data; readonly b: Data },
): Float64Array {
  return Float64Array.from({ length: batch * m * n }, (_, at) => {
    const column = at % n, row = Math.floor(at / n) % m, stack = Math.floor(at / (m * n));
    let sum = 0;
    for (let i = 0; i < k; i++) {
      const left = transposeA ? i * m + row : row * k + i,
        right = transposeB ? column * k + i : i * n + column;
      sum += a[stack * m * k + left] * b[stack * k * n + right];
    }
    return sum;
  });
}

/** A product, its parts joined, with the only output of its epilogue if any; what is stored as f16 is widened. */
export async function compute(
  product: Matmul,
  { a, b, more = [], device }: {
    readonly a: Data;
    readonly b: Data;
    readonly more?: readonly Data[];
    readonly device?: GPUDevice;
  },
): Promise<Float32Array> {
  const { batch, m, n, variant } = product, size = batch * m * n;
  const inputs = [a, b, ...more];
  const out = product.epilogue?.half?.[0] === true ? new Uint16Array(size) : blank(size);
  const widened = ([data]: readonly Data[]): Float32Array =>
    data instanceof Uint16Array ? fromF16(data) : data as Float32Array;
  if (splitOf(variant) === 1) {
    return widened(await runKernel(matmul(product), { inputs, outputs: [out], device }));
  }
  const parts = blank(splitOf(variant) * partialSize(product));
  const sums = await runKernel(matmul({ ...product, epilogue: undefined }), {
    inputs,
    outputs: [parts],
    device,
  });
  return widened(
    await runKernel(reduceSplits({ ...product, variant }), {
      inputs: sums,
      outputs: [out],
      device,
    }),
  );
}

/** Results of a group of products, their splits reduced. */
export async function computeGroup(
  product: Matmul,
  inputs: readonly Data[],
  device?: GPUDevice,
): Promise<readonly Float32Array[]> {
  const { m, n, group, variant } = product;
  const results = group!.as === "separate" ? group!.count : 1;
  const split = splitOf(variant);
  const size = split === 1 ? m * n : split * partialSize(product);
  const made = await runKernel(matmul(product), {
    inputs,
    outputs: Array.from({ length: results }, () => blank(size)),
    device,
  });
  if (split === 1) return made;
  const outputs = made.flatMap((parts) => [parts, blank(m * n)]);
  return (await runKernel(reduceSplits({ ...product, variant }), { inputs: [], outputs, device })).filter((
    _,
    i,
  ) => i % 2);
}
