/**
 * The two products of a tiled kernel: scores from own rows and a whole tile, and sums of streamed rows by their weights.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { declareDrops } from "./dropout.ts";
import { attentionMain, type Frame } from "./frame.ts";
import { exchangeMemory } from "./softmax.ts";
import { addScores, addSums, blocksOf, declareScores, FOUR, type Group, sumSteps } from "./thread_block.ts";
import {
  declareSwizzles,
  declareTile,
  plainQuad,
  storeSwizzled,
  swizzledQuad,
  type Tile,
  tilesOf,
} from "./tiled_memory.ts";

/**
 * Declares workgroup memory, opens `main` and declares the indices of a thread.
 *
 * @param frame The frame
 * @param options `own`: arrays of own rows; `combined`: whether rows are combined across threads; `reversed`: whether to start with the last blocks, which see most
 * @returns WGSL
 */
export function tiledMain(frame: Frame, { own, combined, reversed }: {
  readonly own: readonly Tile[];
  readonly combined: boolean;
  readonly reversed: boolean;
}): string {
  const { shared, streamed } = tilesOf(frame);
  return [...own, shared, streamed].map((tile) => declareTile(frame, tile)).join("") +
    (combined ? exchangeMemory(frame) : "") + declareDrops(frame) + attentionMain(frame, { reversed }) +
    declareSwizzles(frame);
}

/**
 * Multiplies own rows with streamed rows along D and declares the block `name{j}_{i}`.
 *
 * @param frame The frame
 * @param options `name` of the block, and the arrays of own and streamed rows, both transposed
 * @returns WGSL
 */
export function multiplyScores(frame: Frame, { name, own, tile }: {
  readonly name: string;
  readonly own: Tile;
  readonly tile: Tile;
}): string {
  const { x, y } = blocksOf(frame);
  const step = (group: Group, c: number): string =>
    `      let p0 = ${swizzledQuad(frame, { tile: own, side: y, sub: 0, group, c })};\n` +
    repeat(
      x.quads,
      (j) => `      let q${j} = ${swizzledQuad(frame, { tile, side: x, sub: j, group, c })};\n`,
    ) +
    addScores(frame, name);
  return declareScores(frame, name) + sumSteps(frame, { groups: frame.loads, step });
}

/** Stores the block `name{j}_{i}` where {@link accumulateRows} reads weights. */
export function storeWeights(frame: Frame, name: string): string {
  const { x, y } = blocksOf(frame);
  return repeat(x.quads, (j) =>
    storeSwizzled(frame, {
      tile: tilesOf(frame).shared,
      side: y,
      group: `tx + ${j * x.span}u`,
      quad: "ty + 0u",
      values: (c) => `${name}${4 * j + c}_0`,
    }));
}

/** Adds the streamed rows, weighted, to the sums `name`. */
export function accumulateRows(frame: Frame, name: string): string {
  const { y, dimQuads } = blocksOf(frame);
  const { shared, streamed } = tilesOf(frame);
  const step = (group: Group, c: number): string =>
    `      let p0 = ${swizzledQuad(frame, { tile: shared, side: y, sub: 0, group, c })};\n` +
    repeat(
      dimQuads,
      (w) => `      let q${w} = ${plainQuad(frame, { tile: streamed, sub: w, group, c })};\n`,
    ) +
    addSums(frame, name);
  return sumSteps(frame, { groups: frame.tile / FOUR, step });
}
