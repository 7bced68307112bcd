/**
 * Matrix products for GPUs: tiles in workgroup memory, a block of accumulators in the registers of each thread.
 *
 * @module
 */

import { GROUP_BUILTINS, type Kernel, repeat } from "./kernel.ts";
import type { Matmul, MatmulVariant } from "./matmul.ts";
import { batchOffsets, frame, label, type Side, sides } from "./matmul_frame.ts";

const accumulators = (rows: number, quads: number): string =>
  repeat(rows, (i) => repeat(quads, (j) => `var c${i}_${j} = vec4<f32>();\n`));

/** Four elements along k of one row, or four rows at one k, as a vec4; zero beyond the end. */
function scalarQuad(side: Side, at: (c: number) => { o: string; k: string }): string {
  const one = (c: number): string => {
    const { o, k } = at(c);
    const index = side.kContiguous ? `(${o}) * ${side.k}u + ${k}` : `(${k}) * ${side.size}u + ${o}`;
    return `select(0.0f, ${side.name}[z${side.name} + ${index}], (${o}) < ${side.size}u && (${k}) < ${side.k}u)`;
  };
  return `vec4<f32>(${[0, 1, 2, 3].map(one).join(", ")})`;
}

/** How a tile gets from storage to workgroup memory, where it lies as rows of quads along m or n, one row for each k. */
interface Load {
  /** Statements that load into registers. */
  readonly fetch: string;
  /** Statements that put the registers into the tile. */
  readonly keep: string;
  /** What the number of a quad in row `k` is combined with, so that threads write to different banks. */
  readonly swizzle: (k: number) => number;
}

/** The kernel of the tiled variant. */
export function tiled(product: Matmul, variant: Extract<MatmulVariant, { kind: "tiled" }>): Kernel {
  const { bm, bn, bk, tm, tn, split = 1 } = variant;
  const { batch, m, n, k } = product;
  const [a, b] = sides(product);
  const { declarations, store } = frame(product, { pair: [a, b], lanes: 4 });
  const across = bn / tn, threads = (bm / tm) * across;
  const depth = Math.ceil(k / split / bk) * bk, ragged = k % bk !== 0;

  function load(side: Side, origin: string, width: number): Load {
    const { name, size, kContiguous, wide } = side;
    const quads = width / 4, fits = size % width === 0;
    const swizzles = quads % 8 === 0;
    const id = (l: number): string => `(lid + ${l * threads}u)`;
    const clamp = (o: string, last: number): string => fits ? o : `min(${o}, ${last}u)`;
    const guard = (text: string, at: string): string =>
      ragged ? `select(vec4<f32>(), ${text}, ${at} < ${k}u)` : text;
    if (kContiguous && wide) {
      // Four rows by four k, transposed in registers; neighbours read along k.
      const deep = bk / 4, blocks = quads * deep, turns = Math.ceil(blocks / threads);
      const inside = (l: number): string => blocks % threads === 0 ? "" : `if (${id(l)} < ${blocks}u) `;
      const kq = (l: number): string => `(${id(l)} % ${deep}u)`,
        q = (l: number): string => `(${id(l)} / ${deep}u)`;
      const place = (l: number): string => swizzles ? `(${q(l)} ^ ((${kq(l)} * 2u) & 7u))` : q(l);
      return {
        fetch: repeat(turns, (l) =>
          repeat(4, (r) => {
            const row = clamp(`${origin} + ${q(l)} * 4u + ${r}u`, size - 1);
            const text = `${name}[z${name} + (${row}) * ${k / 4}u + k0 / 4u + ${kq(l)}]`;
            return `let ${name}p${l}_${r} = ${guard(text, `k0 + ${kq(l)} * 4u`)};\n`;
          })),
        keep: repeat(
          turns,
          (l) =>
            `${inside(l)}{\n${
              repeat(4, (c) =>
                `t${name}[(${kq(l)} * 4u + ${c}u) * ${quads}u + ${place(l)}] = vec4<f32>(${
                  [0, 1, 2, 3].map((r) =>
                    `${name}p${l}_${r}.${"xyzw"[c]}`
                  ).join(", ")
                });\n`)
            }}\n`,
        ),
        swizzle: (kk) => swizzles ? ((kk >> 2) * 2) & 7 : 0,
      };
    }
    const slots = quads * bk, turns = Math.ceil(slots / threads);
    const inside = (l: number): string => slots % threads === 0 ? "" : `if (${id(l)} < ${slots}u) `;
    // Neighbours read what lies side by side: along k, or along the rows.
    const kk = (l: number): string => kContiguous ? `(${id(l)} % ${bk}u)` : `(${id(l)} / ${quads}u)`;
    const q = (l: number): string => kContiguous ? `(${id(l)} / ${bk}u)` : `(${id(l)} % ${quads}u)`;
    const turned = kContiguous && swizzles;
    const place = (l: number): string => turned ? `(${q(l)} ^ (${kk(l)} & 7u))` : q(l);
    return {
      fetch: repeat(turns, (l) => {
        const at = `k0 + ${kk(l)}`, o = `${origin} + ${q(l)} * 4u`;
        if (!wide) {
          return `let ${name}p${l} = ${scalarQuad(side, (c) => ({ o: `${o} + ${c}u`, k: `(${at})` }))};\n`;
        }
        const quad = clamp(`(${o}) / 4u`, size / 4 - 1);
        return `let ${name}p${l} = ${guard(`${name}[z${name} + (${at}) * ${size / 4}u + ${quad}]`, at)};\n`;
      }),
      keep: repeat(
        turns,
        (l) => `${inside(l)}{ t${name}[${kk(l)} * ${quads}u + ${place(l)}] = ${name}p${l}; }\n`,
      ),
      swizzle: (k) => turned ? k & 7 : 0,
    };
  }
  const la = load(a, "m0", bm), lb = load(b, "n0", bn);
  const quad = (at: string, turn: number): string => turn === 0 ? `(${at})` : `((${at}) ^ ${turn}u)`;
  const inner = repeat(
    bk,
    (kk) =>
      `{\n${
        repeat(
          tm / 4,
          (i) => `let x${i} = ta[${kk * bm / 4}u + ${quad(`ty * ${tm / 4}u + ${i}u`, la.swizzle(kk))}];\n`,
        )
      }${
        repeat(
          tn / 4,
          (j) => `let y${j} = tb[${kk * bn / 4}u + ${quad(`tx + ${j * across}u`, lb.swizzle(kk))}];\n`,
        )
      }${
        repeat(
          tm,
          (i) =>
            repeat(
              tn / 4,
              (j) => `c${i}_${j} = fma(vec4<f32>(x${i >> 2}.${"xyzw"[i & 3]}), y${j}, c${i}_${j});\n`,
            ),
        )
      }}\n`,
  );
  const range = split === 1
    ? `let z = wid.z; let part = 0u; let begin = 0u; let end = ${k}u;`
    : `let z = wid.z / ${split}u; let part = wid.z % ${split}u;
let begin = part * ${depth}u; let end = min(begin + ${depth}u, ${k}u);`;
  const code = `${declarations}
var<workgroup> ta: array<vec4<f32>, ${bk * bm / 4}>;
var<workgroup> tb: array<vec4<f32>, ${bk * bn / 4}>;
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
${range}
${batchOffsets(product, [a, b])}
let tx = lid % ${across}u;
let ty = lid / ${across}u;
let m0 = wid.y * ${bm}u;
let n0 = wid.x * ${bn}u;
${accumulators(tm, tn / 4)}
for (var k0 = begin; k0 < end; k0 += ${bk}u) {
${la.fetch}${lb.fetch}${la.keep}${lb.keep}workgroupBarrier();
${inner}workgroupBarrier();
}
${
    store((i) => `(m0 + ty * ${tm}u + ${i}u)`, (j) => `(n0 + (tx + ${j * across}u) * 4u)`, {
      rows: tm,
      columns: tn / 4,
      fits: m % bm === 0 && n % bn === 0,
    })
  }
}`;
  const name = `matmul ${label(product)} tiled ${bm}x${bn}x${bk}${split === 1 ? "" : ` split ${split}`}`;
  return {
    name,
    code,
    grid: [Math.ceil(n / bn), Math.ceil(m / bm), batch * split],
    flops: 2 * batch * m * n * k,
  };
}
