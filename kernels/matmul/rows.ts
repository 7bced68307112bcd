/**
 * Products with few rows on a CPU: eight lanes keep A, and go through rows of B, which they load from end to end.
 *
 * A software adapter loads lane by lane, so that the loads take most of the time. Here all of them are of 16 bytes, none is of A,
 * and scales of blocks come from a lane that has loaded them.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat } from "../kernel.ts";
import { frame, type MatmulOperand, operandsOf, selectBuffer } from "./frame.ts";
import { type Matmul, type MatmulVariant, productKey } from "./types.ts";
import { type Unit, unitOf, type WordPlace } from "./units.ts";

/** Lanes of a workgroup. */
const LANES = 8;

/** Most elements of A: lanes keep them in registers and on the stack, and each is a term of unrolled text. */
const MOST_ELEMENTS = 4096;

/**
 * Whether lanes can keep A.
 *
 * @param product A product that can be narrow, with sums along rows of B
 * @returns True when they can
 */
export function isKept({ m, k }: Pick<Matmul, "m" | "k">): boolean {
  return m * k <= MOST_ELEMENTS;
}

/** Makes the kernel of the variant by rows. */
export function rows(product: Matmul, { rows: each }: Extract<MatmulVariant, { kind: "rows" }>): Kernel {
  const { m, n, k } = product, [a, b] = operandsOf(product), count = product.group?.count ?? 1;
  const { declarations, store } = frame(product, { pair: [a, { ...b, type: unitOf(b).type }], lanes: 1 });
  const each8 = selectBuffer(b.buffers, (name) => eightRows({ ...b, name }, { m, n, k }));
  const code = `${declarations}
@compute @workgroup_size(${LANES}) fn main(${GROUP_BUILTINS}) {
let z = 0u;
let first = (${GROUP_INDEX}) * ${each}u;
${product.group === undefined ? "" : "let which = wid.z;\n"}${keep(unitOf(b), { m, k })}
for (var n0 = first; n0 < min(first + ${each}u, ${n}u); n0 += ${LANES}u) {
${repeat(m, (i) => `var c${i}_0 = 0.0f;\n`)}${each8}${
    store((i) => `${i}u`, () => "(n0 + lid)", { rows: m, columns: 1 })
  }}
}`;
  const [x, y] = foldGrid(Math.ceil(n / each));
  return {
    name: `matmul ${productKey(product)} rows ${each}`,
    code,
    grid: [x, y, count],
    flops: 2 * m * n * k * count,
  };
}

/** Sizes of a product. */
type Sizes = Pick<Matmul, "m" | "n" | "k">;

/** Loads all of A: lane by lane what stands across from the units that the lane loads of B. */
function keep({ elements, filled }: Unit, { m, k }: Omit<Sizes, "n">): string {
  const quads = elements / 4;
  return repeat(stepsOf(filled), (s) =>
    repeat(quads, (q) => {
      const at = `(${s * LANES}u + lid) * ${quads}u + ${q}u`, whole = (s + 1) * LANES * elements <= k;
      return repeat(m, (i) => {
        const x = `a[${i * k / 4}u + ${at}]`;
        return `let x${i}_${s}_${q} = ${whole ? x : `select(vec4<f32>(), ${x}, ${at} < ${k / 4}u)`};\n`;
      });
    }));
}

/** Steps in which all lanes together load so many units. */
const stepsOf = (units: number): number => Math.ceil(units / LANES);

/** The sums of eight rows of B. Lane r gets those of row r. */
function eightRows(b: MatmulOperand, { m, n, k }: Sizes): string {
  const unit = unitOf(b), { elements, filled, declare, quads, scale } = unit;
  const steps = stepsOf(filled), summed = stepsOf(Math.ceil(k / elements));
  const load = (s: number): string => {
    const at = `${s * LANES}u + lid`, whole = (s + 1) * LANES <= filled;
    return `let w${s} = ${unit.load("row", whole ? at : `min(${at}, ${filled - 1}u)`)};\n`;
  };
  // The last steps have the scales, so that they are loaded first.
  const early = scale === null ? steps : Math.floor(k / elements / LANES);
  const word = (s: number) => (place: WordPlace): string => {
    const { first, per = Infinity, count = 1, index } = place;
    if (index !== undefined) return choose(count, (i) => loaded(first + i), (i) => `${index} == ${i}u`);
    const from = Math.floor(s * LANES / per), values = Math.max(1, LANES / per);
    return choose(values, (i) => loaded(first + from + i), (i) => `lid >= ${i * per}u`);
  };
  const step = (s: number): string =>
    `{\n${s < early ? load(s) : ""}${declare("", { row: "row", unit: `(${s * LANES}u + lid)` }, word(s))}${
      repeat(m, (i) => `var p${i} = vec4<f32>();\n`)
    }${
      repeat(
        elements / 4,
        (q) =>
          `{ let y = ${quads(`w${s}`, q)};\n${
            repeat(m, (i) => `p${i} = fma(y, x${i}_${s}_${q}, p${i});\n`)
          }}\n`,
      )
    }${
      repeat(m, (i) => {
        const sum = `(p${i}.x + p${i}.y + (p${i}.z + p${i}.w))`;
        return `s${i} ${scale === null ? `+= ${sum}` : `= fma(${sum}, ${scale("")}, s${i})`};\n`;
      })
    }}\n`;
  return `for (var r = 0u; r < ${LANES}u; r += 1u) {
let row = min(n0 + r, ${n - 1}u);
${repeat(m, (i) => `var s${i} = 0.0f;\n`)}${repeat(steps - early, (s) => load(early + s))}${
    repeat(summed, step)
  }${
    repeat(m, (i) => {
      const lanes = Array.from({ length: LANES }, (_, lane) => `subgroupBroadcast(s${i}, ${lane}u)`);
      return `c${i}_0 = select(c${i}_0, ${lanes.join(" + ")}, lid == r);\n`;
    })
  }}
`;
}

/** WGSL for a word of the row, from the lane that has it. */
function loaded(word: number): string {
  const unit = Math.floor(word / 4);
  return `subgroupBroadcast(w${Math.floor(unit / LANES)}.${"xyzw"[word % 4]}, ${unit % LANES}u)`;
}

/** WGSL for one of some values: the last one whose condition is true, else the first. */
function choose(count: number, value: (i: number) => string, when: (i: number) => string): string {
  return Array.from({ length: count - 1 }, (_, i) => i + 1)
    .reduce((text, i) => `select(${text}, ${value(i)}, ${when(i)})`, value(0));
}
