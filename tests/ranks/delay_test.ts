/**
 * Averages of parameters that come some steps later.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  adamW,
  defineTraining,
  flatten,
  freeState,
  type FreezePolicy,
  type Gpu,
  InputError,
  openGpu,
  type Ranks,
  read,
  sgd,
  tensor,
  type TrainingOptions,
} from "@firn/train";
import { checkpointKeeper, loadCheckpoint } from "@firn/train/checkpoint";
import { type FileSystem, memoryFileSystem } from "@firn/train/data";
import { averageParameters } from "@firn/train/ranks";
import { exchangeBytes } from "../../core/train/step/buckets.ts";
import { wrappedGpu } from "../runtime/wrapped_gpu.ts";
import { type Batch, descended, loss, numbers, type Params, share, START, WIDTH } from "./averaging.ts";
import { ranksInProcess } from "./in_process.ts";

const STEPS = 9, EVERY = 3, DELAY = 2, RATE = 0.05, PATH = "run.safetensors";
const OUTER = { learningRate: 0.7, momentum: 0.9, nesterov: true } as const;
const LATE = averageParameters({ every: EVERY, delay: DELAY });

type Options = Partial<TrainingOptions<Batch>>;

/** Where a rank saves, and after which step it is left. */
interface Where {
  readonly fileSystem: FileSystem;
  readonly until: number;
}

/** Takes the steps of a rank, and returns what it is after each. */
async function walk(gpu: Gpu, ranks: Ranks, options: Options = {}, where?: Where) {
  using training = defineTraining(gpu, loss, {
    ...{ optimizer: sgd({ learningRate: RATE }), steps: STEPS, lookEvery: 100, ranks, exchange: LATE },
    ...options,
  });
  const fileSystem = where?.fileSystem ?? memoryFileSystem();
  const keeper = checkpointKeeper<Params>(gpu, { path: PATH, every: 1, ranks, fileSystem });
  let state = await fileSystem.stat(PATH) === null
    ? await training.init(START)
    : await training.resume(await loadCheckpoint(PATH, { fileSystem, ranks })) as Awaited<
      ReturnType<typeof training.init>
    >;
  const steps = [];
  while (!state.done && state.step < (where?.until ?? STEPS)) {
    state = await training.next(state, share(state.step + 1, ranks));
    if (where !== undefined) await keeper.after(state);
    const params = flatten(state.params), weights = ["low.weight", "high.weight"];
    const values = await Promise.all(weights.map((path) => read(gpu, params.get(path)!)));
    const { exchanges, exchange, frozen } = state;
    steps.push({ weights: values.flatMap((v) => [...v]), exchanges, timed: exchange!.ms > 0, frozen });
  }
  await keeper.flush();
  return steps;
}

const together = async (gpu: Gpu, options: Options = {}, where?: Where, size = 2) =>
  await Promise.all(ranksInProcess(size).map((ranks) => walk(gpu, ranks, options, where)));

/** The rule in float64: parameters of two ranks after each step. */
function byHand(outer: boolean): number[][][] {
  const { learningRate, momentum } = OUTER;
  let start = [...numbers(WIDTH * WIDTH, 1), ...numbers(WIDTH, 2)], velocity = start.map(() => 0);
  let now = [start, start], sent: number[][] = [];
  const outerStep = (means: readonly number[]): number[] => {
    if (!outer) return [...means];
    const gradient = start.map((value, i) => value - means[i]);
    velocity = velocity.map((v, i) => momentum * v + gradient[i]);
    return start = start.map((value, i) => value - learningRate * (gradient[i] + momentum * velocity[i]));
  };
  const meanOf = (all: readonly number[][]): number[] => all[0].map((value, i) => (value + all[1][i]) / 2);
  return Array.from({ length: STEPS }, (_, at) => {
    const step = at + 1;
    now = now.map((own, rank) => descended(own, { step, rank, rate: RATE }));
    if (step > EVERY && step % EVERY === DELAY) {
      const next = outerStep(meanOf(sent));
      now = now.map((own, rank) => own.map((value, i) => value - sent[rank][i] + next[i]));
    }
    if (step % EVERY === 0) sent = now;
    if (step === STEPS) {
      const next = outerStep(meanOf(now));
      now = [next, next];
    }
    return now;
  });
}

for (const outer of [false, true]) {
  Deno.test(`ranks add what the mean of ${DELAY} steps ago is more than what they sent, as in float64${outer ? ", with Nesterov's momentum" : ""}`, async () => {
    const queued = outer && { gpu: wrappedGpu({ bindings: 10 }) };
    await using gpu = await openGpu({ tune: false, ...queued });
    const exchange = averageParameters({ every: EVERY, delay: DELAY, ...outer && { outer: sgd(OUTER) } });
    const [first, second] = await together(gpu, { exchange }), wanted = byHand(outer);
    for (const [rank, seen] of [first, second].entries()) {
      seen.forEach(({ weights }, at) =>
        weights.forEach((value, i) => assertAlmostEquals(value, wanted[at][rank][i], 1e-5))
      );
    }
    // Between averages ranks differ, at the end they do not.
    assert(first[6].weights[0] !== second[6].weights[0]);
    assertEquals(first.at(-1), second.at(-1));
    const timed = first.flatMap(({ timed }, at) => timed ? [at + 1] : []);
    assertEquals(timed, [EVERY + DELAY, 2 * EVERY + DELAY, STEPS]);
    const before = { count: 0, step: 0, ranks: 2 };
    assertEquals(first.map(({ exchanges }) => exchanges).slice(1, 5), [
      before,
      { ...before, sent: 3 },
      { ...before, sent: 3 },
      { count: 1, step: 3, ranks: 2 },
    ]);
  });
}

Deno.test("a delayed average has the same bits when repeated, and where the device maps buffers while it works", async () => {
  const bits = [];
  for (const source of [undefined, undefined, wrappedGpu({ bindings: 10 })]) {
    await using gpu = await openGpu({ tune: false, ...source && { gpu: source } });
    bits.push(await together(gpu, { optimizer: adamW({ learningRate: 0.02 }) }, undefined, 3));
  }
  assertEquals(bits[1], bits[0]);
  assertEquals(bits[2], bits[0]);
});

Deno.test("what is sent is copied to the host before the next steps, and added up while they are taken", async () => {
  const calls: string[] = [], [ranks] = ranksInProcess(1), sums = Promise.withResolvers<void>();
  let summed = false;
  await using gpu = await openGpu({
    tune: false,
    gpu: wrappedGpu({ bindings: 10, onCall: (name) => calls.push(name) }),
  });
  using training = defineTraining(gpu, loss, {
    ...{ optimizer: sgd({ learningRate: RATE }), steps: STEPS, lookEvery: 100, exchange: LATE },
    ranks: {
      ...ranks,
      sum: (data) => {
        calls.push(`sum of ${data.length}`);
        return data.length > 3 ? sums.promise : Promise.resolve();
      },
    },
  });
  let state = await training.init(START);
  const seen: string[][] = [];
  const take = async (): Promise<void> => {
    calls.length = 0;
    state = await training.next(state, share(state.step + 1, ranks));
    seen.push(calls.filter((name) => /^sum|getMappedRange|copyBufferToBuffer/.test(name)));
  };
  while (state.step < EVERY + DELAY - 1) await take();
  const late = take();
  const copies = "copyBufferToBuffer", values = `sum of ${WIDTH * WIDTH + WIDTH}`;
  // On the device and to the host: nothing is waited for.
  assertEquals(seen[EVERY - 1], Array(4).fill(copies));
  // Half of the delay later the ranks are asked, and nothing is copied to the host: it would have to wait for the steps.
  assertEquals(seen[EVERY], ["sum of 3", "getMappedRange", values]);
  assert(!summed);
  summed = true;
  sums.resolve();
  await late;
  assertEquals(seen[EVERY + DELAY - 1], ["getMappedRange", copies, copies]);
});

Deno.test("memory of parameters that are on their way is freed once they have arrived", async () => {
  await using gpu = await openGpu({ tune: false, gpu: wrappedGpu({ bindings: 10 }) });
  const sums = Promise.withResolvers<void>(), [ranks] = ranksInProcess(1), before = gpu.counts.bytes;
  const sum = ({ length }: Float32Array) => length > 3 ? sums.promise : Promise.resolve();
  const training = defineTraining(gpu, loss, {
    ...{ optimizer: sgd({ learningRate: RATE }), steps: STEPS, lookEvery: 100, exchange: LATE },
    ranks: { ...ranks, sum },
  });
  let state = await training.init(START);
  while (state.step <= EVERY) state = await training.next(state, share(state.step + 1, ranks));
  freeState(state);
  training[Symbol.dispose]();
  const bytes = 4 * (WIDTH * WIDTH + WIDTH);
  assertEquals(gpu.counts.bytes - before, 2 * bytes);
  sums.resolve();
  await sums.promise;
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals(gpu.counts.bytes - before, 0);
});

Deno.test("a run that is left while parameters are on their way goes on bit for bit", async () => {
  await using gpu = await openGpu({ tune: false });
  const options = {
    optimizer: adamW({ learningRate: 0.02 }),
    exchange: averageParameters({ every: EVERY, delay: DELAY, outer: sgd(OUTER) }),
  };
  const whole = (await together(gpu, options)).map((steps) => steps.at(-1));
  for (const until of [EVERY, EVERY + 1, EVERY + DELAY, 2 * EVERY + 1]) {
    const fileSystem = memoryFileSystem();
    await together(gpu, options, { fileSystem, until });
    const rest = await together(gpu, options, { fileSystem, until: STEPS });
    assertEquals(rest.map((steps) => steps.at(-1)), whole);
    assertEquals(rest[0].length, STEPS - until);
  }
});

Deno.test("a run that goes back to a step before sends what was sent then once more", async () => {
  const exchange = averageParameters({ every: 4, delay: 3 }), steps = 12;
  for (const source of [undefined, wrappedGpu({ bindings: 10 })]) {
    await using gpu = await openGpu({ tune: false, ...source && { gpu: source } });
    const wander = async (ranks: Ranks, breaks: boolean) => {
      using training = defineTraining(gpu, loss, {
        ...{ optimizer: sgd({ learningRate: RATE }), steps, lookEvery: 5, ranks, exchange },
        nonFinite: "rollback",
      });
      let state = await training.init(START), returns = 0;
      while (!state.done) {
        const batch = share(state.step + 1, ranks), breaksNow = breaks && returns === 0 && state.step === 9;
        const x = breaksNow ? tensor(new Float32Array(12).fill(NaN), batch.x.shape) : batch.x;
        state = await training.next(state, { ...batch, x });
        if (state.rolledBack !== undefined) returns++;
      }
      const low = await read(gpu, flatten(state.params).get("low.weight")!);
      return { returns, low: [...low], exchanges: state.exchanges };
    };
    const all = async (breaks: boolean) =>
      await Promise.all(ranksInProcess(2, { into: true }).map((ranks) => wander(ranks, breaks)));
    const [whole] = await all(false), broken = await all(true);
    // What is on its way as the run goes back was sent after step 8, and what was as it was kept after step 4.
    assertEquals(broken, [{ ...whole, returns: 1 }, { ...whole, returns: 1 }]);
  }
});

Deno.test("a device is closed once the ranks have left its memory", async () => {
  const gpu = await openGpu({ tune: false, gpu: wrappedGpu({ bindings: 10 }) });
  const sums = Promise.withResolvers<void>(), [ranks] = ranksInProcess(1);
  const sum = ({ length }: Float32Array) => length > 3 ? sums.promise : Promise.resolve();
  const training = defineTraining(gpu, loss, {
    ...{ optimizer: sgd({ learningRate: RATE }), steps: STEPS, lookEvery: 100, exchange: LATE },
    ranks: { ...ranks, sum },
  });
  let state = await training.init(START), closed = false;
  while (state.step <= EVERY) state = await training.next(state, share(state.step + 1, ranks));
  training[Symbol.dispose]();
  const closing = gpu[Symbol.asyncDispose]().then(() => closed = true);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert(!closed);
  sums.resolve();
  await closing;
});

Deno.test("ranks have the same parameters after each step at which they are to meet, and what comes later follows from them", async () => {
  await using gpu = await openGpu({ tune: false });
  const exchange = averageParameters({ every: EVERY, delay: DELAY, meetEvery: 4 });
  const [first, second] = await together(gpu, { exchange });
  const equal = first.flatMap(({ weights }, at) => weights[0] === second[at].weights[0] ? [at + 1] : []);
  assertEquals(equal, [4, 8, 9]);
  assertEquals(first[3].exchanges, { count: 2, step: 4, ranks: 2 });
  // Sent after step 6, and waited for after step 8.
  assertEquals(first[6].exchanges, { count: 2, step: 4, ranks: 2, sent: 6 });
  assertEquals(first[7].exchanges, { count: 4, step: 8, ranks: 2 });
});

Deno.test("before a policy decides, ranks wait for what is on its way, and have the same parameters; what freezes has left", async () => {
  await using gpu = await openGpu({ tune: false });
  const policy: FreezePolicy<number> = {
    name: "freezesLow",
    signals: [],
    init: () => 0,
    next: (_, { steps }) => steps.at(-1)!,
    frozen: (step) => step >= 4 ? ["low"] : [],
  };
  // Looks after steps 4 and 8: of what was sent after step 3, and after step 6.
  const [first, second] = await together(gpu, { policy, lookEvery: 4 });
  assertEquals(first[3], second[3]);
  assertEquals(first[3].exchanges, { count: 2, step: 4, ranks: 2 });
  assertEquals(first.map(({ frozen }) => frozen.length), [0, 0, 0, 1, 1, 1, 1, 1, 1]);
  const low = ({ weights }: { readonly weights: readonly number[] }) => weights.slice(0, WIDTH * WIDTH);
  assertEquals(first.slice(4).map(low), Array(STEPS - 4).fill(low(first[3])));
  assertEquals(second.slice(4).map(low), first.slice(4).map(low));
  assertEquals(first[7].exchanges, { count: 4, step: 8, ranks: 2 });
  assertEquals(first[8], second[8]);
});

Deno.test("planned memory is what is allocated where an average comes later", async () => {
  for (const source of [undefined, wrappedGpu({ bindings: 10 })]) {
    await using gpu = await openGpu({ tune: false, ...source && { gpu: source } });
    const before = gpu.counts.bytes, [ranks] = ranksInProcess(1);
    using training = defineTraining(gpu, loss, {
      ...{ optimizer: sgd({ learningRate: RATE }), steps: STEPS, lookEvery: 100, exchange: LATE, ranks },
      memory: "1 GiB",
    });
    let state = await training.init(START);
    while (state.step < EVERY + DELAY) state = await training.next(state, share(state.step + 1, ranks));
    // Buffers of an average that is waited for are made when the first one is.
    const waited = exchangeBytes(gpu, [WIDTH, WIDTH * WIDTH].map((items) => ({ bytes: 4 * items })));
    assertEquals(gpu.counts.bytes - before + waited, training.memory()!.bytes);
  }
});

Deno.test("a delay must be shorter than the time between averages, and goes with whole parameters", () => {
  assertThrows(() => averageParameters({ every: 2, delay: 2 }), InputError, 'fewer than "every"');
  assertThrows(() => averageParameters({ every: 2, delay: -1 }), InputError, '"delay" must be');
  assertThrows(() => averageParameters({ every: 2, meetEvery: 0 }), InputError, '"meetEvery" must be');
  for (const wire of ["bf16", "int8"] as const) {
    assertThrows(
      () => averageParameters({ every: 4, delay: 2, wire }),
      InputError,
      `Cannot average parameters with a "delay" of 2 and the "wire" "${wire}" as the device must take the mean of codes before it goes ` +
        'back to all ranks: leave out "delay", or "wire", which is then "f32"',
    );
  }
});
