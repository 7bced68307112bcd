/**
 * Kernels of ranks: those of the first shape of batches are chosen by rank 0, those of a later one by each rank.
 *
 * @module
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  defineTraining,
  flatten,
  type Gpu,
  matmul,
  mean,
  multiply,
  openGpu,
  type Ranks,
  read,
  sgd,
  subtract,
  tensor,
} from "@firn/train";
import { matmulVariants } from "../../kernels/matmul/variants.ts";
import { numbers } from "./averaging.ts";
import { ranksInProcess } from "./in_process.ts";

const WIDTH = 24, STEPS = 2;
/** Rows of a rank in each step: the last batch is smaller. */
const ROWS = [16, 9];

type Weight = { readonly weight: ReturnType<typeof tensor> };
type Params = { readonly low: Weight; readonly high: Weight };

const weight = (seed: number): Weight => ({ weight: tensor(numbers(WIDTH * WIDTH, seed), [WIDTH, WIDTH]) });

function loss(
  { low, high }: Params,
  { x, y }: { readonly x: Weight["weight"]; readonly y: Weight["weight"] },
) {
  const error = subtract(matmul(matmul(x, low.weight), high.weight), y);
  return mean(multiply(error, error));
}

function batch(step: number, rank: number) {
  const shape = [ROWS[step - 1], WIDTH], count = shape[0] * WIDTH;
  return {
    x: tensor(numbers(count, 10 + step + rank), shape),
    y: tensor(numbers(count, 40 + step + rank), shape),
  };
}

/** The sizes in the name of a product. */
function sizesOf(name: string) {
  const [m, n, k] = name.match(/\d+/g)!.map(Number), [a, b] = name.split(" ")[1];
  return { batch: 1, m, n, k, transposeA: a === "T", transposeB: b === "T" };
}

/** Trains; returns the weights, and the kernels of all products. */
async function walk(gpu: Gpu, ranks?: Ranks) {
  using training = defineTraining(gpu, loss, {
    optimizer: sgd({ learningRate: 0.02 }),
    steps: STEPS,
    ranks,
  });
  let state = await training.init({ low: weight(1), high: weight(2) }), first = {};
  while (!state.done) {
    state = await training.next(state, batch(state.step + 1, ranks?.rank ?? 0));
    if (state.step === 1) first = state.chosen.variants;
  }
  const weights = await Promise.all(
    [...flatten(state.params).values()].map(async (t) => [...await read(gpu, t)]),
  );
  return { weights, first, all: state.chosen.variants as Readonly<Record<string, unknown>> };
}

Deno.test("ranks have equal weights, bit for bit, though each has kernels of its own for a shape that comes late", async () => {
  await using gpus = new AsyncDisposableStack();
  const devices = [gpus.use(await openGpu({ tune: false })), gpus.use(await openGpu({ tune: false }))];
  const { first, all } = await walk(devices[0]);
  const late = Object.keys(all).filter((name) => !(name in first));
  assert(late.length > 0);
  // As if this device had measured that others are faster.
  for (const name of late) {
    const usual = JSON.stringify(all[name]), options = matmulVariants(sizesOf(name), devices[1].target);
    const other = options.find((variant) => JSON.stringify(variant) !== usual);
    if (other !== undefined) devices[1].tuning.variants.set(name, other);
  }
  const [a, b] = await Promise.all(ranksInProcess(2).map((ranks, i) => walk(devices[i], ranks)));
  assertEquals(a.first, b.first);
  assertNotEquals(a.all, b.all);
  assertEquals(a.weights, b.weights);
});
