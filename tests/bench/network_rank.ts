/**
 * A rank of `network.ts`: takes steps with one exchange after another, and tells what they took.
 *
 * @module
 */

import { adamW, defineTraining, type Gpu, type Model, nextTokenLoss, openGpu, read } from "@firn/train";
import { tokenWindows } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { definePolicy, type FreezePolicy } from "@firn/train/policies";
import { averageParameters, exchangeSeconds, openRanks, type Ranks } from "@firn/train/ranks";
import { print } from "../../examples/print.ts";

/** What is to be measured. */
export interface Asked {
  /** The line. */
  readonly bitsPerSecond: number;
  readonly latency: number;
  /** Rows of a batch of a rank. */
  readonly batch: number;
}

/** What one way to exchange took. */
export interface Measured {
  readonly name: string;
  readonly frozen: boolean;
  /** Bytes that a rank gave in one exchange. */
  readonly bytes: number;
  /** Milliseconds of an exchange, as computed and as measured. */
  readonly paperMs: number;
  readonly exchangeMs: number;
  /** Milliseconds of a step without its share of the exchange, and with it. */
  readonly aloneMs: number;
  readonly stepMs: number;
}

/** Tokens of a row. */
const LENGTH = 16;

/** Ways to exchange: each so many steps, as which wire; 0 for gradients. */
const WAYS = [
  { name: "gradients", every: 1, wire: null },
  { name: "parameters, every 10, f32", every: 10, wire: "f32" },
  { name: "parameters, every 10, bf16", every: 10, wire: "bf16" },
  { name: "parameters, every 10, int8", every: 10, wire: "int8" },
  { name: "parameters, every 50, f32", every: 50, wire: "f32" },
] as const;

/** A call of ranks: what it sent, and how long it took. */
interface Call {
  readonly bytes: number;
  readonly paperMs: number;
  readonly ms: number;
}

/** Ranks that tell what their calls took. Before each call all meet, so that none waits for another's work; that takes `metMs`. */
function timedRanks(ranks: Ranks, { bitsPerSecond, latency }: Asked) {
  const calls: Call[] = [], spent = { metMs: 0 }, { size } = ranks;
  // One after the other: what is asked for meanwhile may not come in between on one rank alone.
  let queue: Promise<unknown> = Promise.resolve();
  const timed = <T>(
    call: { readonly sent: number; readonly rounds: number },
    work: () => Promise<T>,
  ): Promise<T> => {
    const made = queue.then(async () => {
      const came = performance.now();
      await ranks.gather(new Uint8Array(1));
      const began = performance.now();
      spent.metMs += began - came;
      const result = await work();
      const paperMs = 1000 * (8 * call.sent / bitsPerSecond + call.rounds * latency);
      calls.push({ bytes: call.sent, paperMs, ms: performance.now() - began });
      return result;
    });
    queue = made.catch(() => {});
    return made;
  };
  const rounds = Math.ceil(Math.log2(size)), others = size - 1;
  const watched: Ranks = {
    ...ranks,
    sum(data) {
      const seconds = exchangeSeconds({ bytes: data.byteLength, ranks: size, bitsPerSecond });
      return timed({ sent: seconds * bitsPerSecond / 8, rounds: 2 * rounds }, () => ranks.sum(data));
    },
    allToAll: (data) => timed({ sent: data.length * others / size, rounds: 1 }, () => ranks.allToAll(data)),
    // How many bytes each has goes before them.
    gather: (mine) => timed({ sent: mine.length * others, rounds: 2 * rounds }, () => ranks.gather(mine)),
  };
  return { ranks: watched, calls, spent };
}

/** Freezes every second component at the first look, or none. */
function half(freezes: boolean): FreezePolicy {
  return definePolicy({
    name: `half(${freezes})`,
    init: (components) => ({
      step: 0,
      half: components.map(({ path }) => path).filter((_, i) => i % 2 === 0),
    }),
    next: (state, { step }) => ({ ...state, step }),
    frozen: ({ step, half }) => freezes && step > 0 ? half : [],
  });
}

async function measureWay(
  gpu: Gpu,
  { model, timed: { ranks, calls, spent }, asked, way: { every, wire, name }, frozen }: {
    readonly model: Model;
    readonly timed: ReturnType<typeof timedRanks>;
    readonly asked: Asked;
    readonly way: typeof WAYS[number];
    readonly frozen: boolean;
  },
): Promise<Measured> {
  const lookEvery = Math.max(2, every), exchanges = wire === null ? 6 : every === 10 ? 2 : 1;
  const measured = every * exchanges, steps = lookEvery + 1 + measured;
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 1e-4 }),
    // The last step exchanges, too: it is not taken.
    steps: steps + 1,
    lookEvery,
    policy: half(frozen),
    ranks,
    ...wire !== null && { exchange: averageParameters({ every, wire }) },
  });
  const ids = Int32Array.from({ length: 4096 }, (_, i) => (i * 7919 + ranks.rank) % 500);
  const batches = tokenWindows(ids, { length: LENGTH, batch: asked.batch, seed: ranks.rank });
  let state = await training.init(model.params), began = 0;
  for (let step = 1; step <= steps; step++) {
    state = await training.next(state, batches.at(step));
    if (step !== lookEvery + 1) continue;
    // Half is frozen, and the step of what is left is compiled.
    await read(gpu, state.loss!);
    calls.length = 0, spent.metMs = 0, began = performance.now();
  }
  await read(gpu, state.loss!);
  const wall = performance.now() - began - spent.metMs;
  const all = calls.reduce((n, { ms }) => n + ms, 0);
  // Looks meet, too: an exchange is what has the most bytes, and what goes around it.
  const perExchange = (of: (call: Call) => number): number =>
    calls.reduce((n, call) => n + of(call), 0) / exchanges;
  return {
    name,
    frozen,
    bytes: perExchange(({ bytes }) => bytes),
    paperMs: perExchange(({ paperMs }) => paperMs),
    exchangeMs: perExchange(({ ms }) => ms),
    aloneMs: (wall - all) / measured,
    stepMs: wall / measured,
  };
}

async function main(): Promise<void> {
  const asked: Asked = JSON.parse(Deno.args[0]), ranks = await openRanks({ timeout: 60 });
  await using gpu = await openGpu({ tune: false });
  const model = await loadModel(gpu, "examples/models/sotu"), timed = timedRanks(ranks, asked);
  for (const way of WAYS) {
    for (const frozen of [false, true]) {
      const found = await measureWay(gpu, { model, timed, asked, way, frozen });
      if (ranks.rank === 0) print(JSON.stringify(found));
    }
  }
  await ranks.close();
}

if (import.meta.main) await main();
