/**
 * Attentions of all tilings: each kind of shape once, in a tiling that suits it.
 *
 * @module
 */

import type { AttentionShape, AttentionTiling } from "../../kernels/attention/frame.ts";

/** A small attention, of heads that no tile divides. */
export const SHAPE = { batch: 2, time: 33, heads: 3, kvHeads: 1, dim: 8, scale: 0.7, causal: true };
/** An attention whose results are compared, in one tiling. */
export interface Case {
  readonly title: string;
  readonly shape: AttentionShape;
  readonly tiling: AttentionTiling;
  /**
   * The shape of the gradients that are compared, that of the case when absent; null where they would only show again what
   * the other cases show, and take ten seconds to compile.
   */
  readonly gradients?: AttentionShape | null;
  /** Whether it is computed only with `--all`, as it takes some seconds to compile. */
  readonly slow?: true;
}
const HALVES = { ...SHAPE, batch: 1, dim: 32 };
const HEADS_64 = { ...HALVES, dim: 64, scale: 0.2 };
const ONE_HEAD = { ...SHAPE, batch: 1, time: 19, heads: 1, scale: 0.1 };
const GROUPED = { ...SHAPE, heads: 4, kvHeads: 2, dim: 48, window: 9, scale: 0.2 };

/** A tiling as {@link attentionTiling} returns it, but for subgroups. */
export function tiles(rows: number, tile: number, split: 4 | 8 | 16) {
  return { rows, tile, split, staged: false };
}

/** A staged tiling as {@link attentionTiling} returns it. */
export function stages(...options: Parameters<typeof tiles>) {
  return { ...tiles(...options), staged: true };
}

/** Every tiling that is recommended to a GPU, and those of software adapters. */
export const CASES: readonly Case[] = [
  { title: "three query heads a key head, direct", shape: SHAPE, tiling: { tile: 0 } },
  { title: "one position", shape: { ...SHAPE, time: 1 }, tiling: { tile: 0 } },
  {
    title: "dim 10 (scalar), direct, a window of 7",
    shape: { ...SHAPE, dim: 10, window: 7 },
    tiling: { tile: 0, rows: 8 },
  },
  {
    title: "dim 7, direct, a window of 3",
    shape: { ...SHAPE, dim: 7, time: 21, window: 3 },
    tiling: { tile: 0, rows: 8 },
  },
  {
    title: "two rows a thread, direct, 41 positions",
    shape: { ...SHAPE, time: 41 },
    tiling: { tile: 0, rows: 16, each: 2 },
  },
  {
    title: "5 queries after 28 earlier keys, direct",
    shape: { ...SHAPE, time: 5, keys: 33, heads: 2 },
    tiling: { tile: 0 },
  },
  {
    title: "5 queries over 12 keys, direct, all visible",
    shape: { ...SHAPE, time: 5, keys: 12, causal: false },
    tiling: { tile: 0 },
  },
  {
    title: "dim 35 (scalar), direct, in loops",
    shape: { ...ONE_HEAD, dim: 35 },
    tiling: { tile: 0, rows: 8 },
  },
  { title: "dim 72, direct", shape: { ...ONE_HEAD, dim: 72 }, tiling: { tile: 0, rows: 8 } },
  { title: "dim 256, direct", shape: { ...ONE_HEAD, dim: 256 }, tiling: { tile: 0, rows: 8 } },
  {
    title: "dim 255 (scalar), direct",
    shape: { ...ONE_HEAD, dim: 255 },
    tiling: { tile: 0, rows: 8 },
    slow: true,
  },
  {
    title: "tiles of 16 by 16, dim 112",
    shape: { ...ONE_HEAD, dim: 112 },
    tiling: tiles(16, 16, 4),
    slow: true,
  },
  {
    title: "staged, 64 by 64, dim 256",
    shape: { ...ONE_HEAD, dim: 256 },
    tiling: stages(64, 64, 16),
    slow: true,
  },
  {
    title: "tiles of 64 by 32, 8 threads a row, 130 positions",
    shape: { ...HALVES, time: 130 },
    tiling: tiles(64, 32, 8),
  },
  {
    title: "tiles of 64 by 32, 8 threads a row, all keys visible",
    shape: { ...HALVES, time: 45, keys: 71, causal: false },
    tiling: tiles(64, 32, 8),
  },
  {
    title: "tiles of 64 by 32, 4 threads a row, dim 48, two key heads, a window of 9",
    shape: { ...GROUPED, time: 70 },
    tiling: tiles(64, 32, 4),
    gradients: { ...GROUPED, time: 70, dim: 16 },
  },
  {
    title: "tiles of 64 by 16, dim 80, a window of 40",
    shape: { ...HALVES, time: 70, dim: 80, window: 40, scale: 0.2 },
    tiling: tiles(64, 16, 4),
    gradients: null,
  },
  {
    title: "tiles of 64 by 16, dim 16, 130 queries after 7 earlier keys",
    shape: { ...HALVES, time: 130, keys: 137, dim: 16 },
    tiling: tiles(64, 16, 4),
  },
  {
    title: "tiles of 32 by 32, dim 96, 33 queries after 60 keys that the window has left",
    shape: { ...HALVES, keys: 93, dim: 96, window: 5, scale: 0.2 },
    tiling: tiles(32, 32, 8),
  },
  {
    title: "tiles of 32 by 32, dim 128",
    shape: { ...HALVES, time: 21, dim: 128, scale: 0.1 },
    tiling: tiles(32, 32, 8),
    gradients: null,
  },
  {
    title: "tiles of 32 by 16, dim 16",
    shape: { ...SHAPE, dim: 16 },
    tiling: tiles(32, 16, 4),
  },
  {
    title: "tiles of 16 by 32, dim 32",
    shape: HALVES,
    tiling: tiles(16, 32, 8),
  },
  {
    title: "tiles of 16 by 16, dim 16, three key heads, a window of 20",
    shape: { ...SHAPE, kvHeads: 3, time: 41, dim: 16, window: 20 },
    tiling: tiles(16, 16, 4),
  },
  {
    title: "staged, 64 by 64, dim 64, whole tiles",
    shape: { ...HEADS_64, time: 128 },
    tiling: stages(64, 64, 16),
    gradients: null,
  },
  {
    title: "staged, 64 by 64, dim 64, a window of 70",
    shape: { ...HEADS_64, time: 150, window: 70 },
    tiling: stages(64, 64, 16),
    gradients: null,
  },
  {
    title: "staged, 128 by 64, dim 64, 130 queries after 9 earlier keys",
    shape: { ...HEADS_64, time: 130, keys: 139 },
    tiling: stages(128, 64, 16),
  },
  {
    title: "staged, 128 by 32, 8 threads a row, 130 positions",
    shape: { ...HALVES, time: 130 },
    tiling: stages(128, 32, 8),
    gradients: null,
  },
  {
    title: "staged, 128 by 32, 8 threads a row, 64 queries after 64 earlier keys, whole tiles",
    shape: { ...HALVES, time: 64, keys: 128 },
    tiling: stages(128, 32, 8),
  },
  {
    title: "staged, 128 by 32, 8 threads a row, 37 queries after 40 earlier keys, three key heads",
    shape: { ...HALVES, time: 37, keys: 77, kvHeads: 3 },
    tiling: stages(128, 32, 8),
  },
  {
    title: "staged, 128 by 32, 4 threads a row, dim 48, two key heads, a window of 9",
    shape: { ...GROUPED, batch: 1, time: 130 },
    tiling: stages(128, 32, 4),
    gradients: { ...GROUPED, batch: 1, time: 130, dim: 16 },
  },
  {
    title: "three parts, some of them without a row",
    shape: { ...HALVES, time: 70, heads: 2, kvHeads: 2 },
    tiling: { ...tiles(32, 16, 4), parts: 3 },
  },
  {
    title: "staged, two parts, a window of 40",
    shape: { ...HEADS_64, time: 100, window: 40 },
    tiling: { ...stages(64, 64, 16), parts: 2 },
  },
  {
    title: "staged, 128 by 32, 4 threads a row, dim 16, all keys visible",
    shape: { ...HALVES, time: 45, keys: 71, dim: 16, causal: false },
    tiling: stages(128, 32, 4),
  },
];
