/**
 * What the attention kernels share: sizes, tuning, and the range of rows that a workgroup owns and sees.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX } from "./kernel.ts";
import { type Lanes, lanesOf } from "./rows.ts";

/** Sizes of an attention. Legend: B batch, T queries, S keys, H query heads, G key heads, D elements of a head. */
export interface AttentionShape {
  /** Sequences B. */
  readonly batch: number;
  /** Queries T of each sequence. */
  readonly time: number;
  /** Keys S of each sequence, T if absent; query i sits at position `i + S - T`. */
  readonly keys?: number;
  /** Query heads H, a multiple of G; query head h reads key head `floor(h * G / H)`. */
  readonly heads: number;
  /** Key and value heads G. */
  readonly kvHeads: number;
  /** Elements of a head, D. */
  readonly dim: number;
  /** Factor of the scores, usually `1 / sqrt(D)`. */
  readonly scale: number;
  /** Whether a query sees only keys at its position and before. */
  readonly causal: boolean;
  /** Keys a query sees, its own included; all before it if absent. Makes the attention causal. */
  readonly window?: number | null;
}

/** Tuning of the attention kernels; any choice gives the same result up to rounding. */
export interface AttentionTiling {
  /** Rows of a workgroup, 64 if absent; with a tile a power of two times the rows of a thread. */
  readonly rows?: number;
  /** Rows of a thread without a tile, 1 if absent; with one a thread has 4, or 8 if staged. */
  readonly each?: number;
  /** Streamed rows in workgroup memory at a time; 0 reads storage, and then threads share no row. */
  readonly tile: number;
  /**
   * Threads that share a row of a tiled kernel: 8 if absent. Four times as many must divide `tile` and D; subgroups
   * must hold so many.
   */
  readonly split?: 4 | 8 | 16;
  /** Whether threads that share a row of a tiled kernel combine through subgroups; the device must have the feature. */
  readonly subgroups?: boolean;
  /**
   * Whether a tiled kernel stages both sides of each product, 16 steps at a time and one part ahead, and keeps no whole
   * rows; `rows` and `tile` must be multiples of 32.
   */
  readonly staged?: boolean;
}

/** Which of the attention kernels. */
export type AttentionPass = "forward" | "gradQ" | "gradKV";

/** Workgroups that keep the processors of a large GPU busy with stages: about three for each. */
const MANY = 384;

/** Accumulators a thread can keep in registers beside what it reads. */
const MOST_ACCUMULATORS = 192;

type GpuTiling = Required<Pick<AttentionTiling, "rows" | "tile" | "split" | "staged">>;

/**
 * Tilings in stages, the fastest on an H100 first: 28 to 31 TFLOP/s at 1024 queries of heads of 64, where the others do
 * 20. They need many workgroups.
 */
const STAGED: Readonly<Record<AttentionPass, readonly GpuTiling[]>> = {
  forward: tilings(true, [64, 64, 16], [128, 32, 8], [128, 32, 4]),
  gradQ: tilings(true, [64, 64, 16], [128, 32, 8], [128, 32, 4]),
  gradKV: tilings(true, [128, 64, 16], [64, 64, 16], [128, 32, 8], [128, 32, 4]),
};

/** Tilings for few workgroups, then for little memory or short sequences; longer text does not fit the cache. */
const PLAIN: readonly GpuTiling[] = tilings(
  false,
  [64, 32, 8],
  [64, 32, 4],
  [64, 16, 4],
  [32, 32, 8],
  [32, 16, 4],
  [16, 32, 8],
  [16, 16, 4],
);

/** Tilings of rows, tile and split. */
function tilings(
  staged: boolean,
  ...sizes: readonly (readonly [number, number, 4 | 8 | 16])[]
): GpuTiling[] {
  return sizes.map(([rows, tile, split]) => ({ rows, tile, split, staged }));
}

/**
 * Recommends a tiling.
 *
 * @param shape Sizes of the attention
 * @param options Which kernel, and what the adapter is: a software rasteriser, its workgroup memory, its subgroups;
 * `wideSubgroups`: they have 16 threads at least
 * @returns The tiling
 */
export function attentionTiling(
  { batch, time, keys = time, heads, dim }: AttentionShape,
  { pass, software, workgroupBytes, subgroups, wideSubgroups = false }: {
    readonly pass: AttentionPass;
    readonly software: boolean;
    readonly workgroupBytes: number;
    readonly subgroups: boolean;
    readonly wideSubgroups?: boolean;
  },
): AttentionTiling {
  // More rows a thread would save loads, but the driver of a software adapter compiles their text for seconds.
  if (software) {
    const each = dim <= 64 ? 2 : 1;
    return { rows: 8 * each, each, tile: 0 };
  }
  const count = pass === "gradKV" ? keys : time;
  const withSubgroups = (t: GpuTiling): GpuTiling & { readonly subgroups: boolean } => ({
    ...t,
    subgroups: t.split > 8 ? wideSubgroups : subgroups,
  });
  const stored = [...STAGED[pass], ...PLAIN].map(withSubgroups).filter((t) =>
    dim % (4 * t.split) === 0 && tileBytes({ ...t, dim, pass }) <= workgroupBytes
  );
  const fits = (t: GpuTiling): boolean =>
    t.rows < 2 * count && accumulators({ ...t, dim, pass }) <= MOST_ACCUMULATORS &&
    (!t.staged || Math.ceil(count / t.rows) * heads * batch >= MANY);
  // Of blocks too large for the registers the last is the smallest, and still better than rows of whole heads.
  return stored.find(fits) ?? stored.at(-1) ?? { rows: 64, tile: 0 };
}

/** Rows of a thread of a tiled kernel. */
function rowsEach(staged: boolean): 4 | 8 {
  return staged ? 8 : 4;
}

interface Tile {
  readonly rows: number;
  readonly tile: number;
  readonly split: number;
  readonly dim: number;
}

/**
 * Bytes of workgroup memory of a tiled kernel: own rows, two tiles, and maxima of a forward kernel without subgroups.
 *
 * @param options The tiling, elements of a head, and which kernel
 * @returns Bytes
 */
export function tileBytes(
  options: Tile & { readonly pass: AttentionPass; readonly subgroups: boolean; readonly staged?: boolean },
): number {
  const { rows, tile, split, dim, pass, subgroups, staged = false } = options;
  if (staged) {
    const lines = pass === "gradKV" ? 4 + tile / 4 : Math.max(4, split);
    const exchanged = pass === "forward" && !subgroups ? 4 * rows * split : 0;
    const rest = pass === "gradQ" ? 8 * rows : exchanged;
    return 16 * (lines * (rows + 1) + 4 * (Math.max(tile, dim) + 1)) + rest;
  }
  const own = (pass === "forward" ? 1 : 2) * rows * dim;
  const shared = 16 * Math.max(rows / rowsEach(false), split) * sharedGroups(options);
  const exchanged = pass === "forward" && !subgroups ? rows * split : 0;
  return 4 * (own + shared + tile * dim + exchanged);
}

/**
 * Groups of four lines in the tile that holds streamed rows, then weights; a line has a quad for each thread along the
 * rows, or along the columns if those are more.
 *
 * @param tile The tiling and elements of a head
 * @returns Groups
 */
export function sharedGroups({ rows, tile, split, dim }: Tile): number {
  const line = 4 * 4 * Math.max(rows / rowsEach(false), split);
  return Math.ceil(tile * Math.max(dim, rows) / line);
}

/** Accumulators of a thread of a tiled kernel. */
function accumulators(
  { tile, split, dim, pass, staged }: Tile & { readonly pass: AttentionPass; readonly staged: boolean },
): number {
  const blocks = pass === "forward" ? 1 : 2;
  return rowsEach(staged) * (blocks * tile + (pass === "gradKV" ? 2 : 1) * dim) / split;
}

/** A resolved shape and tiling for one side of rows. */
export interface Frame extends Lanes {
  readonly shape: AttentionShape;
  /** Keys S. */
  readonly keys: number;
  /** Query heads of a key head. */
  readonly ratio: number;
  readonly window: number | null;
  readonly causal: boolean;
  /** Rows of a sequence and head. */
  readonly count: number;
  /** Rows of a workgroup. */
  readonly rows: number;
  /** Rows of a thread. */
  readonly each: number;
  readonly tile: number;
  readonly split: number;
  readonly subgroups: boolean;
  readonly staged: boolean;
  readonly threads: number;
  /** Workgroups along the rows. */
  readonly blocks: number;
}

/**
 * Resolves the choices of a kernel.
 *
 * @param shape Sizes
 * @param options Tiling, and how many rows each sequence and head has
 * @returns The frame
 * @throws RangeError if heads, window or tiling do not fit
 */
export function attentionFrame(
  shape: AttentionShape,
  { tiling, count }: { readonly tiling: AttentionTiling; readonly count: number },
): Frame {
  const keys = shape.keys ?? shape.time;
  const causal = shape.causal || (shape.window ?? null) !== null;
  const { rows: wanted = 64, tile, subgroups = false, staged = false } = tiling;
  const most = tile === 0 ? tiling.each ?? 1 : rowsEach(staged);
  const split = tile === 0 ? 1 : tiling.split ?? 8;
  check(
    shape.heads % shape.kvHeads === 0,
    `"heads" must be a multiple of "kvHeads": ${shape.heads}, ${shape.kvHeads}`,
  );
  check(!causal || keys >= shape.time, `a causal query needs a key at its position: ${shape.time}, ${keys}`);
  check((shape.window ?? 1) >= 1, `"window" must be at least 1: ${shape.window}`);
  if (tile === 0) check(wanted % most === 0, `"each" must divide "rows": ${most}, ${wanted}`);
  else checkTile({ rows: wanted, tile, split, dim: shape.dim, staged });
  const across = tile > 0 ? wanted / most : Math.min(wanted / most, Math.ceil(count / 8) * 8);
  const each = tile > 0 ? most : Math.min(most, Math.ceil(count / across));
  return {
    ...lanesOf(shape.dim),
    shape,
    keys,
    ratio: shape.heads / shape.kvHeads,
    window: shape.window ?? null,
    causal,
    count,
    rows: across * each,
    each,
    tile,
    split,
    subgroups,
    staged,
    threads: across * split,
    blocks: Math.ceil(count / (across * each)),
  };
}

function checkTile({ rows, tile, split, dim, staged }: Tile & { readonly staged: boolean }): void {
  check(dim % 16 === 0, `a "tile" needs a "dim" that is a multiple of 16: ${dim}`);
  check(dim % (4 * split) === 0, `"split" must divide the ${dim / 4} loads of a row: ${split}`);
  const each = rowsEach(staged);
  check(powerOfTwo(rows / each), `"rows" must be a power of two times ${each}: ${rows}`);
  check(powerOfTwo(tile / (4 * split)), `"tile" must be a power of two times ${4 * split}: ${tile}`);
  check(
    !staged || (rows % 32 === 0 && tile % 32 === 0),
    `staged "rows" and "tile" must be multiples of 32: ${rows}, ${tile}`,
  );
}

function powerOfTwo(n: number): boolean {
  return n >= 1 && Number.isInteger(Math.log2(n));
}

function check(holds: boolean, rule: string): void {
  if (!holds) throw new RangeError(`Cannot make attention as ${rule}`);
}

/**
 * Counts pairs of a query and a key it sees, over batch and heads.
 *
 * @param frame The frame
 * @returns Pairs
 */
export function visiblePairs({ shape, keys, causal, window }: Frame): number {
  let pairs = 0;
  for (let i = 0; i < shape.time; i++) {
    pairs += causal ? Math.min(i + keys - shape.time + 1, window ?? Infinity) : keys;
  }
  return pairs * shape.batch * shape.heads;
}

/**
 * Makes the grid.
 *
 * @param frame The frame
 * @returns Workgroups in x, y and z
 */
export function attentionGrid({ blocks, shape }: Frame): readonly [number, number, number] {
  return foldGrid(blocks * shape.heads * shape.batch);
}

/**
 * Opens `main` and declares `block`, `head` (of the queries) and `batch`.
 *
 * @param frame The frame
 * @param options Whether the last blocks see most, and so should begin first
 * @returns WGSL up to the body, without the closing brace
 */
export function attentionMain(
  { blocks, threads, tile, shape }: Frame,
  { reversed }: { readonly reversed: boolean },
): string {
  const lanes = shape.heads * shape.batch;
  // Caches of a CPU want the blocks of a head side by side, processors of a GPU all the long ones first.
  const [block, lane] = tile === 0
    ? [`group % ${blocks}u`, `group / ${blocks}u`]
    : [`group / ${lanes}u`, `group % ${lanes}u`];
  return `@compute @workgroup_size(${threads})
fn main(${GROUP_BUILTINS}) {
  let group = ${GROUP_INDEX};
  if (group >= ${blocks * lanes}u) { return; }
  let block = ${reversed ? `${blocks - 1}u - ${block}` : block};
  let head = (${lane}) % ${shape.heads}u;
  let batch = (${lane}) / ${shape.heads}u;
`;
}

/**
 * Declares the first query of the block, the position `offset` of query 0, and the keys `lo` to `hi` the block sees.
 *
 * @param frame The frame, of queries
 * @param offset WGSL for the position of query 0
 * @returns WGSL
 */
export function queryRange({ rows, keys, causal, window, count }: Frame, offset: string): string {
  return `  let first = block * ${rows}u;
  let offset = ${offset};
  let lo = ${window === null ? "0" : `max(0, i32(first) + offset - ${window - 1})`};
  let hi = ${causal ? `min(${keys}, offset + i32(min(first + ${rows}u, ${count}u)))` : `${keys}`};
`;
}

/**
 * Declares the first key of the block, the position `offset` of query 0, and the queries `lo` to `hi` that see a key of
 * the block.
 *
 * @param frame The frame, of keys
 * @returns WGSL
 */
export function keyRange({ rows, keys, causal, window, shape }: Frame): string {
  const offset = keys - shape.time;
  const end = `i32(min(first + ${rows}u, ${keys}u))`;
  return `  let first = block * ${rows}u;
  let offset = ${offset};
  let lo = ${causal ? `max(0, i32(first) - ${offset})` : "0"};
  let hi = ${window === null ? `${shape.time}` : `min(${shape.time}, ${end} + ${window - 1 - offset})`};
`;
}

/** WGSL for the row of query (or of share of a query head) `i` of `count` among loads of D elements. */
export function queryRow(
  { shape }: Frame,
  { i, count }: { readonly i: string; readonly count: number },
): string {
  return `((batch * ${count}u + ${i}) * ${shape.heads}u + head)`;
}

/** WGSL for the first load of key `j`. */
export function keyAddress({ keys, ratio, loads, shape }: Frame, j: string): string {
  const head = ratio === 1 ? "head" : `head / ${ratio}u`;
  return `((batch * ${keys}u + ${j}) * ${shape.kvHeads}u + ${head}) * ${loads}u`;
}
