/**
 * Chooses the next token of each sequence, as a graph of pure operations.
 *
 * Axes: B sequences, S tokens of a sequence, V entries of the vocabulary.
 *
 * @module
 */

import { add, cast, divide, multiply, negate, subtract } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { equal, less, maximum, where } from "../ops/comparison.ts";
import { abs, exp } from "../ops/functions.ts";
import { gather } from "../ops/gather.ts";
import { integers } from "../ops/integers.ts";
import { logSoftmax } from "../ops/log_sum_exp.ts";
import { reshape } from "../ops/movement.ts";
import { max } from "../ops/reduce.ts";
import { banNgrams, categorical, massThreshold } from "../ops/sampling.ts";
import { softmax } from "../ops/softmax.ts";
import { topK } from "../ops/top_k.ts";
import { writeRows } from "../ops/write_rows.ts";
import { fill, leaf } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { COLUMNS, LOWEST, type SamplingStep } from "./sampling.ts";

/** What a {@link Processor} may read besides the scores. */
export interface ProcessorContext {
  /** Tokens of each sequence, i32 [B, S]; those from its length on mean nothing. */
  readonly tokens: Tensor;
  /** Tokens that each sequence has, i32 [B]. */
  readonly lengths: Tensor;
}

/** Changes the scores of the next token: pure operations from f32 [B, V] to f32 [B, V], as every token runs them. */
export type Processor = (scores: Tensor, context: ProcessorContext) => Tensor;

/** What the choice of a token depends on. */
export interface ChoiceOptions {
  /** The steps that some sequence needs. */
  readonly steps: readonly SamplingStep[];
  /** Steps of the caller, before the temperature. */
  readonly processors: readonly Processor[];
  /** The last token of each sequence, i32 [B, 1], and its position, i32 [B]; null if the host has noted it already. */
  readonly last: { readonly token: Tensor; readonly position: Tensor } | null;
  /** Tokens that each sequence has, i32 [B]. */
  readonly lengths: Tensor;
  /** Which draw of its seed the token of each sequence is, i32 [B]. */
  readonly places: Tensor;
  /** Most tokens of a sequence, S. */
  readonly capacity: number;
}

/** The chosen tokens. */
export interface Choice {
  /** The chosen tokens, i32 [B]. */
  readonly token: Tensor;
  /** The same as f32 [B]; below 0 where scores are not finite: see {@link badScore}. */
  readonly log: Tensor;
  /** Notes of the device about each sequence, which must be kept for the next token. */
  readonly notes: readonly Tensor[];
  /** The leaf of all tokens, i32 [B, S]; null if no step reads them. */
  readonly history: Tensor | null;
}

/** Keeps draws of tokens apart from other draws with the same seed. */
const STREAM = 0x67656e;

/**
 * Chooses the next token of each sequence.
 *
 * @param scores f32 [B, V]
 * @param options The steps, and what they read
 * @returns The tokens
 */
export function chooseToken(scores: Tensor, options: ChoiceOptions): Choice {
  const { steps, processors, capacity } = options, notes: Tensor[] = [], [rows] = scores.shape;
  const history = steps.includes("ngrams") || processors.length > 0
    ? leaf("history", { shape: [rows, capacity], dtype: "i32" })
    : null;
  const processed = process(scores, { ...options, notes, history });
  const raw = topK(scores, 1), best = processed === scores ? raw : topK(processed, 1);
  const first = reshape(best.indices, [rows]);
  let token = first;
  if (steps.includes("draw")) {
    const drawn = categorical(warp(processed, options), {
      seeds: column("seed", rows),
      places: options.places,
      stream: STREAM,
    });
    const greedy = equal(column("temperature", rows), 0);
    token = steps.includes("best") ? integers(where(greedy, cast(first), cast(drawn))) : drawn;
  }
  const seen = reshape(raw.values, [rows]);
  return { token, log: where(finite(seen), cast(token), badCode(seen)), notes, history };
}

/** A value of each sequence, [B]. */
function column(name: string, rows: number): Tensor {
  return leaf(`sampling.${name}`, { shape: [rows], dtype: COLUMNS[name].dtype });
}

/** The largest number that a score may be. */
const MOST = 3.4e38;

function finite(x: Tensor): Tensor {
  return less(abs(x), MOST);
}

/** What is not finite, as a number below 0. */
function badCode(x: Tensor): Tensor {
  return where(less(MOST, x), -2, where(less(x, LOWEST), -3, -1));
}

/** The score that {@link Choice.log} stands for where it is below 0. */
export function badScore(code: number): number {
  return code === -2 ? Infinity : code === -3 ? -Infinity : NaN;
}

/** The steps that change scores also where the best token is taken. */
function process(
  scores: Tensor,
  options: ChoiceOptions & Pick<Choice, "history"> & { readonly notes: Tensor[] },
): Tensor {
  const { steps, processors, last, lengths, notes, history } = options, [rows, vocab] = scores.shape;
  const token = last?.token ?? null;
  const perRow = (name: string): Tensor => reshape(column(name, rows), [rows, 1]);
  let x = scores;
  if (steps.includes("bias")) x = add(x, leaf("sampling.bias", { shape: [rows, vocab], dtype: "f32" }));
  if (steps.includes("repetition")) {
    const seen = note("seen", { rows, vocab, token, notes, next: () => fill(1, [rows, 1, 1]) });
    const penalty = perRow("repetition");
    x = where(seen, where(less(x, 0), multiply(x, penalty), divide(x, penalty)), x);
  }
  if (steps.includes("presence")) {
    const counts = note("generated", { rows, vocab, token, notes, next: (old) => add(old, 1) });
    x = subtract(x, multiply(counts, perRow("frequency")));
    x = subtract(x, where(counts, perRow("presence"), 0));
  }
  if (history === null) return x;
  const tokens = last === null ? history : writeRows(history, { rows: last.token, at: last.position });
  if (last !== null) notes.push(tokens);
  if (steps.includes("ngrams")) x = banNgrams(x, { tokens, lengths, sizes: column("ngram", rows) });
  return processors.reduce((y, processor) => processor(y, { tokens, lengths }), x);
}

/** A number for each entry of the vocabulary, f32 [B, V], after that of the last token was changed. */
function note(
  name: string,
  { rows, vocab, token, notes, next }: {
    readonly rows: number;
    readonly vocab: number;
    readonly token: Tensor | null;
    readonly notes: Tensor[];
    /** From the number of the last token, [B, 1, 1], to its next one. */
    readonly next: (old: Tensor) => Tensor;
  },
): Tensor {
  const into = leaf(name, { shape: [rows, vocab, 1], dtype: "f32" });
  if (token === null) return reshape(into, [rows, vocab]);
  const old = gather(into, reshape(token, [rows, 1, 1]), { axis: 1 });
  const changed = writeRows(into, { rows: next(old), at: reshape(token, [rows]) });
  notes.push(changed);
  return reshape(changed, [rows, vocab]);
}

/** The steps that narrow a draw, in the order of `transformers`. */
function warp(scores: Tensor, { steps }: ChoiceOptions): Tensor {
  const [rows] = scores.shape;
  const keep = (x: Tensor, keys: Tensor, least: Tensor): Tensor =>
    where(less(keys, reshape(least, [rows, 1])), LOWEST, x);
  let x = divide(scores, reshape(maximum(column("temperature", rows), 1e-9), [rows, 1]));
  // Scores beyond the range of f32 are no longer numbers.
  x = maximum(x, LOWEST);
  if (steps.includes("topK")) x = keep(x, x, massThreshold(x, { mass: column("topK", rows) }));
  if (steps.includes("topP")) {
    x = keep(x, x, massThreshold(x, { mass: column("topP", rows), weights: softmax(x) }));
  }
  if (steps.includes("minP")) x = keep(x, x, add(max(x, 1), column("logMinP", rows)));
  if (steps.includes("typicalP")) {
    const logs = logSoftmax(x), chances = exp(logs);
    const expected = negate(sum(multiply(chances, logs), 1, { keepDims: true }));
    const keys = negate(abs(add(logs, expected)));
    x = keep(x, keys, massThreshold(keys, { mass: column("typicalP", rows), weights: chances }));
  }
  return x;
}
