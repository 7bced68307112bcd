/**
 * Principal parts of weights, for PiSSA.
 *
 * Axes: M rows, N columns, L columns of a subspace, R of them wanted.
 *
 * @module
 */

import { normalValues } from "../../kernels/random.ts";
import { InputError } from "../errors.ts";
import { read } from "../infer/read.ts";
import type { Layout } from "../nn/params.ts";
import { matmul } from "../ops/matmul.ts";
import type { Gpu } from "../runtime/device.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";

/** The largest singular values of a matrix, and their vectors. */
export interface PrincipalPart {
  /** R left vectors of M values each. */
  readonly left: readonly Float64Array[];
  /** R values, largest first. */
  readonly values: readonly number[];
  /** R right vectors of N values each. */
  readonly right: readonly Float64Array[];
}

/** Matrices with a side that is this short are decomposed whole. */
const SHORT = 64;
/** Most iterations; weights of trained models need some ten. */
const MOST = 100;
/** How exact vectors are, as a share of the largest singular value: what products in f32 allow. */
const EXACT = 1e-6;

/**
 * Finds the largest singular values of a weight, by iteration of a subspace. The device multiplies, the host orthogonalises in f64.
 *
 * Source: Halko, Martinsson and Tropp, "Finding structure with randomness", arXiv 0909.4061, algorithm 4.4.
 *
 * @param gpu The device that holds the weight
 * @param weight f32 or stored in fewer bytes [out, in], or [in, out] in the layout of that name
 * @param options `rank`: how many; the layout of the weight; its `path` for errors
 * @returns Those of the matrix [out, in]
 * @throws {InputError} When the weight has fewer
 */
export async function principalPart(
  gpu: Gpu,
  weight: Tensor,
  { rank, layout, path }: { readonly rank: number; readonly layout: Layout; readonly path: string },
): Promise<PrincipalPart> {
  const [m, n] = layout === "inOut" ? weight.shape.toReversed() : weight.shape, least = Math.min(m, n);
  if (rank > least) {
    throw new InputError(
      `Cannot take the principal part of "${path}" as a matrix of [${m}, ${n}] has ${least} singular values: asked for ${rank}`,
    );
  }
  const count = least <= SHORT ? least : Math.min(least, Math.max(2 * rank, rank + 16));
  const product = async (columns: readonly Float64Array[], turned: boolean): Promise<Float64Array[]> => {
    const right = tensor(interleaved(columns), [columns[0].length, columns.length]);
    const transposeA = turned !== (layout === "inOut");
    return columnsOf(await read(gpu, matmul(weight, right, { transposeA })) as Float32Array, columns.length);
  };
  const start = normalValues({ size: n * count, key: [0, 0] });
  let right = orthogonal(columnsOf(start, count)).columns, found: PrincipalPart | null = null;
  for (let i = 0; i < MOST; i++) {
    const image = await product(right, false); // W Q, [M, L]
    if (found !== null && residual(found, { image, rank }) <= EXACT * found.values[0]) break;
    const left = orthogonal(image).columns; // P
    const { columns, triangle } = orthogonal(await product(left, true)); // W^T P = Q' R
    // W is about P R^T Q'^T, and the small matrix is R = B S A^T.
    const { a, s, b } = decompose(triangle);
    right = combined(columns, b);
    found = { left: combined(left, a), values: s, right };
  }
  const { left, values } = found!;
  return { left: left.slice(0, rank), values: values.slice(0, rank), right: found!.right.slice(0, rank) };
}

/** The largest distance between the image of a right vector and the left one that it should give. */
function residual(
  { left, values }: PrincipalPart,
  { image, rank }: { readonly image: readonly Float64Array[]; readonly rank: number },
): number {
  return Math.max(
    ...left.slice(0, rank).map((u, j) =>
      Math.sqrt(u.reduce((sum, x, i) => sum + (image[j][i] - values[j] * x) ** 2, 0))
    ),
  );
}

/** Columns of a row-major matrix. */
function columnsOf(values: Float32Array, count: number): Float64Array[] {
  return Array.from(
    { length: count },
    (_, j) => Float64Array.from({ length: values.length / count }, (_, i) => values[i * count + j]),
  );
}

function interleaved(columns: readonly Float64Array[]): Float32Array {
  const values = new Float32Array(columns.length * columns[0].length);
  columns.forEach((column, j) => column.forEach((x, i) => values[i * columns.length + j] = x));
  return values;
}

/** An orthonormal base Q of columns, and R with columns = Q R, by Gram-Schmidt done twice. */
function orthogonal(
  columns: readonly Float64Array[],
): { readonly columns: Float64Array[]; readonly triangle: Float64Array[] } {
  const done: Float64Array[] = [], count = columns.length;
  const triangle = Array.from({ length: count }, () => new Float64Array(count));
  columns.forEach((column, j) => {
    const rest = column.slice();
    for (let pass = 0; pass < 2; pass++) {
      done.forEach((q, i) => {
        const part = dot(q, rest);
        triangle[j][i] += part;
        for (let k = 0; k < rest.length; k++) rest[k] -= part * q[k];
      });
    }
    const length = Math.sqrt(dot(rest, rest)), size = Math.sqrt(dot(column, column));
    // Nothing is left of a column that depends on those before it.
    const kept = length > 1e-12 * size ? length : 0;
    triangle[j][j] = kept;
    done.push(rest.map((x) => kept === 0 ? 0 : x / kept));
  });
  return { columns: done, triangle };
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** The singular values of a small matrix, given by columns: R = B S A^T, by rotations of its columns (Jacobi). */
function decompose(
  triangle: readonly Float64Array[],
): { readonly a: Float64Array[]; readonly s: number[]; readonly b: Float64Array[] } {
  const count = triangle.length, work = triangle.map((column) => column.slice());
  const turns = work.map((_, j) => Float64Array.from({ length: count }, (_, i) => i === j ? 1 : 0));
  for (let sweep = 0; sweep < 60; sweep++) {
    let largest = 0;
    for (let p = 0; p < count; p++) {
      for (let q = p + 1; q < count; q++) largest = Math.max(largest, rotate([work, turns], { p, q }));
    }
    if (largest < 1e-15) break;
  }
  const lengths = work.map((column) => Math.sqrt(dot(column, column)));
  const order = lengths.map((_, j) => j).sort((x, y) => lengths[y] - lengths[x]);
  return {
    a: order.map((j) => turns[j]),
    s: order.map((j) => lengths[j]),
    b: order.map((j) => work[j].map((x) => lengths[j] === 0 ? 0 : x / lengths[j])),
  };
}

/** Turns two columns until they are at right angles; returns the cosine that they had. */
function rotate(
  [work, turns]: readonly (readonly Float64Array[])[],
  { p, q }: { readonly p: number; readonly q: number },
): number {
  const alpha = dot(work[p], work[p]), beta = dot(work[q], work[q]), gamma = dot(work[p], work[q]);
  if (gamma === 0 || alpha === 0 || beta === 0) return 0;
  const zeta = (beta - alpha) / (2 * gamma);
  const t = Math.sign(zeta || 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
  const c = 1 / Math.sqrt(1 + t * t), s = c * t;
  for (const matrix of [work, turns]) {
    const [x, y] = [matrix[p], matrix[q]];
    for (let i = 0; i < x.length; i++) [x[i], y[i]] = [c * x[i] - s * y[i], s * x[i] + c * y[i]];
  }
  return Math.abs(gamma) / Math.sqrt(alpha * beta);
}

/** Sums of columns, by the factors of each. */
function combined(columns: readonly Float64Array[], factors: readonly Float64Array[]): Float64Array[] {
  return factors.map((factor) => {
    const sum = new Float64Array(columns[0].length);
    columns.forEach((column, j) => {
      for (let i = 0; i < sum.length; i++) sum[i] += factor[j] * column[i];
    });
    return sum;
  });
}
