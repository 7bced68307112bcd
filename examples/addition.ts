/**
 * Two-digit addition as token ids: a task whose answers can be verified.
 *
 * @module
 */

import { tensor, type TokenBatch } from "@firn/train";
import { draws, shuffled } from "./shuffle.ts";

/** Ids besides those of digits, which are themselves; and how many ids there are. */
export const PLUS = 10, EQUALS = 11, END = 12, VOCABULARY = 16;

/** Tokens of a problem, `ab+cd=`, and of an answer: three digits, the lowest first, as one adds by hand, and the end. */
export const PROMPT = 6, ANSWER = 4;

/** Two numbers to be added. */
export interface Problem {
  /** From 10 to 99. */
  readonly a: number;
  /** From 10 to 99. */
  readonly b: number;
}

/** Problems to learn from, and others to judge by. */
export interface Problems {
  readonly train: readonly Problem[];
  readonly held: readonly Problem[];
}

/**
 * All problems, of which some are held out.
 *
 * @param heldOut How many
 * @param seed Decides which
 * @returns The problems, in the order of the seed
 */
export function problems(heldOut: number, seed: number): Problems {
  const all = Array.from(
    shuffled(90 * 90, draws(`problems ${seed}`)),
    (n): Problem => ({ a: 10 + n % 90, b: 10 + Math.floor(n / 90) }),
  );
  return { held: all.slice(0, heldOut), train: all.slice(heldOut) };
}

/** The tokens of a problem. */
export function promptOf({ a, b }: Problem): readonly number[] {
  return [Math.floor(a / 10), a % 10, PLUS, Math.floor(b / 10), b % 10, EQUALS];
}

/** The tokens of its answer. */
export function answerOf({ a, b }: Problem): readonly number[] {
  const sum = a + b;
  return [sum % 10, Math.floor(sum / 10) % 10, Math.floor(sum / 100), END];
}

/**
 * The reward of an answer.
 *
 * @param problem The problem
 * @param answer Tokens that were generated, with or without the one that ends them
 * @returns 1 where it is right, else 0
 */
export function rewardOf(problem: Problem, answer: readonly number[]): number {
  const right = answerOf(problem).slice(0, -1), given = answer.at(-1) === END ? answer.slice(0, -1) : answer;
  return given.length === right.length && right.every((digit, i) => given[i] === digit) ? 1 : 0;
}

/**
 * A batch of problems with answers, of which the answers are learned.
 *
 * @param rows Problems, and the tokens of their answers
 * @returns i32 [B, 10] each
 */
export function batchOf(
  rows: readonly { readonly problem: Problem; readonly answer: readonly number[] }[],
): TokenBatch {
  const length = PROMPT + ANSWER, ids = new Int32Array(rows.length * length).fill(END);
  const labels = new Int32Array(ids.length).fill(-100);
  for (const [row, { problem, answer }] of rows.entries()) {
    ids.set(promptOf(problem), row * length);
    // What ends an answer is learned, too.
    const ended = answer.length < ANSWER ? [...answer, END] : answer.slice(0, ANSWER);
    ids.set(ended, row * length + PROMPT);
    labels.set(ended, row * length + PROMPT);
  }
  const shape = [rows.length, length];
  return { inputIds: tensor(ids, shape), labels: tensor(labels, shape) };
}
