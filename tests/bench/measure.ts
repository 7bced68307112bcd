/**
 * Measures the wall time of steps. Contenders take turns. Each turn waits for the device once, at its end, and the time
 * that such a wait takes on an empty queue is subtracted.
 *
 * @module
 */

import type { Memory } from "./allocated.ts";
import type { Side } from "./sides.ts";

/** Something that takes steps on a device. */
export interface Contender {
  readonly name: string;
  /** What its step consists of, so that a comparison can be judged. */
  readonly side: Side;
  /** How often a step does the work that is timed; once when absent. */
  readonly perStep?: number;
  /** Hands the next step to the device. */
  step(): Promise<void> | void;
  /** Waits for the device. */
  settle(): Promise<void>;
  /** Loss of the last step; null for what has none. */
  readonly loss: (() => Promise<number>) | null;
  /** Its memory, after a step; null when unknown. */
  memory(): Memory | null;
  /** Gives its memory back, and a device of its own. */
  close(): Promise<void> | void;
}

/** Middle and ends of some timings. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** How long to measure. */
export interface Lengths {
  /** Rounds, in each of which every contender takes its turn. */
  readonly rounds: number;
  /** Milliseconds that a turn lasts at least. */
  readonly turn: number;
  /** Milliseconds of work before the first turn, so that the clocks have risen. */
  readonly warmUp: number;
}

/** A contender after its first steps. */
export interface Started {
  readonly contender: Contender;
  /** Milliseconds of the first step, all compiling included. */
  readonly first: number;
  /** Loss after the steps that were asked for. */
  readonly loss: number | null;
}

/** The median: of an even count, the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Median, least and greatest. */
export function spreadOf(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** Milliseconds of one wait on an idle device: the least of some. That of jax-js in Deno is above 10 ms. */
export async function idleWait(contender: Pick<Runner, "settle">): Promise<number> {
  await contender.settle();
  const waits: number[] = [];
  for (let i = 0; i < 5; i++) {
    const began = performance.now();
    await contender.settle();
    waits.push(performance.now() - began);
  }
  return Math.min(...waits);
}

/** What can be timed. */
export type Runner = Pick<Contender, "step" | "settle">;

/** Milliseconds of some steps with one wait at the end, less `idle`. */
export async function turn(contender: Runner, steps: number, idle = 0): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < steps; i++) await contender.step();
  await contender.settle();
  return Math.max(0, performance.now() - began - idle);
}

/**
 * Takes the first steps: the first alone, for what it costs cold, then until a number at which losses are compared.
 *
 * @param contender Who has taken none
 * @param steps Steps to take in all
 * @returns Its first step and its loss
 */
export async function start(contender: Contender, steps: number): Promise<Started> {
  const first = await turn(contender, 1);
  await turn(contender, steps - 1);
  return { contender, first, loss: await contender.loss?.() ?? null };
}

/** Runs for at least so many milliseconds and returns those of a step. */
export async function warm(contender: Runner, atLeast: number, idle: number): Promise<number> {
  for (let steps = 1;; steps *= 2) {
    const ms = await turn(contender, steps, idle);
    if (ms >= atLeast) return ms / steps;
  }
}

/**
 * Lets contenders take turns.
 *
 * @param contenders Who takes part, each after its first steps
 * @param lengths How long
 * @returns For each, the milliseconds of its work in each round
 */
export async function race(contenders: readonly Contender[], lengths: Lengths): Promise<number[][]> {
  const plans: { idle: number; steps: number }[] = [];
  for (const contender of contenders) {
    const idle = await idleWait(contender);
    const ms = await warm(contender, lengths.warmUp, idle);
    plans.push({ idle, steps: Math.max(1, Math.ceil(lengths.turn / ms)) });
  }
  const times: number[][] = contenders.map(() => []);
  const order = [...contenders.entries()];
  for (let round = 0; round < lengths.rounds; round++) {
    // There and back, so that nobody always comes after the same one.
    for (const [i, contender] of round % 2 === 0 ? order : order.toReversed()) {
      const { idle, steps } = plans[i];
      times[i].push(await turn(contender, steps, idle) / (steps * (contender.perStep ?? 1)));
    }
  }
  return times;
}
