/**
 * Matrix products on matrix units of f16 operands and f32 sums.
 *
 * A workgroup fills panels in workgroup memory (see `panels.ts`) while the next tile is on its way into registers. Each
 * subgroup multiplies a block of small matrices from them. Sums go through workgroup memory to the epilogue, which needs
 * single elements.
 *
 * @module
 */

import { GROUP_BUILTINS, type Kernel, repeat } from "../kernel.ts";
import type { MatrixUnit } from "../matrix_unit.ts";
import { matrixWords } from "../matrix_words.ts";
import { chunkFunctions, type Chunks, chunksOf, growth } from "./chunks.ts";
import { frame, operandsOf, sumLength } from "./frame.ts";
import { fillPanels, matrixPlace, panelLayout } from "./panels.ts";
import { firstLoad, splitSums, tileIndex, wholeSums } from "./shares.ts";
import { type Matmul, type MatmulVariant, type MatrixTile, productKey } from "./types.ts";

/** A variant on matrix units. */
type MatrixVariant = Extract<MatmulVariant, { kind: "matrix" }>;

/** The matrix unit of a tile. */
function unitOf({ um: m, un: n, uk: k, dialect }: MatrixTile): MatrixUnit {
  return { m, n, k, operands: "f16", sums: "f32", dialect };
}

/** Makes the kernel of the variant on matrix units. */
export function matrix(product: Matmul, variant: MatrixVariant): Kernel {
  const { bm, bn, bk, wm, wn, stages, split, lanes } = variant, { batch, m, n, k, group } = product;
  const results = group?.as === "separate" ? group.count : 1, summed = group?.as === "summed";
  const { declare, reach } = sumLength(product), words = matrixWords(variant.dialect);
  const [a, b] = operandsOf(product).map((side) => chunksOf(side, batch)), pair = [a.side, b.side] as const;
  const layout = panelLayout(variant, product), { width, panelsA, panelsB, memory } = layout;
  const threads = (bm / wm) * (bn / wn) * lanes;
  const cut = { tile: variant, width, threads, ...(summed ? { at: "kk", storedAt: `k0 % ${k}u` } : AT_K0) };
  const fills = [
    fillPanels({ chunks: a, origin: "m0", size: bm, panel: 0 }, cut),
    fillPanels({ chunks: b, origin: "n0", size: bn, panel: panelsA }, cut),
  ];
  const loads = fills.map(({ load }) => load).join("");
  // Tiles end where products do, so that each belongs to one product.
  const load = summed ? `let which = k0 / ${k}u;\nlet kk = k0 % ${k}u;\n${loads}` : loads;
  const store = (first: string): string => fills.map((fill) => fill.store(first)).join("");
  const multiply = (first: string): string => products(variant, { product, width, panelsA, first });
  const finish = finishText(product, { pair, variant, sumsStride: layout.sumsStride });
  const [tilesM, tilesN] = [Math.ceil(m / bm), Math.ceil(n / bn)];
  const code = `${words.header}${finish.declarations}
${chunkFunctions([a, b], words)}${words.memory(memory)}
${finish.function}
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}, @builtin(subgroup_id) sid: u32, @builtin(subgroup_invocation_id) lane: u32) {
${tileIndex(tilesM, tilesN)}
let m0 = tile.x * ${bm}u;
let n0 = tile.y * ${bn}u;
${declare}${split === 1 ? wholeSums(reach) : splitSums({ batch: batch * results, reach, bk })}
${results === 1 ? "let z = instance;" : "let which = instance; let z = 0u;"}
${pair.map((side) => `let z${side.name} = z * ${side.kContiguous ? side.size : side.k}u;`).join(" ")}
let wr = sid / ${bn / wn}u; let wc = sid % ${bn / wn}u;
${fills.map((fill) => fill.declare).join("")}${
    repeat(wm / variant.um, (i) =>
      repeat(wn / variant.un, (j) =>
        `var c${i}_${j}: ${words.type("sums", unitOf(variant))};\n`))
  }var k0 = begin;
${firstLoad(load, split)}${
    stages === 1 ? oneStage({ bk, load, store, multiply }) : twoStages({
      bk,
      load,
      store,
      multiply,
      panels: panelsA + panelsB,
    })
  }${finish.text}}`;
  return {
    name: `matmul ${productKey(product)} matrix ${bm}x${bn}x${bk} of ${wm}x${wn}${
      split === 1 ? "" : ` split ${split}`
    }`,
    code,
    grid: [tilesN, tilesM, batch * results * split],
    flops: 2 * batch * m * b.side.size * k * (group?.count ?? 1),
  };
}

const AT_K0 = { at: "k0", storedAt: "k0" };

/** The parts of the loop along k. */
interface Loop {
  readonly bk: number;
  /** Loads registers. */
  readonly load: string;
  /** Stores them into the panels from a first one on. */
  store(first: string): string;
  /** Multiplies the panels from a first one on. */
  multiply(first: string): string;
}

/** The next tile is loaded into registers while this one is multiplied. */
function oneStage({ bk, load, store, multiply }: Loop): string {
  return `while (k0 < end) {
${store("")}workgroupBarrier();
k0 += ${bk}u;
if (k0 < end) {\n${load}}
${multiply("")}workgroupBarrier();
}
`;
}

/** The next tile is stored into other panels than those that are multiplied: one barrier for each step. */
function twoStages({ bk, load, store, multiply, panels }: Loop & { readonly panels: number }): string {
  return `var first = 0u;
${store("first + ")}workgroupBarrier();
while (k0 < end) {
let next = k0 + ${bk}u;
if (next < end) {\nlet k0 = next;\n${load}}
${multiply("first + ")}first = ${panels}u - first;
k0 = next;
if (k0 < end) {\n${store("first + ")}}
workgroupBarrier();
}
`;
}

/** WGSL that multiplies the panels of a step. */
function products(
  variant: MatrixVariant,
  { product: { transposeA, transposeB }, width, panelsA, first }: {
    readonly product: Matmul;
    readonly width: number;
    readonly panelsA: number;
    readonly first: string;
  },
): string {
  const { bk, wm, wn, um, un, uk } = variant, words = matrixWords(variant.dialect), unit = unitOf(variant);
  const load = (role: "left" | "right", along: number, depth: number): string => {
    const left = role === "left", kContiguous = left ? !transposeA : transposeB;
    const { panel, offset, stride } = matrixPlace(variant, { width, kContiguous, along, depth });
    const start = left ? `wr * ${wm / width}u + ${panel}u` : `wc * ${wn / width}u + ${panelsA + panel}u`;
    return words.load({ role, unit, byColumns: left ? transposeA : transposeB }, {
      array: `&panels[${first}${start}]`,
      offset,
      stride,
    });
  };
  return repeat(
    bk / uk,
    (step) =>
      `{\n${repeat(wm / um, (i) => `let a${i} = ${load("left", i * um, step * uk)};\n`)}${
        repeat(wn / un, (j) =>
          `{\nlet b = ${load("right", j * un, step * uk)};\n${
            repeat(wm / um, (i) =>
              `c${i}_${j} = ${words.multiplyAdd(`a${i}`, "b", `c${i}_${j}`)};\n`)
          }}\n`)
      }}\n`,
  );
}

/** WGSL for the epilogue: a row of matrices after the other goes through the panel of the subgroup. */
function finishText(
  product: Matmul,
  { pair, variant, sumsStride }: {
    readonly pair: readonly [Chunks["side"], Chunks["side"]];
    readonly variant: MatrixVariant;
    readonly sumsStride: number;
  },
): { readonly declarations: string; readonly function: string; readonly text: string } {
  const { m, n, group } = product, { bm, bn, wm, wn, um, un, split, lanes } = variant;
  const { declarations, store } = frame(product, { pair, lanes: 4 });
  const [whole, words] = [m % bm === 0 && n % bn === 0, matrixWords(variant.dialect)];
  // What the text of the frame calls its place and its sums.
  const given = ["z", ...(split > 1 ? ["part"] : []), ...(group?.as === "separate" ? ["which"] : [])];
  const parameters = [...given, "row", "column"].map((name) => `${name}: u32, `).join("");
  const one = store(() => "row", () => "column", { rows: 1, columns: 1, fits: whole });
  const quads = wn / 4;
  return {
    declarations,
    function: `fn finish(${parameters}c0_0: vec4<f32>) {\n${one}}\n`,
    text: repeat(wm / um, (i) =>
      `${i === 0 ? "" : "workgroupBarrier();\n"}${
        repeat(wn / un, (j) => {
          const place = { array: words.sumsPanel("sid"), offset: j * un / 4, stride: sumsStride };
          return `${words.store(`c${i}_${j}`, place)}\n`;
        })
      }workgroupBarrier();
${
        repeat(Math.ceil(um * quads / lanes), (l) => {
          const at = `(lane + ${l * lanes}u)`, row = `${at} / ${quads}u`, quad = `${at} % ${quads}u`;
          const place = `m0 + wr * ${wm}u + ${i * um}u + ${row}, n0 + wc * ${wn}u + ${quad} * 4u`;
          const sums = `${words.sums({ panel: "sid", at: `${row} * ${sumsStride}u + ${quad}` })}${
            growth(pair)
          }`;
          return `finish(${given.map((name) => `${name}, `).join("")}${place}, ${sums});\n`;
        })
      }`),
  };
}
