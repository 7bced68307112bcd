/**
 * Chooses the tiling of an attention kernel for an adapter.
 *
 * @module
 */

import type { MatrixUnit } from "../matrix_unit.ts";
import { type AttentionPass, type AttentionShape, type AttentionTiling, rowsEach } from "./frame.ts";
import { matrixTiling } from "./matrix_tiling.ts";

/** Workgroups that keep a large GPU busy with staged kernels: about three for each processor. */
const MANY = 384;

/** Accumulators that fit into the registers of a thread. */
const MOST_ACCUMULATORS = 192;

/** Fewest streamed rows of a part: less work would not pay for starting a workgroup. */
const LEAST_PART = 64;

type GpuTiling = Required<Pick<AttentionTiling, "rows" | "tile" | "split" | "staged">>;

/**
 * Tilings of the staged kernels, the fastest on an H100 first: 28 to 31 TFLOP/s at 1024 queries with heads of 64, where
 * the tiled kernels reach 20. They need many workgroups.
 */
const STAGED: Readonly<Record<AttentionPass, readonly GpuTiling[]>> = {
  forward: tilings(true, [64, 64, 16], [128, 32, 8], [128, 32, 4]),
  gradQ: tilings(true, [64, 64, 16], [128, 32, 8], [128, 32, 4]),
  gradKV: tilings(true, [128, 64, 16], [64, 64, 16], [128, 32, 8], [128, 32, 4]),
};

/** Tilings of the tiled kernels: for few workgroups, then for little memory or short sequences. Larger code would not fit the instruction cache. */
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

/** Tilings from rows, tile and split. */
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
 * @param options Which kernel, and the adapter: whether it is a software rasteriser, its workgroup memory, its subgroups;
 * `wideSubgroups`: whether they have at least 16 threads; `half`: whether all rows that the kernel reads are f16, so that the
 * matrix units of the adapter can multiply them
 * @returns The tiling
 */
export function attentionTiling(
  shape: AttentionShape,
  { half = false, matrices = [], subgroupSize = 0, ...adapter }: {
    readonly pass: AttentionPass;
    readonly software: boolean;
    readonly workgroupBytes: number;
    readonly subgroups: boolean;
    readonly wideSubgroups?: boolean;
    readonly half?: boolean;
    readonly matrices?: readonly MatrixUnit[];
    readonly subgroupSize?: number;
  },
): AttentionTiling {
  const matrix = half && shape.dropout === undefined
    ? matrixTiling(shape, { ...adapter, matrices, subgroupSize })
    : undefined;
  return matrix ?? threadTiling(shape, adapter);
}

/** Recommends a tiling of the kernels in which threads multiply. */
function threadTiling(
  { batch, time, keys = time, heads, dim, dropout }: AttentionShape,
  { pass, software, workgroupBytes, subgroups, wideSubgroups = false }: Parameters<typeof attentionTiling>[1],
): AttentionTiling {
  // More rows per thread would save loads, but a software driver would compile the longer text for seconds.
  if (software) {
    const each = dim <= 64 ? 2 : 1;
    return { rows: 8 * each, each, tile: 0 };
  }
  const count = pass === "gradKV" ? keys : time;
  const withSubgroups = (t: GpuTiling): GpuTiling & { readonly subgroups: boolean } => ({
    ...t,
    subgroups: t.split > 8 ? wideSubgroups : subgroups,
  });
  // Staged kernels keep weights once, and with dropout both gradients need them in different ways.
  const staged = dropout !== undefined && pass === "gradKV" ? [] : STAGED[pass];
  const stored = [...staged, ...PLAIN].map(withSubgroups).filter((t) =>
    dim % (4 * t.split) === 0 && tileBytes({ ...t, dim, pass }) <= workgroupBytes
  );
  const groups = (t: GpuTiling): number => Math.ceil(count / t.rows) * heads * batch;
  const most = pass === "forward"
    ? 1
    : Math.max(1, Math.floor((pass === "gradKV" ? time : keys) / LEAST_PART));
  const partsOf = (t: GpuTiling): number => Math.min(most, Math.ceil(MANY / groups(t)));
  const fits = (t: GpuTiling): boolean =>
    t.rows < 2 * count && accumulators({ ...t, dim, pass }) <= MOST_ACCUMULATORS &&
    (!t.staged || groups(t) * partsOf(t) >= MANY);
  // Where every block is too large for the registers, the smallest is still faster than the direct kernels.
  const found = stored.find(fits) ?? smallest(stored, (t) => accumulators({ ...t, dim, pass }));
  return found === undefined ? { rows: 64, tile: 0 } : { ...found, parts: partsOf(found) };
}

/** The last of the tiled tilings, which is the smallest; else the staged one with the fewest accumulators. */
function smallest<T extends GpuTiling>(tilings: readonly T[], count: (tiling: T) => number): T | undefined {
  const fewest = Math.min(...tilings.map(count));
  return tilings.findLast(({ staged }) => !staged) ?? tilings.findLast((tiling) => count(tiling) === fewest);
}

interface Tile {
  readonly rows: number;
  readonly tile: number;
  readonly split: number;
  readonly dim: number;
}

/**
 * Bytes of workgroup memory of a tiled or staged kernel.
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
 * The size of the tile that holds streamed rows first and weights later, in groups of four lines. A line has one quad for
 * each thread along the rows or along the columns, whichever are more.
 *
 * @param tile The tiling and elements of a head
 * @returns Groups
 */
export function sharedGroups({ rows, tile, split, dim }: Tile): number {
  const line = 4 * 4 * Math.max(rows / rowsEach(false), split);
  return Math.ceil(tile * Math.max(dim, rows) / line);
}

/** Accumulators of a thread of a tiled or staged kernel. */
function accumulators(
  { tile, split, dim, pass, staged }: Tile & { readonly pass: AttentionPass; readonly staged: boolean },
): number {
  const blocks = pass === "forward" ? 1 : 2;
  return rowsEach(staged) * (blocks * tile + (pass === "gradKV" ? 2 : 1) * dim) / split;
}
