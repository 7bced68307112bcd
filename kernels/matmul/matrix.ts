/**
 * Matrix products on matrix units of f16 operands and f32 sums.
 *
 * A workgroup fills panels in workgroup memory (see `panels.ts`) while the next tiles are on their way into registers. Each
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
import { pairFunctions, SEGMENT } from "./pairs.ts";
import { fillPanels, matrixPlace, panelLayout } from "./panels.ts";
import { shiftsText } from "./shifts.ts";
import { firstLoad, splitSums, tileIndex, wholeSums } from "./shares.ts";
import { isPaired, type Matmul, type MatmulVariant, type MatrixTile, productKey } from "./types.ts";

/** A variant on matrix units. */
type MatrixVariant = Extract<MatmulVariant, { kind: "matrix" }>;

/** The matrix unit of a tile. */
function unitOf({ um: m, un: n, uk: k, dialect }: MatrixTile): MatrixUnit {
  return { m, n, k, operands: "f16", sums: "f32", dialect };
}

/** Makes the kernel of the variant on matrix units. */
export function matrix(product: Matmul, variant: MatrixVariant): Kernel {
  const { bm, bn, bk, wm, wn, ahead, split, lanes } = variant, { batch, m, n, k, group } = product;
  const results = group?.as === "separate" ? group.count : 1, summed = group?.as === "summed";
  const { declare, reach } = sumLength(product), words = matrixWords(variant.dialect);
  const [a, b] = operandsOf(product).map((side) => chunksOf(side, batch)), pair = [a.side, b.side] as const;
  const layout = panelLayout(variant, product), { width, panelsA, panelsB, memory } = layout;
  const threads = (bm / wm) * (bn / wn) * lanes;
  const cut = { tile: variant, width, threads, storedAt: summed ? `k0 % ${k}u` : "k0" };
  const apart = panelsA + panelsB, paired = isPaired(product);
  const pairs = (shifts: number) => paired ? { pairs: { apart, shifts } } : {};
  const fills = [
    fillPanels({ chunks: a, origin: "m0", size: bm, panel: 0, ...pairs(0) }, cut),
    fillPanels({ chunks: b, origin: "n0", size: bn, panel: panelsA, ...pairs(bm) }, cut),
  ];
  const loads = (set: number, at: string): string => fills.map((fill) => fill.load(set, at)).join("");
  const loop: Loop = {
    ahead,
    bk,
    // Tiles end where products do, so that each belongs to one product.
    load: (set, at) =>
      summed ? `let which = ${at} / ${k}u;\nlet kk = ${at} % ${k}u;\n${loads(set, "kk")}` : loads(set, at),
    store: (set) => fills.map((fill) => fill.store(set)).join(""),
    multiply: products(variant, { product, width, panelsA, apart: paired ? apart : 0 }),
  };
  const finish = finishText(product, { pair, variant, sumsStride: layout.sumsStride });
  const matrices = repeat(
    wm / variant.um,
    (i) => repeat(wn / variant.un, (j) => `var c${i}_${j} = ${words.type("sums", unitOf(variant))}();\n`),
  );
  const [tilesM, tilesN] = [Math.ceil(m / bm), Math.ceil(n / bn)];
  const code = `${words.header}${finish.declarations}
${chunkFunctions([a, b], words)}${paired ? pairFunctions(words) : ""}${words.memory(memory)}
${paired ? `var<workgroup> shifts: array<i32, ${bm + bn}>;` : ""}
${finish.function}
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}, @builtin(subgroup_id) sid: u32, @builtin(subgroup_invocation_id) lane: u32) {
${tileIndex(tilesM, tilesN)}
let m0 = tile.x * ${bm}u;
let n0 = tile.y * ${bn}u;
${declare}${split === 1 ? wholeSums(reach) : splitSums({ batch: batch * results, reach, bk })}
${results === 1 ? "let z = instance;" : "let which = instance; let z = 0u;"}
${pair.map((side) => `let z${side.name} = z * ${side.kContiguous ? side.size : side.k}u;`).join(" ")}
let wr = sid / ${bn / wn}u; let wc = sid % ${bn / wn}u;
${paired ? shiftsText(product, { bm, bn, threads }) : ""}${fills.map((fill) => fill.declare).join("")}${
    paired ? finish.declareSums : matrices
  }var k0 = begin;
${firstLoads(loop, split)}${
    paired ? inSegments(alongK({ ...loop, until: "until" }), { matrices, add: finish.add }) : alongK(loop)
  }${paired ? finish.ofSums : finish.text}}`;
  return {
    name: `matmul ${productKey(product)} matrix ${bm}x${bn}x${bk} of ${wm}x${wn}${
      split === 1 ? "" : ` split ${split}`
    }${ahead === 1 ? "" : ` ahead ${ahead}`}`,
    code,
    grid: [tilesN, tilesM, batch * results * split],
    flops: 2 * batch * m * b.side.size * k * (group?.count ?? 1),
  };
}

/** The parts of the loop along k. */
interface Loop {
  /** Tiles on their way into registers. */
  readonly ahead: number;
  readonly bk: number;
  /** Loads a set of registers; `at` is WGSL for where along k. */
  load(set: number, at: string): string;
  /** Stores a set into the panels. */
  store(set: number): string;
  /** Multiplies the panels. */
  readonly multiply: string;
  /** WGSL for where the loop ends; `end`, where loads end too, when absent. */
  readonly until?: string;
}

/** WGSL for a position along k some tiles after `k0`. */
const later = (bk: number, tiles: number): string => tiles === 0 ? "k0" : `(k0 + ${tiles * bk}u)`;

/** Loads the first tiles. */
function firstLoads({ ahead, bk, load }: Loop, split: number): string {
  return firstLoad(load(0, "k0"), split) +
    repeat(ahead - 1, (i) => `if (${later(bk, i + 1)} < end) {\n${load(i + 1, later(bk, i + 1))}}\n`);
}

/** Adds up sums in f32 after every segment. */
function inSegments(
  loop: string,
  { matrices, add }: { readonly matrices: string; readonly add: string },
): string {
  return `while (k0 < end) {
let until = min(k0 + ${SEGMENT}u, end);
${matrices}${loop}${add}}
`;
}

/** While a tile is multiplied, the next ones are loaded into sets of registers, which take turns. */
function alongK({ ahead, bk, load, store, multiply, until = "end" }: Loop): string {
  const next = later(bk, ahead - 1);
  const turn = (set: number): string =>
    `${store(set)}workgroupBarrier();
k0 += ${bk}u;
if (${next} < end) {\n${load(set, next)}}
${multiply}workgroupBarrier();
`;
  const others = repeat(ahead - 1, (i) => `if (k0 < ${until}) {\n${turn(i + 1)}}\n`);
  return `while (k0 < ${until}) {\n${turn(0)}${others}}\n`;
}

/** WGSL that multiplies the panels of a step. */
function products(
  variant: MatrixVariant,
  { product: { transposeA, transposeB }, width, panelsA, apart }: {
    readonly product: Matmul;
    readonly width: number;
    readonly panelsA: number;
    /** For pairs, how many panels later the second parts are; else 0. */
    readonly apart: number;
  },
): string {
  const { bk, wm, wn, um, un, uk } = variant, words = matrixWords(variant.dialect), unit = unitOf(variant);
  const load = (
    role: "left" | "right",
    { along, depth, later = 0 }: { readonly along: number; readonly depth: number; readonly later?: number },
  ): string => {
    const left = role === "left", kContiguous = left ? !transposeA : transposeB;
    const { panel, offset, stride } = matrixPlace(variant, { width, kContiguous, along, depth });
    const start = left
      ? `wr * ${wm / width}u + ${later + panel}u`
      : `wc * ${wn / width}u + ${later + panelsA + panel}u`;
    return words.load({ role, unit, byColumns: left ? transposeA : transposeB }, {
      array: `&panels[${start}]`,
      offset,
      stride,
    });
  };
  const lefts = (name: string, depth: number, later: number): string =>
    repeat(wm / um, (i) => `let ${name}${i} = ${load("left", { along: i * um, depth, later })};\n`);
  const add = (left: string, right: string, j: number): string =>
    repeat(wm / um, (i) => `c${i}_${j} = ${words.multiplyAdd(`${left}${i}`, right, `c${i}_${j}`)};\n`);
  return repeat(bk / uk, (step) => {
    const depth = step * uk;
    const columns = repeat(wn / un, (j) => {
      const right = (later: number): string => load("right", { along: j * un, depth, later });
      return apart === 0
        ? `{\nlet b = ${right(0)};\n${add("a", "b", j)}}\n`
        : `{\nlet b = ${right(0)};\n${add("e", "b", j)}let f = ${right(apart)};\n${add("a", "f", j)}${
          add("a", "b", j)
        }}\n`;
    });
    return `{\n${lefts("a", depth, 0)}${apart === 0 ? "" : lefts("e", depth, apart)}${columns}}\n`;
  });
}

/** WGSL for the epilogue: a row of matrices after the other goes through the panel of the subgroup. */
function finishText(
  product: Matmul,
  { pair, variant, sumsStride }: {
    readonly pair: readonly [Chunks["side"], Chunks["side"]];
    readonly variant: MatrixVariant;
    readonly sumsStride: number;
  },
): {
  readonly declarations: string;
  readonly function: string;
  /** Stores sums that are in matrices. */
  readonly text: string;
  /** For pairs: declares sums in registers, adds matrices to them, and stores them. */
  readonly declareSums: string;
  readonly add: string;
  readonly ofSums: string;
} {
  const { m, n, group } = product, { bm, bn, wm, wn, um, un, split, lanes } = variant;
  const { declarations, store } = frame(product, { pair, lanes: 4 });
  const [whole, words] = [m % bm === 0 && n % bn === 0, matrixWords(variant.dialect)];
  // What the text of the frame calls its place and its sums.
  const given = ["z", ...(split > 1 ? ["part"] : []), ...(group?.as === "separate" ? ["which"] : [])];
  const parameters = [...given, "row", "column"].map((name) => `${name}: u32, `).join("");
  const one = store(() => "row", () => "column", { rows: 1, columns: 1, fits: whole });
  const quads = wn / 4, rounds = Math.ceil(um * quads / lanes);
  /** Round `l` of a row of matrices: where the sums of a thread are in it. */
  const placeOf = (l: number): { readonly row: string; readonly quad: string } => ({
    row: `(lane + ${l * lanes}u) / ${quads}u`,
    quad: `(lane + ${l * lanes}u) % ${quads}u`,
  });
  /** Sends a row of matrices after the other through the panel, and does something with the sums. */
  const throughPanels = (use: (i: number, l: number, sums: string) => string): string =>
    repeat(wm / um, (i) =>
      `${i === 0 ? "" : "workgroupBarrier();\n"}${
        repeat(wn / un, (j) => {
          const place = { array: words.sumsPanel("sid"), offset: j * un / 4, stride: sumsStride };
          return `${words.store(`c${i}_${j}`, place)}\n`;
        })
      }workgroupBarrier();
${
        repeat(rounds, (l) => {
          const { row, quad } = placeOf(l);
          return use(i, l, words.sums({ panel: "sid", at: `${row} * ${sumsStride}u + ${quad}` }));
        })
      }`);
  const finish = (i: number, l: number, sums: string): string => {
    const { row, quad } = placeOf(l);
    const place = `m0 + wr * ${wm}u + ${i * um}u + ${row}, n0 + wc * ${wn}u + ${quad} * 4u`;
    return `finish(${given.map((name) => `${name}, `).join("")}${place}, ${sums});\n`;
  };
  const scaledBack = (i: number, l: number): string => {
    const { row, quad } = placeOf(l), column = `${bm}u + wc * ${wn}u + ${quad} * 4u`;
    const columns = [0, 1, 2, 3].map((c) => `shifts[${column} + ${c}u]`).join(", ");
    return `scaled_back(s${i}_${l}, shifts[wr * ${wm}u + ${i * um}u + ${row}], vec4<i32>(${columns}))`;
  };
  const ofEach = (text: (i: number, l: number) => string): string =>
    repeat(wm / um, (i) => repeat(rounds, (l) => text(i, l)));
  return {
    declarations,
    function: `fn finish(${parameters}c0_0: vec4<f32>) {\n${one}}\n`,
    text: throughPanels((i, l, sums) => finish(i, l, `${sums}${growth(pair)}`)),
    declareSums: ofEach((i, l) => `var s${i}_${l} = vec4<f32>();\n`),
    // The panels are filled again after that.
    add: `${throughPanels((i, l, sums) => `s${i}_${l} += ${sums};\n`)}workgroupBarrier();\n`,
    ofSums: ofEach((i, l) => finish(i, l, scaledBack(i, l))),
  };
}
