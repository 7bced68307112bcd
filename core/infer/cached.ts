/**
 * Hidden states that read a cache of keys and values in place of the tokens before.
 *
 * A family says how hidden states follow from all tokens. This pass turns that graph into one for a few tokens, each at a
 * position of its own, so that no family has to know of a cache: keys and values are written to a cache and read from there,
 * and whatever depends on the position of a token (rotary angles, learned positions) looks it up.
 *
 * Axes: B batch, T new tokens of each sequence, S places of a cache, H and G heads, D head size, R rotated elements.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { rebuild } from "../graph.ts";
import {
  dependsOnLength,
  type RopeConfig,
  ropeConfigOf,
  ropeRows,
  type RopeTables,
  ropeTables,
} from "../nn/rope.ts";
import { attention, attentionOp } from "../ops/attention.ts";
import type { AttentionAttrs } from "../ops/attention_sizes.ts";
import { embedding } from "../ops/embedding.ts";
import { reshape } from "../ops/movement.ts";
import { positionRowsOp } from "../ops/position_rows.ts";
import { rotary, rotaryOp } from "../ops/rotary.ts";
import { writeRows } from "../ops/write_rows.ts";
import { leaf, tensor } from "../sources.ts";
import type { Op, Tensor } from "../tensor.ts";

/** Where the new tokens are. */
export interface CachePlaces {
  /** New tokens of each sequence, T. */
  readonly time: number;
  /** Places of the cache, S. */
  readonly capacity: number;
  /** Position of the first new token of each sequence, i32 [B]. */
  readonly start: Tensor;
  /** Position of each new token, i32 [B T]. */
  readonly positions: Tensor;
}

/** Angles that the host fills in, as they depend on the length of each sequence. */
export interface HostAngles {
  readonly config: RopeConfig;
  /** Leaves f32 [B T, R / 2]. */
  readonly tables: RopeTables;
}

/** A graph that reads a cache. */
export interface CachedGraph {
  readonly root: Tensor;
  /** Leaves of the cache, f32 [B, S, G, D]. */
  readonly caches: readonly Tensor[];
  /** Angles that the host fills in before the graph runs. */
  readonly angles: readonly HostAngles[];
}

/**
 * Makes a graph of new tokens read and extend a cache.
 *
 * @param root Hidden states of T tokens from position 0 on
 * @param places Where these tokens are instead
 * @returns The graph, the leaves of its cache, and angles that the host fills in
 * @throws {InputError} When the graph is not that of a decoder
 */
export function withCache(root: Tensor, places: CachePlaces): CachedGraph {
  const caches: Tensor[] = [], angles = new Map<RopeConfig, RopeTables>(), hostAngles: HostAngles[] = [];
  const context: CacheContext = {
    ...places,
    anglesOf(config) {
      if (!angles.has(config)) {
        const filled = dependsOnLength(config) && places.time > 1;
        const tables = filled ? angleLeaves(config, places, hostAngles.length) : angleRows(config, places);
        if (filled) hostAngles.push({ config, tables });
        angles.set(config, tables);
      }
      return angles.get(config)!;
    },
    write(rows) {
      const name = `cache.${caches.length >> 1}.${caches.length % 2 === 0 ? "keys" : "values"}`;
      const into = leaf(name, { shape: rows.shape.with(1, places.capacity), dtype: "f32" });
      caches.push(into);
      return writeRows(into, { rows, at: places.start });
    },
  };
  const [cached] = rebuild([root], (node) => CACHED.get(node.op)?.(node, context) ?? node);
  if (caches.length === 0) throw noDecoder("it has no attention");
  return { root: cached, caches, angles: hostAngles };
}

/** What rules ask for. */
interface CacheContext extends CachePlaces {
  /** Rows of angles, one for each new token. */
  anglesOf(config: RopeConfig): RopeTables;
  /** Writes rows [B, T, G, D] into the next cache, and gives that cache. */
  write(rows: Tensor): Tensor;
}

/** What a node becomes. */
type CacheRule = (node: Tensor, context: CacheContext) => Tensor;

/** Ops whose output depends on the tokens before, or on where a token is, and what they become. */
const CACHED: ReadonlyMap<Op, CacheRule> = new Map<Op, CacheRule>([
  [attentionOp, attended],
  [rotaryOp, rotated],
  [positionRowsOp, positioned],
]);

/** Queries see the keys of the cache, up to their own position. */
function attended({ inputs: [q, k, v, ...more], attrs }: Tensor, { write, start }: CacheContext): Tensor {
  const { bias: _, ...options } = attrs as AttentionAttrs;
  if (more.length > 0 || !(options.causal || options.window !== null)) {
    throw noDecoder("its attention is not causal");
  }
  return attention(q, { ...options, k: write(k), v: write(v), offset: start });
}

/** Each token is turned by the angles of its own position. */
function rotated({ inputs: [x, cos] }: Tensor, { anglesOf }: CacheContext): Tensor {
  const config = ropeConfigOf(cos), [batch, time, heads, dim] = x.shape;
  if (config === undefined) throw noDecoder("its rotary tables are not those of ropeTables");
  return reshape(rotary(reshape(x, [1, batch * time, heads, dim]), anglesOf(config)), x.shape);
}

function positioned({ inputs: [table], shape: [batch, time] }: Tensor, { positions }: CacheContext): Tensor {
  return embedding(table, reshape(positions, [batch, time]));
}

function noDecoder(why: string): InputError {
  return new InputError(`Cannot generate as each token must depend on those before alone: ${why}`);
}

function angleLeaves(config: RopeConfig, { positions }: CachePlaces, index: number): RopeTables {
  const spec = { shape: [positions.shape[0], Math.ceil(config.dim / 2)], dtype: "f32" } as const;
  return { cos: leaf(`angles.${index}.cos`, spec), sin: leaf(`angles.${index}.sin`, spec) };
}

function angleRows(config: RopeConfig, { positions, capacity }: CachePlaces): RopeTables {
  const { cos, sin } = dependsOnLength(config)
    ? lastAngles(config, capacity)
    : ropeTables(config, { length: capacity });
  return { cos: embedding(cos, positions), sin: embedding(sin, positions) };
}

/** Tables whose row p has the angles of the last of p + 1 tokens: keys stay as they were when they were new. */
function lastAngles(config: RopeConfig, capacity: number): RopeTables {
  const places = Array.from({ length: capacity }, (_, position) => ({ position, length: position + 1 }));
  const { cos, sin } = ropeRows(config, places), shape = [capacity, Math.ceil(config.dim / 2)];
  return { cos: tensor(cos, shape), sin: tensor(sin, shape) };
}
