/**
 * A small model, and rows of it for each rank.
 *
 * @module
 */

import {
  defineTraining,
  flatten,
  type Gpu,
  matmul,
  mean,
  multiply,
  type Ranks,
  read,
  sgd,
  subtract,
  type Tensor,
  tensor,
  type TrainingOptions,
} from "@firn/train";

/** Rows of a step of all ranks, and numbers of each. */
export const ROWS = 6, WIDTH = 4;
/** Steps of a run. */
export const STEPS = 6;

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

/** What a run of some ranks leaves on each. */
export async function run(
  gpu: Gpu,
  ranks: readonly Ranks[],
  { optionsOf = () => ({}), ...options }: Partial<TrainingOptions<Batch>> & {
    readonly optionsOf?: (rank: number) => Partial<TrainingOptions<Batch>>;
  } = {},
) {
  return await Promise.all(ranks.map(async (own) => {
    using training = defineTraining(gpu, loss, {
      optimizer: sgd({ learningRate: 0.05 }),
      steps: STEPS,
      lookEvery: 3,
      ranks: own,
      ...options,
      ...optionsOf(own.rank),
    });
    let state = await training.init(START);
    const looks: number[][] = [], exchanged: number[] = [], timed: number[] = [];
    for (let step = 1; !state.done; step++) {
      state = await training.next(state, share(step, own));
      exchanged.push(state.cost!.exchanged!);
      if (state.exchange!.ms > 0) timed.push(step);
      if (state.look !== null) looks.push([...state.look.loss]);
    }
    const weights = new Map(
      await Promise.all(
        [...flatten(state.params)].map(async ([path, t]) => [path, await read(gpu, t)] as const),
      ),
    );
    return { weights, looks, frozen: state.frozen, exchanged, timed, exchanges: state.exchanges };
  }));
}

/** What {@link run} brings. */
export type Ran = Awaited<ReturnType<typeof run>>[number];

/** A step of plain SGD on the rows of one of two ranks, in float64. */
export function descended(
  weights: readonly number[],
  { step, rank, rate }: { readonly step: number; readonly rank: number; readonly rate: number },
): number[] {
  const rows = ROWS / 2, all = numbers(ROWS * WIDTH, 10 + step), targets = numbers(ROWS, 40 + step);
  const high = weights.slice(WIDTH * WIDTH), gradient = weights.map(() => 0);
  for (let row = rank * rows; row < (rank + 1) * rows; row++) {
    const x = all.subarray(row * WIDTH, (row + 1) * WIDTH);
    const hidden = high.map((_, j) => x.reduce((sum, value, i) => sum + value * weights[i * WIDTH + j], 0));
    const error = hidden.reduce((sum, value, j) => sum + value * high[j], 0) - targets[row];
    const slope = 2 * error / rows;
    high.forEach((value, j) => {
      gradient[WIDTH * WIDTH + j] += slope * hidden[j];
      x.forEach((input, i) => gradient[i * WIDTH + j] += slope * value * input);
    });
  }
  return weights.map((value, i) => value - rate * gradient[i]);
}
