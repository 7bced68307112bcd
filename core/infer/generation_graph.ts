/**
 * The two graphs of generation: one reads the tokens of prompts, one adds a token to each sequence.
 *
 * Axes: B sequences, T tokens of each, S places of the cache, V entries of the vocabulary.
 *
 * @module
 */

import type { Model } from "../models/model.ts";
import { features, scoresOf } from "../models/tasks.ts";
import { add, cast } from "../ops/arithmetic.ts";
import { broadcast } from "../ops/broadcast.ts";
import { equal, where } from "../ops/comparison.ts";
import { embedding } from "../ops/embedding.ts";
import { integers } from "../ops/integers.ts";
import { reshape } from "../ops/movement.ts";
import { leaf, stepScalar, tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { type CachedGraph, withCache } from "./cached.ts";
import { chooseToken, type Processor } from "./sampler.ts";
import type { SamplingStep } from "./sampling.ts";
import { tellOf } from "./told.ts";

/** Tokens of each sequence that the device keeps until the host reads them. */
export const UNREAD = 64;

/** Sizes and steps of a graph. */
export interface GraphOptions {
  /** Sequences B. */
  readonly batch: number;
  /** Places of the cache, S. */
  readonly capacity: number;
  /** The steps that choose a token. */
  readonly steps: readonly SamplingStep[];
  /** Steps of the caller. */
  readonly processors: readonly Processor[];
}

/** A graph, and what it overwrites. */
export interface GenerationGraph extends Pick<CachedGraph, "angles" | "switches"> {
  readonly roots: readonly Tensor[];
  /** Index of a root to the leaf that it overwrites. */
  readonly updates: ReadonlyMap<number, Tensor>;
  /** Leaves [B, S, ...] that grow with the cache. */
  readonly growing: readonly Tensor[];
  /** The tokens that the host has not read, f32 [UNREAD, B]. */
  readonly log: Tensor;
  /** What is told of these, f32 [UNREAD, B, W]; null for nothing. */
  readonly told: Tensor | null;
}

/** The last token of each sequence, which the device feeds to itself. */
const tokenLeaf = (batch: number): Tensor => leaf("token", { shape: [batch, 1], dtype: "i32" });

/**
 * The graph that adds a token to each sequence. A step with number n notes the tokens in row n - 1 of `log`.
 *
 * @param model The model
 * @param options Sizes and steps
 * @returns The graph. Leaves besides caches and those of the steps: `token` i32 [B, 1] and its `position` i32 [B]
 */
export function stepGraph(model: Model, options: GraphOptions): GenerationGraph {
  const { batch, capacity } = options, token = tokenLeaf(batch);
  const position = leaf("position", { shape: [batch], dtype: "i32" });
  const cached = withCache(features(model, { inputIds: token }), {
    time: 1,
    capacity,
    start: position,
    positions: position,
  });
  const scores = scoresOf(model, reshape(cached.root, [batch, cached.root.shape[2]]));
  const next = integers(add(cast(position), 1));
  const more: readonly Update[] = [[next, position]];
  return graphOf(cached, {
    ...options,
    scores,
    last: { token, position },
    lengths: next,
    places: next,
    more,
  });
}

/**
 * The graph that reads T tokens of each sequence, and chooses the next one.
 *
 * @param model The model
 * @param options Sizes and steps; `time`: tokens T
 * @returns The graph. Leaves besides those of {@link stepGraph}: `prompt.ids` i32 [B, T], `prompt.positions` i32 [B T],
 * `prompt.start` i32 [B], `prompt.last` i32 [B], the row of the last token among all B T, and i32 [B] `prompt.lengths` and
 * `prompt.places`
 */
export function promptGraph(
  model: Model,
  options: GraphOptions & { readonly time: number },
): GenerationGraph {
  const { batch, time } = options;
  const input = (name: string, shape: readonly number[]): Tensor =>
    leaf(`prompt.${name}`, { shape, dtype: "i32" });
  const cached = withCache(features(model, { inputIds: input("ids", [batch, time]) }), {
    ...options,
    start: input("start", [batch]),
    positions: input("positions", [batch * time]),
  });
  const rows = reshape(cached.root, [batch * time, cached.root.shape[2]]);
  const scores = scoresOf(model, embedding(rows, input("last", [batch])));
  const [lengths, places] = [input("lengths", [batch]), input("places", [batch])];
  return graphOf(cached, { ...options, scores, last: null, lengths, places, more: [] });
}

/** A root and the leaf that it overwrites. */
type Update = readonly [root: Tensor, leaf: Tensor];

function graphOf(
  { caches, angles, switches }: CachedGraph,
  options: GraphOptions & {
    readonly scores: Tensor;
    readonly last: { readonly token: Tensor; readonly position: Tensor } | null;
    readonly lengths: Tensor;
    readonly places: Tensor;
    readonly more: readonly Update[];
  },
): GenerationGraph {
  const { batch, scores, more } = options;
  const { token, log, notes, history } = chooseToken(scores, options);
  const tell = tellOf(scores, { token, steps: options.steps });
  const kept = leaf("log", { shape: [UNREAD, batch], dtype: "f32" });
  const told = tell && leaf("told", { shape: [UNREAD, ...tell.shape], dtype: "f32" });
  const updates: readonly Update[] = [
    [reshape(token, [batch, 1]), tokenLeaf(batch)],
    [noted(log, kept), kept],
    ...told === null ? [] : [[noted(tell!, told), told] as const],
    ...more,
  ];
  return {
    roots: [...updates.map(([root]) => root), ...notes],
    updates: new Map(updates.map(([, overwritten], i) => [i, overwritten])),
    growing: [...caches, ...(history === null ? [] : [history])],
    log: kept,
    told,
    angles,
    switches,
  };
}

/** A list of values of the steps, with those of this one. */
function noted(values: Tensor, list: Tensor): Tensor {
  const ones = values.shape.map(() => 1);
  const numbers = tensor(Float32Array.from({ length: UNREAD }, (_, i) => i), [UNREAD, ...ones]);
  const now = equal(broadcast(numbers, list.shape), stepScalar((step) => step - 1));
  return where(now, broadcast(reshape(values, [1, ...values.shape]), list.shape), list);
}
