/**
 * Sorts pairs of a token and an expert by expert, stably and without atomics, in three launches.
 *
 * Legend: P pairs, E experts, B blocks of {@link BLOCK} pairs, R rows of a tile.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, storage } from "../kernel.ts";

/** Pairs of a block. */
const BLOCK = 256;

/** Rows of a tile: rows of one expert that a workgroup of {@link groupedMatmul} computes. */
export const TILE_ROWS = 64;

/** How many pairs and experts there are. */
export interface ExpertSizes {
  /** Pairs P. */
  readonly pairs: number;
  /** Experts E. */
  readonly experts: number;
}

/** Blocks of pairs. */
export function blockCount(pairs: number): number {
  return Math.ceil(pairs / BLOCK);
}

/** Tiles that suffice for any sizes of groups: the last one of each expert may be partly filled. */
export function tileCount({ pairs, experts }: ExpertSizes): number {
  return Math.floor(pairs / TILE_ROWS) + Math.min(experts, pairs);
}

/** Opens `main` and loads the experts of a block into `own`; -1 past the last pair. */
function openBlock(pairs: number): string {
  return `var<workgroup> own: array<i32, ${BLOCK}>;
@compute @workgroup_size(${BLOCK}) fn main(${GROUP_BUILTINS}) {
  let block = ${GROUP_INDEX};
  if (block >= ${blockCount(pairs)}u) { return; }
  let pair = block * ${BLOCK}u + lid;
  own[lid] = select(-1, a0[min(pair, ${pairs - 1}u)], pair < ${pairs}u);
  workgroupBarrier();
`;
}

/**
 * Counts the pairs of each expert in each block.
 *
 * Bindings: a0 `experts[P]` i32; o0 `counts[B,E]` u32.
 *
 * @param sizes Pairs and experts
 * @returns The kernel
 */
export function expertCounts({ pairs, experts }: ExpertSizes): Kernel {
  return {
    name: `expert_counts ${pairs} of ${experts}`,
    grid: foldGrid(blockCount(pairs)),
    flops: 0,
    code: `${storage(["i32"], ["u32"])}${openBlock(pairs)}
  for (var expert = lid; expert < ${experts}u; expert += ${BLOCK}u) {
    var count = 0u;
    for (var i = 0u; i < ${BLOCK}u; i += 1u) { count += u32(own[i] == i32(expert)); }
    o0[block * ${experts}u + expert] = count;
  }
}
`,
  };
}

/**
 * Finds where the pairs of each expert and block begin, and cuts each expert's rows into tiles.
 *
 * Bindings: a0 `counts[B,E]` u32; o0 `starts[B,E]` u32, o1 `groups[E+1]` u32, the first row of each expert and the end, o2
 * `tiles[T,4]` u32: expert, first row, the row after the last, 0; tiles that are not used are empty.
 *
 * @param sizes Pairs and experts
 * @returns The kernel
 */
export function expertStarts(sizes: ExpertSizes): Kernel {
  const { pairs, experts } = sizes, blocks = blockCount(pairs), tiles = tileCount(sizes);
  return {
    name: `expert_starts ${pairs} of ${experts}`,
    grid: [1, 1, 1],
    flops: 0,
    code: `${storage(["u32"], ["u32", "u32", "vec4u"])}
var<workgroup> rows: array<u32, ${experts + 1}>;
var<workgroup> tiles: array<u32, ${experts + 1}>;
@compute @workgroup_size(${BLOCK}) fn main(@builtin(local_invocation_index) lid: u32) {
  for (var expert = lid; expert < ${experts}u; expert += ${BLOCK}u) {
    var count = 0u;
    for (var block = 0u; block < ${blocks}u; block += 1u) { count += a0[block * ${experts}u + expert]; }
    rows[expert] = count;
  }
  workgroupBarrier();
  if (lid == 0u) {
    var row = 0u;
    var tile = 0u;
    for (var expert = 0u; expert < ${experts}u; expert += 1u) {
      let count = rows[expert];
      rows[expert] = row;
      tiles[expert] = tile;
      row += count;
      tile += (count + ${TILE_ROWS - 1}u) / ${TILE_ROWS}u;
    }
    rows[${experts}] = row;
    tiles[${experts}] = tile;
    o1[${experts}] = row;
  }
  workgroupBarrier();
  for (var expert = lid; expert < ${experts}u; expert += ${BLOCK}u) {
    var at = rows[expert];
    let end = rows[expert + 1u];
    o1[expert] = at;
    for (var tile = tiles[expert]; tile < tiles[expert + 1u]; tile += 1u) {
      let first = at + (tile - tiles[expert]) * ${TILE_ROWS}u;
      o2[tile] = vec4u(expert, first, min(first + ${TILE_ROWS}u, end), 0u);
    }
    for (var block = 0u; block < ${blocks}u; block += 1u) {
      o0[block * ${experts}u + expert] = at;
      at += a0[block * ${experts}u + expert];
    }
  }
  for (var tile = tiles[${experts}] + lid; tile < ${tiles}u; tile += ${BLOCK}u) { o2[tile] = vec4u(); }
}
`,
  };
}

/**
 * Gives each pair its row.
 *
 * Bindings: a0 `experts[P]` i32, a1 `starts[B,E]` u32; o0 `order[P]` u32, the pair of each row, o1 `places[P]` u32, the row of
 * each pair.
 *
 * @param sizes Pairs and experts
 * @returns The kernel
 */
export function expertPlaces({ pairs, experts }: ExpertSizes): Kernel {
  return {
    name: `expert_places ${pairs} of ${experts}`,
    grid: foldGrid(blockCount(pairs)),
    flops: 0,
    code: `${storage(["i32", "u32"], ["u32", "u32"])}${openBlock(pairs)}
  let expert = own[lid];
  if (expert < 0 || expert >= ${experts}) { return; }
  var row = a1[block * ${experts}u + u32(expert)];
  for (var i = 0u; i < lid; i += 1u) { row += u32(own[i] == expert); }
  o0[row] = pair;
  o1[pair] = row;
}
`,
  };
}
