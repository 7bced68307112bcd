/**
 * Direct matrix products, for software adapters: operands are read from storage, lanes share loads by broadcast.
 * `tiled.ts` has the products for GPUs.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, MAX_GROUPS, repeat } from "../kernel.ts";
import { blockedLoad, blockedQuad, isBlocked } from "../blocks.ts";
import { type Matmul, type MatmulVariant, productKey } from "./types.ts";
import {
  batchOffsets,
  frame,
  loadElement,
  loadQuad,
  type MatmulOperand,
  operandsOf,
  sumLength,
} from "./frame.ts";

/** Lanes of a workgroup, and the elements along k that they load at once. */
export const LANES = 8;

/** Makes the kernel of the direct variant. */
export function direct(
  product: Matmul,
  { tm, tn, subgroups }: Extract<MatmulVariant, { kind: "direct" }>,
): Kernel {
  const { batch, m, n, k } = product;
  const [a, b] = operandsOf(product).map((side) => ({ ...side, wide: false })) as [
    MatmulOperand,
    MatmulOperand,
  ];
  const { declarations, store } = frame(product, { pair: [a, b], lanes: 1 });
  const across = Math.ceil(n / (LANES * tn));
  const load = (side: MatmulOperand, o: string, at: string): string =>
    loadElement(side, side.kContiguous ? { row: o, column: at } : { row: `(${at})`, column: o });
  // Where four neighbours of B across columns are one quad of blocks, a lane computes them.
  const beside = !b.kContiguous && isBlocked(b.stored) && tn === 4;
  const row = (i: number): string => `min(m0 + ${i}u, ${m - 1}u)`;
  const place = (j: number): string => `n0 + ${beside ? j : LANES * j}u`;
  const column = (j: number): string => `min(${place(j)}, ${b.size - 1}u)`;
  /** `depth` steps along k, from `k0` on. Neighbouring lanes load neighbours in memory: along k, or along rows. */
  const block = (depth: number): string => {
    const alongK = a.kContiguous;
    const rows = !subgroups || !alongK
      ? ""
      : repeat(tm, (i) => `let s${i} = ${load(a, row(i), `min(k0 + lid, ${k - 1}u)`)};\n`);
    // Quads of blocks are widened at once where four neighbours along k are one.
    const quads = b.kContiguous && isBlocked(b.stored) ? b.stored : null;
    const widened = quads === null ? "" : repeat(tn, (j) =>
      repeat(Math.ceil(depth / 4), (h) => {
        const at = `k0 + ${4 * h}u`,
          place = { name: "b", row: `(zb + ${column(j)})`, width: k, column: `(${at})` };
        return `let w${j}_${h} = ${blockedQuad(quads, blockedLoad(quads, place), at)};\n`;
      }));
    const right = (j: number, q: number): string =>
      quads === null ? load(b, column(j), `k0 + ${q}u`) : `w${j}_${q >> 2}.${"xyzw"[q & 3]}`;
    const one = (q: number): string => {
      const lanes = !subgroups || alongK ? "" : repeat(Math.ceil(tm / LANES), (g) => {
        return `let s${g} = ${load(a, `min(m0 + ${LANES * g}u + lid, ${m - 1}u)`, `k0 + ${q}u`)};\n`;
      });
      const shared = (i: number): string =>
        !subgroups
          ? load(a, row(i), `k0 + ${q}u`)
          : alongK
          ? `subgroupBroadcast(s${i}, ${q}u)`
          : `subgroupBroadcast(s${Math.floor(i / LANES)}, ${i % LANES}u)`;
      return `{\n${lanes}${
        beside ? `let y = ${loadQuad(b, { row: `(zb + k0 + ${q}u)`, column: "edge" })};\n` : ""
      }${repeat(tn, (j) => `let y${j} = ${beside ? `y.${"xyzw"[j]}` : right(j, q)};\n`)}${
        repeat(tm, (i) =>
          `let x${i} = ${shared(i)};\n${
            repeat(tn, (j) => `c${i}_${j} = fma(x${i}, y${j}, c${i}_${j});\n`)
          }`)
      }}\n`;
    };
    return rows + widened + repeat(depth, one);
  };
  const whole = k - k % LANES, groups = across * Math.ceil(m / tm);
  // A longer stack than the z axis takes lies along the others.
  const folded = batch > MAX_GROUPS;
  const { declare, reach } = sumLength(product);
  const code = `${declarations}
@compute @workgroup_size(${LANES}) fn main(${GROUP_BUILTINS}) {
${folded ? `let at = ${GROUP_INDEX};\nlet z = at / ${groups}u;` : "let z = wid.z;"}
${batchOffsets(product, [a, b])}
let group = ${folded ? `at % ${groups}u` : GROUP_INDEX};
let m0 = (group / ${across}u) * ${tm}u;
let n0 = (group % ${across}u) * ${LANES * tn}u + lid${beside ? " * 4u" : ""};
${beside ? `let edge = min(n0, ${Math.ceil(b.size / 4) * 4 - 4}u);\n` : ""}if (m0 >= ${m}u${
    folded ? ` || z >= ${batch}u` : ""
  }) { return; }
${declare}${repeat(tm, (i) => repeat(tn, (j) => `var c${i}_${j} = 0.0f;\n`))}
for (var k0 = 0u; k0 < min(${whole}u, ${reach}); k0 += ${LANES}u) {
${block(LANES)}}
${k === whole ? "" : `if (${reach} > ${whole}u) {\nlet k0 = ${whole}u;\n${block(k - whole)}}`}
${store((i) => `(m0 + ${i}u)`, (j) => `(${place(j)})`, { rows: tm, columns: tn })}
}`;
  const name = `matmul ${productKey(product)} direct ${tm}x${tn}`;
  const [x, y] = foldGrid(folded ? groups * batch : groups);
  return { name, code, grid: [x, y, folded ? 1 : batch], flops: 2 * batch * m * b.size * k };
}
