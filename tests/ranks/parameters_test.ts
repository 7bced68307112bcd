/**
 * Ranks that take steps alone and average their parameters.
 *
 * @module
 */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type FreezePolicy,
  InputError,
  type Look,
  mean,
  NonFiniteError,
  openGpu,
  read,
  type RunInfo,
  sgd,
  tensor,
  type TrainingOptions,
} from "@firn/train";
import { dropout } from "@firn/train/ops";
import { averageParameters } from "@firn/train/ranks";
import { scheduleFreeAdamW } from "@firn/train/optim";
import {
  type Batch,
  descended,
  loss,
  numbers,
  type Params,
  type Ran,
  ROWS,
  run,
  share,
  START,
  STEPS,
  WIDTH,
} from "./averaging.ts";
import { ranksInProcess } from "./in_process.ts";

type Options = TrainingOptions<Batch>;

function assertNear(a: Ran, b: Ran, tolerance: number): void {
  for (const [path, values] of a.weights) {
    values.forEach((value, i) => assertAlmostEquals(value, b.weights.get(path)![i], tolerance));
  }
}

Deno.test("parameters averaged after every step of plain SGD are those of gradients that are added up", async () => {
  await using gpu = await openGpu({ tune: false });
  const [first, second] = await run(gpu, ranksInProcess(2), { exchange: averageParameters({ every: 1 }) });
  const [added] = await run(gpu, ranksInProcess(2));
  assertEquals(second, first);
  assertNear(first, added, 1e-6);
  first.looks.flat().forEach((value, i) => assertAlmostEquals(value, added.looks.flat()[i], 1e-5));
});

for (const size of [2, 3]) {
  Deno.test(`${size} ranks of AdamW have the same parameters after an exchange, and the same bits when repeated`, async () => {
    await using gpu = await openGpu({ tune: false });
    const options = { exchange: averageParameters({ every: 2 }), optimizer: adamW({ learningRate: 0.02 }) };
    const [first, ...others] = await run(gpu, ranksInProcess(size), options);
    for (const other of others) assertEquals(other, first);
    assertEquals(first.exchanges, { count: 3, step: STEPS, ranks: size });
    assertEquals(await run(gpu, ranksInProcess(size), options), [first, ...others]);
  });
}

Deno.test("an outer step of Nesterov's momentum is that of DiLoCo in float64", async () => {
  await using gpu = await openGpu({ tune: false });
  const every = 2, rate = 0.7, momentum = 0.9, inner = 0.05;
  const outer = sgd({ learningRate: rate, momentum, nesterov: true });
  const [first, second] = await run(gpu, ranksInProcess(2), {
    exchange: averageParameters({ every, outer }),
  });
  assertEquals(second, first);
  // By hand: parameters as one list, first those of the lower layer.
  let start = [...numbers(WIDTH * WIDTH, 1), ...numbers(WIDTH, 2)], velocity = start.map(() => 0);
  for (let step = 1; step <= STEPS; step += every) {
    const ends = [0, 1].map((rank) => {
      let own = start;
      for (const s of [step, step + 1]) own = descended(own, { step: s, rank, rate: inner });
      return own;
    });
    const gradient = start.map((value, i) => value - (ends[0][i] + ends[1][i]) / 2);
    velocity = velocity.map((v, i) => momentum * v + gradient[i]);
    start = start.map((value, i) => value - rate * (gradient[i] + momentum * velocity[i]));
  }
  const seen = [...first.weights.get("low.weight")!, ...first.weights.get("high.weight")!];
  seen.forEach((value, i) => assertAlmostEquals(value, start[i], 1e-5));
});

for (const [wire, tolerance] of [["bf16", 5e-3], ["int8", 1e-2]] as const) {
  Deno.test(`${wire} with what it left before goes where f32 goes, with the same bits on all ranks`, async () => {
    await using gpu = await openGpu({ tune: false });
    const options = { optimizer: adamW({ learningRate: 0.02 }) };
    for (const outer of [undefined, sgd({ learningRate: 0.7, momentum: 0.9, nesterov: true })]) {
      const [exact] = await run(gpu, ranksInProcess(2), {
        ...options,
        exchange: averageParameters({ every: 2, outer }),
      });
      for (const size of [2, 3]) {
        const exchange = averageParameters({ every: 2, outer, wire });
        const [first, ...others] = await run(gpu, ranksInProcess(size), { ...options, exchange });
        for (const other of others) assertEquals(other, first);
        if (size === 2) {
          assertNear(first, exact, tolerance);
          first.looks.flat().forEach((value, i) =>
            assertAlmostEquals(value, exact.looks.flat()[i], 0.01 * value)
          );
        }
        const block = wire === "int8" ? 4 * 65 : 4 * 128;
        // 20 values fill a block; each rank has one, and gives one to each and its mean to all.
        assertEquals(first.exchanged[0], Math.ceil((size + 1) * block / 2));
      }
    }
  });
}

/** Freezes the lower layer at a step. */
function freezesLow(at: number): FreezePolicy<number> {
  return {
    name: `freezesLow(${at})`,
    signals: ["gradNorm"],
    init: () => 0,
    next: (_, { steps }) => steps.at(-1)!,
    frozen: (step) => step >= at ? ["low"] : [],
  };
}

Deno.test("what freezes is averaged once more, then leaves the exchange: bytes fall, and all ranks freeze the same", async () => {
  await using gpu = await openGpu({ tune: false });
  const exchange = averageParameters({ every: 2, outer: sgd({ learningRate: 0.7, momentum: 0.9 }) });
  const [first, second] = await run(gpu, ranksInProcess(2), { exchange, policy: freezesLow(3) });
  assertEquals(second, first);
  assertEquals(first.frozen, ["low"]);
  // Looks of a policy are after steps 3 and 6.
  assertEquals(first.timed, [2, 3, 4, 6]);
  assertEquals(first.exchanges?.count, 4);
  const all = 4 * WIDTH * (WIDTH + 1) / 2, high = 4 * WIDTH / 2;
  assertEquals(first.exchanged, [all, all, all, high, high, high]);
});

Deno.test("policies decide by what all ranks measured", async () => {
  await using gpu = await openGpu({ tune: false });
  const looks: Look[][] = [[], []], runs: RunInfo[] = [];
  const watching = (rank: number): FreezePolicy<null> => ({
    name: "watching",
    signals: ["gradNorm"],
    init(_, run) {
      runs[rank] = run;
      return null;
    },
    next: (_, look) => {
      looks[rank].push(look);
      return null;
    },
    frozen: () => [],
  });
  const exchange = averageParameters({ every: 3 });
  await run(gpu, ranksInProcess(2), {
    exchange,
    optimizer: chain(clipByGlobalNorm(0.1), sgd({ learningRate: 0.05 })),
    optionsOf: (rank) => ({ policy: watching(rank) }),
  });
  assertEquals(looks[1], looks[0]);
  assert(looks[0].every(({ clip }) => clip!.every((factor) => factor > 0 && factor < 1)));
  assertEquals(runs.map(({ batchSize }) => batchSize), [ROWS, ROWS]);
  assertEquals(looks[0].map(({ readings }) => readings.gradNorm!.low.length), [3, 3]);
});

Deno.test("a loss that is not finite on one rank ends the look on all, which name it", async () => {
  await using gpu = await openGpu({ tune: false });
  const broken = { ...START, high: { weight: tensor(numbers(WIDTH, 2).fill(1e30), [WIDTH, 1]) } };
  const exchange = averageParameters({ every: 9 });
  const ends = await Promise.all(
    ranksInProcess(2).map(async (ranks) => {
      using training = defineTraining(gpu, loss, {
        optimizer: sgd({ learningRate: 0.05 }),
        steps: 9,
        lookEvery: 1,
        ranks,
        exchange,
      });
      const state = await training.init(ranks.rank === 1 ? broken : START);
      return await assertRejects(() => training.next(state, share(1, ranks)), NonFiniteError);
    }),
  );
  assertMatch(ends[0].message, /the loss of step 1 is Infinity: so it is on rank 1, which says what helps$/);
  assertMatch(ends[1].message, /the loss of step 1 is Infinity: /);
});

Deno.test("random numbers of ranks that take steps alone differ", async () => {
  await using gpu = await openGpu({ tune: false });
  const exchange = averageParameters({ every: 9 });
  const losses = await Promise.all(
    ranksInProcess(2).map(async (ranks) => {
      using training = defineTraining(
        gpu,
        ({ low }: Params) => mean(dropout(low.weight, { rate: 0.5, seed: 1 })),
        {
          optimizer: sgd({ learningRate: 0.05 }),
          steps: 9,
          ranks,
          exchange,
        },
      );
      return [...await read(gpu, (await training.next(await training.init(START), {})).loss!)];
    }),
  );
  assert(losses[0][0] !== losses[1][0], `${losses}`);
});

Deno.test("an exchange refuses options that are none, a training alone, and optimizers that average weights of one rank", async () => {
  assertThrows(() => averageParameters({ every: 0 }), InputError, '"every" must be a whole number');
  assertThrows(
    () => averageParameters({ every: 1, wire: "f8" as "f32" }),
    InputError,
    '"wire" must be one of',
  );
  await using gpu = await openGpu({ tune: false });
  const [ranks] = ranksInProcess(2), exchange = averageParameters({ every: 1 });
  const define = (options: Partial<Options>) =>
    defineTraining(gpu, loss, { optimizer: sgd({ learningRate: 1 }), steps: 1, exchange, ...options });
  assertThrows(() => define({}), InputError, '"ranks" must say with whom');
  const optimizer = scheduleFreeAdamW({ learningRate: 1 });
  assertThrows(() => define({ ranks, optimizer }), InputError, "averages the weights of one rank");
});
