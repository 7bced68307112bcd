/**
 * Tiled matrix products, for GPUs: tiles in workgroup memory, a block of accumulators in the registers of each thread, the
 * next tile prefetched into registers. Several workgroups can share a tile's sum (split-K).
 *
 * Tiles are nested arrays: the outer index is a constant, checked at compile time; the inner one is checked once.
 *
 * @module
 */

import { GROUP_BUILTINS, type Kernel, repeat } from "../kernel.ts";
import { type Matmul, type MatmulVariant, productKey } from "./types.ts";
import { batchOffsets, frame, operandsOf, sumLength } from "./frame.ts";
import { firstLoad, splitSums, tileIndex, wholeSums } from "./shares.ts";
import { declareTile, loadTiles, type Tile, tileQuad } from "./load_tiles.ts";

/** Neighbouring lanes that read neighbouring quads: 128 bytes, every bank once. */
const ROW_OF_LANES = 8;
/** Lanes of a subgroup that the layout of threads assumes. */
const SUBGROUP = 32;
/** Makes the kernel of the tiled variant. */
export function tiled(product: Matmul, variant: Extract<MatmulVariant, { kind: "tiled" }>): Kernel {
  const { bm, bn, bk, tm, tn, split } = variant;
  const { batch, m, n, k, group } = product;
  const results = group?.as === "separate" ? group.count : 1, summed = group?.as === "summed";
  const { declare, reach } = sumLength(product);
  const [a, b] = operandsOf(product);
  const { declarations, store } = frame(product, { pair: [a, b], lanes: 4 });
  const across = bn / tn, down = bm / tm, threads = across * down;
  const cut = { bk, threads };
  const tiles: readonly [Tile, Tile] = [{ side: a, origin: "m0", width: bm }, {
    side: b,
    origin: "n0",
    width: bn,
  }];
  const fill = loadTiles(tiles, {
    ...cut,
    ...(summed ? { at: "kk", storedAt: `k0 % ${k}u` } : { at: "k0", storedAt: "k0" }),
  });
  // Tiles end where products do, so that each belongs to one product.
  const load = summed ? `let which = k0 / ${k}u;\nlet kk = k0 % ${k}u;\n${fill.load}` : fill.load;
  const quads = (count: number, each: number, at: string): string =>
    repeat(count / 4, (i) => `let ${at}${i} = t${at} + ${i * each}u;\n`);
  const one = (kk: number): string =>
    `{\n${repeat(tm / 4, (i) => `let p${i} = ${tileQuad("a", kk, `y${i}`)};\n`)}${
      repeat(tn / 4, (j) => `let q${j} = ${tileQuad("b", kk, `x${j}`)};\n`)
    }${
      repeat(tm, (i) =>
        repeat(tn / 4, (j) =>
          `c${i}_${j} = fma(vec4<f32>(p${i >> 2}.${"xyzw"[i & 3]}), q${j}, c${i}_${j});\n`))
    }}\n`;
  const [tilesM, tilesN] = [Math.ceil(m / bm), Math.ceil(n / bn)];
  const code = `${declarations}
${tiles.map((tile) => declareTile(tile, cut)).join("")}
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
${tileIndex(tilesM, tilesN)}
let m0 = tile.x * ${bm}u;
let n0 = tile.y * ${bn}u;
${declare}${split === 1 ? wholeSums(reach) : splitSums({ batch: batch * results, reach, bk })}
${results === 1 ? "let z = instance;" : "let which = instance; let z = 0u;"}
${batchOffsets(product, [a, b])}
${threadIndex(across, down)}${quads(tn, across, "x")}${quads(tm, down, "y")}${fill.declare}
${repeat(tm, (i) => repeat(tn / 4, (j) => `var c${i}_${j} = vec4<f32>();\n`))}
var k0 = begin;
${firstLoad(load, split)}while (k0 < end) {
${fill.store}workgroupBarrier();
k0 += ${bk}u;
if (k0 < end) {\n${load}}
${repeat(bk, one)}workgroupBarrier();
}
${
    store(
      (i) => `(m0 + y${i >> 2} * 4u + ${i & 3}u)`,
      (j) => `(n0 + x${j} * 4u)`,
      { rows: tm, columns: tn / 4, fits: m % bm === 0 && n % bn === 0 },
    )
  }
}`;
  return {
    name: `matmul ${productKey(product)} ${bm}x${bn}x${bk}${split === 1 ? "" : ` split ${split}`}`,
    code,
    grid: [tilesN, tilesM, batch * results * split],
    flops: 2 * batch * m * b.size * k * (group?.count ?? 1),
  };
}

/** WGSL for the position of a thread within a tile: a subgroup is 8 wide and 4 high where that divides. */
function threadIndex(across: number, down: number): string {
  const high = SUBGROUP / ROW_OF_LANES;
  if (across % ROW_OF_LANES !== 0 || down % high !== 0) {
    return `let tx = lid % ${across}u;\nlet ty = lid / ${across}u;\n`;
  }
  const wide = across / ROW_OF_LANES;
  return `let tx = lid % ${ROW_OF_LANES}u + lid / ${SUBGROUP}u % ${wide}u * ${ROW_OF_LANES}u;
let ty = lid / ${ROW_OF_LANES}u % ${high}u + lid / ${SUBGROUP * wide}u * ${high}u;
`;
}
