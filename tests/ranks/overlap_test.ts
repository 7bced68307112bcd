/**
 * Sums go to the other ranks while the backward pass goes on.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  flatten,
  type FreezePolicy,
  type Gpu,
  openGpu,
  type Ranks,
  read,
  type Tensor,
  tensor,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { matmul, mean, multiply, subtract, tanh } from "@firn/train/ops";
import { arenasOf, bucketsOf, stagingOf } from "../../core/train/step/buckets.ts";
import { gradientExchange } from "../../core/train/step/exchange.ts";
import { fingerprint } from "../../core/fingerprint.ts";
import { createBuffer, destroyBuffer, writeValues } from "../../core/runtime/buffers.ts";
import { readBuffers } from "../../core/runtime/readback.ts";
import { exchangePace } from "@firn/train/report";
import { wrappedGpu } from "../runtime/wrapped_gpu.ts";
import { ranksInProcess } from "./in_process.ts";

/** Layers of 256 KiB, each about a bucket, and what a step has of them. */
const LAYERS = 6, WIDTH = 256, SAMPLES = 4, BUCKETS = 7;

type Batch = ReturnType<typeof samples>;

function samples(step: number, part: number) {
  const values = (seed: number): Float32Array =>
    Float32Array.from({ length: SAMPLES * WIDTH }, (_, i) => Math.sin(i * seed + step * 5 + part * 11));
  return { x: tensor(values(7), [SAMPLES, WIDTH]), y: tensor(values(3), [SAMPLES, WIDTH]) };
}

type Params = { readonly layers: Readonly<Record<string, { readonly weight: Tensor }>> };

function newParams(): Params {
  const weight = (layer: number): Tensor =>
    tensor(
      Float32Array.from({ length: WIDTH * WIDTH }, (_, i) => Math.sin(i * (layer + 3)) / 10),
      [WIDTH, WIDTH],
    );
  return { layers: Object.fromEntries(Array.from({ length: LAYERS }, (_, i) => [i, { weight: weight(i) }])) };
}

function loss({ layers }: Params, { x, y }: Batch): Tensor {
  const out = Object.values(layers).reduce((h, { weight }) => tanh(matmul(h, weight)), x as Tensor);
  const off = subtract(out, y);
  return mean(multiply(off, off));
}

type Options = Partial<TrainingOptions<Batch>>;

/** What a run of some steps brings. */
async function run(gpu: Gpu, { parts = [0], steps = 3, ...options }: Options & {
  /** Numbers of the batches of a step. */
  readonly parts?: readonly number[];
} = {}) {
  using training = defineTraining(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.02 })),
    steps,
    lookEvery: 2,
    accumulate: parts.length,
    ...options,
  });
  let state = await training.init(newParams());
  const states: Pick<TrainingState<object>, "exchange" | "cost" | "frozen">[] = [], losses: number[] = [];
  for (let step = 1; step <= steps; step++) {
    state = await training.next(state, parts.map((part) => samples(step, part)));
    losses.push((await read(gpu, state.loss!))[0]);
    states.push(state);
  }
  const weights = await Promise.all([...flatten(state.params).values()].map((weight) => read(gpu, weight)));
  // A digest: a difference of large arrays takes long to print.
  const bits = weights.map((values) => fingerprint([new Int32Array(values.buffer)]));
  return { losses, bits, states };
}

/** Ranks that tell of their sums of gradients, each of which takes some milliseconds. */
function told(ranks: Ranks, { ms = 0, tell }: {
  readonly ms?: number;
  readonly tell: (what: "sum" | "summed", length: number) => void;
}): Ranks {
  let queue: Promise<unknown> = Promise.resolve();
  return {
    ...ranks,
    sum(data) {
      const made = queue.then(async () => {
        // Ranks agree on a step by three numbers.
        if (data.length === 3) return await ranks.sum(data);
        tell("sum", data.length);
        if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
        await ranks.sum(data);
        tell("summed", data.length);
      });
      queue = made;
      return made;
    },
  };
}

Deno.test("two ranks have the bits of one process that accumulates the batches of both", async () => {
  await using gpu = await openGpu({ tune: false });
  const { states: _, ...one } = await run(gpu, { parts: [0, 1] });
  const buckets: number[] = [];
  const both = await Promise.all(
    ranksInProcess(2).map((ranks) =>
      run(gpu, {
        parts: [ranks.rank],
        ranks: told(ranks, { tell: (what, length) => what === "sum" && buckets.push(length) }),
      })
    ),
  );
  for (const { states: _, ...rank } of both) assertEquals(rank, one);
  // Each rank has the same in each of 3 steps.
  assertEquals(buckets.length, 2 * 3 * BUCKETS);
});

Deno.test("ranks that add up to other memory have the same bits, and do so where the upload begins", async () => {
  await using gpu = await openGpu({ tune: false, gpu: wrappedGpu({ bindings: 10 }) });
  const runs = async (into: boolean, seen: ArrayBufferLike[] = []) =>
    await Promise.all(
      ranksInProcess(2, { into }).map(async (ranks) => {
        const told = { ...ranks, ...into && { sumMapped: noted(ranks, seen) } };
        const { states: _, ...ran } = await run(gpu, { parts: [ranks.rank], ranks: told });
        return ran;
      }),
    );
  const seen: ArrayBufferLike[] = [];
  assertEquals(await runs(true, seen), await runs(false));
  assertEquals(seen.length, 2 * 3 * BUCKETS);
  // Mapped memory is gone with the mapping; memory of the process would stay.
  assertEquals(seen.map(({ byteLength }) => byteLength), seen.map(() => 0));
});

/** Adds up as ranks do, and notes to which memory. */
function noted({ sumMapped }: Ranks, seen: ArrayBufferLike[]): NonNullable<Ranks["sumMapped"]> {
  return (data, sums) => {
    seen.push(sums.first.buffer);
    return sumMapped!(data, sums);
  };
}

Deno.test("a bucket goes to the other ranks before the backward pass has ended, where mapping waits for all work", async () => {
  const events: string[] = [];
  await using gpu = await openGpu({ tune: false });
  const ranks = told(ranksInProcess(1)[0], { ms: 30, tell: (what) => events.push(what) });
  const { states: [{ exchange }] } = await withPasses(
    () => events.push("pass"),
    () => run(gpu, { steps: 1, ranks }),
  );
  assertEquals(events.filter((what) => what === "sum").length, BUCKETS);
  assert(exchange!.ms >= 30 * BUCKETS, `${exchange!.ms} ms`);
  assert(exchange!.waitedMs < exchange!.ms - 20, `${exchange!.waitedMs} of ${exchange!.ms} ms waited`);
  assert(exchange!.stages!.sum >= 30 * BUCKETS, JSON.stringify(exchange));
  // The update comes after the last sum: what comes between is the backward pass.
  const within = events.slice(events.indexOf("sum"), events.indexOf("summed"));
  assert(within.includes("pass"), events.join(" "));
});

for (const parts of [[0], [0, 1, 2]]) {
  Deno.test(`where mapping leaves work queued, the last of ${parts.length} backward passes is submitted at once, each bucket copied when it is complete`, async () => {
    const calls: string[] = [], [ranks] = ranksInProcess(1);
    const onCall = (name: string) => calls.push(name);
    await using gpu = await openGpu({ tune: false, gpu: wrappedGpu({ bindings: 10, onCall }) });
    let before: string[] | null = null;
    const sum = async (data: Float32Array): Promise<void> => {
      if (data.length > 3) before ??= calls.slice(0, calls.indexOf("getMappedRange"));
      await ranks.sum(data);
    };
    await run(gpu, { steps: 1, ranks: { ...ranks, sum }, parts });
    const order = before!.filter((name) => ["beginComputePass", "copyBufferToBuffer"].includes(name));
    const isCopy = (name: string): boolean => name === "copyBufferToBuffer", first = order.findIndex(isCopy);
    assertEquals(order.filter(isCopy).length, BUCKETS);
    // Other backward passes come before the first bucket, and most of the last one after it; what it ends with completes several.
    const passes = [order.slice(0, first), order.slice(first)].map((part) =>
      part.filter((n) => !isCopy(n)).length
    );
    assert(passes[0] >= parts.length && passes[1] >= BUCKETS - 3, order.join(" "));
  });
}

Deno.test("a bucket is given to the other ranks while the one before is on its way, where mapping leaves work queued", async () => {
  await using gpu = await openGpu({ tune: false, gpu: wrappedGpu({ bindings: 10 }) });
  const second = Promise.withResolvers<string>(), [ranks] = ranksInProcess(1);
  let given = 0, met = "";
  await run(gpu, {
    steps: 1,
    ranks: {
      ...ranks,
      async sum({ length }) {
        if (length === 3) return;
        if (++given === 2) second.resolve("given");
        if (given > 1) return;
        const late = setTimeout(() => second.resolve("late"), 5000);
        met = await second.promise;
        clearTimeout(late);
      },
    },
  });
  assertEquals([met, given], ["given", BUCKETS]);
});

/** Calls a function as a pass of launches is begun, during some work. */
async function withPasses<T>(onPass: () => void, work: () => Promise<T>): Promise<T> {
  const { prototype } = GPUCommandEncoder, { beginComputePass } = prototype;
  prototype.beginComputePass = function (...args): GPUComputePassEncoder {
    onPass();
    return beginComputePass.apply(this, args);
  };
  try {
    return await work();
  } finally {
    prototype.beginComputePass = beginComputePass;
  }
}

Deno.test("planned memory is what is allocated, where sums go back through buffers that stay mapped, too", async () => {
  for (const source of [undefined, wrappedGpu({ bindings: 10 })]) {
    await using gpu = await openGpu({ tune: false, ...source && { gpu: source } });
    const ranks = ranksInProcess(1)[0], before = gpu.counts.bytes;
    using training = defineTraining(gpu, loss, {
      optimizer: adamW({ learningRate: 0.02 }),
      // No look, which would read with a buffer of its own.
      steps: 2,
      memory: "1 GiB",
      ranks,
    });
    await training.next(await training.init(newParams()), samples(1, 0));
    assertEquals(gpu.counts.bytes - before, training.memory()!.bytes);
  }
});

Deno.test("a frozen component takes part in the step that freezes it, and leaves the exchange on all ranks", async () => {
  await using gpu = await openGpu({ tune: false });
  const path = "layers.1";
  const policy: FreezePolicy<boolean> = {
    name: "once",
    signals: [],
    init: () => false,
    next: () => true,
    frozen: (looked) => looked ? [path] : [],
  };
  const calls: number[][] = [[], []];
  const both = await Promise.all(
    ranksInProcess(2).map((ranks) =>
      run(gpu, {
        parts: [ranks.rank],
        policy,
        ranks: told(ranks, { tell: (what, length) => what === "sum" && calls[ranks.rank].push(length) }),
      })
    ),
  );
  assertEquals(calls[0], calls[1]);
  for (const { states } of both) {
    const exchanged = states.map(({ cost }) => cost!.exchanged!);
    assertEquals(states.map(({ frozen }) => frozen), [[], [path], [path]]);
    assertEquals(exchanged, [exchanged[0], exchanged[0], exchanged[0] - 4 * WIDTH * WIDTH]);
  }
  const all = calls[0].reduce((n, length) => n + length, 0);
  assertEquals(4 * all, both[0].states.reduce((n, { cost }) => n + cost!.exchanged!, 0));
});

Deno.test("buckets: small sums share a buffer, a large one is cut, and all but a few are of one size", async () => {
  await using gpu = await openGpu({ tune: false });
  await using queued = await openGpu({ tune: false, gpu: wrappedGpu({ bindings: 10 }) });
  const MiB = 2 ** 20,
    sums = new Map(
      [10, 10, 10, 70, 1, 200].map((size, i) => [`${i}`, { shape: [size * MiB / 4], dtype: "f32" as const }]),
    );
  const arenas = arenasOf(sums);
  assertEquals(arenas.map(({ bytes }) => bytes / MiB), [30, 70, 1, 200]);
  assertEquals([...arenas[0].offsets], [["0", 0], ["1", 10 * MiB], ["2", 20 * MiB]]);
  const buckets = bucketsOf(arenas), sizes = buckets.map((pieces) => pieces.map(({ bytes }) => bytes / MiB));
  assertEquals(sizes, [[30], [32], [32], [6, 1], [32], [32], [32], [32], [32], [32], [8]]);
  assertEquals(stagingOf(gpu, buckets), { count: 4, bytes: 32 * MiB });
  assertEquals(stagingOf(queued, buckets), { count: buckets.length, bytes: 32 * MiB });
  // Of one size while there is much, so that a freeze leaves buffers as they are.
  const staged = [14, 13, 12].map((n) => stagingOf(gpu, bucketsOf(Array(n).fill({ bytes: 20 * MiB }))));
  assertEquals(staged.map(({ bytes }) => bytes / MiB), [32, 32, 20]);
  // A few MiB, as of an adapter, are cut in eight.
  const adapter = new Map(
    Array.from({ length: 64 }, (_, i) => [`${i}`, { shape: [MiB / 16], dtype: "f32" as const }]),
  );
  assertEquals(arenasOf(adapter).map(({ bytes }) => bytes / MiB), [2, 2, 2, 2, 2, 2, 2, 2]);
  // Where a device binds a buffer: each sum at a multiple of 256 bytes.
  const odd = arenasOf(new Map([["a", { shape: [3], dtype: "f32" }], ["b", { shape: [5], dtype: "f32" }]]));
  assertEquals(odd.map(({ bytes, offsets }) => [bytes, ...offsets.values()]), [[288, 0, 256]]);
  assertEquals(bucketsOf([]), []);
});

Deno.test("an exchange that fails leaves what is on its way, and the next one begins anew", async () => {
  await using gpu = await openGpu({ tune: false });
  const [ranks] = ranksInProcess(1);
  let fails = true;
  const exchange = gradientExchange(gpu, {
    ...ranks,
    sum: (data) => fails ? Promise.reject(new Error("gone")) : ranks.sum(data),
  });
  const buffer = createBuffer(gpu, { label: "sum", bytes: 16 });
  writeValues(gpu, buffer, Float32Array.of(1, 2, 3, 4));
  const sums = [{ buffer, bytes: 16 }];
  const error = await exchange.sum(sums).catch((error) => error);
  assertEquals(error.message, "gone");
  fails = false;
  await exchange.sum(sums);
  const [values] = await readBuffers(gpu, [{ buffer, bytes: 16 }]);
  assertEquals([...new Float32Array(values)], [1, 2, 3, 4]);
  exchange.destroy();
  destroyBuffer(buffer);
});

Deno.test("a log has the milliseconds of a step's exchange, means from look to look, and none where one process trains", () => {
  const pace = exchangePace();
  assertEquals(pace.take(), {});
  pace.add(undefined);
  pace.add({ ms: 8, waitedMs: 2 });
  pace.add({ ms: 4, waitedMs: 0 });
  assertEquals([pace.take(), pace.take()], [{ exchangeMs: 6, exchangeWaitedMs: 1 }, {}]);
});
