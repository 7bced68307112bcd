/**
 * A small model, and rows of it for each rank.
 *
 * @module
 */

import { matmul, mean, multiply, type Ranks, subtract, type Tensor, tensor } from "@firn/train";

/** Rows of a step of all ranks, and numbers of each. */
export const ROWS = 6, WIDTH = 4;

/** Two layers. */
export type Params = {
  readonly low: { readonly weight: Tensor };
  readonly high: { readonly weight: Tensor };
};
/** Rows, and what is to come of them. */
export type Batch = { readonly x: Tensor; readonly y: Tensor };
/** Numbers about 0, as many as wanted, which a seed tells apart. */
export function numbers(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(1 + i * 1.7 + seed * 2.3));
}

/** Parameters before the first step. */
export const START: Params = {
  low: { weight: tensor(numbers(WIDTH * WIDTH, 1), [WIDTH, WIDTH]) },
  high: { weight: tensor(numbers(WIDTH, 2), [WIDTH, 1]) },
};

/** Two layers and a squared error. */
export function loss({ low, high }: Params, { x, y }: Batch): Tensor {
  const error = subtract(matmul(matmul(x, low.weight), high.weight), y);
  return mean(multiply(error, error));
}

/** The rows of a rank in a step. */
export function share(step: number, { rank, size }: Pick<Ranks, "rank" | "size">): Batch {
  const rows = ROWS / size, whole = numbers(ROWS * WIDTH, 10 + step), targets = numbers(ROWS, 40 + step);
  return {
    x: tensor(whole.slice(rank * rows * WIDTH, (rank + 1) * rows * WIDTH), [rows, WIDTH]),
    y: tensor(targets.slice(rank * rows, (rank + 1) * rows), [rows, 1]),
  };
}
