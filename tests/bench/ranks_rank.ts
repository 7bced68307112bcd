/**
 * One rank of the benchmark of several GPUs: `ranks_rank.ts QUESTION`, which `ranks.ts` starts, alone or by `mpirun`. Rank 0 prints a
 * line of JSON for each job.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type ExchangeTime,
  type Gpu,
  type Model,
  nextTokenLoss,
  openGpu,
  type Path,
  read,
  tensor,
  type TokenBatch,
  type TrainingState,
} from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { newAdapter } from "@firn/train/hub";
import { averageParameters, openRanks, type Ranks } from "@firn/train/ranks";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import { turning } from "../../core/runtime/turns.ts";
import { loadVariants } from "../../core/tune/tune_cache.ts";
import { runMain } from "../../examples/flags.ts";
import { deviceOf } from "../../examples/gpu.ts";
import { print, printError } from "../../examples/print.ts";
import { baseOf } from "./adapter_base.ts";
import { collector } from "./collect.ts";
import { startOnOwnGpu } from "./own_gpu.ts";
import { type Called, pausesIn } from "./pauses.ts";
import { comparesLoss, EVERY, type Job, type Measured, nameOf } from "./ranks_jobs.ts";
import { closeWork, SHAPES } from "./shapes.ts";
import { settle } from "./timestamps.ts";

/** What a rank is asked. */
export interface Question {
  readonly jobs: readonly Job[];
  readonly ranked: boolean;
  /** Seconds after which no job is begun. */
  readonly seconds: number;
  /** Milliseconds that a measurement lasts at least. */
  readonly turn: number;
  readonly gpu: "deno" | "dawn";
  /** File of measured products, which one process alone adds to: ranks must have the same. Without it a rule chooses. */
  readonly variants: string | null;
  /** Numbers of GPUs whose total batch one GPU takes, for its losses. */
  readonly totals: readonly number[];
}

/** First steps, whose losses are compared. */
const LOSSES = 4;
/** Steps after these and before the first one that is timed; with parameters the rest of a period. Also periods that are timed at least. */
const WARM = 3;
/** Milliseconds in which an addon ends the objects that a job has left. */
const CLEAN_MS = 1000;

/** The micro-batches of a rank, a share of those of all. */
function batchesOf({ batch, length, micro, shape }: Job, rank: number): TokenBatch[] {
  const { vocabulary } = SHAPES[shape], size = batch * length;
  return Array.from({ length: micro }, (_, i) => {
    const from = (rank * micro + i) * size;
    const ids = Int32Array.from({ length: size }, (_, at) => (from + at) * 7919 % vocabulary);
    const inputIds = tensor(ids, [batch, length]);
    return { inputIds, labels: inputIds };
  });
}

/** What is trained where the bottom half of the layers is frozen from the first step on. */
function topHalf(
  { shape }: Job,
  { trainable = () => true }: Pick<Model, "trainable">,
): (path: Path) => boolean {
  const half = Math.floor(SHAPES[shape].layers / 2);
  return (path) => trainable(path) && !(Number(/\blayers\.(\d+)\./.exec(path)?.[1] ?? half) < half);
}

/** Models of jobs, which are made once. */
function modelsOn(gpu: Gpu): (job: Job) => Promise<Model> {
  const made = new Map<string, Promise<Model>>();
  const make = async ({ shape, adapter }: Job): Promise<Model> => {
    const tied = { ...SHAPES[shape], tied: true };
    // Layers have the same values at first: drawing each takes longer than all measurements of a shape.
    if (!adapter) return baseOf(gpu, { shape: tied, storage: "f32" });
    const base = baseOf(gpu, { shape: tied, storage: "file" });
    return await newAdapter(gpu, base, { rank: 16, targets: "all-linear", seed: 1 });
  };
  return (job) => {
    const name = `${job.shape} ${job.adapter}`;
    if (!made.has(name)) made.set(name, make(job));
    return made.get(name)!;
  };
}

/** What a rank works with. */
interface Bench {
  readonly gpu: Gpu;
  readonly ranks: Ranks | null;
  readonly model: (job: Job) => Promise<Model>;
  readonly question: Question;
}

const collect = collector();

/** Collects garbage, and gives the addon time to end its objects: it does so in later turns of the event loop. */
async function clean(gpu: Gpu): Promise<void> {
  collect();
  await turning(gpu, new Promise((resolve) => setTimeout(resolve, CLEAN_MS)));
}

async function measure(
  job: Job,
  { gpu, ranks, model: modelOf, question }: Bench,
  timed = true,
): Promise<Measured> {
  await clean(gpu);
  const model = await modelOf(job), learningRate = 1e-4;
  const training = defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model), {
    // As the twin: PEFT's adapters are not clipped there.
    optimizer: job.adapter ? adamW({ learningRate }) : chain(clipByGlobalNorm(1), adamW({ learningRate })),
    ...job.half && { trainable: topHalf(job, model) },
    ...{ steps: 1e6, lookEvery: 1e5, precision: job.precision, accumulate: job.micro },
    ...ranks !== null && { ranks },
    ...job.every !== null && ranks !== null && {
      exchange: averageParameters({ every: job.every, delay: job.delay, wire: job.wire }),
    },
  });
  const batches = batchesOf(job, ranks?.rank ?? 0), losses: number[] = [];
  let state: TrainingState<object> = await training.init(model.params), exchanges: ExchangeTime[] = [];
  let calls: Called[] = [];
  const take = async (steps: number): Promise<number> => {
    const began = performance.now();
    exchanges = [];
    calls = [];
    for (let i = 0; i < steps; i++) {
      const called = performance.now();
      state = await training.next(state, job.micro === 1 ? batches[0] : batches);
      const exchangeMs = state.exchange?.ms ?? 0;
      calls.push({ ms: performance.now() - called, exchangeMs });
      if (exchangeMs > 0) exchanges.push(state.exchange!);
    }
    await settle(gpu);
    return performance.now() - began;
  };
  try {
    for (let i = 0; i < LOSSES; i++) {
      await take(1);
      if (!timed || comparesLoss(job)) losses.push((await read(gpu, state.loss!))[0]);
    }
    const result = { job, gpus: ranks?.size ?? 1, by: timed ? "Firn" : "Firn, losses", losses };
    if (!timed) return { ...result, ms: 0, bytes: null, exchange: null };
    // What planning left. The steps before the clock bring the device back to its pace.
    await clean(gpu);
    // With parameters, whole periods, each with one exchange.
    const period = job.every ?? 1, before = job.every === null ? WARM : EVERY - LOSSES;
    const warm = await take(before) / before;
    const count = Math.max(WARM * period, Math.ceil(question.turn / (warm * period)) * period);
    const steps = await agreed(ranks, count), time = await take(steps);
    gpu.check();
    printError(`${ranks === null ? "alone" : `rank ${ranks.rank}`}, ${nameOf(job)}: ${pausesIn(calls)}`);
    return {
      ...result,
      ms: time / steps,
      bytes: state.cost?.exchanged ?? null,
      exchange: exchanges.length === 0 ? null : meanOf(exchanges),
    };
  } finally {
    closeWork({ training, state });
  }
}

/** The mean of exchanges. */
function meanOf(all: readonly ExchangeTime[]): ExchangeTime {
  const mean = (of: (one: ExchangeTime) => number): number =>
    all.reduce((sum, one) => sum + of(one), 0) / all.length;
  const stage = (name: "read" | "sum" | "write"): number => mean(({ stages }) => stages?.[name] ?? 0);
  return {
    ms: mean(({ ms }) => ms),
    waitedMs: mean(({ waitedMs }) => waitedMs),
    stages: { read: stage("read"), sum: stage("sum"), write: stage("write") },
  };
}

/** A number of rank 0, on all; they begin together. */
async function agreed(ranks: Ranks | null, mine: number): Promise<number> {
  const number = Float64Array.of(mine);
  await ranks?.broadcast(new Uint8Array(number.buffer));
  return number[0];
}

async function main([text]: readonly string[]): Promise<void> {
  const began = performance.now(), question: Question = JSON.parse(text);
  if (question.ranked) await startOnOwnGpu(import.meta.url, [text], { ranked: true });
  const device = await deviceOf({});
  const ranks = question.ranked ? await openRanks({ timeout: 120 }) : null;
  const first = (ranks?.rank ?? 0) === 0;
  const { variants } = question, measures = variants !== null && !question.ranked;
  await using gpu = await openGpu({
    gpu: question.gpu,
    ...measures ? { tuneCache: variants } : { tune: false },
    ...device !== null && { device },
  });
  if (variants !== null && !measures) {
    const known = await loadVariants({ path: variants, fileSystem: hostFileSystem() }, gpu.name);
    for (const [product, variant] of known) gpu.tuning.variants.set(product, variant as MatmulVariant);
  }
  if (first) {
    printError(`${gpu.name}${device === null ? "" : ` at ${device}`}, ${ranks?.engine ?? "alone"}`);
  }
  const bench: Bench = { gpu, ranks, model: modelsOn(gpu), question };
  const say = (measured: Measured): void => {
    if (first) print(JSON.stringify(measured));
  };
  for (const job of question.jobs) {
    if (await agreed(ranks, performance.now() - began) > 1e3 * question.seconds) break;
    if (job.precision === "f16" && !gpu.features.has("shader-f16")) continue;
    say(await measure(job, bench));
    if (ranks !== null || !comparesLoss(job)) continue;
    for (const total of question.totals) {
      say(await measure({ ...job, micro: job.micro * total }, bench, false));
    }
  }
  await ranks?.close();
}

if (import.meta.main) await runMain(main, "ranks_rank");
