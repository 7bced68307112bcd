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
import { dependsOnLength, type RopeConfig, ropeConfigOf, ropeRows } from "../nn/rope.ts";
import { attention, attentionOp } from "../ops/attention.ts";
import type { AttentionAttrs } from "../ops/attention_sizes.ts";
import { embedding } from "../ops/embedding.ts";
import { reshape, slice } from "../ops/movement.ts";
import { placeHeads } from "../ops/place_heads.ts";
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
  /** A leaf f32 [B T, R]: cosines, and then sines. */
  readonly leaf: Tensor;
}

/** A graph that reads a cache. */
export interface CachedGraph {
  readonly root: Tensor;
  /** Leaves of the cache, f32 [B, S, G, D]. */
  readonly caches: readonly Tensor[];
  /** Angles that the host fills in before the graph runs. */
  readonly angles: readonly HostAngles[];
  /** Lengths of a sequence beyond which all of its angles are others, so that its tokens must be read again. */
  readonly switches: readonly number[];
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
  const caches: Tensor[] = [], angles = new Map<RopeConfig, Tensor>(), hostAngles: HostAngles[] = [];
  const context: CacheContext = {
    ...places,
    turned: new Map(),
    anglesOf(config) {
      if (!angles.has(config)) {
        const filled = dependsOnLength(config) && places.time > 1;
        const rows = filled ? angleLeaf(config, places, hostAngles.length) : angleRows(config, places);
        if (filled) hostAngles.push({ config, leaf: rows });
        angles.set(config, rows);
      }
      return angles.get(config)!;
    },
    cacheFor(rows) {
      const name = `cache.${caches.length >> 1}.${caches.length % 2 === 0 ? "keys" : "values"}`;
      const into = leaf(name, { shape: rows.shape.with(1, places.capacity), dtype: "f32" });
      caches.push(into);
      return into;
    },
  };
  const [cached] = rebuild([root], (node) => CACHED.get(node.op)?.(node, context) ?? node);
  if (caches.length === 0) throw noDecoder("it has no attention");
  const switches = [...angles.keys()].flatMap(({ scaling }) =>
    scaling?.type === "longrope" ? [scaling.originalLength] : []
  );
  return { root: cached, caches, angles: hostAngles, switches };
}

/** What rules ask for. */
interface CacheContext extends CachePlaces {
  /** What the rotated heads of the new graph are made from. */
  readonly turned: Map<Tensor, { readonly x: Tensor; readonly angles: Tensor }>;
  /** Cosines and sines of each new token, f32 [B T, R]. */
  anglesOf(config: RopeConfig): Tensor;
  /** The next leaf of the cache, for rows [B, T, G, D]. */
  cacheFor(rows: Tensor): Tensor;
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
function attended({ inputs, attrs }: Tensor, { turned, cacheFor, start: at }: CacheContext): Tensor {
  const [q, k, v, ...more] = inputs, { bias: _, dropout: __, ...options } = attrs as AttentionAttrs;
  if (more.length > 0 || !(options.causal || options.window !== null)) {
    throw noDecoder("its attention is not causal");
  }
  const caches = { keys: cacheFor(k), values: cacheFor(v) }, [ownQ, ownK] = [turned.get(q), turned.get(k)];
  const placed = ownQ !== undefined && ownQ.angles === ownK?.angles
    ? placeHeads(caches, { q: ownQ.x, k: ownK.x, v, angles: ownQ.angles, at })
    : { q, k: writeRows(caches.keys, { rows: k, at }), v: writeRows(caches.values, { rows: v, at }) };
  return attention(placed.q, { ...options, k: placed.k, v: placed.v, offset: at });
}

/** Each token is turned by the angles of its own position. */
function rotated({ inputs: [x, cos] }: Tensor, { anglesOf, turned }: CacheContext): Tensor {
  const config = ropeConfigOf(cos), [batch, time, heads, dim] = x.shape;
  if (config === undefined) throw noDecoder("its rotary tables are not those of ropeTables");
  const angles = anglesOf(config), half = pairsOf(config), rows = batch * time;
  const [c, s] = [0, half].map((from) => slice(angles, { starts: [0, from], sizes: [rows, half] }));
  const result = reshape(rotary(reshape(x, [1, rows, heads, dim]), { cos: c, sin: s }), x.shape);
  turned.set(result, { x, angles });
  return result;
}

function positioned({ inputs: [table], shape: [batch, time] }: Tensor, { positions }: CacheContext): Tensor {
  return embedding(table, reshape(positions, [batch, time]));
}

function noDecoder(why: string): InputError {
  return new InputError(`Cannot generate as each token must depend on those before alone: ${why}`);
}

function angleLeaf(config: RopeConfig, { positions }: CachePlaces, index: number): Tensor {
  return leaf(`angles.${index}`, { shape: [positions.shape[0], 2 * pairsOf(config)], dtype: "f32" });
}

/** Pairs of channels that are rotated; the last one of an odd number has a partner, too. */
function pairsOf({ dim }: RopeConfig): number {
  return Math.ceil(dim / 2);
}

/**
 * Rows of a table with the angles of each position. Where they depend on the length of a sequence, a token is the last one of
 * its own: keys stay as they were when they were new.
 */
function angleRows(config: RopeConfig, { positions, capacity }: CachePlaces): Tensor {
  const grows = dependsOnLength(config);
  const places = Array.from(
    { length: capacity },
    (_, position) => ({ position, length: grows ? position + 1 : 0 }),
  );
  return embedding(tensor(joinedRows(config, places), [capacity, 2 * pairsOf(config)]), positions);
}

/**
 * Cosines and then sines of some positions, in one row each.
 *
 * @param config Base, rotated elements, scaling
 * @param places Positions, and how many positions their sequence has
 * @returns Rows of R numbers
 */
export function joinedRows(
  config: RopeConfig,
  places: readonly { readonly position: number; readonly length: number }[],
): Float32Array {
  const { cos, sin } = ropeRows(config, places), half = pairsOf(config);
  const rows = new Float32Array(2 * cos.length);
  for (let at = 0; at < cos.length; at += half) {
    rows.set(cos.subarray(at, at + half), 2 * at);
    rows.set(sin.subarray(at, at + half), 2 * at + half);
  }
  return rows;
}
