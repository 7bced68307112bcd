/**
 * What the benchmark of several GPUs measures, and its rows.
 *
 * @module
 */

import type { ExchangeTime } from "@firn/train";
import type { AverageOptions } from "@firn/train/ranks";
import type { SHAPES } from "./shapes.ts";

/** What is trained, and how ranks exchange. */
export interface Job {
  readonly shape: keyof typeof SHAPES & ("gpt2-124m" | "smollm2-135m" | "sotu" | "tiny");
  /** Whether pairs of LoRA are trained beside a frozen base in bf16, not the whole model in f32. */
  readonly adapter: boolean;
  readonly precision: "f16" | "f32";
  /** Rows and tokens of a micro-batch, and how many of these a rank takes in a step. */
  readonly batch: number;
  readonly length: number;
  readonly micro: number;
  /** What ranks exchange: gradients in each step, or parameters every so many. */
  readonly every: number | null;
  /** Steps that are taken while parameters are on their way. */
  readonly delay: number;
  /** How parameters are written on their way. */
  readonly wire: NonNullable<AverageOptions["wire"]>;
  /** Whether the bottom half of the layers is frozen. */
  readonly half: boolean;
}

/** A job measured on so many GPUs. */
export interface Measured {
  readonly job: Job;
  readonly gpus: number;
  /** `"Firn"`, or how PyTorch computes. */
  readonly by: string;
  /** Milliseconds of a step. */
  readonly ms: number;
  /** Bytes that a rank exchanges, as the mean of steps; null where that is not known. */
  readonly bytes: number | null;
  /** An exchange, as the mean of those measured; null where there was none. */
  readonly exchange: ExchangeTime | null;
  /** Losses of the first steps. */
  readonly losses: readonly number[];
}

/** Steps between exchanges of parameters, and those that are taken while they are on their way. */
export const EVERY = 20, DELAY = 4;
/** Micro-batches of a step where gradients are to hide. */
const MICRO = 8;

const whole = { adapter: false, precision: "f16", micro: 1 } as const,
  full = { ...whole, every: null, delay: 0, wire: "f32", half: false } as const;
const GPT2 = { ...full, shape: "gpt2-124m", batch: 8, length: 1024 } as const;
const SMOL = { ...full, shape: "smollm2-135m", batch: 8, length: 512 } as const;
const parameters = { every: EVERY } as const,
  late = { every: EVERY, delay: DELAY } as const,
  half = { half: true } as const,
  lora = { adapter: true } as const;
const f32 = { precision: "f32" } as const, micro = { micro: MICRO } as const;

/** What is measured, most important first. */
export const JOBS: readonly Job[] = [
  { ...GPT2, ...micro },
  { ...GPT2, ...late },
  { ...GPT2, ...parameters },
  GPT2,
  { ...GPT2, ...half },
  { ...GPT2, ...late, ...half },
  { ...GPT2, ...micro, ...half },
  { ...SMOL },
  { ...SMOL, ...late },
  { ...SMOL, ...lora },
  { ...SMOL, ...lora, ...late },
  { ...SMOL, ...lora, ...half },
  { ...GPT2, ...f32, ...micro },
  { ...GPT2, ...f32, ...late },
  { ...GPT2, ...f32 },
  { ...GPT2, ...lora },
  { ...GPT2, ...lora, ...late },
  { ...SMOL, ...half },
  { ...SMOL, ...f32 },
  { ...SMOL, ...f32, ...late },
  { ...GPT2, ...parameters, ...half },
  { ...SMOL, ...parameters },
  { ...GPT2, ...f32, ...parameters },
  { ...SMOL, ...f32, ...parameters },
  { ...SMOL, ...lora, ...parameters },
  { ...GPT2, ...f32, ...half },
  { ...SMOL, ...parameters, ...half },
  { ...SMOL, ...f32, ...half },
  { ...SMOL, ...lora, ...f32 },
  { ...GPT2, ...lora, ...half },
  { ...GPT2, ...lora, ...f32 },
  { ...GPT2, ...f32, ...late, ...half },
  { ...GPT2, ...parameters, wire: "bf16" },
  { ...GPT2, ...parameters, wire: "int8" },
  { ...SMOL, ...parameters, wire: "int8" },
];

/**
 * Some of the jobs.
 *
 * @param all All
 * @param text Their numbers from 1, as `1,4-6`; one number alone is how many, from the first
 * @returns They; none where the text has something else
 */
export function someOf(all: readonly Job[], text: string): Job[] {
  if (/^\d+$/.test(text)) return all.slice(0, Number(text));
  const parts = text.split(",").map((part) => /^(\d+)(?:-(\d+))?$/.exec(part));
  if (parts.includes(null)) return [];
  return parts.flatMap((found) => all.slice(Number(found![1]) - 1, Number(found![2] ?? found![1])));
}

/** The smallest of each kind, to try the command. */
export const TINY: readonly Job[] = [false, true].flatMap((adapter) => {
  const job = { ...full, ...f32, shape: "tiny", adapter, batch: 2, length: 16 } as const;
  return [
    ...[job, { ...job, micro: 2 }, { ...job, ...parameters }, { ...job, ...late }],
    { ...job, ...half, shape: "sotu" } as const,
  ];
});

/** The same steps on one GPU, which exchanges nothing. */
const aloneOf = (job: Job): Job => ({ ...job, every: null, delay: 0, wire: "f32" });

/**
 * The jobs of one GPU: each once, without what differs in the exchange only.
 *
 * @param jobs Jobs of several
 * @returns Those of one, in the same order
 */
export function jobsOfOne(jobs: readonly Job[]): Job[] {
  return [...new Map(jobs.map((job) => [JSON.stringify(aloneOf(job)), aloneOf(job)])).values()];
}

/** The job that PyTorch takes beside it: pairs of LoRA have one way there. */
const twinOf = (job: Job): Job => ({ ...aloneOf(job), ...job.adapter && { precision: "f16" } });

/**
 * The jobs of PyTorch, which exchange gradients.
 *
 * @param jobs Jobs of Firn
 * @returns Each once, in the same order
 */
export function jobsOfTwin(jobs: readonly Job[]): Job[] {
  return [...new Map(jobs.map((job) => [JSON.stringify(twinOf(job)), twinOf(job)])).values()];
}

/** Whether a job's losses are compared with those of one GPU at the same total batch: of the plain step of each kind. */
export const comparesLoss = ({ micro, every, half }: Job): boolean => micro === 1 && every === null && !half;

const key = ({ job, gpus, by }: Pick<Measured, "job" | "gpus" | "by">): string =>
  `${JSON.stringify(job)} ${gpus} ${by}`;

/** Tokens a second, of all GPUs. */
export const rateOf = ({ job: { micro, batch, length }, gpus, ms }: Measured): number =>
  1e3 * gpus * micro * batch * length / ms;

const HEADS = [
  "",
  "GPUs",
  "tokens/s",
  "of one",
  "ms a step",
  "MB a step",
  "an exchange, ms",
  "waited, ms",
  "hidden",
  "read, sum, write, ms",
  "loss",
  "PyTorch, tokens/s",
  "of one",
];

/** The head of the table. */
export const HEAD: readonly string[] = [
  `| ${HEADS.join(" | ")} |`,
  `| ${HEADS.map(() => "---").join(" | ")} |`,
];

/** A job in words. */
export function nameOf(
  { shape, adapter, precision, micro, batch, length, every, delay, wire, half }: Job,
): string {
  return [
    shape,
    `${adapter ? "LoRA, " : ""}${precision}`,
    `${micro > 1 ? `${micro} x ` : ""}B ${batch} T ${length}`,
    every === null
      ? "gradients"
      : `parameters every ${every}${delay > 0 ? `, ${delay} late` : ""}${
        wire === "f32" ? "" : ` in ${wire}`
      }`,
    ...half ? ["bottom half frozen"] : [],
  ].join(", ");
}

/** How PyTorch computes beside a job. */
const wayOf = ({ precision, adapter }: Job): string =>
  adapter ? "PEFT, bf16" : precision === "f16" ? "autocast" : "f32";

/** How far losses differ at most, relative to those of one GPU. */
function lossApart(own: readonly number[], other: readonly number[]): string {
  if (own.length === 0 || other.length === 0) return "";
  return Math.max(...own.map((loss, i) => Math.abs(loss - other[i]) / Math.abs(other[i]))).toExponential(1);
}

/** The share of an exchange by which steps do not become longer than those of one GPU. */
function hiddenOf({ job: { every }, ms, exchange }: Measured, alone: Measured | undefined): string {
  if (exchange === null || alone === undefined) return "";
  const longer = (ms - alone.ms) * (every ?? 1);
  return `${Math.min(100, Math.max(0, Math.round(100 * (1 - longer / exchange.ms))))} %`;
}

/**
 * A row of the table, of what is known so far.
 *
 * @param seen What Firn measured
 * @param all All that was measured
 * @returns The row
 */
export function rowOf(seen: Measured, all: readonly Measured[]): string {
  const by = new Map(all.map((one) => [key(one), one])), { job, gpus, ms, bytes, exchange } = seen;
  const find = (what: Job, count: number, who: string) => by.get(key({ job: what, gpus: count, by: who }));
  const rate = (one: Measured | undefined): string => one === undefined ? "" : rateOf(one).toFixed(0);
  const gain = (one: Measured | undefined, alone: Measured | undefined): string =>
    one === undefined || alone === undefined ? "" : (rateOf(one) / rateOf(alone)).toFixed(2);
  const alone = find(aloneOf(job), 1, "Firn"), way = wayOf(job);
  const twin = find(twinOf(job), gpus, way), twinAlone = find(twinOf(job), 1, way);
  const stages = exchange?.stages;
  const total = find({ ...aloneOf(job), micro: job.micro * gpus }, 1, "Firn, losses");
  const cells = [
    nameOf(job),
    `${gpus}`,
    rate(seen),
    gain(seen, alone),
    ms.toFixed(1),
    bytes === null ? "" : (bytes / 1e6).toFixed(1),
    exchange === null ? "" : exchange.ms.toFixed(1),
    exchange === null ? "" : exchange.waitedMs.toFixed(1),
    hiddenOf(seen, alone),
    stages === undefined ? "" : [stages.read, stages.sum, stages.write].map((n) => n.toFixed(1)).join(", "),
    comparesLoss(job) ? lossApart(seen.losses, total?.losses ?? []) : "",
    job.every === null ? rate(twin) : "",
    job.every === null ? gain(twin, twinAlone) : "",
  ];
  return `| ${cells.join(" | ")} |`;
}
